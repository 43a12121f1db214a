"""TODO docstring."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from hemorrhage_tf.core.errors import SliceError
from hemorrhage_tf.imaging.dicom.elements import _Bounded, _Source, _value
from hemorrhage_tf.imaging.dicom.geometry import _MAX_FRAMES
from hemorrhage_tf.imaging.dicom.layout import _Layout
from hemorrhage_tf.imaging.dicom.parse import _UNDEFINED_LENGTH
from hemorrhage_tf.imaging.dicom.transfer_syntaxes import _JPEG, _JPEG_2000, _RUN_LENGTH

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

_MAX_ENCODED_BYTES = 64 << 20


# The decoders of JPEG 2000 hold every sample in several copies of 32 bits.
_MAX_ENCODED_SAMPLES = 32_000_000


# A run of 2 bytes becomes up to 128, so this many bytes become at most half a gigabyte.
_MAX_RUN_LENGTH_BYTES = 8 << 20


_ITEM = 0xFFFEE000


_SEQUENCE_END = 0xFFFEE0DD


def _encoded_frame(source: _Source, layout: _Layout, index: int) -> tuple[bytes, int]:
    """Reads one compressed frame; returns it with the bits of its samples."""
    from pydicom.encaps import get_frame

    path, stream = source.path, source.stream
    if layout.rows * layout.columns * layout.samples > _MAX_ENCODED_SAMPLES:
        raise SliceError(
            path,
            f"declares {layout.columns} x {layout.rows} compressed pixels, more than the "
            f"{_MAX_ENCODED_SAMPLES // 1_000_000} million that are accepted",
        )
    stream.allow(_MAX_ENCODED_BYTES)
    _require_whole_fragments(path, stream)
    stream.allow(_MAX_ENCODED_BYTES)
    encoded = get_frame(
        stream,
        index,
        number_of_frames=layout.frames,
        extended_offsets=_extended_offsets(source.dataset, layout.frames),
    )
    if source.syntax == _RUN_LENGTH:
        if len(encoded) > _MAX_RUN_LENGTH_BYTES:
            raise SliceError(
                path,
                f"has {len(encoded)} bytes of run lengths, more than the "
                f"{_MAX_RUN_LENGTH_BYTES} that are accepted",
            )
        return encoded, layout.stored
    return encoded, _require_same_size(source, layout, encoded)


def _require_whole_fragments(path: Path, stream: _Bounded) -> None:
    """Checks that the fragments lie within the file; the decoders would fill up what is missing."""
    start, first = stream.tell(), True
    while len(head := stream.read(8)) == 8:
        group, element, length = struct.unpack("<HHI", head)
        tag = group << 16 | element
        if tag == _SEQUENCE_END:
            break
        if tag != _ITEM or length == _UNDEFINED_LENGTH:
            raise SliceError(path, "damaged: its compressed frames do not follow each other")
        if first and length > 4 * _MAX_FRAMES:
            raise SliceError(path, "damaged: its table of frames is too long")
        if stream.tell() + length > stream.size:
            raise SliceError(path, "cut short: it ends within the compressed pixel data")
        stream.seek(length, os.SEEK_CUR)
        first = False
    else:
        if first or head:
            raise SliceError(path, "cut short: it ends within the compressed pixel data")
    stream.seek(start)


def _extended_offsets(dataset: Dataset, frames: int) -> tuple[bytes, bytes] | None:
    offsets = _value(dataset, "ExtendedOffsetTable", 8 * frames)
    lengths = _value(dataset, "ExtendedOffsetTableLengths", 8 * frames)
    usable = isinstance(offsets, bytes) and isinstance(lengths, bytes)
    if usable and len(offsets) == len(lengths) == 8 * frames:
        return offsets, lengths
    return None


def _require_same_size(source: _Source, layout: _Layout, encoded: bytes) -> int:
    """Compares a codestream with the header: the decoders allocate what the codestream says.

    Returns:
        The bits of a sample, as the codestream has them.
    """
    read_size = _size_of_jpeg_2000 if source.syntax in _JPEG_2000 else _size_of_jpeg
    found = read_size(encoded)
    if found is None:
        raise SliceError(source.path, "damaged: its compressed pixels have no readable size")
    rows, columns, samples, precision = found
    if (rows, columns, samples) != (layout.rows, layout.columns, layout.samples):
        raise SliceError(
            source.path,
            f"its compressed pixels are {columns} x {rows} of {samples} samples, but its header "
            f"says {layout.columns} x {layout.rows} of {layout.samples}",
        )
    # gdcm ends the process (an exception in its gdcmJPEGCodec.cxx that nothing catches, of 3.2.6).
    if source.syntax in _JPEG and layout.allocated > 16:
        raise SliceError(
            source.path,
            f"its header allocates {layout.allocated} bits a sample, but a JPEG has at most 16",
        )
    if not 1 <= precision <= layout.allocated:
        raise SliceError(
            source.path,
            f"its compressed samples have {precision} bits, but its header allocates "
            f"{layout.allocated}",
        )
    return precision


def _jpeg_segments(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Gives marker and bytes of each segment of a JPEG or JPEG-LS, the last one with its scans.

    Raises:
        ValueError: the segments do not follow each other.
    """
    if data[:2] != b"\xff\xd8":
        raise ValueError("no JPEG")
    start = 2
    while True:
        while data[start : start + 2] == b"\xff\xff":  # any number of fill bytes may come first
            start += 1
        fill, marker, length = struct.unpack_from(">BBH", data, start)
        end = start + 2 + length
        if fill != 0xFF or marker < 0xC0 or 0xD0 <= marker <= 0xD9 or end > len(data):
            raise ValueError("no JPEG segment")
        if marker == 0xDA:
            yield marker, data[start:]
            return
        yield marker, data[start:end]
        start = end


