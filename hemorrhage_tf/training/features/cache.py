"""The feature cache on disk: features that were computed once are read again, in complete shards.

`CACHE/features/FINGERPRINT/` holds the features of one backbone with one set of settings. Each
shard is an uncompressed NPZ file with `keys`, 16 bytes for each row, and `rows`, float32 or
float16; the ZIP format adds a CRC-32 to each. Rows are read through memory maps, so features may
exceed the memory. Shards are written atomically. A damaged one is removed, and its features are
computed again.

Processes that use a folder hold a shared lock on it. Removing and merging shards requires an
exclusive lock, so a folder in use is left alone. A lock ends with its process.
"""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np

from hemorrhage_tf.core.atomic_files import write_atomically
from hemorrhage_tf.core.progress import Progress
from hemorrhage_tf.training.features.cache_location import CACHE_VARIABLE
from hemorrhage_tf.training.features.shards import KEY_DTYPE, Block, ShardBlock, read_shard

# Part of the fingerprint, so that a folder of another format is never read; `prune` removes it.
FORMAT = 2

FEATURES = "features"
ABOUT_FILE = "about.json"
USED_FILE = ".used"
_LOCK_FILE = ".lock"

_SMALL_SHARD_BYTES = 8 * 2**20
_MERGED_SHARD_BYTES = 64 * 2**20
_MAX_SMALL_SHARDS = 16


class FeatureCache:
    """The cached features of one fingerprint.

    Args:
        folder: The cache folder, see `cache_location.cache_folder`.
        key: The fingerprint, see `FeatureSource.fingerprint`.
        progress: Receives warnings of damaged shards and of a full disk.
        about: Plain values that `hemorrhage-tf cache info` shows. Defaults to none.
        dtype: The storage dtype of the rows, "float32" or "float16". Defaults to "float32".

    Attributes:
        folder: The folder of this fingerprint.
        dtype: The storage dtype of the rows.
    """

    def __init__(
        self,
        folder: Path,
        key: str,
        progress: Progress,
        about: Mapping[str, Any] | None = None,
        dtype: str = "float32",
    ) -> None:
        self.folder = folder / FEATURES / key
        self.dtype = np.dtype(dtype)
        self._progress = progress
        self._about = {"format": FORMAT, "dtype": dtype, **(about or {})}
        self._is_writable = True
        self._lock = ExitStack()

    def open(self) -> list[tuple[np.ndarray, ShardBlock]]:
        """Open all shards, remove damaged ones with a warning, and merge many small ones.

        Returns:
            The keys and the block of each shard.
        """
        self._acquire_lock()
        shards = self._read_all()
        small = [block for _, block in shards if block.path.stat().st_size < _SMALL_SHARD_BYTES]
        if len(small) > _MAX_SMALL_SHARDS:
            self._merge(small)
            shards = self._read_all()
        return shards

    def close(self) -> None:
        """Release the lock, so that others may remove or merge shards."""
        self._lock.close()

    def _acquire_lock(self) -> None:
        self.close()
        if self.folder.is_dir():
            # In a read-only cache nothing can be removed, so it needs no time of the last use.
            with suppress(OSError):
                (self.folder / USED_FILE).touch()
            self._lock.enter_context(lock_folder(self.folder, shared=True))

    def _read_all(self) -> list[tuple[np.ndarray, ShardBlock]]:
        shards, damaged = [], 0
        for path in sorted(self.folder.glob("*.npz")):
            try:
                shards.append(read_shard(path))
            except FileNotFoundError:
                continue  # another process has merged it into a shard that is read as well
            except Exception:  # a flipped bit can make zipfile raise almost anything
                damaged += 1
                with suppress(OSError):
                    path.unlink(missing_ok=True)
        if damaged:
            self._progress.warn(
                f"{damaged} damaged shards of the feature cache in {self.folder} were removed; "
                "their features are computed again."
            )
        return shards

    def append(self, keys: np.ndarray, rows: np.ndarray) -> Block | None:
        """Write one shard. The first failed write is reported, and none is tried after it.

        Args:
            keys: The key of each row, `(n,)` of 16 bytes, see `shards.row_keys`.
            rows: float32 `(n, width)`.

        Returns:
            The block of the shard, or None if it could not be written.
        """
        if not self._is_writable:
            return None
        try:
            if not self.folder.is_dir():
                self.folder.mkdir(parents=True)
                self._acquire_lock()
            if not (self.folder / ABOUT_FILE).exists():
                content = json.dumps(self._about, sort_keys=True).encode()
                write_atomically(self.folder / ABOUT_FILE, lambda file: file.write(content))
            path = self._write_shard(keys, rows.astype(self.dtype))
            return read_shard(path)[1]
        except OSError as error:
            self._is_writable = False
            self._progress.warn(
                f"the feature cache cannot be written ({error}). The fit continues, but the next "
                "one must compute these features again. Name another folder with --cache or "
                f"${CACHE_VARIABLE}."
            )
            return None

    def _write_shard(self, keys: np.ndarray, rows: np.ndarray) -> Path:
        path = self.folder / f"{uuid.uuid4().hex}.npz"
        key_bytes = np.frombuffer(keys.tobytes(), np.uint8).reshape(-1, KEY_DTYPE.itemsize)
        write_atomically(path, lambda file: np.savez(file, keys=key_bytes, rows=rows))
        return path

    def _merge(self, blocks: Sequence[ShardBlock]) -> None:
        """Merge small shards into larger ones, unless another process uses the folder."""
        self.close()
        with suppress(OSError), lock_folder(self.folder, shared=False):
            pending: list[ShardBlock] = []
            size = 0
            for block in blocks:
                if size > _MERGED_SHARD_BYTES:
                    self._merge_into_one(pending)
                    pending, size = [], 0
                pending.append(block)
                size += block.path.stat().st_size
            self._merge_into_one(pending)
        self._acquire_lock()

    def _merge_into_one(self, blocks: Sequence[ShardBlock]) -> None:
        if len(blocks) < 2:
            return
        parts = [np.load(block.path, allow_pickle=False) for block in blocks]
        try:
            keys = np.concatenate([part["keys"] for part in parts])
            rows = np.concatenate([part["rows"] for part in parts])
        finally:
            for part in parts:
                part.close()
        # A kill before the removal leaves rows twice, which does no harm.
        self._write_shard(keys, rows)
        for block in blocks:
            block.path.unlink(missing_ok=True)


@contextmanager
def lock_folder(folder: Path, shared: bool) -> Iterator[None]:
    """Lock the folder of a fingerprint.

    Args:
        folder: The folder.
        shared: Share the lock with other processes that use the folder, instead of excluding them.

    Raises:
        BlockingIOError: An exclusive lock was requested, and another process uses the folder.
        OSError: An exclusive lock was requested, and the folder cannot be written.
    """
    import portalocker

    path = folder / _LOCK_FILE
    try:
        file = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    except OSError:
        if not shared:
            raise
        yield  # nothing can be removed from a read-only folder
        return
    try:
        kind = portalocker.LOCK_SH if shared else portalocker.LOCK_EX
        try:
            portalocker.lock(file, kind | portalocker.LOCK_NB)
        except portalocker.exceptions.LockException:
            if not shared:
                raise BlockingIOError(f"{folder} is in use") from None
            # Another process merges or removes shards; wait until it has finished.
            portalocker.lock(file, portalocker.LOCK_SH)
        yield
    finally:
        os.close(file)
