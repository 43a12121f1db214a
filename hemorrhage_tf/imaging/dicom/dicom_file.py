"""An open DICOM file, and the stream that limits how much of it is read.

Opening and parsing a file is in `parse`, reading the values of its elements in `elements`.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, NamedTuple, cast

from hemorrhage_tf.core.errors import SliceError

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

MAX_HEADER_BYTES = 32 << 20

# Each element of a header costs at least one read and some hundred bytes of memory.
MAX_READS = 600_000


class BoundedStream:
    """A stream with a limit on bytes and reads, since pydicom trusts every declared length.

    Args:
        path: The file, for error messages.
        stream: The stream to read from.
        size: Length of the stream, in bytes.
    """

    def __init__(self, path: Path, stream: BinaryIO, size: int) -> None:
        self.path, self.stream, self.size = path, stream, size
        self.allow(MAX_HEADER_BYTES)
        self.seek, self.tell = stream.seek, stream.tell

    def allow(self, count: int) -> None:
        """Set how many bytes may be read from now on."""
        self.bytes_left, self.reads_left = count, MAX_READS

    def read(self, size: int = -1) -> bytes:
        """Read like a file, but never ask for more than the file has left.

        Raises:
            SliceError: The limit is exceeded.
        """
        left = max(self.size - self.tell(), 0)
        size = left if size is None or size < 0 else min(size, left)
        self.bytes_left -= size
        self.reads_left -= 1
        if self.bytes_left < 0 or self.reads_left < 0:
            raise SliceError(self.path, "its header or an encoded frame exceeds the size limit")
        return self.stream.read(size)

    def as_binary_io(self) -> BinaryIO:
        """Return the stream under the type that pydicom expects; it only reads, seeks and tells."""
        return cast(BinaryIO, self)


class DicomFile(NamedTuple):
    """An open file.

    Attributes:
        path: The file.
        dataset: The elements before the pixel data.
        stream: Positioned where the pixel data begins.
        transfer_syntax: UID of the transfer syntax.
    """

    path: Path
    dataset: Dataset
    stream: BoundedStream
    transfer_syntax: str
