from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from plain_phantoms import draw_phantom

from hemorrhage_tf.imaging.head_crop import crop_head as crop_to_head
from hemorrhage_tf.imaging.windows import Window
from hemorrhage_tf.pipeline.model_input import ModelInput, choose_window, resize_to_square

SIZE = 48
THREE = ("brain", "subdural", "bone")


def phantom():
    return draw_phantom(0, 0, 0)


def slice_in_hu():
    """Draw a skull, wider at its back, with a brain in HU, off the middle and above a couch."""
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
    def test_every_setting_changes_the_key(self):
        settings = product(
            (24, 224), (("brain",), ("40/80",), ("bone",), THREE), (False, True), (False, True)
        )
        keys = [ModelInput(*each).key for each in settings]
        assert len(set(keys)) == len(keys) == 2 * 4 * 2 * 2

    def test_order_of_the_windows_matters(self):
        assert ModelInput(24, THREE).key != ModelInput(24, THREE[::-1]).key

    def test_same_settings_have_the_same_key(self):
        assert ModelInput(24, THREE, False, True).key == ModelInput(24, THREE, False, True).key

    def test_no_window_is_the_brain_window(self):
        default, brain = ModelInput(SIZE), ModelInput(SIZE, ("brain",))
        assert default.key == brain.key
        for pixels in (slice_in_hu(), phantom()):
            np.testing.assert_array_equal(default(pixels), brain(pixels))


class TestTakesDisplayImages:
    @pytest.mark.parametrize(
        ("window", "takes"), [(None, True), (("bone",), True), (("40/80",), True), (THREE, False)]
    )
    def test_unless_each_channel_has_a_window(self, window, takes):
        assert ModelInput(SIZE, window).takes_display_images is takes


class TestFindHead:
    def test_is_none_without_the_head_crop(self):
        assert ModelInput(SIZE, crop_head=False).find_head(slice_in_hu()) is None

    def test_turns_the_head_only_if_upright_is_set(self):
        sideways = np.rot90(slice_in_hu())
        assert ModelInput(SIZE).find_head(sideways).turns == 0
        assert ModelInput(SIZE, upright=True).find_head(sideways).turns in (1, 3)


class TestApplyWindow:
    @pytest.mark.parametrize("window", [None, ("bone",), THREE])
    def test_display_images_are_unchanged(self, window):
        rgb = np.random.default_rng(0).integers(0, 256, (5, 6, 3), np.uint8)
        for pixels in (rgb, rgb[..., 0]):
            assert ModelInput(SIZE, window).apply_window(pixels) is pixels

    @pytest.mark.parametrize(
        ("window", "expected"),
        [(None, Window(40, 80)), (("bone",), Window(600, 2800)), (("50/150",), Window(50, 150))],
    )
    def test_hounsfield_units_go_through_the_window(self, window, expected):
        gray = ModelInput(SIZE, window).apply_window(slice_in_hu())
        np.testing.assert_array_equal(gray, expected.apply(slice_in_hu()))

    def test_three_windows_are_channels(self):
        gray = ModelInput(SIZE, THREE).apply_window(slice_in_hu())
        expected = [Window(40, 80), Window(80, 200), Window(600, 2800)]
        np.testing.assert_array_equal(
            gray, np.stack([window.apply(slice_in_hu()) for window in expected], axis=-1)
        )


