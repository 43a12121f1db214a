"""Duplicate pairs: exact duplicates, and near-duplicates, also flipped or cropped."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hemorrhage_tf.datasets.cropped_duplicates import find_cropped_duplicates
from hemorrhage_tf.datasets.near_duplicates import find_near_pairs
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


def find_duplicate_pairs(readings: SliceReadings) -> list[DuplicatePair]:
    """Find the duplicate pairs, each once, with the simplest relation that fits.

    Args:
        readings: Of the slices, read for an audit.

    Returns:
        Exact duplicates first, then by falling correlation.
    """
    hashes = [row.tobytes() for row in readings.hashes]
    if not hashes:
        return []
    pairs: dict[tuple[int, int], DuplicatePair] = {}
    original: dict[bytes, int] = {}
    for index, key in enumerate(hashes):
        first = original.setdefault(key, index)
        if first != index:
            pairs[first, index] = DuplicatePair(first, index, EXACT_DUPLICATE, 1.0)
    rows = np.arange(len(hashes))
    for flip in (None, *FLIPS):
        relation = NEAR_DUPLICATE if flip is None else f"{NEAR_DUPLICATE}, flipped {flip}"
        for i, j, correlation in find_near_pairs(readings.gray, rows, flip).tolist():
            known = pairs.get((i, j))
            is_better = known is None or correlation > known.correlation + _BETTER_BY
            if is_better and hashes[i] != hashes[j]:
                pairs[i, j] = DuplicatePair(i, j, relation, correlation)
    for i, j, correlation, flip in find_cropped_duplicates(
        readings.contents, readings.gray_shares, rows
    ):
        if hashes[i] != hashes[j]:
            relation = f"{NEAR_DUPLICATE}, cropped" + (f" and flipped {flip}" if flip else "")
            pairs.setdefault((i, j), DuplicatePair(i, j, relation, correlation))
    return sorted(
        pairs.values(),
        key=lambda pair: (pair.relation != EXACT_DUPLICATE, -pair.correlation, pair.indices),
    )
