"""One row of numbers per slice in a temporary file, so that memory hardly grows with a data set."""

from __future__ import annotations

import tempfile
import threading
import weakref
from collections.abc import Sequence

import numpy as np
from numpy.typing import DTypeLike

from hemorrhage_tf.core.errors import DataError

# Smaller arrays stay in memory.
MAX_BYTES_IN_MEMORY = 1 << 23


class FileArray:
    """An append-only array whose rows are stored in a temporary file.

    The file has no name, so nothing is left behind however the process ends. Rows are read into
    new arrays instead of being mapped, because mapped pages count as memory of the process.

    Args:
        dtype: The dtype of the numbers; it may be structured.
        shape: The shape of one row. Defaults to `()`.
    """

    def __init__(self, dtype: DTypeLike, shape: tuple[int, ...] = ()) -> None:
        self.dtype, self.shape = np.dtype(dtype), tuple(shape)
        self._row_bytes = self.dtype.itemsize * int(np.prod(self.shape))
        self._file = tempfile.SpooledTemporaryFile(max_size=MAX_BYTES_IN_MEMORY)  # noqa: SIM115
        weakref.finalize(self, self._file.close)
        self._lock = threading.Lock()
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def append(self, rows: np.ndarray) -> None:
        """Append rows.

        Args:
            rows: `(k, *shape)`.

        Raises:
            DataError: The temporary file cannot be written.
        """
        rows = np.ascontiguousarray(rows, self.dtype)
        try:
            with self._lock:
                self._file.seek(self._count * self._row_bytes)
                self._file.write(rows.tobytes())
        except OSError as error:
            raise DataError(
                f"{tempfile.gettempdir()}: temporary data cannot be written "
                f"({error.strerror or error}). A run needs about 10 KB per slice. Free "
                "some space, or set the environment variable TMPDIR to another folder."
            ) from None
        self._count += len(rows)

    def take(self, indices: Sequence[int] | range | np.ndarray) -> np.ndarray:
        """Read rows by index, consecutive ones in a single read.

        Args:
            indices: `(k,)`, in any order; repeated ones are allowed.

        Returns:
            `(k, *shape)`, a new array.

        Raises:
            IndexError: There is no such row.
        """
        indices = np.asarray(indices, np.int64)
        rows = np.empty((len(indices), *self.shape), self.dtype)
        if not len(indices):
            return rows
        if indices.min() < 0 or indices.max() >= self._count:
            raise IndexError(f"rows {indices.min()} to {indices.max()} of {self._count}")
        buffer = rows.reshape(-1).view(np.uint8).data
        breaks = np.flatnonzero(np.diff(indices) != 1) + 1
        begins, ends = [0, *breaks.tolist()], [*breaks.tolist(), len(indices)]
        size = self._row_bytes
        with self._lock:
            for begin, end in zip(begins, ends, strict=True):
                self._file.seek(int(indices[begin]) * size)
                self._file.readinto(buffer[begin * size : end * size])
        return rows
