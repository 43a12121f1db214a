from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageDraw
from PIL.PngImagePlugin import PngInfo

from hemorrhage_tf.data.facts import edge_marks, facts_of, jpeg_quality
from hemorrhage_tf.data.readers import read_slice


def head(size=64):
    """An ellipse with smooth texture, away from the edges."""
    rows, columns = np.mgrid[-1 : 1 : size * 1j, -1 : 1 : size * 1j]
    inside = (rows / 0.8) ** 2 + (columns / 0.65) ** 2 < 1
    texture = 120 + 60 * np.sin(5 * rows) * np.cos(3 * columns)
    return np.where(inside, texture, 0).astype(np.uint8)


class TestJpegQuality:
    @pytest.mark.parametrize("quality", [5, 20, 49, 50, 51, 75, 90, 95, 99, 100])
    @pytest.mark.parametrize("mode", ["L", "RGB"])
    def test_of_what_pillow_saved(self, tmp_path, quality, mode):
        path = tmp_path / "a.jpg"
        Image.fromarray(head()).convert(mode).save(path, quality=quality)
        assert facts_of(path, read_slice(path)).jpeg_quality == quality

    def test_every_quality(self, tmp_path):
        found = []
        for quality in range(2, 101):
            Image.fromarray(head()).save(tmp_path / "a.jpg", quality=quality)
            with Image.open(tmp_path / "a.jpg") as image:
                found.append(jpeg_quality(image.quantization[0]))
        assert found == list(range(2, 101))

    @pytest.mark.parametrize(("step", "quality"), [(1, 100), (255, 1)])
    def test_a_table_of_another_writer_gives_the_nearest(self, step, quality):
        assert jpeg_quality([step] * 64) == quality


class TestFacts:
    @pytest.mark.parametrize(
        ("mode", "bits"), [("L", 8), ("1", 1), ("P", 8), ("RGB", 8), ("RGBA", 8), ("I;16", 16)]
    )
    def test_mode_and_bits_of_png(self, tmp_path, mode, bits):
        path = tmp_path / "a.png"
        image = Image.fromarray(head())
        if mode == "I;16":
            image = Image.fromarray(head().astype(np.uint16) * 257)
        else:
            image = image.convert(mode)
        image.save(path)
        facts = facts_of(path, read_slice(path))
        assert (facts.file_format, facts.mode, facts.bits) == ("PNG", mode, bits)
        assert facts.jpeg_quality is None

    def test_bits_of_a_png_that_pillow_widens(self, tmp_path):
        path = tmp_path / "a.png"
        Image.fromarray(head() // 64).convert("P").save(path, bits=4)
        assert facts_of(path, read_slice(path)).bits == 4

    def test_metadata_is_named_and_its_text_is_not(self, tmp_path):
        exif = Image.Exif()
        exif[0x010E] = "Jane Doe"
        text = PngInfo()
        text.add_text("Doe^Jane", "1970-01-01")
        path = tmp_path / "a.png"
        Image.fromarray(head()).save(path, exif=exif, dpi=(72, 72), pnginfo=text)
        facts = facts_of(path, read_slice(path))
        assert facts.metadata == {"EXIF", "resolution", "text"}

    def test_color_is_what_is_visibly_colored(self, tmp_path):
        gray, path = head(), tmp_path / "a.png"
        rgb = np.stack([gray] * 3, axis=-1)
        Image.fromarray(rgb).save(path)
        assert facts_of(path, rgb).color == facts_of(path, gray).color == 0
        rgb[:16, :, 0] = 255
        assert facts_of(path, rgb).color == pytest.approx(0.25, abs=0.01)

    def test_border_against_numpy(self, tmp_path):
        pixels = np.random.default_rng(0).integers(0, 256, (64, 96), np.uint8)
        path = tmp_path / "a.png"
        Image.fromarray(pixels).save(path)
        sides = [pixels[:2], pixels[-2:], pixels[:, :3], pixels[:, -3:]]
        expected = [(s.mean(), s.std(), s.max(), (s > 24).mean()) for s in sides]
        np.testing.assert_allclose(facts_of(path, pixels).border, expected)

    def test_levels_and_thumbnail(self, tmp_path):
        path = tmp_path / "a.png"
        pixels = np.repeat(np.repeat(np.arange(256, dtype=np.uint8).reshape(16, 16), 5, 0), 5, 1)
        Image.fromarray(pixels).save(path)
        facts = facts_of(path, pixels)
        np.testing.assert_allclose(facts.levels, 1 / 256)
        np.testing.assert_allclose(facts.thumbnail, np.arange(256) / 255, atol=1e-6)


class TestMarks:
    def with_letter(self, at, size=128, fill=255):
        image = Image.fromarray(head(size))
        ImageDraw.Draw(image).text(at, "R", fill=fill, font_size=size / 9)
        return np.asarray(image)

    def test_a_head_alone_has_none(self):
        assert edge_marks(head(128)) == (0, 0)

    @pytest.mark.parametrize("at", [(2, 2), (115, 2), (2, 112), (115, 112)])
    def test_a_letter_in_each_corner(self, at):
        count, share = edge_marks(self.with_letter(at))
        assert count == 1
        assert 0 < share < 0.01

    def test_a_large_slice_is_thinned_out(self):
        assert edge_marks(self.with_letter((20, 20), size=1200))[0] == 1

    def test_a_bleed_in_the_head_a_dark_spot_and_a_head_holder_are_none(self):
        pixels = head(128).copy()
        pixels[60:64, 60:64] = 0
        pixels[61:63, 61:63] = 255  # an island within the head
        pixels[4:8, 4:8] = 60
        pixels[124:126, 20:100] = 200
        assert edge_marks(pixels)[0] == 0

    @pytest.mark.parametrize("shape", [(1, 1), (1, 40), (40, 1), (3, 3)])
    @pytest.mark.parametrize("level", [0, 255])
    def test_tiny_slices(self, shape, level):
        assert edge_marks(np.full(shape, level, np.uint8)) == (0, 0)

    def test_a_head_that_is_a_line(self):
        pixels = np.zeros((64, 64), np.uint8)
        pixels[32, 2:60] = 255
        pixels[2:5, 2:5] = 255
        assert edge_marks(pixels)[0] == 1
