from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from plain_phantoms import draw_phantom

from hemorrhage_tf.imaging.head_crop import crop_head
from hemorrhage_tf.imaging.windows import Window
from hemorrhage_tf.pipeline.model_input import ModelInput, resize_to_square, window_for

SIZE = 48
THREE = ("brain", "subdural", "bone")


def phantom():
    return draw_phantom(0, 0, 0)


def scan():
    """A skull, wider at its back, and its brain in HU, off the middle, with a couch below."""
    y, x = np.mgrid[:160, :140]
    v = (y - 70) / 60
    radius = np.hypot(v, (x - 75) / (44 * (1 + 0.15 * v)))
    hounsfield = np.where(radius < 1, 900, -1000)
    hounsfield[radius < 0.9] = 35
    hounsfield[150:154] = 200
    noise = np.random.default_rng(0).normal(0, 5, y.shape)
    return (hounsfield + noise).astype(np.float32)


def resized_by_tensorflow(pixels, size):
    import tensorflow as tf

    rgb = pixels if pixels.ndim == 3 else np.stack([pixels] * 3, axis=-1)
    return tf.image.resize(rgb.astype(np.float32), (size, size), antialias=True).numpy()


class TestKey:
    def test_every_setting_gives_another_key(self):
        settings = product(
            (24, 224), (("brain",), ("40/80",), ("bone",), THREE), (False, True), (False, True)
        )
        keys = [ModelInput(*each).key for each in settings]
        assert len(set(keys)) == len(keys) == 2 * 4 * 2 * 2

    def test_order_of_the_windows_matters(self):
        assert ModelInput(24, THREE).key != ModelInput(24, THREE[::-1]).key

    def test_same_settings_give_the_same_key(self):
        assert ModelInput(24, THREE, False, True).key == ModelInput(24, THREE, False, True).key

    def test_no_window_is_the_brain_window_and_so_are_its_pixels(self):
        pictures, brain = ModelInput(SIZE), ModelInput(SIZE, ("brain",))
        assert pictures.key == brain.key
        for pixels in (scan(), phantom()):
            np.testing.assert_array_equal(pictures(pixels), brain(pixels))


class TestTakesPictures:
    @pytest.mark.parametrize(
        ("window", "takes"), [(None, True), (("bone",), True), (("40/80",), True), (THREE, False)]
    )
    def test_not_where_each_channel_is_a_window(self, window, takes):
        assert ModelInput(SIZE, window).takes_display_images is takes


class TestHead:
    def test_none_without_the_canonical_form(self):
        assert ModelInput(SIZE, crop_head=False).head(scan()) is None

    def test_found_and_turned_where_it_is_asked_for(self):
        sideways = np.rot90(scan())
        assert ModelInput(SIZE).head(sideways).turns == 0
        assert ModelInput(SIZE, upright=True).head(sideways).turns in (1, 3)


class TestShown:
    @pytest.mark.parametrize("window", [None, ("bone",), THREE])
    def test_pictures_are_left(self, window):
        rgb = np.random.default_rng(0).integers(0, 256, (5, 6, 3), np.uint8)
        for pixels in (rgb, rgb[..., 0]):
            assert ModelInput(SIZE, window).shown(pixels) is pixels

    @pytest.mark.parametrize(
        ("window", "expected"),
        [(None, Window(40, 80)), (("bone",), Window(600, 2800)), (("50/150",), Window(50, 150))],
    )
    def test_hounsfield_units_through_the_window(self, window, expected):
        shown = ModelInput(SIZE, window).shown(scan())
        np.testing.assert_array_equal(shown, expected.apply(scan()))

    def test_three_windows_are_channels(self):
        shown = ModelInput(SIZE, THREE).shown(scan())
        expected = [Window(40, 80), Window(80, 200), Window(600, 2800)]
        np.testing.assert_array_equal(
            shown, np.stack([window.apply(scan()) for window in expected], axis=-1)
        )


