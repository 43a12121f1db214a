import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw
from plain_phantoms import draw_phantom

from hemorrhage_tf.datasets import near_duplicates as pairs_module
from hemorrhage_tf.datasets.near_duplicates import (
    contents,
    cropped_duplicates,
    merge_groups,
    near_duplicates,
    thumbnails,
)

PHANTOM = draw_phantom(0, 0, 1)


def resized(pixels, width, height):
    return np.asarray(Image.fromarray(pixels).resize((width, height), Image.Resampling.BICUBIC))


def with_letter(pixels):
    image = Image.fromarray(pixels)
    ImageDraw.Draw(image).text((4, 4), "R", fill=255, font_size=14)
    return np.asarray(image)


def on_larger_canvas(pixels):
    return np.pad(pixels, ((30, 10), (5, 45)))


def pairs_of(*images):
    return [pair[:2] for pair in near_duplicates(np.stack([thumbnails(each) for each in images]))]


class TestThumbnails:
    def test_shape_zero_mean_and_unit_length(self):
        made = thumbnails(PHANTOM)
        assert made.shape == (2, 1024)
        assert made.dtype == np.float32
        np.testing.assert_allclose(made.mean(axis=1), 0, atol=1e-6)
        np.testing.assert_allclose(np.linalg.norm(made, axis=1), 1, atol=1e-5)

    @pytest.mark.parametrize("level", [0, 1, 100, 255])
    @pytest.mark.parametrize("shape", [(1, 1), (33, 47), (100, 100, 3)])
    def test_one_color_gives_zeros(self, shape, level):
        assert not thumbnails(np.full(shape, level, np.uint8)).any()

    def test_slices_of_one_color_are_no_near_duplicates(self):
        flat = [np.full((40, 40), level, np.uint8) for level in (0, 90, 90)]
        assert pairs_of(*flat) == []

    def test_grey_equals_rgb_with_equal_channels(self):
        rgb = np.stack([PHANTOM] * 3, axis=-1)
        np.testing.assert_array_equal(thumbnails(rgb), thumbnails(PHANTOM))

    def test_dark_border_changes_the_whole_but_not_the_crop(self):
        plain, padded = thumbnails(PHANTOM), thumbnails(on_larger_canvas(PHANTOM))
        assert plain[0] @ padded[0] < 0.9
        assert plain[1] @ padded[1] > 0.99

    def test_pixels_are_left_as_they_are(self):
        pixels = PHANTOM.copy()
        thumbnails(pixels)
        np.testing.assert_array_equal(pixels, PHANTOM)


