import numpy as np
import pytest
from dataset_files import file_array
from PIL import Image, ImageDraw
from plain_phantoms import draw_phantom

from hemorrhage_tf.datasets import near_duplicates as module
from hemorrhage_tf.datasets import thumbnails
from hemorrhage_tf.datasets.cropped_duplicates import find_cropped_duplicates
from hemorrhage_tf.datasets.near_duplicates import find_near_duplicates, find_near_pairs
from hemorrhage_tf.datasets.thumbnails import FLIPS, ThumbnailArrays, make_thumbnails

PHANTOM = draw_phantom(0, 0, 1)
COUNT = 60


def resized(pixels, width, height):
    return np.asarray(Image.fromarray(pixels).resize((width, height), Image.Resampling.BICUBIC))


def with_letter(pixels):
    image = Image.fromarray(pixels)
    ImageDraw.Draw(image).text((4, 4), "R", fill=255, font_size=14)
    return np.asarray(image)


def gray_of(images):
    return np.stack([make_thumbnails(each).gray for each in images])


def near_pairs(stacked, flip=None, dtype="f4"):
    """The correlation of each pair that is found."""
    rows = np.arange(len(stacked))
    pairs = find_near_pairs(file_array(np.asarray(stacked), dtype), rows, flip)
    return {(i, j): correlation for i, j, correlation in pairs.tolist()}


