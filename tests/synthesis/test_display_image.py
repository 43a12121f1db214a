from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from hemorrhage_tf.synthesis.display_image import draw_display_image
from hemorrhage_tf.synthesis.draw import draw_phantom


@pytest.fixture(scope="module")
def pairs():
    """Return 80 phantoms and their display images."""
    phantoms = [draw_phantom(3, index, size=96) for index in range(80)]
    return [
        (phantom, draw_display_image(phantom, np.random.default_rng(index)))
        for index, phantom in enumerate(phantoms)
    ]


def test_masks_have_the_pixels_of_the_image(pairs):
    for _, image in pairs:
        assert image.pixels.dtype == np.uint8
        assert image.blood.shape == image.bright.shape == image.pixels.shape[:2]


def test_the_hemorrhage_is_in_the_image(pairs):
    for phantom, image in pairs:
        assert image.blood.any() == bool(phantom.label)


def test_images_have_many_sizes_and_some_have_a_tint(pairs):
    heights = [image.pixels.shape[0] for _, image in pairs]
    assert min(heights) < 200 and max(heights) > 600
    tinted = [image.pixels.ndim == 3 for _, image in pairs]
    assert 0 < np.mean(tinted) < 0.25


def test_the_height_can_be_given():
    image = draw_display_image(draw_phantom(0, 1, size=96), np.random.default_rng(0), 150)
    assert image.pixels.shape[0] == 150


def test_the_same_generator_gives_the_same_bytes():
    phantom = draw_phantom(0, 1, size=96)
    first, second = (draw_display_image(phantom, np.random.default_rng(4)) for _ in range(2))
    assert first.pixels.tobytes() == second.pixels.tobytes()


def test_the_image_is_bright_under_the_mask(pairs):
    brighter = []
    for phantom, image in pairs:
        if phantom.label:
            gray = image.pixels if image.pixels.ndim == 2 else image.pixels.mean(axis=2)
            tissue = gray[(gray > 40) & (gray < 200) & (image.blood == 0)]
            brighter.append(np.median(gray[image.blood > 0]) > np.median(tissue))
    assert np.mean(brighter) > 0.85


def test_border_size_and_ratio_do_not_predict_the_label(pairs):
    labels = [phantom.label for phantom, _ in pairs]
    pixels = [image.pixels for _, image in pairs]
    border = [float(np.concatenate([p[0].ravel(), p[-1].ravel()]).mean()) for p in pixels]
    size = [p.shape[0] for p in pixels]
    ratio = [p.shape[1] / p.shape[0] for p in pixels]
    for values in (border, size, ratio):
        # With 80 images chance is 0.5 with a standard deviation of 0.065.
        assert 0.3 < roc_auc_score(labels, values) < 0.7


@pytest.fixture(scope="module")
def ramps():
    """Return 200 display images of a slice whose HU rise from left to right, -60 to 190."""
    ramp = np.tile(np.linspace(-60, 190, 125, dtype=np.float32), (125, 1))
    empty = np.zeros(ramp.shape, np.uint8)
    slice_ = replace(
        draw_phantom(0, 0, size=125), hounsfield=ramp, blood=empty, bright=empty > 0, label=0
    )
    images = [draw_display_image(slice_, np.random.default_rng(seed), 128) for seed in range(120)]
    return [image.pixels if image.pixels.ndim == 2 else image.pixels[..., 0] for image in images]


def test_windows_are_70_to_200_hu_wide(ramps):
    rows = [np.median(pixels, axis=0) for pixels in ramps]
    # Gray levels within the window; screens and compression change the darkest and the brightest.
    widths = [250 * np.mean((row > row.min() + 8) & (row < row.max() - 8)) for row in rows]
    narrow, wide = np.percentile(widths, (10, 90))
    assert 55 < narrow < 85 < 105 < wide < 160
    assert max(widths) > 140


def test_some_slices_have_a_dark_surround(ramps):
    dark = [bool((pixels.max(axis=0) < 60).sum() > 60) for pixels in ramps]
    assert np.mean(dark) < 0.5
    bars = [bool((pixels[[2, -3]].astype(int).max() < 60).any()) for pixels in ramps]
    assert 0.02 < np.mean(bars) < 0.2


def test_gray_levels_depend_on_the_screen(ramps):
    middles = [np.median(pixels[:, 40:60]) for pixels in ramps]
    assert np.std(middles) > 10
