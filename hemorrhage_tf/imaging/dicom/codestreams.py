"""Parse the headers of JPEG, JPEG-LS and JPEG 2000 codestreams; nothing is decoded here."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple


class CodestreamSize(NamedTuple):
    """The size that a codestream declares.

    Attributes:
        rows: Height, in pixels.
        columns: Width, in pixels.
        samples: Samples per pixel.
        precision: Bits of a sample.
    """

    rows: int
    columns: int
    samples: int
    precision: int


def jpeg_size(data: bytes) -> CodestreamSize | None:
    """Read the frame header of a JPEG or JPEG-LS; None if it has no readable one.

    Reference:
        ITU-T T.81 (1992), B.2.2; ITU-T T.87 (1998), C.2.2.
    """
    try:
        headers = [segment for marker, segment in _jpeg_segments(data) if _is_frame_header(marker)]
        if len(headers) != 1:
            return None
        precision, rows, columns, samples = struct.unpack_from(">BHHB", headers[0], 4)
    except (ValueError, struct.error):
        return None
    return CodestreamSize(rows, columns, samples, precision)


def strip_optional_segments(data: bytes) -> bytes:
    """Remove the application and comment segments of a JPEG, which decoding does not need.

    gdcm 3.2.6 ends the process where libjpeg warns of an application segment, or of bytes between
    segments (an assertion in gdcmJPEGBITSCodec.hxx).
    """
    return b"\xff\xd8" + b"".join(
        segment
        for marker, segment in _jpeg_segments(data)
        if not 0xE0 <= marker <= 0xEF and marker != 0xFE
    )


def jpeg_2000_size(data: bytes) -> CodestreamSize | None:
    """Read the SIZ segment of a JPEG 2000 codestream; None if it has no readable one.

    Reference:
        ITU-T T.800 (2002), A.5.1.
    """
    start = _codestream_start(data)
    if data[start : start + 4] != b"\xff\x4f\xff\x51" or len(data) < start + 42:
        return None
    right, bottom, left, top = struct.unpack_from(">4I", data, start + 8)
    (samples,) = struct.unpack_from(">H", data, start + 40)
    # Three bytes a sample: its bits, and its horizontal and vertical subsampling, which must be 1.
    components = data[start + 42 : start + 42 + 3 * samples]
    if not 1 <= samples <= 4 or components != components[:1] + b"\1\1" + components[3:]:
        return None
    if any(components[at] != components[at % 3] for at in range(len(components))):
        return None
    return CodestreamSize(bottom - top, right - left, samples, (components[0] & 0x7F) + 1)


def _jpeg_segments(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield the marker and the bytes of each segment; the last one includes the entropy-coded data.

    Raises:
        ValueError: The segments do not follow each other.
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


def _codestream_start(data: bytes) -> int:
    """Skip the boxes of a JP2 file, which some writers leave around the codestream."""
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
