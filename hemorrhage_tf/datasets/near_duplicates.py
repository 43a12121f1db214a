"""Near-duplicates: pairs of slices that look almost the same, in a set of any size.

Slices are compared by the correlation of their thumbnails, which detects rescaled copies, copies
with a letter on them, and neighboring slices of the same scan. Small sets are compared pair by
pair. In larger ones most pairs are ruled out by the first components of their thumbnails.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial

import numpy as np

from hemorrhage_tf.core.workers import ALONE, Workers
from hemorrhage_tf.datasets import thumbnails
from hemorrhage_tf.datasets.cropped_duplicates import (
    CROP_CANDIDATES,
    CroppedPair,
    find_cropped_duplicates,
)
from hemorrhage_tf.datasets.file_array import FileArray
from hemorrhage_tf.datasets.groups import merge_groups
from hemorrhage_tf.datasets.same_image import (
    are_of_different_patients,
    fine_correlations,
    same_image_limit,
)
from hemorrhage_tf.datasets.thumbnails import (
    COMPARISON_THREADS,
    ThumbnailArrays,
    flip_thumbnails,
)

# Pairs of slices: the first index is the smaller one.
PAIR = np.dtype([("first", np.int32), ("second", np.int32), ("correlation", np.float64)])

# The same slice at another size, or a neighbor in the same scan; see docs/decisions.md.
NEAR_DUPLICATE_CORRELATION = 0.95

# In very large sets some pairs of different patients reach 0.95. If they chain more than this share
# of the slices into one group, nothing could be held out: then one of the stricter levels applies.
MOST_CHAINED = 0.02
STRICTER = (0.96, 0.97, 0.98, 0.99)

# A slice that is similar to very many others of a block keeps the most similar ones only. These are
# copies of one slice and end up in one group anyway.
MOST_SIMILAR = 64

# The sizes of blocks, in slices.
SAMPLE = 4096  # that the components are computed from
ROWS, COLUMNS = 1024, 4096  # that are compared with each other
SMALL_SET_CHUNK = 2048

_FEW, _SOME = 24, 64  # components that rule out pairs, at first and after that
_SLACK = 1e-3  # rounding: thumbnails of large sets are stored in half precision


@dataclass
class NearDuplicates:
    """The near-duplicates and cropped duplicates of a set.

    Attributes:
        pairs: Structured array `(k,)` of the dtype `PAIR`, sorted by its indices.
        notes: How the search of a large set differed from that of a small one, for the user.
        alike: Pairs of different patients that look alike but are not the same image, as `pairs`,
            with the correlation of their fine structure. Defaults to none.
        same_image_limit: From which correlation of the fine structure two patients' slices are
            the same image; None without two patients.
    """

    pairs: np.ndarray
    notes: list[str] = field(default_factory=list)
    alike: np.ndarray = field(default_factory=lambda: np.zeros(0, PAIR))
    same_image_limit: float | None = None

    def to_arrays(self) -> dict[str, np.ndarray]:
        """Return arrays that an NPZ file can hold without pickle."""
        limit = [] if self.same_image_limit is None else [self.same_image_limit]
        return {
            "pairs": self.pairs,
            "alike": self.alike,
            "limit": np.array(limit, np.float64),
            "notes": np.frombuffer(json.dumps(self.notes).encode(), np.uint8),
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> NearDuplicates | None:
        """Return the result that `to_arrays` packed; None for other arrays."""
        try:
            pairs, alike, limit = arrays["pairs"], arrays["alike"], arrays["limit"].tolist()
            notes = json.loads(arrays["notes"].tobytes())
        except (KeyError, ValueError):
            return None
        if not pairs.dtype == alike.dtype == PAIR:
            return None
        return cls(pairs, notes, alike, limit[0] if limit else None)


def find_near_duplicates(
    arrays: ThumbnailArrays,
    rows: np.ndarray,
    groups: np.ndarray | None = None,
    patients: np.ndarray | None = None,
    workers: Workers = ALONE,
) -> NearDuplicates:
    """Find near-duplicates and cropped duplicates.

    Slices of different patients are duplicates only if they are the same image, see `same_image`.

    Args:
        arrays: The thumbnails.
        rows: int64 `(n,)`: the slices to compare.
        groups: int64 `(n,)`: slices that belong together in any case, such as those of a patient.
            Defaults to None.
        patients: int64 `(n,)` from `same_image.number_patients`. Defaults to None, unknown.
        workers: The workers that share the search. Defaults to this process alone.

    Returns:
        The pairs, as positions in `rows`. A pair that is both has the correlation of its
        thumbnails.
    """
    count = len(rows)
    gray, contents, gray_shares = arrays
    near = find_near_pairs(gray, rows, workers=workers)
    whole = [(first, second) for first, second, _ in near.tolist()]
    cropped = find_cropped_duplicates(contents, gray_shares, rows, patients, workers, whole)
    limit = None if patients is None else same_image_limit(gray, contents, rows, patients)
    alike = np.zeros(0, PAIR)
    if patients is not None and limit is not None:
        across = np.flatnonzero(are_of_different_patients(patients, near["first"], near["second"]))
        first, second = (rows[near[name][across]] for name in ("first", "second"))
        fine = fine_correlations(gray, first, second)
        near, cropped, alike = _separate_patients(near, across, fine, cropped, limit, count)
    notes = []
    if count > thumbnails.ALL_PAIRS_UP_TO:
        minimum = _strict_enough(near, count, groups)
        if minimum > NEAR_DUPLICATE_CORRELATION:
            near = near[near["correlation"] >= minimum]
            notes.append(
                f"Among {count} slices, different patients reach a correlation of "
                f"{NEAR_DUPLICATE_CORRELATION:g} and would form one group: near-duplicates are "
                f"pairs from {minimum:g}."
            )
        notes.append(
            f"Cropped duplicates were searched among the {CROP_CANDIDATES} slices nearest in gray "
            f"levels, as in every set of more than {thumbnails.ALL_PAIRS_UP_TO} slices; "
            "near-duplicates among all."
        )
    extra = np.array([pair[:3] for pair in cropped], PAIR)
    known = np.isin(_keys(extra, count), _keys(near, count))
    pairs = np.concatenate([near, extra[~known]])
    pairs = pairs[np.lexsort((pairs["second"], pairs["first"]))]
    return NearDuplicates(pairs, notes, alike, limit)


def _separate_patients(
    near: np.ndarray,
    across: np.ndarray,
    fine: np.ndarray,
    cropped: list[CroppedPair],
    limit: float,
    count: int,
) -> tuple[np.ndarray, list[CroppedPair], np.ndarray]:
    """Take out the pairs of different patients that are not the same image.

    Args:
        near: The near-duplicates.
        across: Indices of those of different patients.
        fine: The correlations of the fine structure of these.
        cropped: The cropped duplicates.
        limit: From which correlation of the fine structure a pair is the same image.
        count: The number of slices.

    Returns:
        The near-duplicates and cropped duplicates left, and the pairs that only look alike.
    """
    crops = [pair for pair in cropped if not np.isnan(pair.fine)]
    alike = np.concatenate([near[across], np.array([pair[:3] for pair in crops], PAIR)])
    alike["correlation"] = np.concatenate([fine, np.array([pair.fine for pair in crops])])
    # Of a pair that is both, the better alignment counts.
    alike = alike[np.lexsort((-alike["correlation"], _keys(alike, count)))]
    alike = alike[np.unique(_keys(alike, count), return_index=True)[1]]
    alike = alike[alike["correlation"] < limit]
    keys = _keys(alike, count)
    apart = set(keys.tolist())
    left = [pair for pair in cropped if pair.first * count + pair.second not in apart]
    return near[~np.isin(_keys(near, count), keys)], left, alike


def find_near_pairs(
    gray: FileArray, rows: np.ndarray, flip: str | None = None, workers: Workers = ALONE
) -> np.ndarray:
    """Find the pairs of slices whose thumbnails correlate by 0.95 or more.

    Two thumbnails are unit vectors. In a large set the product of their first components is
    computed for all pairs. The rest can add at most the product of its lengths, so a pair whose sum
    is too small is ruled out and none is missed. Only a slice that is similar to very many of 4,096
    others keeps just the 64 pairs with the largest sums.

    Args:
        gray: `(2, 1024)` of each slice, see `thumbnails.Thumbnails`.
        rows: int64 `(n,)`: the slices to compare.
        flip: Find pairs of which one slice is flipped, a key of `thumbnails.FLIPS`. Defaults to
            None.
        workers: The workers that share the search of a large set. Defaults to this process alone.

    Returns:
        Structured array `(k,)` of the dtype `PAIR`, as positions in `rows`. In a small set, the
        most similar pairs come first.
    """
    if len(rows) <= thumbnails.ALL_PAIRS_UP_TO:
        return _compare_all_pairs(gray.take(rows).astype(np.float32, copy=False), flip)
    from threadpoolctl import threadpool_limits

    count = len(rows)
    keys: list[np.ndarray] = []
    # Each thread compares blocks of its own.
    with threadpool_limits(1, "blas"), ThreadPoolExecutor(COMPARISON_THREADS) as pool:
        for kind in range(2):
            one = _components(gray, rows, kind, None, flip)
            other = one if flip is None else _components(gray, rows, kind, flip, flip)
            candidates = partial(pool.map, partial(_candidates, one, other))
            keys += workers.share(range(0, count, ROWS), candidates, np.int64)
            del one, other, candidates
        unique = np.unique(np.concatenate(keys))
        del keys
        first, second = unique // count, unique % count
        begins = np.searchsorted(first, np.arange(0, count, ROWS // 4))
        ends = np.append(begins[1:], len(first))

        def correlations(part: tuple[int, int]) -> np.ndarray:
            places = slice(*part)
            return _correlations(gray, rows[first[places]], rows[second[places]], flip)

        parts = list(zip(begins.tolist(), ends.tolist(), strict=True))
        of_parts = workers.share(parts, partial(pool.map, correlations), np.float64)
        values = np.concatenate(of_parts)
    kept = values >= NEAR_DUPLICATE_CORRELATION
    return _pairs(first[kept], second[kept], values[kept])


def _pairs(first: np.ndarray, second: np.ndarray, correlation: np.ndarray) -> np.ndarray:
    pairs = np.empty(len(first), PAIR)
    pairs["first"], pairs["second"], pairs["correlation"] = first, second, correlation
    return pairs


def _keys(pairs: np.ndarray, count: int) -> np.ndarray:
    return pairs["first"].astype(np.int64) * count + pairs["second"]


def _compare_all_pairs(stacked: np.ndarray, flip: str | None) -> np.ndarray:
    """Compare float32 `(n, 2, 1024)` thumbnails pair by pair, the most similar pairs first."""
    others = flip_thumbnails(stacked, flip)
    parts = [np.empty(0, PAIR)]
    for begin in range(0, len(stacked), SMALL_SET_CHUNK):
        rows = stacked[begin : begin + SMALL_SET_CHUNK]
        for at in range(begin, len(stacked), SMALL_SET_CHUNK):
            columns = others[at : at + SMALL_SET_CHUNK]
            similar = np.max([rows[:, kind] @ columns[:, kind].T for kind in range(2)], axis=0)
            i, j = np.nonzero(similar >= NEAR_DUPLICATE_CORRELATION)
            pairs = _pairs(begin + i, at + j, similar[i, j])
            parts.append(pairs[pairs["first"] < pairs["second"]])
    similar_pairs = np.concatenate(parts)
    order = (similar_pairs["second"], similar_pairs["first"], -similar_pairs["correlation"])
    return similar_pairs[np.lexsort(order)]


def _strict_enough(near: np.ndarray, count: int, groups: np.ndarray | None) -> float:
    """Return the correlation from which pairs do not chain a large share of the slices."""
    keys: list[Sequence[int]] = [] if groups is None else [groups.tolist()]
    largest = max(MOST_CHAINED * count, 3 * np.bincount(merge_groups(count, [], keys)).max())
    for minimum in (NEAR_DUPLICATE_CORRELATION, *STRICTER):
        kept = near[near["correlation"] >= minimum]
        pairs = np.stack([kept["first"], kept["second"]], axis=1)
        if np.bincount(merge_groups(count, pairs, keys)).max() <= largest:
            break
    return minimum


def _blocks(gray: FileArray, rows: np.ndarray) -> Iterator[np.ndarray]:
    for begin in range(0, len(rows), ROWS):
        yield gray.take(rows[begin : begin + ROWS])


def _components(
    gray: FileArray, rows: np.ndarray, kind: int, flip: str | None, compared_flip: str | None
) -> np.ndarray:
    """Return the first components of thumbnails and the lengths of the rest.

    Args:
        gray: Of all slices.
        rows: The slices to take.
        kind: 0 for whole slices, 1 for their contents.
        flip: How to flip them first, or None.
        compared_flip: The flip that they are compared under, or None.

    Returns:
        float32 `(n, _SOME + 2)`: `_FEW` components, the length of all others, the components up to
        `_SOME`, the length of the rest.
    """
    rng = np.random.default_rng(0)
    drawn = np.sort(rng.choice(rows, min(SAMPLE, len(rows)), replace=False))
    sample = gray.take(drawn)[:, kind].astype(np.float32)
    if compared_flip is not None:
        sample = np.concatenate([sample, flip_thumbnails(sample, compared_flip)])
    _, vectors = np.linalg.eigh(sample.T @ sample)
    basis = np.ascontiguousarray(vectors[:, ::-1][:, :_SOME], np.float32)
    columns = np.empty((len(rows), _SOME + 2), np.float32)
    begin = 0
    for block in _blocks(gray, rows):
        flat = flip_thumbnails(block[:, kind].astype(np.float32), flip)
        end = begin + len(flat)
        columns[begin:end, :_SOME] = flat @ basis
        squares = np.square(columns[begin:end, :_SOME])
        for place, components in ((_SOME, _FEW), (_SOME + 1, _SOME)):
            rest = np.square(flat).sum(axis=1) - squares[:, :components].sum(axis=1)
            columns[begin:end, place] = np.sqrt(rest.clip(0))
        begin = end
    # The values that are needed first are stored together.
    order = [*range(_FEW), _SOME, *range(_FEW, _SOME), _SOME + 1]
    return columns[:, order]


def _candidates(one: np.ndarray, other: np.ndarray, begin: int) -> np.ndarray:
    """Return the pairs of a block of slices that are not ruled out, as `i * n + j`.

    Args:
        one: `(n, _SOME + 2)` from `_components`.
        other: The same, or that of the flipped slices.
        begin: The first slice of the block.
    """
    minimum = np.float32(NEAR_DUPLICATE_CORRELATION - _SLACK)
    count, few = len(one), _FEW + 1
    rows = one[begin : begin + ROWS]
    keys = []
    for at in range(begin, count, COLUMNS):
        columns = other[at : at + COLUMNS]
        bound = rows[:, :few] @ columns[:, :few].T
        places = np.flatnonzero(bound.ravel() >= minimum)
        i, j = places // len(columns), places % len(columns)
        after = begin + i < at + j
        i, j = i[after], j[after]
        closer = bound[i, j] - rows[i, _FEW] * columns[j, _FEW]
        closer += np.einsum("ij,ij->i", rows[i, few:], columns[j, few:])
        kept = closer >= minimum
        i, j = i[kept], j[kept]
        if len(i) > MOST_SIMILAR:
            most_first = np.lexsort((-closer[kept], i))
            i, j = i[most_first], j[most_first]
            begins = np.searchsorted(i, np.arange(len(rows)))
            few_of_each = np.arange(len(i)) - begins[i] < MOST_SIMILAR
            i, j = i[few_of_each], j[few_of_each]
        keys.append((begin + i) * count + at + j)
    return np.concatenate(keys)


def _correlations(
    gray: FileArray, first: np.ndarray, second: np.ndarray, flip: str | None
) -> np.ndarray:
    """Compute the correlations of pairs of rows, the larger one of both kinds of thumbnails."""
    values = np.empty(len(first))
    for begin in range(0, len(first), ROWS):
        i, j = first[begin : begin + ROWS], second[begin : begin + ROWS]
        needed, places = np.unique(np.concatenate([i, j]), return_inverse=True)
        loaded = gray.take(needed).astype(np.float32)
        one, other = loaded[places[: len(i)]], flip_thumbnails(loaded[places[len(i) :]], flip)
        values[begin : begin + ROWS] = np.einsum("ikv,ikv->ik", one, other).max(axis=1)
    return values
