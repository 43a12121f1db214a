from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageDraw
from statistics_tables import table_of

from hemorrhage_tf.datasets.image_statistics import (
    ImageStatisticsTable,
    edge_marks,
    image_statistics,
)
from hemorrhage_tf.imaging.file_format import FileFormat

SAVED = FileFormat("L", "PNG", 8)


def head(size=64):
    """An ellipse with smooth texture, away from the edges."""
    rows, columns = np.mgrid[-1 : 1 : size * 1j, -1 : 1 : size * 1j]
    inside = (rows / 0.8) ** 2 + (columns / 0.65) ** 2 < 1
    texture = 120 + 60 * np.sin(5 * rows) * np.cos(3 * columns)
    return np.where(inside, texture, 0).astype(np.uint8)


class TestImageStatistics:
    def test_color_is_the_visibly_colored_share(self):
        gray = head()
        rgb = np.stack([gray] * 3, axis=-1)
        assert image_statistics(SAVED, rgb).color == image_statistics(SAVED, gray).color == 0
        rgb[:16, :, 0] = 255
        assert image_statistics(SAVED, rgb).color == pytest.approx(0.25, abs=0.01)

    def test_border_equals_numpy(self):
        pixels = np.random.default_rng(0).integers(0, 256, (64, 96), np.uint8)
        sides = [pixels[:2], pixels[-2:], pixels[:, :3], pixels[:, -3:]]
        expected = [(s.mean(), s.std(), s.max(), (s > 24).mean()) for s in sides]
        np.testing.assert_allclose(image_statistics(SAVED, pixels).border, expected)

    def test_levels_and_thumbnail(self):
        pixels = np.repeat(np.repeat(np.arange(256, dtype=np.uint8).reshape(16, 16), 5, 0), 5, 1)
        statistics = image_statistics(SAVED, pixels)
        np.testing.assert_allclose(statistics.levels, 1 / 256)
        np.testing.assert_allclose(statistics.thumbnail, np.arange(256) / 255, atol=1e-6)


class TestImageStatisticsTable:
    @pytest.fixture
    def statistics(self):
        jpeg = FileFormat("RGB", "JPEG", 8, 90, frozenset({"EXIF"}))
        images = [
            np.random.default_rng(seed).integers(0, 256, (40, 50), np.uint8) for seed in (0, 1)
        ]
        return [
            image_statistics(SAVED, images[0]),
            image_statistics(jpeg, images[1]),
            image_statistics(SAVED, head()),
        ]

    def assert_equal(self, one, other):
        for name in one.__dataclass_fields__:
            np.testing.assert_array_equal(getattr(one, name), getattr(other, name))

    def test_returns_the_statistics_it_was_given(self, statistics):
        table = table_of(statistics)
        assert len(table) == 3
        for one, other in zip(table, statistics, strict=True):
            self.assert_equal(one, other)
        assert table.formats == (("L", "PNG", frozenset()), ("RGB", "JPEG", frozenset({"EXIF"})))
        assert table.numbers["format"].tolist() == [0, 1, 0]
        assert table.numbers["jpeg_quality"].tolist() == [-1, 90, -1]

    def test_takes_some(self, statistics):
        taken = table_of(statistics).take(np.array([2, 1]))
        taken = taken.take(np.array([1]))
        assert len(taken) == 1
        self.assert_equal(taken[0], statistics[1])

    def test_yields_gray_levels_and_borders(self, statistics):
        table = table_of(statistics)
        ((levels, border),) = table.blocks()
        np.testing.assert_array_equal(levels, [each.levels for each in statistics])
        np.testing.assert_array_equal(border, [each.border for each in statistics])

    def test_may_be_empty(self):
        assert len(ImageStatisticsTable()) == len(table_of([])) == 0


class TestEdgeMarks:
    def with_letter(self, at, size=128, fill=255):
        image = Image.fromarray(head(size))
        ImageDraw.Draw(image).text(at, "R", fill=fill, font_size=size / 9)
        return np.asarray(image)

    def test_a_head_alone_has_no_mark(self):
        assert edge_marks(head(128)) == (0, 0)

    @pytest.mark.parametrize("at", [(2, 2), (115, 2), (2, 112), (115, 112)])
    def test_finds_a_letter_in_each_corner(self, at):
        count, share = edge_marks(self.with_letter(at))
        assert count == 1
        assert 0 < share < 0.01

    def test_finds_a_mark_in_a_large_slice(self):
        assert edge_marks(self.with_letter((20, 20), size=1200))[0] == 1

    def test_ignores_islands_in_the_head_dark_spots_and_the_head_holder(self):
        pixels = head(128).copy()
        pixels[60:64, 60:64] = 0
        pixels[61:63, 61:63] = 255  # an island within the head
        pixels[4:8, 4:8] = 60
        pixels[124:126, 20:100] = 200
        assert edge_marks(pixels)[0] == 0

    @pytest.mark.parametrize("shape", [(1, 1), (1, 40), (40, 1), (3, 3)])
    @pytest.mark.parametrize("level", [0, 255])
    def test_tiny_slices_have_no_mark(self, shape, level):
        assert edge_marks(np.full(shape, level, np.uint8)) == (0, 0)

    def test_finds_a_mark_next_to_a_head_that_is_a_line(self):
        pixels = np.zeros((64, 64), np.uint8)
        pixels[32, 2:60] = 255
        pixels[2:5, 2:5] = 255
        assert edge_marks(pixels)[0] == 1
