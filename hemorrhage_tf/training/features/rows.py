"""Feature rows: which block (a shard on disk or an array in memory) holds which row."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from hemorrhage_tf.training.features.cache import FeatureCache
from hemorrhage_tf.training.features.shards import Block


class RowIndex:
    """The blocks that hold the requested rows, as far as they are available.

    Args:
        keys: Sorted keys of the requested rows, see `shards.row_keys`.

    Attributes:
        blocks: The blocks that hold at least one of them.
        block_of: int32 `(n,)`, the block of each row, or -1 if the row is missing.
        row_of: int32 `(n,)`, its row in the block.
    """

    def __init__(self, keys: np.ndarray) -> None:
        self._keys = keys
        self.blocks: list[Block] = []
        self.block_of = np.full(len(keys), -1, np.int32)
        self.row_of = np.zeros(len(keys), np.int32)

    def add(self, keys: np.ndarray, block: Block) -> None:
        """Add the requested rows of a block.

        Args:
            keys: The keys of the block's rows.
            block: The block.
        """
        if not len(self._keys):
            return
        positions = np.searchsorted(self._keys, keys).clip(max=len(self._keys) - 1)
        rows = np.flatnonzero(self._keys[positions] == keys)
        if len(rows):
            self.block_of[positions[rows]] = len(self.blocks)
            self.row_of[positions[rows]] = rows
            self.blocks.append(block)

    def add_all(self, shards: Iterable[tuple[np.ndarray, Block]]) -> None:
        """Add the requested rows of several blocks, each with its keys."""
        for keys, block in shards:
            self.add(keys, block)

    @property
    def missing(self) -> int:
        """Number of requested rows that no block holds."""
        return int((self.block_of < 0).sum())


class FeatureRows:
    """The features of the views of slices, in memory or on disk.

    It is a sequence: for each slice a float32 array `(views, width)`.

    Args:
        counts: int64 `(slices,)`, the number of views of each slice.
        width: Number of features of a view.
        index: The blocks that hold the rows.
        positions: int64 `(views,)`, the position in the index of each view, slice after slice.
        cache: The open cache, which keeps its shards from being removed or merged while they are
            read. None without a cache. Defaults to None.
    """

    def __init__(
        self,
        counts: np.ndarray,
        width: int,
        index: RowIndex,
        positions: np.ndarray,
        cache: FeatureCache | None = None,
    ) -> None:
        self.offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        self.width = width
        self._blocks: Sequence[Block] = index.blocks
        self._block_of = index.block_of[positions]
        self._row_of = index.row_of[positions]
        self._cache = cache

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, index: int) -> np.ndarray:
        if not 0 <= index < len(self):
            raise IndexError(index)
        return self.take(np.arange(self.offsets[index], self.offsets[index + 1]))

    def take(self, views: np.ndarray) -> np.ndarray:
        """Read some of the rows.

        Args:
            views: int64 `(n,)`, numbers of views, counted over all slices.

        Returns:
            float32 `(n, width)`.
        """
        out = np.empty((len(views), self.width), np.float32)
        blocks, rows = self._block_of[views], self._row_of[views]
        order = np.lexsort((rows, blocks))  # the order on disk
        ends = np.flatnonzero(np.diff(blocks[order])) + 1
        for part in np.split(order, ends):
            if len(part):
                self._blocks[blocks[part[0]]].take(rows[part], out, part)
        return out
