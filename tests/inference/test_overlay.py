import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy import ndimage

from hemorrhage_tf.imaging.head_crop import HeadRegion, crop_to
from hemorrhage_tf.imaging.windows import Window
from hemorrhage_tf.inference.overlay import draw_overlay, map_to_slice
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


class TestDrawOverlay:
    @pytest.mark.parametrize("turned", range(4))
    @pytest.mark.parametrize(
        "model_input",
        [WHOLE, ModelInput(64), ModelInput(64, upright=True)],
        ids=["whole", "crop_head", "upright"],
    )
    def test_red_lands_on_what_the_model_saw(self, model_input, turned):
        pixels, spot = slice_with_a_spot(turned)
        seen = model_input(pixels)
        # A model that answers to green.
        green = (seen[..., 1] - seen[..., 0]).reshape(16, 4, 16, 4).mean(axis=(1, 3))
        overlay = np.asarray(draw_overlay(pixels, green / 255 * 4, model_input)).astype(int)
        assert overlay.shape == pixels.shape
        redder = overlay[..., 0] - pixels[..., 0] - (overlay[..., 1] - pixels[..., 1])
        np.testing.assert_allclose(
            ndimage.center_of_mass(redder), ndimage.center_of_mass(spot), atol=2
        )
        assert redder[spot].mean() > 50
        assert not redder[ndimage.distance_transform_edt(~spot) > 30].any()

    def test_upright_cases_are_turned(self):
        find_head = ModelInput(64, upright=True).find_head
        turns = [find_head(slice_with_a_spot(turned)[0]).turns for turned in range(4)]
        assert turns == [0, 3, 0, 1]

    @pytest.mark.parametrize("shape", [(1, 1), (40, 70), (97, 31), (33, 45, 3)])
    @pytest.mark.parametrize("model_input", [WHOLE, ModelInput(64, upright=True)])
    def test_no_red_where_nothing_speaks_for_hemorrhage(self, model_input, shape):
        pixels = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
        rgb = pixels if pixels.ndim == 3 else np.stack([pixels] * 3, axis=-1)
        for level in (0, -3):
            overlay = draw_overlay(pixels, np.full((3, 3), level, np.float32), model_input)
            assert overlay.mode == "RGB"
            assert overlay.size == shape[1::-1]
            np.testing.assert_array_equal(np.asarray(overlay), rgb)

    def test_no_red_on_the_half_that_speaks_against(self):
        pixels = np.full((64, 64), 90, np.uint8)
        cam = np.tile(np.float32([-9, -9, -9, -9, 4, 4, 4, 4]), (8, 1))
        overlay = np.asarray(draw_overlay(pixels, cam, WHOLE))
        assert (overlay[:, :28] == 90).all()
        assert (overlay[:, 36:, 0] > overlay[:, 36:, 1] + 60).all()

    @pytest.mark.parametrize(("logit", "share"), [(1, 0.277270), (2, 0.456956), (60, 0.6)])
    def test_the_scale_is_the_same_for_every_slice(self, logit, share):
        # 0.6 tanh(logit / 2), whatever else the map holds.
        pixels = np.full((40, 40), 100, np.uint8)
        for other in (0, 50):
            cam = np.full((8, 8), logit, np.float32)
            cam[0, 0] = other
            red, green, blue = np.asarray(draw_overlay(pixels, cam, WHOLE))[30, 30]
            assert red == pytest.approx(100 * (1 - share) + 255 * share, abs=0.51)
            assert green == blue == pytest.approx(100 * (1 - share), abs=0.51)

    @pytest.mark.parametrize("window", [None, ("bone",)])
    def test_hounsfield_units_are_shown_through_the_window(self, window):
        hounsfield = np.random.default_rng(0).uniform(-1000, 2000, (30, 50)).astype(np.float32)
        model_input = ModelInput(32, window, crop_head=False)
        overlay = np.asarray(draw_overlay(hounsfield, np.zeros((2, 2), np.float32), model_input))
        shown = (Window(600, 2800) if window else Window(40, 80)).apply(hounsfield)
        assert overlay.shape == (30, 50, 3)
        for channel in range(3):
            np.testing.assert_array_equal(overlay[..., channel], np.rint(shown))

    def test_three_windows_are_shown_in_color(self):
        hounsfield = np.full((20, 20), 60, np.float32)
        model_input = ModelInput(32, ("brain", "subdural", "bone"), crop_head=False)
        overlay = draw_overlay(hounsfield, np.zeros((2, 2), np.float32), model_input)
        expected = [
            float(np.rint(each.apply(np.float32(60))))
            for each in (Window(40, 80), Window(80, 200), Window(600, 2800))
        ]
        assert np.asarray(overlay)[3, 4].tolist() == expected

    def test_slice_and_map_are_left_as_they_are(self):
        pixels, _ = slice_with_a_spot()
        cam = np.random.default_rng(0).normal(0, 3, (8, 8)).astype(np.float32)
        before = pixels.copy(), cam.copy()
        assert isinstance(draw_overlay(pixels, cam, ModelInput(64)), Image.Image)
        np.testing.assert_array_equal(pixels, before[0])
        np.testing.assert_array_equal(cam, before[1])