def _is_frame_header(marker: int) -> bool:
    return (0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC)) or marker == 0xF7


def _size_of_jpeg(data: bytes) -> tuple[int, int, int, int] | None:
    """Finds rows, columns, samples and bits in the frame header of a JPEG or JPEG-LS."""
    try:
        headers = [bytes_ for marker, bytes_ in _jpeg_segments(data) if _is_frame_header(marker)]
        if len(headers) != 1:
            return None
        precision, rows, columns, samples = struct.unpack_from(">BHHB", headers[0], 4)
    except (ValueError, struct.error):
        return None
    return rows, columns, samples, precision


def _bare_jpeg(data: bytes) -> bytes:
    """Leaves out what decoding does not need.

    Where libjpeg warns of an application's segment, or of bytes between the segments, gdcm ends
    the process (an assertion in its gdcmJPEGBITSCodec.hxx, of 3.2.6).
    """
    segments = _jpeg_segments(data)
    return b"\xff\xd8" + b"".join(
        bytes_ for marker, bytes_ in segments if not 0xE0 <= marker <= 0xEF and marker != 0xFE
    )


def _size_of_jpeg_2000(data: bytes) -> tuple[int, int, int, int] | None:
    """Finds rows, columns, samples and bits in the SIZ segment of a JPEG 2000 codestream."""
    start = _start_of_codestream(data)
    if data[start : start + 4] != b"\xff\x4f\xff\x51" or len(data) < start + 42:
        return None
    right, bottom, left, top = struct.unpack_from(">4I", data, start + 8)
    (samples,) = struct.unpack_from(">H", data, start + 40)
    components = data[start + 42 : start + 42 + 3 * samples]
    # Bits, and how many pixels wide and high a sample is; subsampled ones are not read.
    if not 1 <= samples <= 4 or components != components[:1] + b"\1\1" + components[3:]:
        return None
    if any(components[at] != components[at % 3] for at in range(len(components))):
        return None
    return bottom - top, right - left, samples, (components[0] & 0x7F) + 1


def _start_of_codestream(data: bytes) -> int:
    """Skips the boxes of a JP2 file, which some writers leave around the codestream."""
    if data[4:8] != b"jP  ":
        return 0
    start = 0
    while start + 8 <= len(data):
        length = int.from_bytes(data[start : start + 4], "big")
        if data[start + 4 : start + 8] == b"jp2c":
            return start + 8
        if length < 8:
            break
        start += length
    return len(data)
