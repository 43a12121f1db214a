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

import hashlib
import json
import mmap
import os
import shutil
import time
import uuid
import zipfile
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hemorrhage_tf.errors import OptionError
from hemorrhage_tf.reporting import Reporter
from hemorrhage_tf.whole_files import write_whole

CACHE_VARIABLE = "HEMORRHAGE_TF_CACHE"
LIMIT_VARIABLE = "HEMORRHAGE_TF_CACHE_LIMIT"
DEFAULT_LIMIT = "20GB"

# What a folder of features says of itself. A folder of another format has another fingerprint, so
# that it is never read; `prune` removes it.
FORMAT = 2

FEATURES = "features"
_ABOUT = "about.json"
_LOCK = ".lock"
_USED = ".used"
_DROPPED = ".dropped"
_KEY = np.dtype("S16")

_OPEN_SHARDS = 128  # memory maps that are held open at once; each keeps a file open
_RELEASE_BYTES = 32 * 2**20  # pages of a map that may stay in memory
_SMALL_SHARD = 8 * 2**20
_MERGED_SHARD = 64 * 2**20
_MANY_SHARDS = 16
_UNITS = {"B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}


def cache_folder(given: str | Path | None = None) -> Path:
    """Finds the cache: as given, else `$HEMORRHAGE_TF_CACHE`, else the system's own place.

    The system's own place is `$XDG_CACHE_HOME/hemorrhage_tf` on Linux.
    """
    if given is not None:
        return Path(given)
    if os.environ.get(CACHE_VARIABLE):
        return Path(os.environ[CACHE_VARIABLE])
    import platformdirs

    return platformdirs.user_cache_path("hemorrhage_tf", appauthor=False)


def parse_size(text: str, option: str = "--cache-limit") -> int | None:
    """Reads a size such as "20GB" or "500 MB".

    Args:
        text: a number with B, KB, MB, GB or TB (powers of ten); "none" for no limit.
        option: what the error names.

    Returns:
        Bytes, or None for no limit.

    Raises:
        OptionError: it is something else.
    """
    cleaned = str(text).strip().upper().replace(" ", "")
    if cleaned == "NONE":
        return None
    for unit in sorted(_UNITS, key=len, reverse=True):
        number = cleaned.removesuffix(unit)
        if number != cleaned:
            with suppress(ValueError):
                size = float(number) * _UNITS[unit]
                if 0 <= size < 1e18:
                    return int(size)
            break
    raise OptionError(f"{option} {text}: accepted is a size such as 20GB or 500MB, or none")


def cache_limit(given: str | None = None) -> int | None:
    """Finds the size limit in bytes: as given, else `$HEMORRHAGE_TF_CACHE_LIMIT`, else 20 GB."""
    if given is not None:
        return parse_size(given)
    named = os.environ.get(LIMIT_VARIABLE)
    return parse_size(named, f"${LIMIT_VARIABLE}") if named else parse_size(DEFAULT_LIMIT)


def row_key(name: str) -> bytes:
    """Gives the 16 bytes that a row is found by."""
    return hashlib.blake2b(name.encode(), digest_size=_KEY.itemsize).digest()


def row_keys(names: Iterable[str]) -> np.ndarray:
    """Gives the keys of many rows, `(n,)` of 16 bytes each."""
    return np.frombuffer(b"".join(map(row_key, names)), _KEY)


class Block:
    """Rows that lie together: a shard on disk, or an array in memory.

    Args:
        rows: the array, or None for a shard.
        path: the shard's file.
        offset: where the shard's rows begin in it, in bytes.
        shape: of the shard's rows.
        dtype: of the shard's rows.
    """

    def __init__(
        self,
        rows: np.ndarray | None = None,
        path: Path | None = None,
        offset: int = 0,
        shape: tuple[int, ...] = (),
        dtype: np.dtype | None = None,
    ) -> None:
        self.path = path
        self._rows = rows
        self._offset = offset
        self._shape = shape
        self._dtype = dtype
        self._map: mmap.mmap | None = None
        self._touched = 0

    def take(self, rows: np.ndarray, out: np.ndarray, at: np.ndarray) -> None:
        """Copies rows into places of an array."""
        out[at] = self._open()[rows]
        self._touched += len(rows) * max(out.shape[1] * 4, mmap.PAGESIZE)
        if self._map is not None and self._touched > _RELEASE_BYTES and _CAN_RELEASE:
            # The pages stay in the system's cache of files, and no longer count as ours.
            self._map.madvise(mmap.MADV_DONTNEED)
            self._touched = 0

    def close(self) -> None:
        """Gives the memory map back; it is opened again when it is needed."""
        self._map = None
        if self.path is not None:
            self._rows = None

    def _open(self) -> np.ndarray:
        if self._rows is None:
            with open(self.path, "rb") as file:
                self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            values = int(np.prod(self._shape))
            flat = np.frombuffer(self._map, self._dtype, values, self._offset)
            self._rows = flat.reshape(self._shape)
            _opened(self)
        elif self.path is not None:
            _opened(self)
        return self._rows


_CAN_RELEASE = hasattr(mmap, "MADV_DONTNEED")
_open_blocks: OrderedDict[int, Block] = OrderedDict()


def _opened(block: Block) -> None:
    """Closes the shard that was read longest ago where too many are open."""
    _open_blocks[id(block)] = block
    _open_blocks.move_to_end(id(block))
    while len(_open_blocks) > _OPEN_SHARDS:
        _open_blocks.popitem(last=False)[1].close()


def read_shard(path: Path) -> tuple[np.ndarray, Block]:
    """Checks a shard from end to end, and opens it.

    Args:
        path: the file.

    Returns:
        Its keys, and the block of its rows.

    Raises:
        Exception: it is damaged; of what kind depends on which bit is wrong.
    """
    with zipfile.ZipFile(path) as archive:
        if sorted(archive.namelist()) != ["keys.npy", "rows.npy"]:
            raise ValueError("not the members of a shard")
        with archive.open("keys.npy") as member:
            keys = np.lib.format.read_array(member, allow_pickle=False)
            _drain(member)
        info = archive.getinfo("rows.npy")
        with archive.open(info) as member:
            version = np.lib.format.read_magic(member)
            if version != (1, 0):
                raise ValueError("not the format of a shard's rows")
            shape, fortran_order, dtype = np.lib.format.read_array_header_1_0(member)
            header = member.tell()
            _drain(member)  # at its end the CRC-32 is compared
        if info.compress_type != zipfile.ZIP_STORED or fortran_order:
            raise ValueError("rows are not stored as they are")
    if keys.dtype != np.uint8 or keys.ndim != 2 or keys.shape[1] != _KEY.itemsize:
        raise ValueError("no keys")
    if len(shape) != 2 or shape[0] != len(keys) or dtype not in (np.float32, np.float16):
        raise ValueError("keys and rows do not match")
    if info.file_size != header + shape[0] * shape[1] * dtype.itemsize:
        raise ValueError("rows are missing")
    with open(path, "rb") as file:
        file.seek(info.header_offset + 26)  # of the lengths of name and extra field
        lengths = file.read(4)
    name, extra = (int.from_bytes(part, "little") for part in (lengths[:2], lengths[2:]))
    offset = info.header_offset + 30 + name + extra + header
    flat = np.ascontiguousarray(keys).view(_KEY)[:, 0] if len(keys) else np.empty(0, _KEY)
    return flat, Block(None, path, offset, shape, dtype)


def _drain(member) -> None:
    while member.read(2**20):
        pass


class FeatureCache:
    """The features of one fingerprint on disk.

    Args:
        folder: the cache folder, see `cache_folder`.
        key: the fingerprint of what computes the features.
        reporter: where a damaged shard or a full disk is told.
        about: what `cache info` shows of it, plain values.
        dtype: what rows are kept as, float32 or float16. Default float32.
    """

    def __init__(
        self,
        folder: Path,
        key: str,
        reporter: Reporter,
        about: Mapping[str, Any] | None = None,
        dtype: str = "float32",
    ) -> None:
        self.folder = folder / FEATURES / key
        self._reporter = reporter
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
            self._reporter.warn(
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
                write_whole(self.folder / _ABOUT, lambda file: file.write(content))
            path = self._write_shard(keys, rows.astype(self.dtype))
            return read_shard(path)[1]
        except OSError as error:
            self._writable = False
            self._reporter.warn(
                f"the feature cache cannot be written ({error}); the fit goes on, and the next "
                f"one computes its features again. Name another place with --cache "
                f"or ${CACHE_VARIABLE}"
            )
            return None

    def _write_shard(self, keys: Sequence[bytes], rows: np.ndarray) -> Path:
        path = self.folder / f"{uuid.uuid4().hex}.npz"
        flat = np.frombuffer(b"".join(keys), np.uint8).reshape(-1, _KEY.itemsize)
        write_whole(path, lambda file: np.savez(file, keys=flat, rows=rows))
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