class TestNearDuplicates:
    @pytest.mark.parametrize(
        "change",
        [
            lambda pixels: resized(pixels, 70, 70),
            lambda pixels: resized(pixels, 300, 300),
            lambda pixels: (pixels * 0.8 + 10).astype(np.uint8),
            with_letter,
            on_larger_canvas,
        ],
        ids=["smaller", "larger", "darker", "letter", "canvas"],
    )
    def test_changed_copies_are_found(self, change):
        assert pairs_of(PHANTOM, change(PHANTOM)) == [(0, 1)]

    def test_flipped_copies_are_not_found(self):
        ramp = np.add.outer(np.arange(64), 2 * np.arange(64)).astype(np.uint8)
        assert pairs_of(ramp, ramp[:, ::-1]) == []

    @pytest.mark.parametrize(
        ("flip", "axes"), [("left to right", 1), ("top to bottom", 0), ("both ways", (0, 1))]
    )
    def test_flipped_copies_are_found_on_request(self, flip, axes):
        ramp = np.add.outer(np.arange(64), 2 * np.arange(64) + np.arange(64) ** 2 // 64)
        images = [ramp.astype(np.uint8), np.flip(ramp, axes).astype(np.uint8)]
        stacked = np.stack([thumbnails(each) for each in images])
        ((i, j, correlation),) = near_duplicates(stacked, flip=flip)
        assert (i, j) == (0, 1) and correlation == pytest.approx(1, abs=1e-5)
        assert near_duplicates(stacked[:1], flip=flip) == []

    def test_other_slices_are_not_found(self):
        rng = np.random.default_rng(0)
        assert pairs_of(*rng.integers(0, 256, (6, 48, 48), np.uint8)) == []

    def test_correlation_and_order_against_numpy(self):
        images = [draw_phantom(1, index, index % 2) for index in range(8)]
        stacked = np.stack([thumbnails(image) for image in images])
        found = near_duplicates(stacked, correlation=0.3)
        expected = {}
        for i in range(8):
            for j in range(i + 1, 8):
                alike = max(np.corrcoef(stacked[i, k], stacked[j, k])[0, 1] for k in range(2))
                if alike >= 0.3:
                    expected[i, j] = alike
        assert {pair[:2] for pair in found} == set(expected)
        assert len(found) == len(expected) > 3
        for i, j, correlation in found:
            assert correlation == pytest.approx(expected[i, j], abs=1e-5)
        correlations = [pair[2] for pair in found]
        assert correlations == sorted(correlations, reverse=True)

    def test_chunks_do_not_change_the_result(self, monkeypatch):
        images = [draw_phantom(1, index % 5, index % 2) for index in range(11)]
        stacked = np.stack([thumbnails(image) for image in images])
        whole = near_duplicates(stacked, 0.5)
        monkeypatch.setattr(pairs_module, "_CHUNK", 3)
        chunked = near_duplicates(stacked, 0.5)
        assert len(whole) > 5
        # A matrix product may round another way for another size.
        assert {pair[:2] for pair in chunked} == {pair[:2] for pair in whole}

    def test_no_slices(self):
        assert near_duplicates(np.zeros((0, 2, 1024), np.float32)) == []


def textured(seed, size=120):
    """Blocks of gray at random, smoothed: no two are crops of each other."""
    blocks = np.random.default_rng(seed).choice([40.0, 190.0], (6, 6)).astype(np.float32)
    image = Image.fromarray(blocks).resize((size, size), Image.Resampling.BICUBIC)
    return np.asarray(image).clip(30, 220).astype(np.uint8)


def crops_of(*images):
    small, shares = zip(*(contents(each) for each in images), strict=True)
    return cropped_duplicates(np.stack(small), np.stack(shares))


class TestCroppedDuplicates:
    @pytest.mark.parametrize("cut", [(0, 0, 0, 0), (12, 0, 0, 0), (7, 4, 11, 2), (12, 12, 12, 12)])
    @pytest.mark.parametrize("size", [None, (70, 64), (150, 170)])
    def test_crops_at_any_scale(self, cut, size):
        top, bottom, left, right = cut
        whole = textured(0)
        crop = Image.fromarray(whole[top : 120 - bottom, left : 120 - right])
        crop = np.asarray(crop.resize(size, Image.Resampling.BICUBIC) if size else crop)
        for images in ((whole, textured(1), crop), (crop, textured(1), whole)):
            ((i, j, correlation, flip),) = crops_of(*images)
            assert (i, j, flip) == (0, 2, None)
            assert correlation >= 0.97

    @pytest.mark.parametrize(
        ("flip", "axes"), [("left to right", 1), ("top to bottom", 0), ("both ways", (0, 1))]
    )
    def test_flipped_crops(self, flip, axes):
        whole = textured(0)
        ((i, j, _, found),) = crops_of(whole, np.flip(whole[5:-9, 3:-8], axes))
        assert (i, j, found) == (0, 1, flip)

    def test_a_crop_within_a_dark_border(self):
        whole = textured(0)
        ((i, j, _, flip),) = crops_of(whole, np.pad(whole[8:, :-9], ((20, 3), (40, 1))))
        assert (i, j, flip) == (0, 1, None)

    def test_a_crop_among_many_that_are_nearer_in_gray_levels(self):
        whole, rng = textured(0), np.random.default_rng(0)
        tiles = whole.reshape(12, 10, 12, 10).swapaxes(1, 2).reshape(144, 10, 10)
        shuffled = [
            rng.permutation(tiles).reshape(12, 12, 10, 10).swapaxes(1, 2).reshape(120, 120)
            for _ in range(40)
        ]
        ((i, j, _, _),) = crops_of(whole, whole[12:, :-12], *shuffled)
        assert (i, j) == (0, 1)

    def test_a_large_crop_and_other_slices_are_not_found(self):
        whole = textured(0)
        assert crops_of(whole, whole[40:, 40:]) == []
        assert crops_of(*(textured(seed) for seed in range(30))) == []

    def test_slices_of_one_color_are_no_crops(self):
        flat = [np.full((40, 40), level, np.uint8) for level in (0, 0, 90, 90, 255)]
        assert crops_of(*flat) == []

    def test_one_slice_and_none(self):
        assert crops_of(textured(0)) == []
        assert cropped_duplicates(np.zeros((0, 64, 64)), np.zeros((0, 22))) == []


def groups_by_flooding(count, pairs, keys):
    def joined(i, j):
        return (i, j) in pairs or (j, i) in pairs or (keys[i] is not None and keys[i] == keys[j])

    numbers = [None] * count
    following = 0
    for start in range(count):
        if numbers[start] is not None:
            continue
        front = [start]
        while front:
            current = front.pop()
            numbers[current] = following
            front += [
                other for other in range(count) if numbers[other] is None and joined(current, other)
            ]
        following += 1
    return numbers


class TestMergeGroups:
    @settings(max_examples=100, deadline=None)
    @given(data=st.data(), count=st.integers(1, 12))
    def test_against_flooding(self, data, count):
        index = st.integers(0, count - 1)
        pairs = data.draw(st.lists(st.tuples(index, index), max_size=8))
        key = st.sampled_from([None, "a", "b", "c"])
        keys = data.draw(st.lists(key, min_size=count, max_size=count))
        groups = merge_groups(count, pairs, [keys])
        assert groups.dtype == np.int64
        assert groups.tolist() == groups_by_flooding(count, set(pairs), keys)

    def test_chains_through_pairs_and_keys(self):
        groups = merge_groups(6, [(0, 1), (1, 2)], [["p", None, None, "p", None, None]])
        assert groups.tolist() == [0, 0, 0, 0, 1, 2]

    def test_none_joins_nothing(self):
        assert merge_groups(3, [], [[None, None, None]]).tolist() == [0, 1, 2]

    def test_several_sequences_of_keys(self):
        assert merge_groups(3, [], [["a", "a", "b"], [1, 2, 2]]).tolist() == [0, 0, 0]

    def test_pairs_may_come_from_a_generator(self):
        assert merge_groups(2, (pair for pair in [(1, 0)])).tolist() == [0, 0]
