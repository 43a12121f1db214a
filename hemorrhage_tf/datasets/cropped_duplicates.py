"""Cropped duplicates: pairs of which one slice is a crop of the other, possibly scaled or flipped.

Crops of up to a tenth of the content at each side are tried. A slice is compared only with those of
similar gray levels, which hardly change with a crop, a scale or a flip. Small sets are searched in
fine steps; large ones by coarse crops first.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Set
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain
from typing import NamedTuple

import numpy as np

from hemorrhage_tf.core.workers import ALONE, Workers
from hemorrhage_tf.datasets import thumbnails
from hemorrhage_tf.datasets.crops import (
    COARSE_CORRELATION,
    COARSE_SIZE,
    CROP_STEP,
    CropEstimates,
    Ends,
    crop_ends,
    crops_around,
    refined_correlation,
    resampling,
    shrink,
    shrink_flips,
    take_all_crops,
    take_crop_each,
    take_crops,
)
from hemorrhage_tf.datasets.file_array import FileArray
from hemorrhage_tf.datasets.same_image import fine_correlation_of_crop, flip_content
from hemorrhage_tf.datasets.thumbnails import COMPARISON_THREADS, FLIPS, THUMBNAIL_SIZE


class CroppedPair(NamedTuple):
    """Two slices of which one is a crop of the other.

    Attributes:
        first: Index of the first slice.
        second: Index of the second slice, larger than `first`.
        correlation: Of the crop and the other slice, in [-1, 1].
        flip: How one of them is flipped, a key of `FLIPS` or None.
        fine: The correlation of their fine structure, see `same_image`; NaN for a pair that is not
            of two known patients.
    """

    first: int
    second: int
    correlation: float
    flip: str | None
    fine: float = np.nan


# A pair as a row: the flip is an index into `_FLIPS`.
_Found = tuple[int, int, float, int, float]
_FOUND = np.dtype(
    [
        ("first", np.int64),
        ("second", np.int64),
        ("correlation", np.float64),
        ("flip", np.int8),
        ("fine", np.float64),
    ]
)
_FLIPS = (None, *FLIPS)

# Different patients stay below; see docs/decisions.md.
CROPPED_CORRELATION = 0.97

# In a large set, the slices with the nearest gray levels that each is compared with.
CROP_CANDIDATES = 12

# In a small set, the slices with the nearest gray levels and those most similar to a few crops.
_CANDIDATES = 24
_FEW_CROPS = (0.02, 0.08)  # share of each side
_LARGEST_DISTANCE = 0.5  # between distributions of gray levels, in [0, 2]

# The search of a large set: all crops of 8 x 8 pixels first, the best ones at 16 x 16 next.
# `benchmarks/crop_recall.py` measures how many crops are missed.
_COMPONENTS = 6  # of the gray levels
_FIRST_SIZE, _FIRST_STEP, _FIRST_CORRELATION = 8, 0.05, 0.93
_SECOND_SIZE, _SECOND_CORRELATION = 16, 0.86
BLOCK = 256  # slices searched together


def find_cropped_duplicates(
    contents: FileArray,
    gray_shares: np.ndarray,
    rows: np.ndarray,
    patients: np.ndarray | None = None,
    workers: Workers = ALONE,
    known: Iterable[tuple[int, int]] = (),
) -> list[CroppedPair]:
    """Find the cropped duplicates in a set of any size.

    Args:
        contents: `(64, 64)` of each slice, see `thumbnails.Thumbnails`.
        gray_shares: float32 `(m, 22)` of each slice.
        rows: int64 `(n,)`: the slices to compare.
        patients: int64 `(n,)` from `same_image.number_patients`. Defaults to None, unknown.
        workers: The workers that share the search. Defaults to this process alone.
        known: Pairs that a small set need not be searched for, unless they are of two known
            patients, because they are duplicates without a crop. Defaults to none.

    Returns:
        The pairs, as positions in `rows`, the most similar first, each pair once.
    """
    from threadpoolctl import threadpool_limits

    shares = gray_shares[rows]
    patients = np.full(len(rows), -1) if patients is None else patients
    # The matrix products are many and small: BLAS threads would mostly wait for each other.
    with threadpool_limits(1, "blas"), ThreadPoolExecutor(COMPARISON_THREADS) as pool:
        if len(rows) <= thumbnails.ALL_PAIRS_UP_TO:
            loaded = contents.take(rows).astype(np.float32, copy=False)
            small = _SmallSearch(loaded, shares, patients, known)
            search: Callable[[int], np.ndarray] = small.search
            places = range(len(rows))
        else:
            large = _LargeSearch(contents, shares, rows, patients)
            search, places = large.search, range(0, len(rows), BLOCK)

        found = workers.share(places, lambda own: pool.map(search, own), _FOUND)
    return _best_of_each_pair(chain.from_iterable(map(_unpack_pairs, found)))


def _unpack_pairs(pairs: np.ndarray) -> list[CroppedPair]:
    return [
        CroppedPair(first, second, correlation, _FLIPS[flip], fine)
        for first, second, correlation, flip, fine in pairs.tolist()
    ]


def _best_of_each_pair(pairs: Iterable[CroppedPair]) -> list[CroppedPair]:
    best: dict[tuple[int, int], CroppedPair] = {}
    for pair in pairs:
        key = (min(pair[:2]), max(pair[:2]))
        known = best.get(key)
        fine = pair.fine if known is None else max(pair.fine, known.fine)
        better = pair if known is None or pair.correlation > known.correlation else known
        best[key] = better._replace(first=key[0], second=key[1], fine=fine)
    return sorted(best.values(), key=lambda each: (-each.correlation, each.first, each.second))


def _are_two_patients(patients: np.ndarray, first: int, second: int) -> bool:
    return -1 not in (patients[first], patients[second]) and patients[first] != patients[second]


class _SmallSearch:
    """The search of a small set, slice by slice.

    Args:
        contents: float32 `(n, 64, 64)`.
        shares: float32 `(n, 22)`.
        patients: int64 `(n,)`.
        known: Pairs to leave out, see `find_cropped_duplicates`.
    """

    def __init__(
        self,
        contents: np.ndarray,
        shares: np.ndarray,
        patients: np.ndarray,
        known: Iterable[tuple[int, int]],
    ) -> None:
        self._contents, self._shares, self._patients = contents, shares, patients
        self._known: defaultdict[int, set[int]] = defaultdict(set)
        for one, other in known:
            if not _are_two_patients(patients, one, other):
                self._known[one].add(other)
                self._known[other].add(one)
        self._ends = crop_ends()
        self._axis = resampling(tuple(self._ends), COARSE_SIZE)
        few = tuple((low, high) for low in _FEW_CROPS for high in _FEW_CROPS)
        self._few = resampling(few, COARSE_SIZE)
        self._coarse = shrink_flips(contents, COARSE_SIZE)
        self._unflipped = np.ascontiguousarray(self._coarse[0].T)
        self._full = shrink_flips(contents, THUMBNAIL_SIZE)

    def search(self, index: int) -> np.ndarray:
        """Find the slices of which one slice is a crop; return rows of `_FOUND`."""
        content = self._contents[index]
        few = take_crops(content, self._few, self._few)
        others = _candidates(self._unflipped, self._shares, index, few)
        similar = self._coarse[:, others] @ take_crops(content, self._axis, self._axis).T
        pairs: list[_Found] = []
        crops_near: dict[tuple[Ends, Ends], np.ndarray] = {}  # those of neighbors are often equal
        estimates: dict[tuple[Ends, Ends], CropEstimates] = {}
        known: Set[int] = self._known.get(index, frozenset())
        for flip, other in np.argwhere(similar.max(axis=-1) >= COARSE_CORRELATION):
            if others[other] in known:
                continue
            row, column = divmod(int(similar[flip, other].argmax()), len(self._ends))
            ends = (self._ends[row], self._ends[column])
            if ends not in estimates:
                estimates[ends] = CropEstimates(content, *ends)
            estimate = estimates[ends].highest(self._full[flip, others[other]])
            if estimate < CROPPED_CORRELATION - CropEstimates.SLACK:
                continue
            if ends not in crops_near:
                crops_near[ends] = crops_around(content, *ends)
            value = float((crops_near[ends] @ self._full[flip, others[other]]).max())
            if value < CROPPED_CORRELATION:
                continue
            second, name, fine = int(others[other]), _FLIPS[flip], np.nan
            if _are_two_patients(self._patients, index, second):
                whole = flip_content(self._contents[second], name)
                fine = fine_correlation_of_crop(content, whole, ends, CROP_STEP)
            pairs.append((index, second, value, flip, fine))
        return np.array(pairs, _FOUND)


def _candidates(
    unflipped: np.ndarray, shares: np.ndarray, index: int, crops: np.ndarray
) -> np.ndarray:
    """Return the slices of which one slice may be a crop.

    Args:
        unflipped: float32 `(size * size, n)`, every slice.
        shares: float32 `(n, 22)`.
        index: The index of the one slice.
        crops: float32 `(k, size * size)`, a few crops of it.

    Returns:
        int64: those nearest in gray levels, and those most similar to one of the crops.
    """
    distances = np.abs(shares - shares[index]).sum(axis=1)
    distances[index] = np.inf
    nearest = np.argsort(distances, kind="stable")[:_CANDIDATES]
    # Flipping the few crops of one slice is the same as flipping all others.
    square = crops.reshape(len(crops), COARSE_SIZE, COARSE_SIZE)
    flips = [square, *(np.flip(square, tuple(a + 1 for a in axes)) for axes in FLIPS.values())]
    similar = (np.concatenate(flips).reshape(-1, len(unflipped)) @ unflipped).max(axis=0)
    similar[distances > _LARGEST_DISTANCE] = -1
    most_similar = np.argsort(-similar, kind="stable")[:_CANDIDATES]
    chosen = np.union1d(nearest, most_similar)
    return chosen[distances[chosen] <= _LARGEST_DISTANCE]


@dataclass
class _Guesses:
    """Pairs that coarse crops suggest, `(k,)` each.

    Attributes:
        place: The slice, as a position in its block.
        neighbor: The other slice, as a position among its neighbors.
        flip: The flip of the other, 0 for none.
        crop: The index of the crop.
    """

    place: np.ndarray
    neighbor: np.ndarray
    flip: np.ndarray
    crop: np.ndarray

    def part(self, begin: int, end: int) -> _Guesses:
        arrays = (self.place, self.neighbor, self.flip, self.crop)
        return _Guesses(*(each[begin:end] for each in arrays))


class _LargeSearch:
    """The search of a large set, block by block.

    Args:
        contents: `(64, 64)` of each slice.
        shares: float32 `(n, 22)`.
        rows: int64 `(n,)`: where the slices are in `contents`.
        patients: int64 `(n,)`.
    """

    def __init__(
        self, contents: FileArray, shares: np.ndarray, rows: np.ndarray, patients: np.ndarray
    ) -> None:
        from scipy.spatial import cKDTree

        centered = shares - shares.mean(axis=0)
        _, vectors = np.linalg.eigh((centered.T @ centered).astype(np.float64))
        self._points = np.ascontiguousarray(centered @ vectors[:, -_COMPONENTS:])
        self._tree = cKDTree(self._points)
        self._contents, self._shares, self._rows = contents, shares, rows
        self._patients = patients
        blocks = (self._load(rows[at : at + 4 * BLOCK]) for at in range(0, len(rows), 4 * BLOCK))
        small = [shrink(block, _FIRST_SIZE).astype(np.float16) for block in blocks]
        self._small = np.concatenate(small)
        self._ends: list[Ends] = crop_ends(_FIRST_STEP)

    def search(self, begin: int) -> np.ndarray:
        """Find the slices of which those of one block are crops; return rows of `_FOUND`."""
        block = np.arange(begin, min(begin + BLOCK, len(self._rows)))
        _, nearest = self._tree.query(self._points[block], CROP_CANDIDATES + 1)
        distances = np.abs(self._shares[nearest] - self._shares[block, np.newaxis]).sum(axis=2)
        nearest[(distances > _LARGEST_DISTANCE) | (nearest == block[:, None])] = -1
        loaded = self._load(self._rows[block])
        guesses = _guess(loaded, self._small[nearest].astype(np.float32), nearest >= 0)
        pairs: list[_Found] = []
        for at in range(0, len(guesses.place), BLOCK):
            pairs += self._refine(guesses.part(at, at + BLOCK), block, nearest, loaded)
        return np.array(pairs, _FOUND)

    def _refine(
        self, guesses: _Guesses, block: np.ndarray, nearest: np.ndarray, loaded: np.ndarray
    ) -> Iterator[_Found]:
        place, neighbor, flip = guesses.place, guesses.neighbor, guesses.flip
        whole = self._load(self._rows[nearest[place, neighbor]])
        for number, axes in enumerate(FLIPS.values(), start=1):
            chosen = flip == number
            whole[chosen] = np.flip(whole[chosen], tuple(axis + 1 for axis in axes))
        crops = take_crop_each(loaded[place], guesses.crop, _SECOND_SIZE, _FIRST_STEP)
        similar = np.einsum("ij,ij->i", crops, shrink(whole, _SECOND_SIZE))
        for at in np.flatnonzero(similar >= _SECOND_CORRELATION):
            row, column = divmod(int(guesses.crop[at]), len(self._ends))
            ends = (self._ends[row], self._ends[column])
            value = refined_correlation(loaded[place[at]], whole[at], ends, CROPPED_CORRELATION)
            if value is not None:
                one, other = int(block[place[at]]), int(nearest[place[at], neighbor[at]])
                fine = np.nan
                if _are_two_patients(self._patients, one, other):
                    fine = fine_correlation_of_crop(loaded[place[at]], whole[at], ends, _FIRST_STEP)
                yield one, other, value, flip[at], fine

    def _load(self, rows: np.ndarray) -> np.ndarray:
        return self._contents.take(rows).astype(np.float32)


def _guess(loaded: np.ndarray, others: np.ndarray, is_candidate: np.ndarray) -> _Guesses:
    """Compare all coarse crops of some slices with their neighbors.

    Args:
        loaded: float32 `(b, 64, 64)`.
        others: float32 `(b, k, 64)`: the neighbors of each, 8 x 8 pixels.
        is_candidate: bool `(b, k)`: the neighbors to compare.
    """
    crops = take_all_crops(loaded, _FIRST_SIZE, _FIRST_STEP).transpose(0, 2, 1)
    square = others.reshape(*others.shape[:2], _FIRST_SIZE, _FIRST_SIZE)
    best = np.full(others.shape[:2], -1.0, np.float32)
    flips, which = np.zeros(best.shape, np.int64), np.zeros(best.shape, np.int64)
    for number, axes in enumerate(((), *FLIPS.values())):
        flipped = np.flip(square, tuple(axis + 2 for axis in axes)).reshape(others.shape)
        similar = flipped @ crops
        highest = similar.max(axis=2)
        better = highest > best
        best[better], flips[better] = highest[better], number
        which[better] = similar.argmax(axis=2)[better]
    place, neighbor = np.nonzero((best >= _FIRST_CORRELATION) & is_candidate)
    return _Guesses(place, neighbor, flips[place, neighbor], which[place, neighbor])
