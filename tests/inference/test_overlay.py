import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy import ndimage

from hemorrhage_tf.imaging.head_crop import HeadRegion, crop_to
from hemorrhage_tf.imaging.windows import Window
from hemorrhage_tf.inference.evidence import Decision, color_evidence
from hemorrhage_tf.inference.overlay import draw_color_bar, draw_overlay, map_to_slice
from hemorrhage_tf.pipeline.model_input import ModelInput

WHOLE = ModelInput(64, crop_head=False)
CELLS = 8


def one_hot(row, column):
    cam = np.zeros((CELLS, CELLS), np.float32)
    cam[row, column] = 1
    return cam


def seen_in(row, column, shape, head):
    """The middle, in the slice, of what the model sees in a cell of its map."""
    middle = []
    for axis in (0, 1):
        # Each pixel says where it stands; 10 000 is added since air is below that.
        places = np.indices(shape, dtype=np.float32)[axis] + 10_000
        square = crop_to(places, head)
        edges = np.linspace(0, head.side, CELLS + 1).round().astype(int)
        part = square[edges[row] : edges[row + 1], edges[column] : edges[column + 1]]
        assert part.min() >= 10_000, "not all of it lies in the slice"
        middle.append(part.mean() - 10_000)
    return middle


def slice_with_a_spot(turned=0):
    """A head with a couch, in gray, and a green spot in it, which lies off the middle."""
    y, x = np.mgrid[:220, :250]
    v = (y - 90) / 75
    radius = np.hypot(v, (x - 140) / (58 * (1 + 0.12 * v)))
    gray = np.where(radius < 1, 255, 0)
    gray[radius < 0.9] = 110
    gray[205:210] = 160
    pixels = np.stack([gray] * 3, axis=-1).astype(np.uint8)
    spot = np.hypot(y - 62, x - 118) < 9
    pixels[spot] = (0, 255, 0)
    return np.rot90(pixels, turned), np.rot90(spot, turned)


