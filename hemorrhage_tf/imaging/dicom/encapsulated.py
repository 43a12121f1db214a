"""Read one compressed frame out of encapsulated pixel data (PS3.5, section A.4).

Decoders allocate what a codestream declares, and end the process on some damaged ones, so each
frame is checked before it is decoded in `pixels`.
"""

from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import TYPE_CHECKING

from hemorrhage_tf.core.errors import SliceError
from hemorrhage_tf.imaging.dicom.codestreams import jpeg_2000_size, jpeg_size
from hemorrhage_tf.imaging.dicom.dicom_file import BoundedStream, DicomFile
from hemorrhage_tf.imaging.dicom.elements import read_value
from hemorrhage_tf.imaging.dicom.frames import MAX_FRAMES
from hemorrhage_tf.imaging.dicom.layout import PixelLayout
from hemorrhage_tf.imaging.dicom.parse import UNDEFINED_LENGTH
from hemorrhage_tf.imaging.dicom.transfer_syntaxes import JPEG, JPEG_2000, RUN_LENGTH

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

_MAX_ENCODED_BYTES = 64 << 20
# JPEG 2000 decoders hold several 32-bit copies of each sample.
_MAX_ENCODED_SAMPLES = 32_000_000
# A run of 2 bytes expands to up to 128 bytes, so this many expand to at most half a gigabyte.
_MAX_RUN_LENGTH_BYTES = 8 << 20

_ITEM = 0xFFFEE000
_SEQUENCE_DELIMITER = 0xFFFEE0DD


def read_encoded_frame(file: DicomFile, layout: PixelLayout, index: int) -> tuple[bytes, int]:
    """Read one compressed frame.

    Returns:
        The codestream, and the bits of its samples.

    Raises:
        SliceError: The frame is truncated, over a size limit, or contradicts the header.
    """
    from pydicom.encaps import get_frame

    path, stream = file.path, file.stream
    if layout.rows * layout.columns * layout.samples > _MAX_ENCODED_SAMPLES:
        raise SliceError(
            path,
            f"declares {layout.columns} x {layout.rows} compressed pixels: the limit is "
            f"{_MAX_ENCODED_SAMPLES // 1_000_000} million samples",
        )
    stream.allow(_MAX_ENCODED_BYTES)
    _require_whole_fragments(path, stream)
    stream.allow(_MAX_ENCODED_BYTES)
    encoded = get_frame(
        stream.as_binary_io(),
        index,
        number_of_frames=layout.frames,
        extended_offsets=_read_extended_offsets(file.dataset, layout.frames),
    )
    if file.transfer_syntax == RUN_LENGTH:
        if len(encoded) > _MAX_RUN_LENGTH_BYTES:
            raise SliceError(
                path,
                f"has {len(encoded)} bytes of run lengths: the limit is {_MAX_RUN_LENGTH_BYTES}",
            )
        return encoded, layout.stored
    return encoded, _require_consistent_size(file, layout, encoded)


def _require_whole_fragments(path: Path, stream: BoundedStream) -> None:
    """Check that all fragments lie within the file; decoders would fill in missing data."""
    start, first = stream.tell(), True
    while len(head := stream.read(8)) == 8:
        group, element, length = struct.unpack("<HHI", head)
        tag = group << 16 | element
        if tag == _SEQUENCE_DELIMITER:
            break
        if tag != _ITEM or length == UNDEFINED_LENGTH:
            raise SliceError(path, "damaged: its compressed frames do not follow each other")
        if first and length > 4 * MAX_FRAMES:
            raise SliceError(path, "damaged: its offset table is too long")
        if stream.tell() + length > stream.size:
            raise SliceError(path, "truncated: it ends within the compressed pixel data")
        stream.seek(length, os.SEEK_CUR)
        first = False
    else:
        if first or head:
            raise SliceError(path, "truncated: it ends within the compressed pixel data")
    stream.seek(start)


def _read_extended_offsets(dataset: Dataset, frames: int) -> tuple[bytes, bytes] | None:
    offsets = read_value(dataset, "ExtendedOffsetTable", 8 * frames)
    lengths = read_value(dataset, "ExtendedOffsetTableLengths", 8 * frames)
    usable = isinstance(offsets, bytes) and isinstance(lengths, bytes)
    if usable and len(offsets) == len(lengths) == 8 * frames:
        return offsets, lengths
    return None


def _require_consistent_size(file: DicomFile, layout: PixelLayout, encoded: bytes) -> int:
    """Check that a codestream declares the size that the header does; return its precision."""
    is_jpeg_2000 = file.transfer_syntax in JPEG_2000
    size = jpeg_2000_size(encoded) if is_jpeg_2000 else jpeg_size(encoded)
    if size is None:
        raise SliceError(file.path, "damaged: its compressed pixels have no readable size")
    if size[:3] != (layout.rows, layout.columns, layout.samples):
        raise SliceError(
            file.path,
            f"its compressed pixels are {size.columns} x {size.rows} of {size.samples} samples, "
            f"but its header declares {layout.columns} x {layout.rows} of {layout.samples}",
        )
    # gdcm 3.2.6 ends the process on these (an uncaught exception in gdcmJPEGCodec.cxx).
    if file.transfer_syntax in JPEG and layout.allocated > 16:
        raise SliceError(
            file.path,
            f"its header allocates {layout.allocated} bits per sample, but a JPEG has at most 16",
        )
    if not 1 <= size.precision <= layout.allocated:
        raise SliceError(
            file.path,
            f"its compressed samples have {size.precision} bits, but its header allocates "
            f"{layout.allocated}",
        )
    return size.precision
