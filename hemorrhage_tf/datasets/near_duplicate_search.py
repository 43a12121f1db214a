"""Resemblance: which slices of a set of any size look alike.

Sets up to `near_duplicates.ALL_PAIRS_UP_TO` slices are compared each with each. Of larger ones most
pairs are ruled out first, by less than all of their thumbnails; what is left is compared as in a
small set. Thumbnails are read from files, so that memory hardly grows with the set.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np

from hemorrhage_tf.datasets import near_duplicates
from hemorrhage_tf.datasets.column_store import FileColumn
from hemorrhage_tf.datasets.near_duplicates import NEAR_DUPLICATE_CORRELATION

# Among very many slices some of different patients are as alike as 0.95: of phantoms one pair in
# 21,000. Where they chain more than this share of all slices into one group, nothing could be held
# out; then pairs count from one of the stricter levels only.
MOST_CHAINED = 0.02
STRICTER = (0.96, 0.97, 0.98, 0.99)

# In a large set a crop is looked for among fewer slices: the nearest by the first components of
# their gray levels.
CROP_CANDIDATES = 12
_CROP_COMPONENTS = 6
# 81 crops of 8 x 8 pixels are tried first, and the best of them at 16 x 16, before crops near it.
# Of 350 crops of phantoms and Kaggle slices, those that the search of a small set finds reach 0.936
# and 0.867; the limits were set by these.
# `benchmarks/crop_recall.py` measures how many crops are missed.
_FIRST_SIZE, _FIRST_STEP, _FIRST_CORRELATION = 8, 0.05, 0.93
_SECOND_SIZE, _SECOND_CORRELATION = 16, 0.86

_SAMPLE = 4096  # slices that the components are taken from
_FEW, _SOME = 24, 64  # components that pairs are ruled out by, first and then
_SLACK = 1e-3  # of rounding: thumbnails are kept in half precision
_ROWS, _COLUMNS = 1024, 4096  # slices that are compared at a time
# Pairs of one slice with a block of others, the most alike as far as is known when they are ruled
# out. Where there are more they are copies of one picture, and come into one group by what is kept.
_MOST_ALIKE = 64


@dataclass
class NearDuplicatePairs:
    """The pairs of slices that look alike, sorted.

    Attributes:
        first: int32 `(k,)`: the one of each pair.
        second: int32 `(k,)`: the other, always larger.
        correlation: float64 `(k,)`, in [-1, 1].
        notes: what was done otherwise than in a small set, for the user.
    """

    first: np.ndarray
    second: np.ndarray
    correlation: np.ndarray
    notes: list[str] = field(default_factory=list)


def find_near_duplicates(
    thumbnails: FileColumn,
    contents: FileColumn,
    shares: np.ndarray,
    rows: np.ndarray,
    groups: np.ndarray | None = None,
) -> NearDuplicatePairs:
    """Finds near-duplicates and crops.

    Args:
        thumbnails: `(2, 1024)` of each slice, see `near_duplicates.thumbnails`.
        contents: `(64, 64)` of each, the first of `near_duplicates.contents`.
        shares: `(m, 22)`, the second of the same.
        rows: int64 `(n,)`: which of them to compare.
        groups: int64 `(n,)`: what belongs together anyway, such as a patient's slices; None for
            nothing. Default None.

    Returns:
        The pairs, counted in `rows`. A pair that is both has the correlation of its thumbnails.
    """
    count = len(rows)
    cropped = cropped_pairs(contents, shares, rows)
    near = near_pairs(thumbnails, rows)
    found = {(i, j): correlation for i, j, correlation, _ in cropped}
    notes = []
    if count > near_duplicates.ALL_PAIRS_UP_TO:
        least = _strict_enough(near, count, groups)
        if least > NEAR_DUPLICATE_CORRELATION:
            near = tuple(column[near[2] >= least] for column in near)
            notes.append(
                f"{count} slices are so many that pairs of different patients look alike at a "
                f"correlation of {NEAR_DUPLICATE_CORRELATION:g}, and chain them into one group: "
                f"near-duplicates are those from {least:g}."
            )
        notes.append(
            f"Crops were looked for among the {CROP_CANDIDATES} slices nearest to each in gray "
            f"levels, as in every set of more than {near_duplicates.ALL_PAIRS_UP_TO}; near-duplicates "
            "among all."
        )
    first, second, correlation = near
    extra = set(found) - _keys(first, second, found)
    more = np.array([(*pair, found[pair]) for pair in extra], np.float64).reshape(-1, 3)
    first = np.concatenate([first, more[:, 0].astype(np.int32)])
    second = np.concatenate([second, more[:, 1].astype(np.int32)])
    correlation = np.concatenate([correlation, more[:, 2]])
    order = np.lexsort((second, first))
    return NearDuplicatePairs(first[order], second[order], correlation[order], notes)


def _keys(
    first: np.ndarray, second: np.ndarray, of: Iterable[tuple[int, int]]
) -> set[tuple[int, int]]:
    """Gives those of some pairs that stand among others."""
    there = set()
    wanted = np.array([i for i, _ in of], np.int32)
    kept = np.isin(first, wanted)
    there.update(zip(first[kept].tolist(), second[kept].tolist(), strict=True))
    return there


def _strict_enough(
    near: tuple[np.ndarray, np.ndarray, np.ndarray], count: int, groups: np.ndarray | None
) -> float:
    """Finds the correlation from which on pairs do not chain a large share of the slices."""
    keys: list[Sequence[Hashable]] = [] if groups is None else [groups.tolist()]
    alone = near_duplicates.merge_groups(count, [], keys)
    largest = max(MOST_CHAINED * count, 3 * np.bincount(alone).max())
    first, second, correlation = near
    for least in (NEAR_DUPLICATE_CORRELATION, *STRICTER):
        kept = correlation >= least
        pairs = np.stack([first[kept], second[kept]], axis=1)
        if np.bincount(near_duplicates.merge_groups(count, pairs, keys)).max() <= largest:
            break
    return least


def near_pairs(
    thumbnails: FileColumn, rows: np.ndarray, flip: str | None = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Finds the pairs of slices whose thumbnails correlate by 0.95 or more.

    Two thumbnails are unit vectors. Their product is that of their first components, which is
    quickly had of all pairs, and that of the rest, which is at most the product of its lengths. A
    pair whose sum of both is too small is ruled out, so that none is missed; only of a slice that
    is like very many of 4,096 others, 64 are kept, those with the largest such sum.

    Args:
        thumbnails: `(2, 1024)` of each slice.
        rows: int64 `(n,)`: which of them to compare.
        flip: as in `near_duplicates.near_duplicates`. Default None.

    Returns:
        int32 `(k,)`, int32 `(k,)` and float64 `(k,)`: the pairs i < j, and their correlations.
    """
    if len(rows) <= near_duplicates.ALL_PAIRS_UP_TO:
        stacked = thumbnails.take(rows).astype(np.float32, copy=False)
        pairs = near_duplicates.near_duplicates(stacked, flip=flip)
        columns = np.array(pairs, np.float64).reshape(-1, 3).T
        return columns[0].astype(np.int32), columns[1].astype(np.int32), columns[2]
    from threadpoolctl import threadpool_limits

    keys = []
    # The threads are these here: each compares blocks of its own.
    with threadpool_limits(1, "blas"), ThreadPoolExecutor(near_duplicates.THREADS) as pool:
        for kind in range(2):
            one = _components(thumbnails, rows, kind, None, flip)
            other = one if flip is None else _components(thumbnails, rows, kind, flip, flip)

            def candidates(begin: int, one=one, other=other) -> np.ndarray:
                return _candidates(one, other, begin)

            keys += pool.map(candidates, range(0, len(rows), _ROWS))
            del one, other, candidates
        pairs = np.unique(np.concatenate(keys))
        del keys
        first, second = pairs // len(rows), pairs % len(rows)
        begins = np.searchsorted(first, np.arange(0, len(rows), _ROWS // 4))
        ends = np.append(begins[1:], len(first))

        def correlations(begin: int, end: int) -> np.ndarray:
            return _correlations(thumbnails, rows, first[begin:end], second[begin:end], flip)

        values = np.concatenate(list(pool.map(correlations, begins, ends)))
    kept = values >= NEAR_DUPLICATE_CORRELATION
    return first[kept].astype(np.int32), second[kept].astype(np.int32), values[kept]


def _blocks(column: FileColumn, rows: np.ndarray) -> Iterator[np.ndarray]:
    for begin in range(0, len(rows), _ROWS):
        yield column.take(rows[begin : begin + _ROWS])


def _turned(flat: np.ndarray, flip: str | None) -> np.ndarray:
    return flat if flip is None else near_duplicates.flipped(flat, flip)


def _components(
    thumbnails: FileColumn, rows: np.ndarray, kind: int, flip: str | None, and_of: str | None
) -> np.ndarray:
    """Gives `_SOME` components of each thumbnail, and the lengths of the rest behind `_FEW`, all.

    Args:
        thumbnails: of all slices.
        rows: which to take.
        kind: whole slices, 0, or their contents, 1.
        flip: to turn them first, or None.
        and_of: the flip that they are compared under, or None.

    Returns:
        float32 `(n, _SOME + 2)`.
    """
    drawn = np.sort(np.random.default_rng(0).choice(rows, min(_SAMPLE, len(rows)), replace=False))
    sample = thumbnails.take(drawn)[:, kind].astype(np.float32)
    if and_of is not None:
        sample = np.concatenate([sample, _turned(sample, and_of)])
    _, vectors = np.linalg.eigh(sample.T @ sample)
    basis = np.ascontiguousarray(vectors[:, ::-1][:, :_SOME], np.float32)
    made = np.empty((len(rows), _SOME + 2), np.float32)
    begin = 0
    for block in _blocks(thumbnails, rows):
        flat = _turned(block[:, kind].astype(np.float32), flip)
        end = begin + len(flat)
        made[begin:end, :_SOME] = flat @ basis
        squares = np.square(made[begin:end, :_SOME])
        for place, upto in ((_SOME, _FEW), (_SOME + 1, _SOME)):
            left = np.square(flat).sum(axis=1) - squares[:, :upto].sum(axis=1)
            made[begin:end, place] = np.sqrt(left.clip(0))
        begin = end
    # What is needed first stands together: the first components and the length of the rest.
    order = [*range(_FEW), _SOME, *range(_FEW, _SOME), _SOME + 1]
    return made[:, order]


def _candidates(one: np.ndarray, other: np.ndarray, begin: int) -> np.ndarray:
    """Finds the pairs of a block of slices that are not ruled out, as `i * n + j`."""
    least = np.float32(NEAR_DUPLICATE_CORRELATION - _SLACK)
    count, few = len(one), _FEW + 1
    rows = one[begin : begin + _ROWS]
    found = []
    for at in range(begin, count, _COLUMNS):
        columns = other[at : at + _COLUMNS]
        most = rows[:, :few] @ columns[:, :few].T
        places = np.flatnonzero(most.ravel() >= least)
        i, j = places // len(columns), places % len(columns)
        after = begin + i < at + j
        i, j = i[after], j[after]
        left = most[i, j] - rows[i, _FEW] * columns[j, _FEW]
        left += np.einsum("ij,ij->i", rows[i, few:], columns[j, few:])
        kept = left >= least
        i, j = i[kept], j[kept]
        if len(i) > _MOST_ALIKE:
            most_first = np.lexsort((-left[kept], i))
            i, j = i[most_first], j[most_first]
            begins = np.searchsorted(i, np.arange(len(rows)))
            few_of_each = np.arange(len(i)) - begins[i] < _MOST_ALIKE
            i, j = i[few_of_each], j[few_of_each]
        found.append((begin + i) * count + at + j)
    return np.concatenate(found)


def _correlations(
    thumbnails: FileColumn,
    rows: np.ndarray,
    first: np.ndarray,
    second: np.ndarray,
    flip: str | None,
) -> np.ndarray:
    """Computes the correlations of pairs, the larger of both kinds of thumbnails."""
    values = np.empty(len(first))
    for begin in range(0, len(first), _ROWS):
        i, j = first[begin : begin + _ROWS], second[begin : begin + _ROWS]
        needed, places = np.unique(np.concatenate([i, j]), return_inverse=True)
        taken = thumbnails.take(rows[needed]).astype(np.float32)
        one, other = taken[places[: len(i)]], _turned(taken[places[len(i) :]], flip)
        values[begin : begin + _ROWS] = np.einsum("ikv,ikv->ik", one, other).max(axis=1)
    return values


def cropped_pairs(
    contents: FileColumn, shares: np.ndarray, rows: np.ndarray
) -> list[tuple[int, int, float, str | None]]:
    """Finds the pairs of which one is a crop of the other, see `near_duplicates.cropped_duplicates`.

    Args:
        contents: `(64, 64)` of each slice.
        shares: `(m, 22)` of each.
        rows: int64 `(n,)`: which of them to compare.

    Returns:
        `(i, j, correlation, flip)`, counted in `rows`.
    """
    shares = shares[rows]
    if len(rows) <= near_duplicates.ALL_PAIRS_UP_TO:
        return near_duplicates.cropped_duplicates(
            contents.take(rows).astype(np.float32, copy=False), shares
        )
    from scipy.spatial import cKDTree
    from threadpoolctl import threadpool_limits

    centered = shares - shares.mean(axis=0)
    _, vectors = np.linalg.eigh((centered.T @ centered).astype(np.float64))
    points = np.ascontiguousarray(centered @ vectors[:, -_CROP_COMPONENTS:])
    tree = cKDTree(points)
    small = np.concatenate(
        [
            near_duplicates.reduced(block.astype(np.float32), _FIRST_SIZE).astype(np.float16)
            for block in _blocks(contents, rows)
        ]
    )

    def search(begin: int) -> list[tuple[int, int, float, str | None]]:
        block = np.arange(begin, min(begin + _ROWS // 4, len(rows)))
        _, nearest = tree.query(points[block], CROP_CANDIDATES + 1)
        distances = np.abs(shares[nearest] - shares[block, np.newaxis]).sum(axis=2)
        nearest[(distances > near_duplicates.LARGEST_DISTANCE) | (nearest == block[:, None])] = -1
        taken = contents.take(rows[block]).astype(np.float32)
        found = []
        flips = (None, *near_duplicates.FLIPS)
        ends = near_duplicates.crop_ends(_FIRST_STEP)
        guesses = _guesses(taken, small[nearest].astype(np.float32), nearest >= 0)
        for at_first in range(0, len(guesses[0]), _ROWS // 4):
            place, other, flip, crop = (each[at_first : at_first + _ROWS // 4] for each in guesses)
            whole = contents.take(rows[nearest[place, other]]).astype(np.float32)
            for number, name in enumerate(flips):
                if name is not None:
                    axes = [axis + 1 for axis in near_duplicates.FLIPS[name]]
                    whole[flip == number] = np.flip(whole[flip == number], axes)
            crops = near_duplicates.some_crops(taken[place], crop, _SECOND_SIZE, _FIRST_STEP)
            alike = np.einsum("ij,ij->i", crops, near_duplicates.reduced(whole, _SECOND_SIZE))
            for at in np.flatnonzero(alike >= _SECOND_CORRELATION):
                row, column = divmod(int(crop[at]), len(ends))
                value = near_duplicates.crop_near(
                    taken[place[at]], whole[at], ends[row], ends[column]
                )
                if value is not None:
                    pair = (int(block[place[at]]), int(nearest[place[at], other[at]]))
                    found.append((min(pair), max(pair), value, flips[flip[at]]))
        return found

    best: dict[tuple[int, int], tuple[float, str | None]] = {}
    with threadpool_limits(1, "blas"), ThreadPoolExecutor(near_duplicates.THREADS) as pool:
        for found in pool.map(search, range(0, len(rows), _ROWS // 4)):
            for i, j, value, flip in found:
                if value > best.get((i, j), (-1.0, None))[0]:
                    best[i, j] = (value, flip)
    pairs = [(i, j, value, flip) for (i, j), (value, flip) in best.items()]
    return sorted(pairs, key=lambda pair: (-pair[2], pair[0], pair[1]))


def _guesses(
    taken: np.ndarray, others: np.ndarray, there: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Says of which others each slice may hold all in a crop, by coarse crops of it.

    Args:
        taken: float32 `(b, 64, 64)`.
        others: float32 `(b, k, 64)`, of 8 x 8 pixels each.
        there: bool `(b, k)`: which of them to look at.

    Returns:
        Of each guess the slice, the other, the other's flip, from 0 for none, and the crop.
    """
    crops = near_duplicates.coarse_crops(taken, _FIRST_SIZE, _FIRST_STEP).transpose(0, 2, 1)
    square = others.reshape(*others.shape[:2], _FIRST_SIZE, _FIRST_SIZE)
    best = np.full(others.shape[:2], -1.0, np.float32)
    flips, places = np.zeros(best.shape, np.int64), np.zeros(best.shape, np.int64)
    for number, axes in enumerate(((), *near_duplicates.FLIPS.values())):
        turned = np.flip(square, [axis + 2 for axis in axes]).reshape(others.shape)
        found = turned @ crops
        most = found.max(axis=2)
        better = most > best
        best[better], flips[better] = most[better], number
        places[better] = found.argmax(axis=2)[better]
    place, other = np.nonzero((best >= _FIRST_CORRELATION) & there)
    return place, other, flips[place, other], places[place, other]
