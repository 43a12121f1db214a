"""Shards: files of feature rows, read through memory maps."""

from __future__ import annotations

import hashlib
import mmap
import zipfile
from collections import OrderedDict
from collections.abc import Iterable
from pathlib import Path
from typing import IO

import numpy as np

KEY_DTYPE = np.dtype("S16")

# Each open memory map keeps a file open.
MAX_OPEN_SHARDS = 128

# Pages of a memory map that may stay in this process.
_RESIDENT_BYTES = 32 * 2**20


def row_key(name: str) -> bytes:
    """Return the key of a row: 16 bytes.

    Args:
        name: The content hash of the slice and the key of the view, separated by "/".
    """
    return hashlib.blake2b(name.encode(), digest_size=KEY_DTYPE.itemsize).digest()


def row_keys(names: Iterable[str]) -> np.ndarray:
    """Return the keys of many rows, `(n,)` of 16 bytes each."""
    return np.frombuffer(b"".join(map(row_key, names)), KEY_DTYPE)


class Block:
    """Feature rows in memory.

    Args:
        rows: float32 or float16 `(n, width)`; None if a subclass reads them from elsewhere.
    """

    def __init__(self, rows: np.ndarray | None) -> None:
        self._rows = rows

    def take(self, rows: np.ndarray, out: np.ndarray, at: np.ndarray) -> None:
        """Copy rows of the block into an array.

        Args:
            rows: int `(n,)`, which rows of the block.
            out: float32 `(m, width)`, the array to write to.
            at: int `(n,)`, the row of `out` for each of them.
        """
        out[at] = self._open()[rows]

    def _open(self) -> np.ndarray:
        assert self._rows is not None
        return self._rows


class ShardBlock(Block):
    """Feature rows in a shard, read through a memory map.

    Args:
        path: The shard.
        offset: The position of the first row in the file, in bytes.
        shape: Rows and width.
        dtype: float32 or float16.

    Attributes:
        path: The shard.
        shape: Rows and width.
    """

    def __init__(self, path: Path, offset: int, shape: tuple[int, int], dtype: np.dtype) -> None:
        super().__init__(None)
        self.path = path
        self.shape = shape
        self._offset = offset
        self._dtype = dtype
        self._map: mmap.mmap | None = None
        self._bytes_read = 0

    def take(self, rows: np.ndarray, out: np.ndarray, at: np.ndarray) -> None:
        """Copy rows of the block into an array, see `Block.take`."""
        super().take(rows, out, at)
        self._bytes_read += len(rows) * max(out.shape[1] * 4, mmap.PAGESIZE)
        if self._map is not None and self._bytes_read > _RESIDENT_BYTES and _CAN_RELEASE:
            # The pages stay in the system's file cache, but no longer count as this process's.
            self._map.madvise(mmap.MADV_DONTNEED)
            self._bytes_read = 0

    def close(self) -> None:
        """Release the memory map; the next read opens it again."""
        self._map = None
        self._rows = None

    def _open(self) -> np.ndarray:
        if self._rows is None:
            with open(self.path, "rb") as file:
                self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            values = int(np.prod(self.shape))
            flat = np.frombuffer(self._map, self._dtype, values, self._offset)
            self._rows = flat.reshape(self.shape)
        rows = self._rows
        _mark_used(self)
        return rows


_CAN_RELEASE = hasattr(mmap, "MADV_DONTNEED")

_open_blocks: OrderedDict[int, ShardBlock] = OrderedDict()


def _mark_used(block: ShardBlock) -> None:
    """Close the least recently read shards if too many are open."""
    _open_blocks[id(block)] = block
    _open_blocks.move_to_end(id(block))
    while len(_open_blocks) > MAX_OPEN_SHARDS:
        _open_blocks.popitem(last=False)[1].close()


def read_shard(path: Path) -> tuple[np.ndarray, ShardBlock]:
    """Check a shard from end to end, and return its keys and rows.

    Args:
        path: The file.

    Returns:
        The keys, `(n,)` of 16 bytes each, and the block of the rows.

    Raises:
        Exception: The shard is damaged. The class depends on which bit is wrong.
    """
    with zipfile.ZipFile(path) as archive:
        if sorted(archive.namelist()) != ["keys.npy", "rows.npy"]:
            raise ValueError("the file does not have the members of a shard")
        with archive.open("keys.npy") as member:
            keys = np.lib.format.read_array(member, allow_pickle=False)
            _read_to_end(member)
        info = archive.getinfo("rows.npy")
        with archive.open(info) as member:
            version = np.lib.format.read_magic(member)
            if version != (1, 0):
                raise ValueError("the rows have another NPY version")
            shape, fortran_order, dtype = np.lib.format.read_array_header_1_0(member)
            header = member.tell()
            _read_to_end(member)
        if info.compress_type != zipfile.ZIP_STORED or fortran_order:
            raise ValueError("the rows are compressed or in another order")
    if keys.dtype != np.uint8 or keys.ndim != 2 or keys.shape[1] != KEY_DTYPE.itemsize:
        raise ValueError("the keys have another dtype or shape")
    if len(shape) != 2 or shape[0] != len(keys) or dtype not in (np.float32, np.float16):
        raise ValueError("the rows do not match the keys")
    if info.file_size != header + shape[0] * shape[1] * dtype.itemsize:
        raise ValueError("rows are missing")
    with open(path, "rb") as file:
        # Bytes 26 to 29 of a local header are the lengths of its name and its extra field.
        file.seek(info.header_offset + 26)
        lengths = file.read(4)
    name, extra = (int.from_bytes(part, "little") for part in (lengths[:2], lengths[2:]))
    offset = info.header_offset + 30 + name + extra + header
    flat = np.ascontiguousarray(keys).view(KEY_DTYPE)[:, 0] if len(keys) else np.empty(0, KEY_DTYPE)
    return flat, ShardBlock(path, offset, shape, dtype)


def _read_to_end(member: IO[bytes]) -> None:
    """Read a member to its end, where zipfile compares its CRC-32."""
    while member.read(2**20):
        pass
