"""Duplicate pairs: exact duplicates, and near-duplicates, also flipped or cropped."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from hemorrhage_tf.datasets.cropped_duplicates import find_cropped_duplicates
from hemorrhage_tf.datasets.near_duplicates import PAIR, find_near_pairs
from hemorrhage_tf.datasets.same_image import (
    are_of_different_patients,
    fine_correlations,
    is_single_color,
    same_image_limit,
)
from hemorrhage_tf.datasets.slice_reading import SliceReadings
from hemorrhage_tf.datasets.thumbnails import FLIPS

EXACT_DUPLICATE = "exact duplicate"
NEAR_DUPLICATE = "near-duplicate"

# A head is nearly symmetric, so a pair may correlate in several flips; the first one counts unless
# another is clearly better.
_BETTER_BY = 1e-3


@dataclass(frozen=True)
class DuplicatePair:
    """Two slices that are duplicates.

    Attributes:
        first: Index of the first slice.
        second: Index of the second slice, larger than `first`.
        relation: See `audit_result.Pair`.
        correlation: Of their thumbnails, in [-1, 1].
    """

    first: int
    second: int
    relation: str
    correlation: float

    @property
    def indices(self) -> tuple[int, int]:
        """The indices of both slices."""
        return self.first, self.second


@dataclass(frozen=True)
class DuplicatePairs:
    """The duplicate pairs of a set, and what only looks like one.

    Attributes:
        pairs: Exact duplicates first, then by falling correlation.
        alike: int64 `(k, 2)`: pairs of different patients that look alike but are not the same
            image.
        same_image_limit: From which correlation of the fine structure two patients' slices are
            the same image; None without two patients.
    """

    pairs: list[DuplicatePair]
    alike: np.ndarray
    same_image_limit: float | None

    def to_arrays(self) -> dict[str, np.ndarray]:
        """Return arrays that an NPZ file can hold without pickle."""
        limit = [] if self.same_image_limit is None else [self.same_image_limit]
        relations = json.dumps([pair.relation for pair in self.pairs])
        return {
            "pairs": np.array([(*pair.indices, pair.correlation) for pair in self.pairs], PAIR),
            "relations": np.frombuffer(relations.encode(), np.uint8),
            "alike": self.alike,
            "limit": np.array(limit, np.float64),
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> DuplicatePairs | None:
        """Return the result that `to_arrays` packed; None for other arrays."""
        try:
            found, alike, limit = arrays["pairs"], arrays["alike"], arrays["limit"].tolist()
            relations = json.loads(arrays["relations"].tobytes())
        except (KeyError, ValueError):
            return None
        if found.dtype != PAIR or len(relations) != len(found):
            return None
        pairs = [
            DuplicatePair(first, second, relation, correlation)
            for (first, second, correlation), relation in zip(
                found.tolist(), relations, strict=True
            )
        ]
        return cls(pairs, alike, limit[0] if limit else None)


def find_duplicate_pairs(readings: SliceReadings, patients: np.ndarray) -> DuplicatePairs:
    """Find the duplicate pairs, each once, with the simplest relation that fits.

    Args:
        readings: Of the slices, read for an audit.
        patients: int64 `(n,)` from `same_image.number_patients`.
    """
    search = _Search(readings, patients)
    if len(readings):
        search.add_exact()
        for flip in (None, *FLIPS):
            search.add_near(flip)
        search.add_cropped()
    alike = np.array(sorted(search.alike - set(search.pairs)), np.int64).reshape(-1, 2)
    order = sorted(
        search.pairs.values(),
        key=lambda pair: (pair.relation != EXACT_DUPLICATE, -pair.correlation, pair.indices),
    )
    return DuplicatePairs(order, alike, search.limit)


class _Search:
    """The search for duplicate pairs, one kind after the other.

    Args:
        readings: Of the slices, read for an audit.
        patients: int64 `(n,)`.
    """

    def __init__(self, readings: SliceReadings, patients: np.ndarray) -> None:
        self._readings, self._patients = readings, patients
        self._hashes = [row.tobytes() for row in readings.hashes]
        self._rows = np.arange(len(readings))
        self.pairs: dict[tuple[int, int], DuplicatePair] = {}
        self.alike: set[tuple[int, int]] = set()
        self.limit = same_image_limit(readings.gray, readings.contents, self._rows, patients)

    def add_exact(self) -> None:
        """Add the pairs with the same pixels, except single colors of different patients."""
        original: dict[bytes, int] = {}
        for index, key in enumerate(self._hashes):
            first = original.setdefault(key, index)
            if first == index:
                continue
            if self._patients[first] != self._patients[index]:
                if is_single_color(self._readings.gray, self._rows[[index]]).all():
                    continue
            self.pairs[first, index] = DuplicatePair(first, index, EXACT_DUPLICATE, 1.0)

    def add_near(self, flip: str | None) -> None:
        """Add the near-duplicates under a flip."""
        relation = NEAR_DUPLICATE if flip is None else f"{NEAR_DUPLICATE}, flipped {flip}"
        near = find_near_pairs(self._readings.gray, self._rows, flip)
        first, second = near["first"], near["second"]
        fine = np.full(len(near), np.nan)
        across = are_of_different_patients(self._patients, first, second)
        fine[across] = fine_correlations(
            self._readings.gray, first[across].astype(int), second[across].astype(int), flip
        )
        for (i, j, correlation), of_pair in zip(near.tolist(), fine.tolist(), strict=True):
            known = self.pairs.get((i, j))
            is_better = known is None or correlation > known.correlation + _BETTER_BY
            if is_better and self._is_duplicate(i, j, of_pair):
                self.pairs[i, j] = DuplicatePair(i, j, relation, correlation)

    def add_cropped(self) -> None:
        """Add the cropped duplicates that are not known otherwise."""
        for i, j, correlation, flip, fine in find_cropped_duplicates(
            self._readings.contents,
            self._readings.gray_shares,
            self._rows,
            self._patients,
            known=self.pairs,
        ):
            if self._is_duplicate(i, j, fine):
                relation = f"{NEAR_DUPLICATE}, cropped" + (f" and flipped {flip}" if flip else "")
                self.pairs.setdefault((i, j), DuplicatePair(i, j, relation, correlation))

    def _is_duplicate(self, first: int, second: int, fine: float) -> bool:
        """Return whether a pair is a near-duplicate; note it if it only looks like one.

        Args:
            first: Index of the first slice.
            second: Index of the second.
            fine: The correlation of their fine structure; NaN if they are not of two patients.
        """
        if self._hashes[first] == self._hashes[second]:
            return False
        if self.limit is None or np.isnan(fine) or fine >= self.limit:
            return True
        self.alike.add((first, second))
        return False
