"""A cache of decompressed volumes, since the slices of a file are mostly read one after another."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable

import numpy as np


class VolumeCache:
    """The volumes used last; safe to use from several threads.

    Args:
        max_volumes: How many volumes to keep.
        max_bytes: Limit on their size together, including the volume being decompressed.
    """

    def __init__(self, max_volumes: int, max_bytes: int) -> None:
        self.max_volumes, self.max_bytes = max_volumes, max_bytes
        self._volumes: OrderedDict[Hashable, np.ndarray] = OrderedDict()
        self._guard = threading.Lock()
        # One volume is decompressed at a time: threads that need the same one wait for it, and the
        # memory of several does not add up. Slices of cached volumes do not wait.
        self._decompressing = threading.Lock()

    def get(
        self, key: Hashable, nbytes: int, decompress: Callable[[], np.ndarray], keep: bool = True
    ) -> np.ndarray:
        """Return a volume, decompressed only if it is not in the cache.

        Args:
            key: Identifies the volume.
            nbytes: Its size in bytes; older volumes make room for it.
            decompress: Returns the volume.
            keep: Whether to keep it. Defaults to True.

        Returns:
            The volume itself, which the caller must not change.
        """
        voxels = self._find(key)
        if voxels is not None:
            return voxels
        with self._decompressing:
            voxels = self._find(key)  # another thread may have been first
            if voxels is None:
                self._make_room(nbytes)
                voxels = decompress()
                if keep:
                    with self._guard:
                        self._volumes[key] = voxels
        return voxels

    def clear(self) -> None:
        """Remove all volumes."""
        with self._guard:
            self._volumes.clear()

    def __len__(self) -> int:
        """Return the number of volumes in the cache."""
        return len(self._volumes)

    def _find(self, key: Hashable) -> np.ndarray | None:
        with self._guard:
            if key in self._volumes:
                self._volumes.move_to_end(key)
            return self._volumes.get(key)

    def _make_room(self, nbytes: int) -> None:
        with self._guard:
            while self._volumes and (
                len(self._volumes) >= self.max_volumes
                or nbytes + sum(each.nbytes for each in self._volumes.values()) > self.max_bytes
            ):
                self._volumes.popitem(last=False)