class TestMapToSlice:
    @given(
        top=st.integers(-40, 60),
        left=st.integers(-40, 60),
        side=st.integers(40, 200),
        turns=st.sampled_from([0, 1, 2, 3]),
        row=st.integers(1, CELLS - 2),
        column=st.integers(1, CELLS - 2),
    )
    @settings(max_examples=60, deadline=None)
    def test_a_cell_lands_where_the_model_saw_it(self, top, left, side, turns, row, column):
        # A slice that holds the whole square, which may still begin above or left of another.
        shape = (max(top, 0) + side + 10, max(left, 0) + side + 20)
        head = HeadRegion(max(top, 0), max(left, 0), side, np.ones(shape, bool), 1, turns)
        placed = map_to_slice(one_hot(row, column), shape, head)
        assert placed.shape == shape
        assert placed.dtype == np.float32
        middle = seen_in(row, column, shape, head)
        np.testing.assert_allclose(ndimage.center_of_mass(placed), middle, atol=1)

    @pytest.mark.parametrize("turns", range(4))
    def test_square_that_hangs_over_the_edges(self, turns):
        inside = (100, 120)
        cam = np.random.default_rng(0).uniform(1, 2, (CELLS, CELLS)).astype(np.float32)
        # In a slice with air around it the same square lies inside.
        large = HeadRegion(10, 20, 160, np.ones((200, 200), bool), 1, turns)
        small = HeadRegion(10 - 40, 20 - 50, 160, np.ones(inside, bool), 1, turns)
        np.testing.assert_array_equal(
            map_to_slice(cam, inside, small), map_to_slice(cam, (200, 200), large)[40:140, 50:170]
        )

    def test_nothing_outside_of_the_square(self):
        head = HeadRegion(20, 30, 40, np.ones((10, 10), bool), 10)
        placed = map_to_slice(np.ones((CELLS, CELLS), np.float32), (100, 100), head)
        np.testing.assert_allclose(placed[20:60, 30:70], 1)
        placed[20:60, 30:70] = 0
        assert not placed.any()

    @given(
        height=st.integers(64, 150),
        width=st.integers(64, 150),
        row=st.integers(1, CELLS - 2),
        column=st.integers(1, CELLS - 2),
    )
    @settings(max_examples=30, deadline=None)
    def test_without_a_head_it_spans_the_slice(self, height, width, row, column):
        placed = map_to_slice(one_hot(row, column), (height, width), None)
        assert placed.shape == (height, width)
        np.testing.assert_allclose(
            ndimage.center_of_mass(placed),
            ((row + 0.5) * height / CELLS - 0.5, (column + 0.5) * width / CELLS - 0.5),
            atol=0.5,
        )

    def test_corners_are_not_swapped(self):
        for row, column in ((0, 0), (0, 7), (7, 0), (7, 7)):
            placed = map_to_slice(one_hot(row, column), (80, 160), None)
            assert placed[row * 79 // 7, column * 159 // 7] == 1
            assert (placed == 1).sum() < 8 * 16


FLAGGED = Decision(probability=0.99, threshold=0.5)
NORMAL = Decision(probability=0.02, threshold=0.5)


def colored(overlay, pixels):
    """Where an overlay differs from its slice: bool `(height, width)`."""
    rgb = pixels if pixels.ndim == 3 else np.stack([pixels] * 3, axis=-1)
    return (np.asarray(overlay) != rgb).any(axis=-1)


class TestDrawOverlay:
    @pytest.mark.parametrize("turned", range(4))
    @pytest.mark.parametrize(
        "model_input",
        [WHOLE, ModelInput(64), ModelInput(64, upright=True)],
        ids=["whole", "crop_head", "upright"],
    )
    def test_color_lands_on_what_the_model_saw(self, model_input, turned):
        pixels, spot = slice_with_a_spot(turned)
        seen = model_input(pixels)
        # A model that answers to green.
        green = (seen[..., 1] - seen[..., 0]).reshape(16, 4, 16, 4).mean(axis=(1, 3))
        overlay = draw_overlay(pixels, green / 255 * 400, model_input, FLAGGED)
        assert overlay.size == pixels.shape[1::-1]
        changed = np.abs(np.asarray(overlay).astype(int) - pixels).sum(axis=-1)
        np.testing.assert_allclose(
            ndimage.center_of_mass(changed), ndimage.center_of_mass(spot), atol=2
        )
        assert changed[spot].mean() > 50
        assert changed[ndimage.distance_transform_edt(~spot) > 45].max() < 10

    def test_upright_cases_are_turned(self):
        find_head = ModelInput(64, upright=True).find_head
        turns = [find_head(slice_with_a_spot(turned)[0]).turns for turned in range(4)]
        assert turns == [0, 3, 0, 1]

    @pytest.mark.parametrize("shape", [(1, 1), (40, 70), (97, 31), (33, 45, 3)])
    @pytest.mark.parametrize("model_input", [WHOLE, ModelInput(64, upright=True)])
    @pytest.mark.parametrize("contours", [False, True])
    def test_a_slice_below_the_threshold_stays_as_it_is(self, model_input, shape, contours):
        pixels = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
        cam = np.float32([[900, -1000], [50, 0]])
        overlay = draw_overlay(pixels, cam, model_input, NORMAL, contours)
        assert overlay.mode == "RGB"
        assert overlay.size == shape[1::-1]
        assert not colored(overlay, pixels).any()

    def test_no_color_on_the_half_that_speaks_against(self):
        pixels = np.full((64, 64), 90, np.uint8)
        cam = np.tile(np.float32([-9, -9, -9, -9, 40, 40, 40, 40]), (8, 1))
        changed = colored(draw_overlay(pixels, cam, WHOLE, FLAGGED), pixels)
        assert not changed[:, :28].any() and changed[:, 36:].all()

    @pytest.mark.parametrize("turned", [0, 1])
    @pytest.mark.parametrize("crop_head", [True, False])
    @pytest.mark.parametrize("in_hounsfield", [True, False])
    def test_nothing_outside_of_the_head(self, turned, crop_head, in_hounsfield):
        pixels, _ = slice_with_a_spot(turned)
        pixels = pixels[..., 0]
        pixels[110:113, 110:113] = 110  # without the spot
        if in_hounsfield:
            pixels = np.where(pixels > 0, pixels.astype(np.float32) / 255 * 80, -1000)
            pixels = pixels.astype(np.float32)
        model_input = ModelInput(64, crop_head=crop_head)
        everywhere = np.full((8, 8), 100, np.float32)
        overlay = np.asarray(draw_overlay(pixels, everywhere, model_input, Decision(1, 1e-6)))
        changed = overlay[..., 0] != overlay[..., 2]  # color on gray
        y, x = np.mgrid[:220, :250]
        v = (y - 90) / 75
        radius = np.hypot(v, (x - 140) / (58 * (1 + 0.12 * v)))
        radius = np.rot90(radius, turned)
        assert changed[radius < 0.9].all()
        assert not changed[radius > 1.1].any()

    def test_the_scale_is_the_same_for_every_slice(self):
        pixels = np.full((64, 64), 100, np.uint8)
        # Evidence of 20 in a quarter of the one map, and of 40 in an eighth of the other.
        quarter, eighth = np.zeros((2, 32, 32), np.float32)
        quarter[:16, :16], eighth[:16, :8] = 20, 40
        decision = Decision(1 / (1 + np.exp(-5)), 0.5)
        one, other = (
            np.asarray(draw_overlay(pixels, cam, WHOLE, decision)) for cam in (quarter, eighth)
        )
        for overlay, evidence in ((one, 20), (other, 40)):
            color, opacity = color_evidence(np.float32(evidence))
            expected = 100 * (1 - opacity) + color * opacity
            np.testing.assert_allclose(overlay[10, 6], expected, atol=0.51)

    def test_contours_leave_the_inside_as_it_is(self):
        pixels = np.full((200, 200), 90, np.uint8)
        cam = np.full((10, 10), -20, np.float32)
        cam[3:7, 3:7] = 60
        filled = colored(draw_overlay(pixels, cam, WHOLE, FLAGGED), pixels)
        lines = colored(draw_overlay(pixels, cam, WHOLE, FLAGGED, contours=True), pixels)
        assert lines.any() and not (lines & ~filled).any()
        assert lines.sum() < filled.sum() / 4
        assert not lines[95:105, 95:105].any() and filled[95:105, 95:105].all()

    @pytest.mark.parametrize("window", [None, ("bone",)])
    def test_hounsfield_units_are_shown_through_the_window(self, window):
        hounsfield = np.random.default_rng(0).uniform(-1000, 2000, (30, 50)).astype(np.float32)
        model_input = ModelInput(32, window, crop_head=False)
        cam = np.zeros((2, 2), np.float32)
        overlay = np.asarray(draw_overlay(hounsfield, cam, model_input, NORMAL))
        shown = (Window(600, 2800) if window else Window(40, 80)).apply(hounsfield)
        assert overlay.shape == (30, 50, 3)
        for channel in range(3):
            np.testing.assert_array_equal(overlay[..., channel], np.rint(shown))

    def test_three_windows_are_shown_in_color(self):
        hounsfield = np.full((20, 20), 60, np.float32)
        model_input = ModelInput(32, ("brain", "subdural", "bone"), crop_head=False)
        overlay = draw_overlay(hounsfield, np.zeros((2, 2), np.float32), model_input, NORMAL)
        expected = [
            float(np.rint(each.apply(np.float32(60))))
            for each in (Window(40, 80), Window(80, 200), Window(600, 2800))
        ]
        assert np.asarray(overlay)[3, 4].tolist() == expected

    def test_slice_and_map_are_left_as_they_are(self):
        pixels, _ = slice_with_a_spot()
        cam = np.random.default_rng(0).normal(0, 3, (8, 8)).astype(np.float32)
        before = pixels.copy(), cam.copy()
        assert isinstance(draw_overlay(pixels, cam, ModelInput(64), FLAGGED), Image.Image)
        np.testing.assert_array_equal(pixels, before[0])
        np.testing.assert_array_equal(cam, before[1])


class TestColorBar:
    @pytest.mark.parametrize("contours", [False, True])
    def test_shows_the_scale_from_the_bottom_to_the_top(self, contours):
        bar = draw_color_bar(contours)
        assert bar.mode == "RGB"
        column = np.asarray(bar)[22:248, 14].astype(int)  # below the title
        gray = (column[:, 0] == column[:, 1]) & (column[:, 1] == column[:, 2])
        if contours:
            lines = np.flatnonzero(~gray)
            assert lines.min() <= 1 and (np.diff(lines) > 100).sum() == 1  # at 30 and 7.5
        else:
            assert gray[-1] and not gray[:-10].any()
            for row, evidence in ((0, 30), (112, 15)):
                color, opacity = color_evidence(np.float32(evidence))
                np.testing.assert_allclose(
                    column[row], 128 * (1 - opacity) + color * opacity, atol=1.5
                )
