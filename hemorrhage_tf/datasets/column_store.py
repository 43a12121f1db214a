"""Columns: what is known of very many slices, off the heap or packed, given out as plain values.

A Python object for each of 100,000 slices takes more memory than all that it says.
"""

from __future__ import annotations

import tempfile
import threading
import weakref
from array import array
from collections.abc import Hashable, Iterator, Sequence
from typing import Any

import numpy as np

from hemorrhage_tf.core.errors import DataError

_IN_MEMORY = 1 << 23  # bytes: what a small set needs never touches the disk


class FileColumn:
    """One array a slice, in a temporary file that nobody else sees.

    It has no name in its folder, so that nothing is left behind whatever ends the process. It is
    read into arrays rather than mapped, since mapped pages count as the process's memory.

    Args:
        dtype: of the numbers.
        shape: of the array of one slice.
    """

    def __init__(self, dtype: Any, shape: tuple[int, ...]) -> None:
        self.dtype, self.shape = np.dtype(dtype), tuple(shape)
        self._bytes = self.dtype.itemsize * int(np.prod(self.shape))
        self._file = tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY)  # noqa: SIM115
        weakref.finalize(self, self._file.close)
        self._lock = threading.Lock()
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def append(self, rows: np.ndarray) -> None:
        """Adds rows `(k, *shape)` at the end.

        Raises:
            DataError: the disk is full.
        """
        rows = np.ascontiguousarray(rows, self.dtype)
        try:
            with self._lock:
                self._file.seek(self._count * self._bytes)
                self._file.write(rows.tobytes())
        except OSError as error:
            raise DataError(
                f"{tempfile.gettempdir()}: what is compared of the slices cannot be written there "
                f"({error.strerror or error}). It takes about 10 KB a slice for the time of the "
                "run: make room, or name another folder with the environment variable TMPDIR."
            ) from None
        self._count += len(rows)

    def read(self, begin: int, end: int) -> np.ndarray:
        """Reads rows that follow each other, `(end - begin, *shape)`."""
        rows = np.empty((end - begin, *self.shape), self.dtype)
        view = memoryview(rows.reshape(-1).view(np.uint8))
        with self._lock:
            self._file.seek(begin * self._bytes)
            if self._file.readinto(view) != len(view):
                raise EOFError(f"rows {begin} to {end} of {self._count}")
        return rows

    def take(self, indices: Sequence[int] | np.ndarray) -> np.ndarray:
        """Reads any rows, `(len(indices), *shape)`; those that follow each other in one go."""
        indices = np.asarray(indices, np.int64)
        if len(indices) and (np.diff(indices) == 1).all():
            return self.read(int(indices[0]), int(indices[-1]) + 1)
        rows = np.empty((len(indices), *self.shape), self.dtype)
        flat = memoryview(rows.reshape(-1).view(np.uint8))
        size = self._bytes
        with self._lock:
            for place, index in enumerate(indices.tolist()):
                self._file.seek(index * size)
                if self._file.readinto(flat[place * size : (place + 1) * size]) != size:
                    raise EOFError(f"row {index} of {self._count}")
        return rows


class Interned:
    """A column of values that repeat, each kept once; None takes nothing more.

    Args:
        values: the first ones.
    """

    __slots__ = ("_codes", "_places", "_values")

    def __init__(self, values: Sequence[Hashable] = ()) -> None:
        self._values: list[Hashable] = []
        self._places: dict[Hashable, int] = {}
        self._codes = array("i")
        for value in values:
            self.append(value)

    def append(self, value: Hashable) -> None:
        """Adds one at the end."""
        code = self._places.get(value)
        if code is None:
            code = self._places[value] = len(self._values)
            self._values.append(value)
        self._codes.append(code)

    def __len__(self) -> int:
        return len(self._codes)

    def __getitem__(self, index: int) -> Any:
        return self._values[self._codes[index]]

    def __iter__(self) -> Iterator[Any]:
        return map(self._values.__getitem__, self._codes)

    @property
    def values(self) -> list[Any]:
        """Those that occur or did, each once, in the order of their first appearance."""
        return self._values

    @property
    def codes(self) -> np.ndarray:
        """int32 `(n,)`: which of `values` each is."""
        return np.frombuffer(self._codes, np.int32) if len(self._codes) else np.zeros(0, np.int32)

    def take(self, indices: np.ndarray) -> Interned:
        """Gives the column of some of them; the values are shared."""
        taken = Interned()
        taken._values, taken._places = self._values, self._places
        taken._codes = array("i", self.codes[indices].astype(np.int32).tobytes())
        return taken


class Listed(Sequence):
    """What looks like a tuple and makes each value when it is asked for.

    It equals every sequence of the same values, and a part of it is such a sequence too.
    """

    def _value(self, index: int) -> Any:
        raise NotImplementedError

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            chosen = range(*index.indices(len(self)))
            return Made(lambda place: self._value(chosen[place]), len(chosen))
        place = int(index)
        if place < 0:
            place += len(self)
        if not 0 <= place < len(self):
            raise IndexError(f"{index} of {len(self)}")
        return self._value(place)

    def __iter__(self) -> Iterator[Any]:
        return map(self._value, range(len(self)))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence) or isinstance(other, str):
            return NotImplemented
        return len(self) == len(other) and all(
            one == another for one, another in zip(self, other, strict=True)
        )

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        shown = ", ".join(repr(self._value(index)) for index in range(min(len(self), 3)))
        return f"({shown}{', ...' if len(self) > 3 else ''})"


class Hashes(Listed):
    """Content hashes, 16 bytes each, given out as hexadecimal digits.

    Args:
        packed: uint8 `(n, 16)`.
    """

    def __init__(self, packed: np.ndarray) -> None:
        self.packed = packed

    def __len__(self) -> int:
        return len(self.packed)

    def _value(self, index: int) -> str:
        return self.packed[index].tobytes().hex()

    def __iter__(self) -> Iterator[str]:
        for begin in range(0, len(self.packed), 4096):
            digits = self.packed[begin : begin + 4096].tobytes().hex()
            yield from (digits[place : place + 32] for place in range(0, len(digits), 32))


class Tuples(Listed):
    """Tuples of numbers, kept as an array for each place.

    Args:
        columns: arrays `(n,)`.
    """

    def __init__(self, *columns: np.ndarray) -> None:
        self.columns = columns

    def __len__(self) -> int:
        return len(self.columns[0])

    def _value(self, index: int) -> tuple:
        return tuple(column[index].item() for column in self.columns)

    def __iter__(self) -> Iterator[tuple]:
        for begin in range(0, len(self), 4096):
            yield from zip(
                *(column[begin : begin + 4096].tolist() for column in self.columns), strict=True
            )


class Made(Listed):
    """Values that a function makes of their index.

    Args:
        make: of an index the value.
        count: how many there are.
    """

    def __init__(self, make: Any, count: int) -> None:
        self._make, self._count = make, count

    def __len__(self) -> int:
        return self._count

    def _value(self, index: int) -> Any:
        return self._make(index)
