"""Kept readings: the values read from files, on disk, so that unchanged files are not read again.

They lie beside the feature cache, a folder for each data set and way of reading, in shards: NPZ
files without pickle, each written under a temporary name and renamed. A row belongs to one slice of
a file of one path, size and modification time, and is ignored for any other. Paths are stored as
hashes, since they may name patients. The folder also keeps the duplicates that were found.
"""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

import numpy as np

from hemorrhage_tf.core.atomic_files import write_atomically
from hemorrhage_tf.core.progress import Progress
from hemorrhage_tf.datasets.reading_chunks import (
    Chunk,
    ReadingOptions,
    chunk_from_arrays,
    chunk_to_arrays,
    empty_chunk,
    join_chunks,
)
from hemorrhage_tf.imaging.readers import SliceRef

# The folder in that of the feature cache.
SLICE_INDEX = "slice_index"

# Raise it when the same slice would have other values, or be a duplicate of others.
VERSION = 1

# A file may change twice within one tick of its file system's clock, so files that changed this
# recently are read again.
SETTLED_SECONDS = 2.0

SHARD_ROWS = 4096
_OPEN_SHARDS = 4
_KEPT_PAIRS = 8  # results of comparing slices per folder
_STATE = np.dtype([("key", np.uint8, 16), ("size", np.int64), ("modified", np.int64)])


@dataclass
class _Shard:
    """A shard whose rows may be read."""

    path: Path
    state: np.ndarray
    is_stale: bool = True


