import numpy as np
import pytest
from PIL import Image
from plain_phantoms import draw_phantom

from hemorrhage_tf.datasets import near_duplicate_search
from hemorrhage_tf.datasets import near_duplicates as pairs_module
from hemorrhage_tf.datasets.column_store import FileColumn
from hemorrhage_tf.datasets.near_duplicates import contents, near_duplicates, thumbnails

COUNT = 90


def column(rows, dtype):
    made = FileColumn(dtype, rows.shape[1:])
    made.append(rows)
    return made


@pytest.fixture(scope="module")
def heads():
    """Heads, of which some stand twice: smaller, flipped or cropped."""
    heads = [draw_phantom(2, index, index % 2) for index in range(COUNT)]
    for at in range(0, 12, 3):
        heads.append(np.asarray(Image.fromarray(heads[at]).resize((90, 80))))
        heads.append(
            np.ascontiguousarray(np.flip(heads[at + 1], ((1,), (0,), (0, 1))[at % 9 // 3]))
        )
        heads.append(np.ascontiguousarray(heads[at + 2][6:, 4:-7]))
    return heads


@pytest.fixture
def large(monkeypatch):
    """Has every set taken for a large one, in small blocks."""
    monkeypatch.setattr(pairs_module, "ALL_PAIRS_UP_TO", 1)
    for name, value in {"_SAMPLE": 40, "_ROWS": 16, "_COLUMNS": 24}.items():
        monkeypatch.setattr(near_duplicate_search, name, value)


@pytest.mark.parametrize(
    ("flip", "dtype"),
    [
        (None, np.float32),
        (None, np.float16),
        *((flip, np.float16) for flip in pairs_module.FLIPS),
    ],
)
def test_near_pairs_are_those_of_every_pair(heads, large, flip, dtype):
    stacked = np.stack([thumbnails(each) for each in heads])
    expected = near_duplicates(stacked, flip=flip)
    first, second, correlation = near_duplicate_search.near_pairs(
        column(stacked, dtype), np.arange(len(heads)), flip
    )
    found = dict(zip(zip(first.tolist(), second.tolist(), strict=True), correlation, strict=True))
    sure = {(i, j): value for i, j, value in expected if value > 0.9505}
    assert set(sure) <= set(found) and len(found) <= len(expected) + 1
    assert len(expected) > 0
    for pair, value in sure.items():
        assert found[pair] == pytest.approx(value, abs=1e-3)


def test_some_rows_are_counted_in_their_own_order(heads, large):
    stacked = np.stack([thumbnails(each) for each in heads])
    rows = np.arange(len(heads))[::2]
    expected = {pair[:2] for pair in near_duplicates(stacked[rows])}
    first, second, _ = near_duplicate_search.near_pairs(column(stacked, np.float32), rows)
    assert set(zip(first.tolist(), second.tolist(), strict=True)) == expected


def test_many_copies_of_one_picture_stay_one_group(large, monkeypatch):
    monkeypatch.setattr(near_duplicate_search, "_MOST_ALIKE", 2)
    stacked = np.stack([thumbnails(draw_phantom(0, 0, 1))] * 60)
    first, second, _ = near_duplicate_search.near_pairs(column(stacked, np.float32), np.arange(60))
    assert len(first) < 60 * 59 / 2
    pairs = np.stack([first, second], axis=1)
    assert pairs_module.merge_groups(60, pairs).max() == 0


def test_of_too_many_the_most_alike_are_kept(large, monkeypatch):
    monkeypatch.setattr(near_duplicate_search, "_MOST_ALIKE", 3)
    rng = np.random.default_rng(0)
    base = thumbnails(draw_phantom(0, 0, 1))
    noise = np.linspace(0.006, 0.001, 30)[:, np.newaxis, np.newaxis]  # the last are most alike
    noisy = base + noise * rng.standard_normal((30, *base.shape))
    noisy = np.concatenate([base[np.newaxis], noisy])
    noisy -= noisy.mean(axis=-1, keepdims=True)
    stacked = (noisy / np.linalg.norm(noisy, axis=-1, keepdims=True)).astype(np.float32)
    assert len(near_duplicates(stacked)) > 3 * 31
    first, second, _ = near_duplicate_search.near_pairs(column(stacked, np.float32), np.arange(31))
    assert set(second[first == 0].tolist()) == {21, 22, 23, 28, 29, 30}  # of each block of 24


def test_planted_crops_are_found(heads, large):
    small, shares = (np.stack(each) for each in zip(*map(contents, heads), strict=True))
    found = near_duplicate_search.cropped_pairs(
        column(np.rint(small), np.uint8), shares, np.arange(len(heads))
    )
    pairs = {(i, j): flip for i, j, _, flip in found}
    expected = pairs_module.cropped_duplicates(np.rint(small).astype(np.float32), shares)
    planted = {(at + 2, COUNT + at + 2) for at in range(0, 12, 3)}
    assert len(planted & {pair[:2] for pair in expected}) >= 3
    assert planted & {pair[:2] for pair in expected} <= set(pairs)
    assert set(pairs) <= {pair[:2] for pair in expected}


def test_chance_does_not_chain_all_into_one_group(large):
    # A chain of vectors, each alike enough to the next: as pictures of different patients may be.
    angles = np.arange(18) * np.arccos(0.955)
    chain = np.zeros((18, 2, 1024), np.float32)
    chain[:, :, 0], chain[:, :, 1] = np.cos(angles)[:, None], np.sin(angles)[:, None]
    chain[5] = chain[4]
    flat = column(np.zeros((18, 64, 64)), np.uint8)
    found = near_duplicate_search.find_near_duplicates(
        column(chain, np.float32), flat, np.zeros((18, 22), np.float32), np.arange(18)
    )
    assert (4, 5) in set(zip(found.first.tolist(), found.second.tolist(), strict=True))
    assert (found.correlation >= 0.96).all()
    assert "near-duplicates are those from 0.96" in found.notes[0]
    assert "Crops were looked for among" in found.notes[1]


def test_a_small_set_is_told_nothing(heads):
    stacked = np.stack([thumbnails(each) for each in heads])
    small, shares = (np.stack(each) for each in zip(*map(contents, heads), strict=True))
    every = np.arange(len(heads))
    found = near_duplicate_search.find_near_duplicates(
        column(stacked, "f4"), column(small, "f4"), shares, every
    )
    expected = {(i, j): value for i, j, value, _ in pairs_module.cropped_duplicates(small, shares)}
    expected |= {(i, j): value for i, j, value in near_duplicates(stacked)}
    pairs = list(zip(found.first.tolist(), found.second.tolist(), strict=True))
    assert pairs == sorted(expected)
    assert found.correlation.tolist() == [expected[pair] for pair in pairs]
    assert found.notes == []
