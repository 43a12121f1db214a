"""Summarize the feature cache, and remove what is over its limit."""

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

from hemorrhage_tf.training.features.cache import (
    _ABOUT,
    _USED,
    FEATURES,
    FORMAT,
    _locked,
)

_DROPPED = ".dropped"


@dataclass(frozen=True)
class CacheEntry:
    """The features of one fingerprint.

    Attributes:
        about: what it says of itself: backbone, dtype, format and others; may be empty.
        rows: views whose features it holds.
        bytes: on disk.
        used: when it was last used, seconds since 1970.
        in_use: whether a process uses it now.
        path: the folder.
    """

    about: dict[str, Any]
    rows: int
    bytes: int
    used: float
    in_use: bool
    path: Path

    @property
    def is_readable(self) -> bool:
        """Whether this version can use it."""
        return self.about.get("format") == FORMAT


@dataclass(frozen=True)
class CacheInfo:
    """What the cache holds.

    Attributes:
        folder: of the cache.
        limit: in bytes, or None.
        entries: the features of each fingerprint, the most recently used first.
        other_bytes: of drawn phantoms and whatever else lies there.
    """

    folder: Path
    limit: int | None
    entries: tuple[CacheEntry, ...]
    other_bytes: int

    @property
    def bytes(self) -> int:
        """Of all features."""
        return sum(entry.bytes for entry in self.entries)

    def to_dict(self) -> dict[str, Any]:
        """Gives plain values that JSON holds."""
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


def inspect(folder: Path, limit: int | None) -> CacheInfo:
    """Says what a cache holds; reads no features."""
    parent = folder / FEATURES
    entries = []
    if parent.is_dir():
        for path in parent.iterdir():
            if path.is_dir() and not path.name.startswith("."):
                entries.append(_entry(path))
    entries.sort(key=lambda entry: -entry.used)
    others = 0
    if folder.is_dir():
        others = sum(_size(path) for path in folder.iterdir() if path.name != FEATURES)
    return CacheInfo(folder, limit, tuple(entries), others)


def _entry(path: Path) -> CacheEntry:
    about: dict[str, Any] = {}
    with suppress(OSError, ValueError):
        read = json.loads((path / _ABOUT).read_text(encoding="utf-8"))
        about = read if isinstance(read, dict) else {}
    rows = 0
    for shard in path.glob("*.npz"):
        # A shard that cannot be read counts as empty; the next fit that needs it removes it.
        with suppress(Exception), zipfile.ZipFile(shard) as archive:
            with archive.open("rows.npy") as member:
                np.lib.format.read_magic(member)
                rows += np.lib.format.read_array_header_1_0(member)[0][0]
    used = 0.0
    for name in (_USED, "."):
        with suppress(OSError):
            used = max(used, (path / name).stat().st_mtime)
            break
    return CacheEntry(about, rows, _size(path), used, _in_use(path), path)


def _in_use(path: Path) -> bool:
    if not os.access(path, os.W_OK):
        return False
    try:
        with _locked(path, shared=False):
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


@dataclass(frozen=True)
class Pruned:
    """What was removed.

    Attributes:
        removed: the entries that are gone.
        bytes: how much room that made, leftovers of killed processes among it.
        kept_in_use: entries that should have gone, and are in use.
    """

    removed: tuple[CacheEntry, ...]
    bytes: int
    kept_in_use: tuple[CacheEntry, ...]


def prune(folder: Path, limit: int | None, older_than_days: float | None = None) -> Pruned:
    """Removes the features that were used longest ago until the rest is within the limit.

    Features of other formats, and what killed processes left behind, go first. What a process uses
    stays.

    Args:
        folder: of the cache.
        limit: in bytes, or None for none.
        older_than_days: remove what was not used for so long, too; None for no such limit.

    Returns:
        What was removed.
    """
    removed, in_use, room = [], [], 0
    entries = inspect(folder, limit).entries  # the most recently used first
    for entry in entries:
        room += _remove_leftovers(entry.path)
    total = sum(entry.bytes for entry in entries)
    oldest = 0.0 if older_than_days is None else time.time() - older_than_days * 86400
    for entry in reversed(entries):
        surplus = limit is not None and total > limit
        if not (surplus or not entry.is_readable or entry.used < oldest):
            continue
        if remove(entry):
            removed.append(entry)
            room += entry.bytes
            total -= entry.bytes
        else:
            in_use.append(entry)
    with suppress(OSError):
        for path in (folder / FEATURES).glob(f"{_DROPPED}*"):
            room += _size(path)
            shutil.rmtree(path, ignore_errors=True)
    return Pruned(tuple(removed), room, tuple(in_use))


def remove(entry: CacheEntry) -> bool:
    """Removes the features of one fingerprint, unless they are in use.

    The folder is renamed first, so that a process that comes meanwhile sees all of it or nothing.
    """
    try:
        with _locked(entry.path, shared=False):
            dropped = entry.path.with_name(f"{_DROPPED}-{uuid.uuid4().hex}")
            os.rename(entry.path, dropped)
    except OSError:
        return False
    shutil.rmtree(dropped, ignore_errors=True)
    return True


def _remove_leftovers(path: Path) -> int:
    """Removes what a killed process left half written, where nobody writes now."""
    room = 0
    with suppress(OSError), _locked(path, shared=False):
        for partial in path.glob("*.part"):
            size = partial.stat().st_size
            partial.unlink()
            room += size
    return room


def clear(folder: Path) -> Pruned:
    """Removes all features that are not in use, and the phantoms that were drawn for fits."""
    entries = inspect(folder, None).entries
    removed = [entry for entry in entries if remove(entry)]
    gone = {entry.path for entry in removed}
    room = sum(entry.bytes for entry in removed)
    phantoms = folder / "phantoms"
    if phantoms.is_dir():
        room += _size(phantoms)
        shutil.rmtree(phantoms, ignore_errors=True)
    return Pruned(tuple(removed), room, tuple(one for one in entries if one.path not in gone))
