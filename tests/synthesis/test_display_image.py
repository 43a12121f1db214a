import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from hemorrhage_tf.synthesis import draw_display_image, draw_phantom


@pytest.fixture(scope="module")
def pictures():
    drawn = []
    for index in range(80):
        phantom = draw_phantom(3, index, size=96)
        drawn.append((phantom, draw_display_image(phantom, np.random.default_rng(index))))
    return drawn


def test_masks_are_of_the_pictures_own_pixels(pictures):
    for _, picture in pictures:
        assert picture.pixels.dtype == np.uint8
        assert picture.blood.shape == picture.bright.shape == picture.pixels.shape[:2]


def test_what_the_label_speaks_of_is_in_the_picture(pictures):
    for phantom, picture in pictures:
        assert picture.blood.any() == bool(phantom.label)


def test_pictures_are_of_many_sizes_and_some_have_a_tint(pictures):
    heights = [picture.pixels.shape[0] for _, picture in pictures]
    assert min(heights) < 200 and max(heights) > 600
    colored = [picture.pixels.ndim == 3 for _, picture in pictures]
    assert 0 < np.mean(colored) < 0.25


def test_a_height_that_is_asked_for():
    picture = draw_display_image(draw_phantom(0, 1, size=96), np.random.default_rng(0), 150)
    assert picture.pixels.shape[0] == 150


def test_the_same_generator_gives_the_same_bytes():
    phantom = draw_phantom(0, 1, size=96)
    first, second = (draw_display_image(phantom, np.random.default_rng(4)) for _ in range(2))
    assert first.pixels.tobytes() == second.pixels.tobytes()


def test_blood_shows_under_its_mask(pictures):
    brighter = []
    for phantom, picture in pictures:
        if phantom.label:
            gray = picture.pixels if picture.pixels.ndim == 2 else picture.pixels.mean(axis=2)
            tissue = gray[(gray > 40) & (gray < 200) & (picture.blood == 0)]
            brighter.append(np.median(gray[picture.blood > 0]) > np.median(tissue))
    assert np.mean(brighter) > 0.85


def test_nothing_about_the_picture_itself_tells_the_label(pictures):
    labels = [phantom.label for phantom, _ in pictures]
    border = [
        float(np.concatenate([p.pixels[0].ravel(), p.pixels[-1].ravel()]).mean())
        for _, p in pictures
    ]
    size = [p.pixels.shape[0] for _, p in pictures]
    ratio = [p.pixels.shape[1] / p.pixels.shape[0] for _, p in pictures]
    for figure in (border, size, ratio):
        # 80 pictures: chance is 0.5 with a standard deviation of 0.065.
        assert 0.3 < roc_auc_score(labels, figure) < 0.7
