import numpy as np
import pytest
from dataset_files import file_array
from PIL import Image
from plain_phantoms import draw_phantom

from hemorrhage_tf.datasets import thumbnails
from hemorrhage_tf.datasets.cropped_duplicates import find_cropped_duplicates
from hemorrhage_tf.datasets.thumbnails import FLIPS, make_thumbnails


def textured(seed, size=120):
    """Smoothed random blocks of gray: no two such images are crops of each other."""
    blocks = np.random.default_rng(seed).choice([40.0, 190.0], (6, 6)).astype(np.float32)
    image = Image.fromarray(blocks).resize((size, size), Image.Resampling.BICUBIC)
    return np.asarray(image).clip(30, 220).astype(np.uint8)


def crops_of(*images, dtype="f4"):
    reductions = [make_thumbnails(each) for each in images]
    contents = np.stack([each.content for each in reductions])
    if dtype == "u1":
        contents = np.rint(contents)
    shares = np.stack([each.gray_shares for each in reductions])
    return find_cropped_duplicates(file_array(contents, dtype), shares, np.arange(len(images)))


@pytest.mark.parametrize("cut", [(0, 0, 0, 0), (12, 0, 0, 0), (7, 4, 11, 2), (12, 12, 12, 12)])
@pytest.mark.parametrize("size", [None, (70, 64), (150, 170)])
def test_finds_crops_at_any_scale(cut, size):
    top, bottom, left, right = cut
    whole = textured(0)
    crop = Image.fromarray(whole[top : 120 - bottom, left : 120 - right])
    crop = np.asarray(crop.resize(size, Image.Resampling.BICUBIC) if size else crop)
    for images in ((whole, textured(1), crop), (crop, textured(1), whole)):
        ((i, j, correlation, flip, _),) = crops_of(*images)
        assert (i, j, flip) == (0, 2, None)
        assert correlation >= 0.97


@pytest.mark.parametrize("flip", FLIPS)
def test_finds_flipped_crops(flip):
    whole = textured(0)
    ((i, j, _, found_flip, _),) = crops_of(whole, np.flip(whole[5:-9, 3:-8], FLIPS[flip]))
    assert (i, j, found_flip) == (0, 1, flip)


def test_finds_a_crop_within_a_dark_border():
    whole = textured(0)
    ((i, j, _, flip, _),) = crops_of(whole, np.pad(whole[8:, :-9], ((20, 3), (40, 1))))
    assert (i, j, flip) == (0, 1, None)


def test_finds_a_crop_among_many_that_are_nearer_in_gray_levels():
    whole, rng = textured(0), np.random.default_rng(0)
    tiles = whole.reshape(12, 10, 12, 10).swapaxes(1, 2).reshape(144, 10, 10)
    shuffled = [
        rng.permutation(tiles).reshape(12, 12, 10, 10).swapaxes(1, 2).reshape(120, 120)
        for _ in range(40)
    ]
    ((i, j, *_),) = crops_of(whole, whole[12:, :-12], *shuffled)
    assert (i, j) == (0, 1)


def test_ignores_large_crops_and_other_slices():
    whole = textured(0)
    assert crops_of(whole, whole[40:, 40:]) == []
    assert crops_of(*(textured(seed) for seed in range(20))) == []


def test_ignores_single_colors():
    assert crops_of(*(np.full((40, 40), level, np.uint8) for level in (0, 0, 90, 90, 255))) == []


def test_one_slice_and_none():
    assert crops_of(textured(0)) == []
    nothing = file_array(np.zeros((0, 64, 64)))
    assert find_cropped_duplicates(nothing, np.zeros((0, 22)), np.arange(0)) == []


def test_a_large_set_finds_the_crops_of_a_small_one(monkeypatch):
    heads = [draw_phantom(2, index, index % 2) for index in range(60)]
    planted = {(index, 60 + index) for index in range(4)}
    heads += [np.ascontiguousarray(heads[index][6:, 4:-7]) for index in range(4)]
    expected = {pair[:2] for pair in crops_of(*heads, dtype="u1")}
    monkeypatch.setattr(thumbnails, "ALL_PAIRS_UP_TO", 1)
    monkeypatch.setattr("hemorrhage_tf.datasets.cropped_duplicates.BLOCK", 16)
    found = {pair[:2] for pair in crops_of(*heads, dtype="u1")}
    assert len(planted & expected) >= 3
    assert planted & expected <= found <= expected