class KeptReadings:
    """The kept readings of a data set.

    Args:
        folder: The folder of all data sets, in that of the feature cache.
        root: The folder of the data set.
        progress: Receives a warning of broken files and of a folder that cannot be written.
    """

    def __init__(self, folder: Path, root: Path, progress: Progress) -> None:
        self.folder = folder
        self.root = root
        self.progress = progress
        self._place = Path()
        self._options: ReadingOptions | None = None
        self._states = np.zeros(0, _STATE)
        self._places = np.zeros((0, 2), np.int64)
        self._shards: list[_Shard] = []
        self._open: dict[int, Chunk] = {}
        self._pending: list[tuple[np.ndarray, Chunk]] = []
        self._is_writable = True
        self._has_warned = False

    def find(self, slices: Sequence[SliceRef], options: ReadingOptions) -> np.ndarray:
        """Find the slices whose files are unchanged since they were read.

        Args:
            slices: Their locations.
            options: How they are read.

        Returns:
            bool `(n,)`.
        """
        self._options = options
        name = f"{VERSION}\0{options!r}\0{os.path.abspath(self.root)}"
        self._place = self.folder / blake2b(os.fsencode(name), digest_size=16).hexdigest()
        self._states = _states_of(slices)
        self._places = np.full((len(slices), 2), -1, np.int64)
        self._shards = []
        if not self._place.is_dir():
            return np.zeros(len(slices), bool)
        with suppress(OSError):  # the time of the last use
            os.utime(self._place)
        rows: dict[bytes, tuple[int, int]] = {}
        for path in sorted(self._place.glob("*.npz")):
            if path.name.startswith("pairs-"):
                continue
            kept = self._read_state(path)
            if kept is None:
                continue
            number = len(self._shards)
            self._shards.append(_Shard(path, kept))
            rows |= {row.tobytes(): (number, at) for at, row in enumerate(kept)}
        for index, state in enumerate(self._states):
            place = rows.get(state.tobytes()) if state["size"] >= 0 else None
            if place is not None:
                self._places[index] = place
                self._shards[place[0]].is_stale = False
        return self._places[:, 0] >= 0

    def read(self, indices: np.ndarray) -> tuple[Chunk, np.ndarray]:
        """Return the readings of slices that `find` found.

        Args:
            indices: int64 `(k,)`, their indices.

        Returns:
            The readings, and the indices of those whose shard turned out to be broken.
        """
        assert self._options is not None
        parts, lost = [empty_chunk(self._options)], [np.zeros(0, np.int64)]
        places = self._places[indices]
        for number in np.unique(places[:, 0]).tolist():
            of_shard = places[:, 0] == number
            shard = self._load(number)
            if shard is None:
                lost.append(indices[of_shard])
                continue
            part = shard.take(places[of_shard, 1])
            part.values["index"] = indices[of_shard]
            parts.append(part)
        return join_chunks(parts), np.concatenate(lost)

    def add(self, chunk: Chunk) -> None:
        """Keep new readings; those of files that changed just now are left out.

        Args:
            chunk: The readings, with their indices among the slices of `find`.
        """
        if not self._is_writable or not len(chunk.values):
            return
        states = self._states[chunk.values["index"]]
        latest = time.time_ns() - int(SETTLED_SECONDS * 1e9)
        settled = np.flatnonzero((states["size"] >= 0) & (states["modified"] <= latest))
        if len(settled):
            self._pending.append((states[settled], chunk.take(settled)))
        if sum(len(state) for state, _ in self._pending) >= SHARD_ROWS:
            self._flush()

    def close(self) -> None:
        """Write what is pending, and remove shards of which no row is in use."""
        self._flush()
        self._open.clear()
        if not self._is_writable:
            return
        present = _keys(self._states)
        for shard in self._shards:
            # Rows of other files of the data set stay, since the next command may need them.
            if shard.is_stale and _keys(shard.state) <= present:
                with suppress(OSError):
                    shard.path.unlink()

    def read_pairs(self, key: str) -> dict[str, np.ndarray] | None:
        """Return the arrays that `write_pairs` kept under a key, or None."""
        path = self._place / f"pairs-{key}.npz"
        if not path.is_file():
            return None
        try:
            with open(path, "rb") as stream, np.load(stream, allow_pickle=False) as file:
                arrays = {name: file[name] for name in file.files}
            os.utime(path)
        except Exception as error:  # a flipped bit can make zipfile raise almost anything
            self._warn_of(path, error)
            return None
        return arrays

    def write_pairs(self, key: str, arrays: dict[str, np.ndarray]) -> None:
        """Keep the arrays that comparing the slices led to."""
        self._write(f"pairs-{key}.npz", arrays)
        with suppress(OSError):
            kept = sorted(self._place.glob("pairs-*.npz"), key=lambda path: -path.stat().st_mtime)
            for path in kept[_KEPT_PAIRS:]:
                path.unlink()

    def _read_state(self, path: Path) -> np.ndarray | None:
        try:
            with open(path, "rb") as stream, np.load(stream, allow_pickle=False) as file:
                state = file["state"]
            if state.dtype != _STATE or state.ndim != 1:
                raise ValueError("another format")
        except FileNotFoundError:
            return None  # another process removed it
        except Exception as error:  # as above
            self._warn_of(path, error)
            return None
        return state

    def _load(self, number: int) -> Chunk | None:
        assert self._options is not None
        if number not in self._open:
            shard = self._shards[number]
            try:
                with open(shard.path, "rb") as stream, np.load(stream, allow_pickle=False) as file:
                    chunk = chunk_from_arrays(file, self._options, len(shard.state))
            except Exception as error:  # as above
                self._warn_of(shard.path, error)
                return None
            while len(self._open) >= _OPEN_SHARDS:
                self._open.pop(next(iter(self._open)))
            self._open[number] = chunk
        return self._open[number]

    def _warn_of(self, path: Path, error: Exception) -> None:
        with suppress(OSError):
            path.unlink(missing_ok=True)
        if not self._has_warned:
            self.progress.warn(
                f"a file of the kept slice index in {path.parent} cannot be used "
                f"({type(error).__name__}); its slices are read again."
            )
        self._has_warned = True

    def _flush(self) -> None:
        pending, self._pending = self._pending, []
        if not pending:
            return
        state = np.concatenate([each for each, _ in pending])
        chunk = join_chunks([each for _, each in pending], in_order=False)
        self._write(f"{uuid.uuid4().hex}.npz", {"state": state, **chunk_to_arrays(chunk)})

    def _write(self, name: str, arrays: dict[str, np.ndarray]) -> None:
        if not self._is_writable:
            return
        try:
            # The thumbnails are for nobody else.
            self._place.mkdir(mode=0o700, parents=True, exist_ok=True)
            write_atomically(self._place / name, lambda file: np.savez(file, **arrays))  # type: ignore[arg-type]
        except OSError as error:
            self._is_writable = False
            self.progress.warn(
                f"the slice index cannot be kept ({error.strerror or error}). The next command "
                "reads these slices again."
            )


def _states_of(slices: Sequence[SliceRef]) -> np.ndarray:
    """Return a hash of the location of each slice, and size and modification time of its file."""
    states = np.zeros(len(slices), _STATE)
    here = os.path.abspath(".")
    for state, ref in zip(states, slices, strict=True):
        frame = "" if ref.frame is None else str(ref.frame)
        path = os.path.join(here, ref.path)
        key = blake2b(os.fsencode(f"{path}\0{frame}"), digest_size=16).digest()
        state["key"] = np.frombuffer(key, np.uint8)
        try:
            status = os.stat(ref.path)
            state["size"], state["modified"] = status.st_size, status.st_mtime_ns
        except OSError:
            state["size"] = -1
    return states


def pairs_key(*compared: np.ndarray) -> str:
    """Return the key of the pairs that comparing some slices leads to.

    Args:
        *compared: All that the pairs depend on, such as the content hashes in their order.
    """
    digest = blake2b(digest_size=16)
    for each in compared:
        digest.update(np.ascontiguousarray(each).data)
    return digest.hexdigest()


def _keys(states: np.ndarray) -> set[bytes]:
    return {key.tobytes() for key in states["key"]}
