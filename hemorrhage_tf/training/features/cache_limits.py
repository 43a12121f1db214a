"""Summarize the feature cache, and remove features that exceed its size limit."""

from __future__ import annotations

import json
import os
import shutil
import time
import uuid
import zipfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hemorrhage_tf.datasets.kept_readings import SLICE_INDEX
from hemorrhage_tf.training.features.cache import (
    ABOUT_FILE,
    FEATURES,
    FORMAT,
    USED_FILE,
    lock_folder,
)
from hemorrhage_tf.training.features.cache_location import MODELS

# The prefix of a folder that is being removed.
_DROPPED = ".dropped"

_PHANTOMS = "phantoms"


@dataclass(frozen=True)
class CacheEntry:
    """The cached features of one fingerprint.

    Attributes:
        about: Backbone, dtype, format and other settings; may be empty.
        rows: Number of views whose features it holds.
        bytes: Size on disk.
        used: Time of the last use, in seconds since 1970.
        in_use: Whether a process uses it now.
        path: Its folder.
    """

    about: dict[str, Any]
    rows: int
    bytes: int
    used: float
    in_use: bool
    path: Path

    @property
    def is_readable(self) -> bool:
        """Whether this version of the package can use it."""
        return self.about.get("format") == FORMAT


@dataclass(frozen=True)
class CacheInfo:
    """A summary of the feature cache.

    Attributes:
        folder: The folder of the cache.
        limit: The size limit in bytes, or None for no limit.
        entries: The features of each fingerprint, the most recently used first.
        other_bytes: Size of everything else in the folder, such as drawn phantoms.
    """

    folder: Path
    limit: int | None
    entries: tuple[CacheEntry, ...]
    other_bytes: int

    @property
    def bytes(self) -> int:
        """Size of all features on disk."""
        return sum(entry.bytes for entry in self.entries)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values that JSON can hold."""
        return {
            "folder": str(self.folder),
            "limit": self.limit,
            "bytes": self.bytes,
            "other_bytes": self.other_bytes,
            "features": [
                {
                    "name": entry.path.name,
                    "about": entry.about,
                    "rows": entry.rows,
                    "bytes": entry.bytes,
                    "used": entry.used,
                    "in_use": entry.in_use,
                    "readable": entry.is_readable,
                }
                for entry in self.entries
            ],
        }


@dataclass(frozen=True)
class PruneResult:
    """The result of removing features from the cache.

    Attributes:
        removed: The entries that were removed.
        bytes: The disk space that became free, including leftovers of killed processes.
        kept_in_use: Entries that should have been removed but are in use.
    """

    removed: tuple[CacheEntry, ...]
    bytes: int
    kept_in_use: tuple[CacheEntry, ...]


def inspect(folder: Path, limit: int | None) -> CacheInfo:
    """Return a summary of a cache, without reading features.

    Args:
        folder: The folder of the cache; it may be missing.
        limit: The size limit in bytes, or None for no limit.
    """
    parent = folder / FEATURES
    entries = []
    if parent.is_dir():
        for path in parent.iterdir():
            if path.is_dir() and not path.name.startswith("."):
                entries.append(_read_entry(path))
    entries.sort(key=lambda entry: -entry.used)
    other_bytes = 0
    if folder.is_dir():
        other_bytes = sum(_size(path) for path in folder.iterdir() if path.name != FEATURES)
    return CacheInfo(folder, limit, tuple(entries), other_bytes)


def prune(folder: Path, limit: int | None, older_than_days: float | None = None) -> PruneResult:
    """Remove the least recently used features until the rest is within the limit.

    Features of other formats and leftovers of killed processes are removed first. Features in use
    are kept.

    Args:
        folder: The folder of the cache.
        limit: The size limit in bytes, or None for no limit.
        older_than_days: Also remove features that were not used for this many days. None for no
            such limit. Defaults to None.
    """
    removed, in_use, freed = [], [], 0
    entries = inspect(folder, limit).entries
    for entry in entries:
        freed += _remove_leftovers(entry.path)
    total = sum(entry.bytes for entry in entries)
    oldest = 0.0 if older_than_days is None else time.time() - older_than_days * 86400
    for entry in reversed(entries):
        is_over_limit = limit is not None and total > limit
        if not (is_over_limit or not entry.is_readable or entry.used < oldest):
            continue
        if _remove(entry):
            removed.append(entry)
            freed += entry.bytes
            total -= entry.bytes
        else:
            in_use.append(entry)
    with suppress(OSError):
        for path in (folder / FEATURES).glob(f"{_DROPPED}*"):
            freed += _size(path)
            shutil.rmtree(path, ignore_errors=True)
    freed += _prune_slice_indices(folder, None if limit is None else limit - total, oldest)
    return PruneResult(tuple(removed), freed, tuple(in_use))


def _prune_slice_indices(folder: Path, limit: int | None, oldest: float) -> int:
    """Remove kept slice indices that are not used, the least recently used first.

    Args:
        folder: The folder of the cache.
        limit: The bytes that are left for them; None for no limit.
        oldest: Remove those that were last used before this time, in seconds since 1970.

    Returns:
        The bytes that became free.
    """
    freed = 0
    with suppress(OSError):  # there are none, or another process removes them, too
        used = sorted((path.stat().st_mtime, path) for path in (folder / SLICE_INDEX).iterdir())
        total = sum(_size(path) for _, path in used)
        for time_of_use, path in used:
            if time_of_use >= oldest and (limit is None or total <= limit):
                break
            size = _size(path)
            shutil.rmtree(path, ignore_errors=True)
            freed, total = freed + size, total - size
    return freed


def clear(folder: Path) -> PruneResult:
    """Remove all features not in use, and the phantoms, models and slice indices that are kept.

    Args:
        folder: The folder of the cache.
    """
    entries = inspect(folder, None).entries
    removed = [entry for entry in entries if _remove(entry)]
    removed_paths = {entry.path for entry in removed}
    freed = sum(entry.bytes for entry in removed)
    for path in (folder / _PHANTOMS, folder / MODELS, folder / SLICE_INDEX):
        if path.is_dir():
            freed += _size(path)
            shutil.rmtree(path, ignore_errors=True)
    kept = tuple(entry for entry in entries if entry.path not in removed_paths)
    return PruneResult(tuple(removed), freed, kept)


def _read_entry(path: Path) -> CacheEntry:
    about: dict[str, Any] = {}
    with suppress(OSError, ValueError):
        content = json.loads((path / ABOUT_FILE).read_text(encoding="utf-8"))
        about = content if isinstance(content, dict) else {}
    rows = 0
    for shard in path.glob("*.npz"):
        # A damaged shard counts as empty; the next fit that needs it removes it.
        with suppress(Exception), zipfile.ZipFile(shard) as archive:
            with archive.open("rows.npy") as member:
                np.lib.format.read_magic(member)
                rows += np.lib.format.read_array_header_1_0(member)[0][0]
    used = 0.0
    for name in (USED_FILE, "."):
        with suppress(OSError):
            used = (path / name).stat().st_mtime
            break
    return CacheEntry(about, rows, _size(path), used, _is_in_use(path), path)


def _is_in_use(path: Path) -> bool:
    if not os.access(path, os.W_OK):
        return False
    try:
        with lock_folder(path, shared=False):
            return False
    except BlockingIOError:
        return True
    except OSError:
        return False


def _size(path: Path) -> int:
    if path.is_file():
        return path.stat().st_size
    total = 0
    for folder, _, names in os.walk(path):
        for name in names:
            with suppress(OSError):
                total += os.stat(os.path.join(folder, name)).st_size
    return total


def _remove(entry: CacheEntry) -> bool:
    """Remove the features of one fingerprint, unless they are in use.

    The folder is renamed first, so that another process never sees a part of it.
    """
    try:
        with lock_folder(entry.path, shared=False):
            dropped = entry.path.with_name(f"{_DROPPED}-{uuid.uuid4().hex}")
            os.rename(entry.path, dropped)
    except OSError:
        return False
    shutil.rmtree(dropped, ignore_errors=True)
    return True


def _remove_leftovers(path: Path) -> int:
    """Remove incomplete files of killed processes, unless the folder is in use."""
    freed = 0
    with suppress(OSError), lock_folder(path, shared=False):
        for partial in path.glob("*.part"):
            size = partial.stat().st_size
            partial.unlink()
            freed += size
    return freed
