"""The features of a fit as the classifier's head uses them, read in chunks."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hemorrhage_tf.models.classifier import select_pooled, standardize
from hemorrhage_tf.training.features.rows import FeatureRows

# Standardized features of a training that are kept in memory. More are read from the cache again in
# every iteration or epoch.
IN_MEMORY_BYTES = 64 * 2**20
CHUNK_BYTES = 8 * 2**20

# Up to a window of rows is shuffled as a whole. Of more rows, pieces of neighboring rows are
# shuffled, and then the rows of each window of pieces, so that reads stay nearly sequential.
_WINDOW = 2**16
_PIECE = 2**12


class FeatureTable:
    """The features of the views of slices, one row for each view, slice after slice.

    Args:
        views: int64 `(slices,)`, the number of views of each slice.
        sources: For each backbone, in the order of the classifier's branches: the features of a
            slice's first views, and those of its remaining views.
        pooling: "avg", "max" or "avg_max".

    Attributes:
        width: Number of features of a row.
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

    def __len__(self) -> int:
        """Return the number of rows."""
        return int(self._offsets[-1])

    def first_rows(self, indices: np.ndarray) -> np.ndarray:
        """Return the rows of the original slices (view 0), int64 `(n,)`.

        Args:
            indices: Slice numbers, int64 `(n,)`.
        """
        return self._offsets[indices]

    def view_rows(self, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the rows of all views of slices.

        Args:
            indices: Slice numbers, int64 `(n,)`.

        Returns:
            The rows, int64 `(m,)`, and the slice number of each.
        """
        starts = self._offsets[indices]
        counts = self._offsets[np.asarray(indices) + 1] - starts
        ends = np.cumsum(counts)
        within = np.arange(ends[-1] if len(ends) else 0) - np.repeat(ends - counts, counts)
        return np.repeat(starts, counts) + within, np.repeat(indices, counts)

    def take(self, rows: np.ndarray) -> np.ndarray:
        """Read pooled features, those of several backbones side by side.

        Args:
            rows: int64 `(n,)`.

        Returns:
            float32 `(n, width)`.
        """
        slices = np.searchsorted(self._offsets, rows, side="right") - 1
        views = rows - self._offsets[slices]
        parts = []
        for first, rest in self._sources:
            first_count = first.offsets[slices + 1] - first.offsets[slices]
            is_first = views < first_count
            out = np.empty((len(rows), first.width), np.float32)
            out[is_first] = first.take((first.offsets[slices] + views)[is_first])
            if not is_first.all():
                others = rest.offsets[slices] + views - first_count
                out[~is_first] = rest.take(others[~is_first])
            parts.append(select_pooled(out, self._pooling))
        return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1)


class FeatureChunks:
    """An iterable over rows of a table in chunks, which can be iterated repeatedly.

    Args:
        table: The table.
        rows: int64 `(n,)`, the rows.
        standardized_by: Mean and variance for standardization, float32 `(width,)` each. None to
            leave the features unchanged. Defaults to None.
        dtype: Of standardized features. Defaults to "float64".
    """

    def __init__(
        self,
        table: FeatureTable,
        rows: np.ndarray,
        standardized_by: tuple[np.ndarray, np.ndarray] | None = None,
        dtype: str = "float64",
    ) -> None:
        self._table = table
        self._rows = rows
        self._statistics = standardized_by
        self._dtype = np.dtype(dtype)
        self._chunk_rows = _chunk_rows(table)
        self._in_memory: list[np.ndarray] | None = None

    @property
    def shape(self) -> tuple[int, int]:
        """Number of rows in all chunks, and width."""
        return len(self._rows), self._table.width

    def in_float32(self) -> FeatureChunks:
        """Return the same features in float32."""
        return FeatureChunks(self._table, self._rows, self._statistics, "float32")

    def __iter__(self) -> Iterator[np.ndarray]:
        """Yield `(n, width)` arrays: float32, or of the dtype if they are standardized."""
        if self._in_memory is not None:
            yield from self._in_memory
            return
        fits_in_memory = self._dtype.itemsize * math.prod(self.shape) <= IN_MEMORY_BYTES
        chunks = []
        for start in range(0, len(self._rows), self._chunk_rows):
            chunk = self._table.take(self._rows[start : start + self._chunk_rows])
            if self._statistics is not None:
                mean, variance = self._statistics
                chunk = standardize(chunk, mean, variance).astype(self._dtype)
            if fits_in_memory:
                chunks.append(chunk)
            yield chunk
        if fits_in_memory:
            self._in_memory = chunks


@dataclass(frozen=True)
class JoinedChunks:
    """The chunks of two tables of the same width, one after the other.

    Attributes:
        first: The chunks of the first table.
        second: Those of the second.
    """

    first: FeatureChunks
    second: FeatureChunks

    @property
    def shape(self) -> tuple[int, int]:
        """Number of rows in all chunks, and width."""
        return self.first.shape[0] + self.second.shape[0], self.first.shape[1]

    def in_float32(self) -> JoinedChunks:
        """Return the same features in float32."""
        return JoinedChunks(self.first.in_float32(), self.second.in_float32())

    def __iter__(self) -> Iterator[np.ndarray]:
        """Yield `(n, width)` arrays."""
        yield from self.first
        yield from self.second


def window_order(count: int, rng: np.random.Generator) -> np.ndarray:
    """Return a random order in which neighbors on disk are read close to each other.

    Args:
        count: Number of rows. Up to 65,536 rows are shuffled completely.
        rng: The random generator.

    Returns:
        A permutation, int64 `(count,)`.
    """
    if count <= _WINDOW:
        return rng.permutation(count)
    starts = rng.permutation(-(-count // _PIECE)) * _PIECE
    order = np.concatenate([np.arange(start, min(start + _PIECE, count)) for start in starts])
    for start in range(0, count, _WINDOW):
        rng.shuffle(order[start : start + _WINDOW])
    return order


def feature_dataset(
    table: FeatureTable, rows: np.ndarray, mean: np.ndarray, variance: np.ndarray
) -> Any:
    """Return a dataset of standardized features, one row for each element.

    Args:
        table: The table.
        rows: int64 `(n,)`, the rows in the order of the dataset.
        mean: float32 `(width,)`.
        variance: float32 `(width,)`.

    Returns:
        A `tf.data.Dataset` of float32 `(width,)`.
    """
    import tensorflow as tf

    if len(rows) * table.width * 4 <= IN_MEMORY_BYTES:
        return tf.data.Dataset.from_tensor_slices(standardize(table.take(rows), mean, variance))
    chunk_rows = _chunk_rows(table)

    def chunks() -> Iterator[np.ndarray]:
        for start in range(0, len(rows), chunk_rows):
            yield standardize(table.take(rows[start : start + chunk_rows]), mean, variance)

    signature = tf.TensorSpec((None, table.width), tf.float32)
    return tf.data.Dataset.from_generator(chunks, output_signature=signature).prefetch(1).unbatch()


def _chunk_rows(table: FeatureTable) -> int:
    return max(1, CHUNK_BYTES // (8 * table.width))