class TestModelInput:
    @pytest.mark.parametrize("is_canonical", [False, True])
    @pytest.mark.parametrize("upright", [False, True])
    @pytest.mark.parametrize("window", [None, ("subdural",), THREE])
    def test_hounsfield_units_are_cut_then_shown_then_resized(self, window, upright, is_canonical):
        made = ModelInput(SIZE, window, is_canonical, upright)(np.rot90(scan()))
        assert made.shape == (SIZE, SIZE, 3)
        assert made.dtype == np.float32
        seen = crop_head(np.rot90(scan()), upright) if is_canonical else np.rot90(scan())
        named = {"brain": (40, 80), "subdural": (80, 200), "bone": (600, 2800)}
        shown = [Window(*named[name]).apply(seen) for name in window or ("brain",)]
        shown = shown[0] if len(shown) == 1 else np.stack(shown, axis=-1)
        np.testing.assert_allclose(made, resized_by_tensorflow(shown, SIZE), rtol=0, atol=0.01)

    @pytest.mark.parametrize("window", [None, ("bone",)])
    @pytest.mark.parametrize("color", [False, True])
    def test_pictures_are_cut_and_resized(self, window, color):
        pixels = np.stack([phantom(), phantom() // 2, phantom()], -1) if color else phantom()
        np.testing.assert_allclose(
            ModelInput(SIZE, window)(pixels),
            resized_by_tensorflow(crop_head(pixels), SIZE),
            rtol=0,
            atol=0.01,
        )
        np.testing.assert_allclose(
            ModelInput(SIZE, window, crop_head=False)(pixels),
            resized_by_tensorflow(pixels, SIZE),
            rtol=0,
            atol=0.01,
        )

    def test_picture_of_the_model_size_keeps_every_level(self):
        pixels = np.random.default_rng(0).integers(0, 256, (SIZE, SIZE, 3), np.uint8)
        made = ModelInput(SIZE, crop_head=False)(pixels)
        np.testing.assert_array_equal(made, pixels)

    def test_upright_brings_lying_and_standing_heads_to_the_same(self):
        model_input = ModelInput(SIZE, upright=True)
        standing = model_input(scan())
        for turned in (1, 3):
            lying = model_input(np.rot90(scan(), turned))
            difference = abs(lying - standing).mean()
            others = [abs(np.rot90(lying, turns) - standing).mean() for turns in (1, 2, 3)]
            assert difference < min(others) / 2, (difference, others)

    @pytest.mark.parametrize("pixels", [scan(), phantom(), np.stack([phantom()] * 3, -1)])
    @pytest.mark.parametrize("is_canonical", [False, True])
    def test_the_slice_is_left_as_it_is(self, pixels, is_canonical):
        before = pixels.copy()
        made = ModelInput(pixels.shape[0], crop_head=is_canonical)(pixels)
        made += 1
        np.testing.assert_array_equal(pixels, before)

    @given(
        height=st.integers(1, 80),
        width=st.integers(1, 80),
        size=st.integers(1, 40),
        is_display_image=st.booleans(),
        window=st.sampled_from([None, ("bone",), THREE]),
        is_canonical=st.booleans(),
    )
    @settings(max_examples=50, deadline=None)
    def test_any_slice_gives_a_square_in_range(
        self, height, width, size, is_display_image, window, is_canonical
    ):
        rng = np.random.default_rng(height * 81 + width)
        pixels = rng.integers(0, 256, (height, width), np.uint8)
        if not is_display_image:
            pixels = pixels.astype(np.float32) * 16 - 1000
        made = ModelInput(size, window, is_canonical)(pixels)
        assert made.shape == (size, size, 3)
        assert made.dtype == np.float32
        assert made.min() >= -1e-3 and made.max() <= 255 + 1e-3


class TestResizeToSquare:
    @pytest.mark.parametrize("size", [16, 64, 75])
    @pytest.mark.parametrize("shape", [(64, 64), (31, 200, 3), (150, 97)])
    def test_floats_agree_with_tensorflow(self, shape, size):
        # Bytes are compared in test_pipeline.py.
        pixels = np.random.default_rng(0).uniform(0, 255, shape).astype(np.float32)
        made = resize_to_square(pixels, size)
        assert made.shape == (size, size, 3)
        assert made.dtype == np.float32
        np.testing.assert_allclose(made, resized_by_tensorflow(pixels, size), rtol=0, atol=0.01)

    def test_fractions_of_a_level_are_kept(self):
        levels = np.full((20, 30), 100.25, np.float32)
        np.testing.assert_allclose(resize_to_square(levels, 16), 100.25, atol=1e-3)
        np.testing.assert_array_equal(resize_to_square(levels[:, :20], 20), np.float32(100.25))


class TestWindowFor:
    @pytest.mark.parametrize(
        ("is_hounsfield", "asked", "expected"),
        [
            ([False, False], None, None),
            ([False, False], ("bone",), None),
            ([True, True], None, ("brain",)),
            ([True, True], THREE, THREE),
            ([False, True], None, ("brain",)),
            ([False, True], ("subdural",), ("subdural",)),
            ([], None, None),
        ],
    )
    def test_only_where_there_are_hounsfield_units(self, is_hounsfield, asked, expected):
        assert window_for(is_hounsfield, asked) == expected
        assert window_for(np.array(is_hounsfield, bool), asked) == expected
