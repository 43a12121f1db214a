"""The feature cache on disk: what was computed once is found again, whole or not at all.

`CACHE/features/FINGERPRINT/` holds the features of one backbone as one set of settings computes
them. A shard in it is an uncompressed NPZ file: `keys`, 16 bytes for each row, and `rows`, float32
or float16, with the CRC-32 that the ZIP format gives each member. Rows are read through memory
maps, so that features need not fit in memory. Shards are written beside and renamed; a damaged one
is dropped, and what it held is computed again.

Processes that use a folder hold a shared lock on it; what removes or merges shards takes the lock
for itself, and leaves a folder alone that is in use. A lock ends with its process.
"""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np

from hemorrhage_tf.core.atomic_files import write_atomically
from hemorrhage_tf.core.progress import Progress
from hemorrhage_tf.training.features.cache_location import CACHE_VARIABLE
from hemorrhage_tf.training.features.shards import _KEY, Block, read_shard

# What a folder of features says of itself. A folder of another format has another fingerprint, so
# that it is never read; `prune` removes it.
FORMAT = 2


FEATURES = "features"


_ABOUT = "about.json"


_LOCK = ".lock"


_USED = ".used"


_SMALL_SHARD = 8 * 2**20


_MERGED_SHARD = 64 * 2**20


_MANY_SHARDS = 16


class FeatureCache:
    """The features of one fingerprint on disk.

    Args:
        folder: the cache folder, see `cache_folder`.
        key: the fingerprint of what computes the features.
        progress: where a damaged shard or a full disk is told.
        about: what `cache info` shows of it, plain values.
        dtype: what rows are kept as, float32 or float16. Default float32.
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
        self._progress = progress
        self._about = {"format": FORMAT, "dtype": dtype, **(about or {})}
        self.dtype = np.dtype(dtype)
        self._writable = True
        self._lock = ExitStack()

    def open(self) -> list[tuple[np.ndarray, Block]]:
        """Opens all shards; a damaged one is removed and told, many small ones are merged.

        Returns:
            Keys and block of each shard.
        """
        self._hold()
        shards = self._read_all()
        small = [block for _, block in shards if block.path.stat().st_size < _SMALL_SHARD]
        if len(small) > _MANY_SHARDS:
            self._merge(small)
            shards = self._read_all()
        return shards

    def _hold(self) -> None:
        """Keeps the folder from being removed or merged by others while this process uses it."""
        self.close()
        if self.folder.is_dir():
            # A cache that cannot be written to is not removed from either.
            with suppress(OSError):
                (self.folder / _USED).touch()
            self._lock.enter_context(_locked(self.folder, shared=True))

    def close(self) -> None:
        """Lets others remove the folder again."""
        self._lock.close()

    def _read_all(self) -> list[tuple[np.ndarray, Block]]:
        shards, damaged = [], 0
        for path in sorted(self.folder.glob("*.npz")):
            try:
                shards.append(read_shard(path))
            except FileNotFoundError:
                continue  # another process has merged it into one that is read as well
            except Exception:  # what a flipped bit makes zipfile raise is anybody's guess
                damaged += 1
                with suppress(OSError):
                    path.unlink(missing_ok=True)
        if damaged:
            self._progress.warn(
                f"{damaged} damaged shards of the feature cache in {self.folder} are left out "
                "and removed; their features are computed again"
            )
        return shards

    def append(self, keys: Sequence[bytes], rows: np.ndarray) -> Block | None:
        """Writes one shard; a disk that takes no more is told once, and the fit goes on without.

        Args:
            keys: of each row, see `row_key`.
            rows: float32 `(n, width)`.

        Returns:
            The block of the shard, or None where it could not be written.
        """
        if not self._writable:
            return None
        try:
            if not self.folder.is_dir():
                self.folder.mkdir(parents=True)
                self._hold()
            if not (self.folder / _ABOUT).exists():
                content = json.dumps(self._about, sort_keys=True).encode()
                write_atomically(self.folder / _ABOUT, lambda file: file.write(content))
            path = self._write_shard(keys, rows.astype(self.dtype))
            return read_shard(path)[1]
        except OSError as error:
            self._writable = False
            self._progress.warn(
                f"the feature cache cannot be written ({error}); the fit goes on, and the next "
                f"one computes its features again. Name another place with --cache "
                f"or ${CACHE_VARIABLE}"
            )
            return None

    def _write_shard(self, keys: Sequence[bytes], rows: np.ndarray) -> Path:
        path = self.folder / f"{uuid.uuid4().hex}.npz"
        flat = np.frombuffer(b"".join(keys), np.uint8).reshape(-1, _KEY.itemsize)
        write_atomically(path, lambda file: np.savez(file, keys=flat, rows=rows))
        return path

    def _merge(self, blocks: Sequence[Block]) -> None:
        """Writes small shards anew as fewer large ones, where no other process uses the folder."""
        self.close()
        with suppress(OSError), _locked(self.folder, shared=False):
            waiting: list[Block] = []
            size = 0
            for block in [*blocks, None]:
                if block is None or size > _MERGED_SHARD:
                    if len(waiting) > 1:
                        self._write_merged(waiting)
                    waiting, size = [], 0
                if block is not None:
                    waiting.append(block)
                    size += block.path.stat().st_size
        self._hold()

    def _write_merged(self, blocks: Sequence[Block]) -> None:
        parts = [np.load(block.path, allow_pickle=False) for block in blocks]
        try:
            keys = np.concatenate([part["keys"] for part in parts])
            rows = np.concatenate([part["rows"] for part in parts])
        finally:
            for part in parts:
                part.close()
        # Rows that are there twice, after a kill between writing and removing, do no harm.
        self._write_shard([keys.tobytes()], rows)
        for block in blocks:
            block.path.unlink(missing_ok=True)


@contextmanager
def _locked(folder: Path, shared: bool):
    """Holds the lock of a folder, together with others or alone.

    Raises:
        BlockingIOError: another process holds it, and it is wanted alone.
    """
    import portalocker

    path = folder / _LOCK
    try:
        file = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    except OSError:
        if not shared:
            raise
        yield  # a folder that cannot be written to: nothing in it can be removed either
        return
    try:
        kind = portalocker.LOCK_SH if shared else portalocker.LOCK_EX
        try:
            portalocker.lock(file, kind | portalocker.LOCK_NB)
        except portalocker.exceptions.LockException:
            if not shared:
                raise BlockingIOError(f"{folder} is in use") from None
            # Somebody merges or removes: wait for the end of it.
            portalocker.lock(file, portalocker.LOCK_SH)
        yield
    finally:
        os.close(file)
