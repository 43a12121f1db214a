import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image
from plain_phantoms import draw_phantom
from scipy import ndimage

from hemorrhage_tf.exporters import head_crop_graph
from hemorrhage_tf.imaging.head_crop import crop_head, crop_to, find_head
from hemorrhage_tf.imaging.readers import read_slice, to_rgb

DISPLAY_IMAGE = tf.TensorSpec((None, None, 3), tf.uint8)
# Traced once, for images of any size, as in `serve_bytes`.
GRAPHS = {
    upright: tf.function(
        lambda pixels, upright=upright: head_crop_graph.crop_head(pixels, upright),
        input_signature=[DISPLAY_IMAGE],
    )
    for upright in (False, True)
}


def assert_same(pixels, upright):
    """Compare the graph's pixels with NumPy's, and return the head."""
    head = find_head(pixels, upright)
    cropped = GRAPHS[upright](pixels).numpy()
    assert cropped.dtype == np.uint8
    np.testing.assert_array_equal(cropped, crop_to(pixels, head))
    return head


def phantom(index, size=(128, 128), background=0):
    """Draw a head, wider below, with a couch under it and a letter next to it."""
    pixels = np.zeros((160, 150), np.uint8)
    pixels[:128, 10:138] = draw_phantom(0, index, index % 2)
    pixels[148:152] = 140
    pixels[4:14, 2:6] = 255
    resized = Image.fromarray(np.maximum(pixels, np.uint8(background)))
    rgb = to_rgb(np.asarray(resized.resize(size, Image.Resampling.BILINEAR)))
    return np.ascontiguousarray(rgb)


class TestSamePixelsAsNumPy:
    @pytest.mark.parametrize("upright", [False, True])
    @pytest.mark.parametrize("size", [(128, 128), (64, 64), (65, 97), (301, 200), (150, 513)])
    @pytest.mark.parametrize("rotated", range(4))
    def test_heads_of_every_size_and_orientation(self, size, rotated, upright):
        head = assert_same(np.rot90(phantom(rotated, size)), upright)
        assert head.is_found

    def test_sideways_heads_are_rotated_both_ways(self):
        turns = {assert_same(np.rot90(phantom(0), rotated), True).turns for rotated in (0, 1, 2, 3)}
        assert turns == {0, 1, 3}

    @pytest.mark.parametrize("background", [20, 60])
    def test_gray_background(self, background):
        assert assert_same(phantom(1, background=background), False).is_found

    @pytest.mark.parametrize("upright", [False, True])
    @pytest.mark.parametrize("crop", [np.s_[:, 40:], np.s_[:, :90], np.s_[30:], np.s_[:90]])
    def test_truncated_head(self, crop, upright):
        head = assert_same(phantom(2)[crop], upright)
        assert head.is_found

    def test_different_channels(self):
        tint = np.array([0.4, 1, 0.7])
        assert assert_same((phantom(3) * tint).astype(np.uint8), True).is_found

    @pytest.mark.parametrize(
        "shape", [(1, 1), (1, 500), (500, 1), (2, 3), (7, 7), (64, 63), (129, 200)]
    )
    @pytest.mark.parametrize("level", [0, 128, 255])
    def test_blank_image(self, level, shape):
        assert not assert_same(np.full((*shape, 3), level, np.uint8), True).is_found

    @pytest.mark.parametrize("shape", [(64, 64), (65, 40), (300, 512)])
    @pytest.mark.parametrize(("low", "high"), [(0, 256), (100, 104)])
    def test_tissue_everywhere(self, low, high, shape):
        # Erosion must terminate although nothing is background.
        assert_same(np.random.default_rng(0).integers(low, high, (*shape, 3), np.uint8), True)

    @given(
        pixels=arrays(np.uint8, st.tuples(st.integers(1, 12), st.integers(1, 12), st.just(3))),
        upright=st.booleans(),
    )
    @settings(max_examples=40, deadline=None)
    def test_any_small_image(self, pixels, upright):
        assert_same(pixels, upright)

    @given(
        height=st.integers(8, 260),
        width=st.integers(8, 260),
        seed=st.integers(0, 2**32 - 1),
        smooth=st.sampled_from([1, 3, 8, 20]),
        upright=st.booleans(),
    )
    @settings(max_examples=40, deadline=None)
    def test_blobs(self, height, width, seed, smooth, upright):
        blobs = np.random.default_rng(seed).normal(0, 1, (height, width, 1))
        blobs = ndimage.gaussian_filter(blobs, (smooth, smooth, 0), mode="wrap")
        blobs = (blobs / max(np.std(blobs), 1e-6)).clip(-3, 3)
        assert_same((128 + blobs * [42, 30, 36]).astype(np.uint8), upright)


def test_eager_execution_returns_the_same_pixels():
    pixels = np.rot90(phantom(1))
    cropped = head_crop_graph.crop_head(tf.constant(pixels), True).numpy()
    np.testing.assert_array_equal(cropped, crop_head(pixels, True))


@pytest.mark.slow
@pytest.mark.real_data
def test_every_real_slice_has_the_same_pixels(shared):
    paths = sorted((shared / "head_ct" / "head_ct").glob("*.png"))
    assert len(paths) == 200
    for index, path in enumerate(paths):
        pixels = to_rgb(read_slice(path))
        # Every second one sideways, which `upright` rotates back.
        rotated = (0, 1, 0, 3)[index % 4]
        assert assert_same(np.rot90(pixels, rotated), bool(rotated)).is_found