class TestSmallSets:
    @pytest.mark.parametrize(
        "change",
        [
            lambda pixels: resized(pixels, 70, 70),
            lambda pixels: resized(pixels, 300, 300),
            lambda pixels: (pixels * 0.8 + 10).astype(np.uint8),
            with_letter,
            lambda pixels: np.pad(pixels, ((30, 10), (5, 45))),
        ],
        ids=["smaller", "larger", "darker", "letter", "canvas"],
    )
    def test_finds_changed_copies(self, change):
        assert list(near_pairs(gray_of([PHANTOM, change(PHANTOM)]))) == [(0, 1)]

    @pytest.mark.parametrize("flip", FLIPS)
    def test_finds_flipped_copies_on_request_only(self, flip):
        ramp = np.add.outer(np.arange(64), 2 * np.arange(64) + np.arange(64) ** 2 // 64)
        gray = gray_of([each.astype(np.uint8) for each in (ramp, np.flip(ramp, FLIPS[flip]))])
        gray = gray[:, :1]
        gray = np.repeat(gray, 2, axis=1)
        assert near_pairs(gray) == {}
        found = near_pairs(gray, flip)
        assert list(found) == [(0, 1)] and found[0, 1] == pytest.approx(1, abs=1e-5)
        assert near_pairs(gray[:1], flip) == {}

    def test_other_slices_and_single_colors_are_no_near_duplicates(self):
        noise = np.random.default_rng(0).integers(0, 256, (6, 48, 48), np.uint8)
        flat = [np.full((40, 40), level, np.uint8) for level in (0, 90, 90)]
        assert near_pairs(gray_of([*noise, *flat])) == {}

    @pytest.mark.parametrize("chunk", [3, 100])
    def test_equals_numpy_with_any_chunk_and_the_most_similar_come_first(self, monkeypatch, chunk):
        monkeypatch.setattr(module, "SMALL_SET_CHUNK", chunk)
        monkeypatch.setattr(module, "NEAR_DUPLICATE_CORRELATION", 0.3)
        stacked = gray_of([draw_phantom(1, index % 6, index % 2) for index in range(8)])
        expected = {}
        for i in range(8):
            for j in range(i + 1, 8):
                correlation = max(np.corrcoef(stacked[i, k], stacked[j, k])[0, 1] for k in range(2))
                if correlation >= 0.3:
                    expected[i, j] = correlation
        found = near_pairs(stacked)
        assert set(found) == set(expected) and len(found) > 3
        for pair, correlation in found.items():
            assert correlation == pytest.approx(expected[pair], abs=1e-5)
        assert list(found.values()) == sorted(found.values(), reverse=True)

    def test_no_slices(self):
        assert near_pairs(np.zeros((0, 2, 1024))) == {}


@pytest.fixture(scope="module")
def heads():
    """Heads, some of which occur twice: smaller, flipped or cropped."""
    heads = [draw_phantom(2, index, index % 2) for index in range(COUNT)]
    for at in range(0, 12, 3):
        heads.append(resized(heads[at], 90, 80))
        heads.append(
            np.ascontiguousarray(np.flip(heads[at + 1], ((1,), (0,), (0, 1))[at % 9 // 3]))
        )
        heads.append(np.ascontiguousarray(heads[at + 2][6:, 4:-7]))
    return [make_thumbnails(each) for each in heads]


@pytest.fixture(scope="module")
def stacked(heads):
    return np.stack([each.gray for each in heads])


@pytest.fixture
def large(monkeypatch):
    """Treat every set as a large one, in small blocks."""
    monkeypatch.setattr(thumbnails, "ALL_PAIRS_UP_TO", 1)
    for name, value in {"SAMPLE": 40, "ROWS": 16, "COLUMNS": 24}.items():
        monkeypatch.setattr(module, name, value)


class TestLargeSets:
    @pytest.mark.parametrize(("flip", "dtype"), [(None, "f4"), (None, "f2"), ("both ways", "f2")])
    def test_finds_the_pairs_of_a_small_set(self, stacked, request, flip, dtype):
        expected = near_pairs(stacked, flip)
        request.getfixturevalue("large")
        found = near_pairs(stacked, flip, dtype)
        certain = {pair: value for pair, value in expected.items() if value > 0.9505}
        assert set(certain) <= set(found) and len(found) <= len(expected) + 1
        assert len(expected) > 0
        for pair, value in certain.items():
            assert found[pair] == pytest.approx(value, abs=1e-3)

    def test_pairs_are_positions_in_the_rows(self, stacked, request):
        rows = np.arange(len(stacked))[::2]
        expected = near_pairs(stacked[rows])
        request.getfixturevalue("large")
        found = find_near_pairs(file_array(stacked), rows)
        assert {(i, j) for i, j, _ in found.tolist()} == set(expected)

    def test_many_copies_of_one_image_stay_one_group(self, large, monkeypatch):
        monkeypatch.setattr(module, "MOST_SIMILAR", 2)
        found = near_pairs(np.stack([make_thumbnails(PHANTOM).gray] * 60))
        assert len(found) < 60 * 59 / 2
        assert module.merge_groups(60, found).max() == 0

    def test_keeps_the_most_similar_of_too_many(self, large, monkeypatch):
        monkeypatch.setattr(module, "MOST_SIMILAR", 3)
        rng = np.random.default_rng(0)
        base = make_thumbnails(PHANTOM).gray
        noise = np.linspace(0.006, 0.001, 30)[:, np.newaxis, np.newaxis]  # less and less
        noisy = base + noise * rng.standard_normal((30, *base.shape))
        noisy = np.concatenate([base[np.newaxis], noisy])
        noisy -= noisy.mean(axis=-1, keepdims=True)
        noisy /= np.linalg.norm(noisy, axis=-1, keepdims=True)
        found = near_pairs(noisy.astype(np.float32))
        # In each block of 24.
        assert {j for i, j in found if i == 0} == {21, 22, 23, 28, 29, 30}

    def test_chance_does_not_chain_all_slices_into_one_group(self, large):
        # A chain of vectors, each similar enough to the next, as different patients may be.
        angles = np.arange(18) * np.arccos(0.955)
        chain = np.zeros((18, 2, 1024), np.float32)
        chain[:, :, 0], chain[:, :, 1] = np.cos(angles)[:, None], np.sin(angles)[:, None]
        chain[5] = chain[4]
        contents = file_array(np.zeros((18, 64, 64)), "u1")
        arrays = ThumbnailArrays(file_array(chain), contents, np.zeros((18, 22), np.float32))
        found = find_near_duplicates(arrays, np.arange(18))
        assert (4, 5) in {(i, j) for i, j, _ in found.pairs.tolist()}
        assert (found.pairs["correlation"] >= 0.96).all()
        assert "near-duplicates are pairs from 0.96" in found.notes[0]
        assert "Cropped duplicates were searched among" in found.notes[1]


def test_combines_near_and_cropped_duplicates_without_notes_in_a_small_set(heads, stacked):
    contents = file_array(np.stack([each.content for each in heads]))
    shares = np.stack([each.gray_shares for each in heads])
    rows = np.arange(len(heads))
    found = find_near_duplicates(ThumbnailArrays(file_array(stacked), contents, shares), rows)
    cropped = find_cropped_duplicates(contents, shares, rows)
    expected = {(i, j): value for i, j, value, *_ in cropped} | near_pairs(stacked)
    assert found.pairs.tolist() == sorted((*pair, value) for pair, value in expected.items())
    assert found.notes == []
