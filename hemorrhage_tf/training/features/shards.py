"""Shards: files of feature rows, read through memory maps."""

from __future__ import annotations

import hashlib
import mmap
import zipfile
from collections import OrderedDict
from collections.abc import Iterable
from pathlib import Path

import numpy as np

_KEY = np.dtype("S16")


_OPEN_SHARDS = 128  # memory maps that are held open at once; each keeps a file open


_RELEASE_BYTES = 32 * 2**20  # pages of a map that may stay in memory


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
