import numpy as np
import pytest
from plain_phantoms import draw_phantom

from hemorrhage_tf.datasets.thumbnails import FLIPS, flip_thumbnails, make_thumbnails

PHANTOM = draw_phantom(0, 0, 1)


def test_gray_thumbnails_have_zero_mean_and_unit_length():
    gray = make_thumbnails(PHANTOM).gray
    assert gray.shape == (2, 1024) and gray.dtype == np.float32
    np.testing.assert_allclose(gray.mean(axis=1), 0, atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(gray, axis=1), 1, atol=1e-5)


def test_content_and_gray_shares():
    made = make_thumbnails(PHANTOM)
    assert made.content.shape == (64, 64) and 0 <= made.content.min() <= made.content.max() <= 255
    assert made.gray_shares.shape == (22,) and made.gray_shares.sum() == pytest.approx(1)


@pytest.mark.parametrize("level", [0, 1, 100, 255])
@pytest.mark.parametrize("shape", [(1, 1), (33, 47), (100, 100, 3)])
def test_a_single_color_becomes_zeros(shape, level):
    assert not make_thumbnails(np.full(shape, level, np.uint8)).gray.any()


def test_gray_equals_rgb_with_equal_channels():
    rgb = np.stack([PHANTOM] * 3, axis=-1)
    for one, other in zip(make_thumbnails(rgb), make_thumbnails(PHANTOM), strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_dark_border_changes_the_whole_but_not_the_content():
    padded = np.pad(PHANTOM, ((30, 10), (5, 45)))
    one, other = make_thumbnails(PHANTOM).gray, make_thumbnails(padded).gray
    assert one[0] @ other[0] < 0.9
    assert one[1] @ other[1] > 0.99


def test_does_not_change_the_pixels():
    pixels = PHANTOM.copy()
    make_thumbnails(pixels)
    np.testing.assert_array_equal(pixels, PHANTOM)


@pytest.mark.parametrize("flip", [None, *FLIPS])
def test_flips_thumbnails(flip):
    gray = make_thumbnails(PHANTOM).gray
    expected = np.flip(gray.reshape(2, 32, 32), [axis + 1 for axis in FLIPS.get(flip, ())])
    np.testing.assert_array_equal(flip_thumbnails(gray, flip), expected.reshape(2, 1024))