class TestModelInput:
    @pytest.mark.parametrize("crop_head", [False, True])
    @pytest.mark.parametrize("upright", [False, True])
    @pytest.mark.parametrize("window", [None, ("subdural",), THREE])
    def test_hounsfield_units_are_cropped_windowed_and_resized(self, window, upright, crop_head):
        sideways = np.rot90(slice_in_hu())
        made = ModelInput(SIZE, window, crop_head, upright)(sideways)
        assert made.shape == (SIZE, SIZE, 3)
        assert made.dtype == np.float32
        cropped = (
            crop_to_head(np.rot90(slice_in_hu()), upright) if crop_head else np.rot90(slice_in_hu())
        )
        named = {"brain": (40, 80), "subdural": (80, 200), "bone": (600, 2800)}
        channels = [Window(*named[name]).apply(cropped) for name in window or ("brain",)]
        gray = channels[0] if len(channels) == 1 else np.stack(channels, axis=-1)
        np.testing.assert_allclose(made, resized_by_tensorflow(gray, SIZE), rtol=0, atol=0.01)

    @pytest.mark.parametrize("window", [None, ("bone",)])
    @pytest.mark.parametrize("color", [False, True])
    def test_display_images_are_cropped_and_resized(self, window, color):
        pixels = np.stack([phantom(), phantom() // 2, phantom()], -1) if color else phantom()
        np.testing.assert_allclose(
            ModelInput(SIZE, window)(pixels),
            resized_by_tensorflow(crop_to_head(pixels), SIZE),
            rtol=0,
            atol=0.01,
        )
        np.testing.assert_allclose(
            ModelInput(SIZE, window, crop_head=False)(pixels),
            resized_by_tensorflow(pixels, SIZE),
            rtol=0,
            atol=0.01,
        )

    def test_display_image_of_the_model_size_keeps_every_level(self):
        pixels = np.random.default_rng(0).integers(0, 256, (SIZE, SIZE, 3), np.uint8)
        made = ModelInput(SIZE, crop_head=False)(pixels)
        np.testing.assert_array_equal(made, pixels)

    def test_upright_turns_sideways_heads_like_standing_ones(self):
        model_input = ModelInput(SIZE, upright=True)
        standing = model_input(slice_in_hu())
        for turned in (1, 3):
            sideways = model_input(np.rot90(slice_in_hu(), turned))
            difference = abs(sideways - standing).mean()
            others = [abs(np.rot90(sideways, turns) - standing).mean() for turns in (1, 2, 3)]
            assert difference < min(others) / 2, (difference, others)

    @pytest.mark.parametrize("pixels", [slice_in_hu(), phantom(), np.stack([phantom()] * 3, -1)])
    @pytest.mark.parametrize("crop_head", [False, True])
    def test_the_slice_is_not_changed(self, pixels, crop_head):
        before = pixels.copy()
        made = ModelInput(pixels.shape[0], crop_head=crop_head)(pixels)
        made += 1
        np.testing.assert_array_equal(pixels, before)

    @given(
        height=st.integers(1, 80),
        width=st.integers(1, 80),
        size=st.integers(1, 40),
        is_display_image=st.booleans(),
        window=st.sampled_from([None, ("bone",), THREE]),
        crop_head=st.booleans(),
    )
    @settings(max_examples=40, deadline=None)
    def test_any_slice_becomes_a_square_in_range(
        self, height, width, size, is_display_image, window, crop_head
    ):
        rng = np.random.default_rng(height * 81 + width)
        pixels = rng.integers(0, 256, (height, width), np.uint8)
        if not is_display_image:
            pixels = pixels.astype(np.float32) * 16 - 1000
        made = ModelInput(size, window, crop_head)(pixels)
        assert made.shape == (size, size, 3)
        assert made.dtype == np.float32
        assert made.min() >= -1e-3 and made.max() <= 255 + 1e-3


class TestResizeToSquare:
    @pytest.mark.parametrize("size", [16, 75, 224])
    @pytest.mark.parametrize("shape", [(64, 64), (40, 30), (31, 200, 3), (150, 97), (3, 3, 3)])
    def test_bytes_agree_with_tensorflow(self, shape, size):
        pixels = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
        expected = resized_by_tensorflow(pixels, size)
        made = resize_to_square(pixels, size)
        assert made.shape == (size, size, 3)
        assert made.dtype == np.float32
        np.testing.assert_allclose(made, expected, rtol=0, atol=0.01)

    @pytest.mark.parametrize("shape", [(32, 32), (32, 32, 3)])
    def test_same_size_preserves_every_level(self, shape):
        pixels = np.random.default_rng(1).integers(0, 256, shape, np.uint8)
        made = resize_to_square(pixels, 32)
        assert made.dtype == np.float32
        np.testing.assert_array_equal(made if len(shape) == 3 else made[..., 1], pixels)

    @pytest.mark.parametrize("level", [0, 1, 128, 255])
    def test_a_uniform_slice_stays_uniform(self, level):
        np.testing.assert_allclose(
            resize_to_square(np.full((37, 53), level, np.uint8), 20), level, atol=1e-3
        )

    def test_stays_in_range(self):
        checkered = np.where(np.indices((41, 67)).sum(axis=0) % 2, 255, 0).astype(np.uint8)
        for size in (20, 41, 90):
            made = resize_to_square(checkered, size)
            assert made.min() >= 0
            assert made.max() <= 255

    def test_pixels_are_not_changed(self):
        pixels = np.random.default_rng(2).integers(0, 256, (30, 30, 3), np.uint8)
        before = pixels.copy()
        made = resize_to_square(pixels, 30)
        made += 1
        resize_to_square(pixels, 12)
        np.testing.assert_array_equal(pixels, before)

    @pytest.mark.parametrize("size", [16, 64, 75])
    @pytest.mark.parametrize("shape", [(64, 64), (31, 200, 3), (150, 97)])
    def test_floats_agree_with_tensorflow(self, shape, size):
        pixels = np.random.default_rng(0).uniform(0, 255, shape).astype(np.float32)
        made = resize_to_square(pixels, size)
        assert made.shape == (size, size, 3)
        assert made.dtype == np.float32
        np.testing.assert_allclose(made, resized_by_tensorflow(pixels, size), rtol=0, atol=0.01)

    def test_fractions_of_a_gray_level_are_preserved(self):
        levels = np.full((20, 30), 100.25, np.float32)
        np.testing.assert_allclose(resize_to_square(levels, 16), 100.25, atol=1e-3)
        np.testing.assert_array_equal(resize_to_square(levels[:, :20], 20), np.float32(100.25))


class TestChooseWindow:
    @pytest.mark.parametrize(
        ("is_hounsfield", "requested", "expected"),
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
    def test_only_for_hounsfield_units(self, is_hounsfield, requested, expected):
        assert choose_window(is_hounsfield, requested) == expected
        assert choose_window(np.array(is_hounsfield, bool), requested) == expected
