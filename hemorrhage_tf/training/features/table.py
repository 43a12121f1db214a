"""The features of a fit as the head sees them, read in parts from wherever they lie."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np

from hemorrhage_tf.models.classifier import select_pooled, standardize
from hemorrhage_tf.training.features.extraction import FeatureRows

# Standardized features of a training that are kept in memory; where there are more, they are read
# again from the cache in every iteration or epoch.
_IN_MEMORY_BYTES = 64 * 2**20
_CHUNK_BYTES = 8 * 2**20

# Rows are shuffled all together up to a window's number. Where there are more, pieces of
# neighboring rows are shuffled, and then the rows of each window of pieces: reading stays near to
# sequential.
_WINDOW = 2**16
_PIECE = 2**12


class FeatureTable:
    """What the head of a classifier gets of each slice's views.

    Args:
        views: int64 `(n,)`, of each slice.
        sources: for each backbone, in the order in which the classifier has them, the features of
            a slice's first views, and those of its others.
        pooling: "avg", "max" or "avg_max".
    """

    def __init__(
        self,
        views: np.ndarray,
        sources: Sequence[tuple[FeatureRows, FeatureRows]],
        pooling: str,
    ) -> None:
        self._offsets = np.concatenate([[0], np.cumsum(views)]).astype(np.int64)
        self._sources = sources
        self._pooling = pooling
        part = 2 if pooling != "avg_max" else 1
        self.width = sum(first.width // part for first, _ in sources)

    def first(self, indices: np.ndarray) -> np.ndarray:
        """Gives the places of the slices themselves, their view 0."""
        return self._offsets[indices]

    def places(self, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Gives the places of all views of some slices, and the slice that each is of."""
        begins = self._offsets[indices]
        counts = self._offsets[np.asarray(indices) + 1] - begins
        ends = np.cumsum(counts)
        within = np.arange(ends[-1] if len(ends) else 0) - np.repeat(ends - counts, counts)
        return np.repeat(begins, counts) + within, np.repeat(indices, counts)

    def take(self, places: np.ndarray) -> np.ndarray:
        """Reads pooled features, float32 `(n, width)`, of backbones side by side."""
        slices = np.searchsorted(self._offsets, places, side="right") - 1
        views = places - self._offsets[slices]
        parts = []
        for first, rest in self._sources:
            exact = first.offsets[slices + 1] - first.offsets[slices]
            is_first = views < exact
            out = np.empty((len(places), first.width), np.float32)
            out[is_first] = first.take((first.offsets[slices] + views)[is_first])
            if not is_first.all():
                others = rest.offsets[slices] + views - exact
                out[~is_first] = rest.take(others[~is_first])
            parts.append(select_pooled(out, self._pooling))
        return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1)


class FeatureChunks:
    """Some rows of a table, chunk by chunk; can be gone through again.

    Args:
        table: where they are.
        places: int64 `(n,)`, which.
        standardized_by: mean and variance to standardize with, or None to give rows as they are.
    """

    def __init__(
        self,
        table: FeatureTable,
        places: np.ndarray,
        standardized_by: tuple[np.ndarray, np.ndarray] | None = None,
    ) -> None:
        self._table = table
        self._places = places
        self._by = standardized_by
        self._rows = max(1, _CHUNK_BYTES // (8 * table.width))
        self._kept: list[np.ndarray] | None = None

    @property
    def shape(self) -> tuple[int, int]:
        """Rows of all chunks, and width."""
        return len(self._places), self._table.width

    def __iter__(self) -> Iterator[np.ndarray]:
        """Gives `(n, width)` arrays: float32, or float64 where they are standardized."""
        if self._kept is not None:
            yield from self._kept
            return
        small = 8 * math.prod(self.shape) <= _IN_MEMORY_BYTES
        kept = []
        for begin in range(0, len(self._places), self._rows):
            chunk = self._table.take(self._places[begin : begin + self._rows])
            if self._by is not None:
                chunk = standardize(chunk, *self._by).astype(np.float64)
            if small:
                kept.append(chunk)
            yield chunk
        if small:
            self._kept = kept


def window_order(count: int, rng: np.random.Generator) -> np.ndarray:
    """Shuffles rows, so that neighbors on disk are read near to each other where there are many.

    Args:
        count: rows.
        rng: where chance comes from.

    Returns:
        int64 `(count,)`, a permutation.
    """
    if count <= _WINDOW:
        return rng.permutation(count)
    begins = rng.permutation(-(-count // _PIECE)) * _PIECE
    order = np.concatenate([np.arange(begin, min(begin + _PIECE, count)) for begin in begins])
    for begin in range(0, count, _WINDOW):
        rng.shuffle(order[begin : begin + _WINDOW])
    return order


def feature_dataset(
    table: FeatureTable, places: np.ndarray, mean: np.ndarray, variance: np.ndarray
):
    """Makes a dataset of standardized features, one row an element, in the order of the places."""
    import tensorflow as tf

    rows = max(1, _CHUNK_BYTES // (8 * table.width))
    if len(places) * table.width * 4 <= _IN_MEMORY_BYTES:
        return tf.data.Dataset.from_tensor_slices(standardize(table.take(places), mean, variance))

    def chunks() -> Iterator[np.ndarray]:
        for begin in range(0, len(places), rows):
            yield standardize(table.take(places[begin : begin + rows]), mean, variance)

    signature = tf.TensorSpec((None, table.width), tf.float32)
    return tf.data.Dataset.from_generator(chunks, output_signature=signature).prefetch(1).unbatch()
