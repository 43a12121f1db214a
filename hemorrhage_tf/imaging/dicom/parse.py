"""Recognize DICOM files, open them and parse their headers; pixels are read elsewhere."""

from __future__ import annotations

import functools
import io
import logging
import os
import re
import stat
import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from hemorrhage_tf.core.errors import HemorrhageError, SliceError
from hemorrhage_tf.imaging.dicom.dicom_file import BoundedStream, DicomFile
from hemorrhage_tf.imaging.dicom.elements import MAX_VALUE_BYTES, read_text, reraise_slice_error
from hemorrhage_tf.imaging.dicom.transfer_syntaxes import (
    BIG_ENDIAN,
    DEFLATED,
    EXPLICIT,
    IMPLICIT,
    MEDIA_STORAGE_DIRECTORY,
)

UNDEFINED_LENGTH = 0xFFFFFFFF
PIXEL_DATA = 0x7FE00010
MAX_INFLATED_BYTES = 256 << 20
# Value representations whose length takes 4 bytes after 2 reserved ones (PS3.5, section 7.1.2).
LONG_VRS = (b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"UC", b"UN", b"UR", b"UT")

_SHORT_VRS = b"AE AS AT CS DA DS DT FD FL IS LO LT PN SH SL SS ST TM UI UL US".split()
_CHARACTER_SET = 0x00080005
_PIXEL_TAGS = (0x7FE00008, 0x7FE00009, PIXEL_DATA)
_PREAMBLE_BYTES = 128

# The entry that `warnings.filterwarnings("ignore", module="pydicom")` adds to the filters.
_PYDICOM_FILTER = ("ignore", None, Warning, re.compile("pydicom"), 0)


def is_dicom(path: str | Path) -> bool:
    """Return whether the content of a file looks like DICOM, whatever its name.

    Args:
        path: Any path; False if it cannot be read.

    Returns:
        True if "DICM" follows the preamble, or if the file starts with an element of group 0002
        or 0008, as old files without a preamble do.

    Reference:
        DICOM PS3.10, section 7.1 (DICOM file meta information).
    """
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):  # opening a pipe would block
            return False
        with open(path, "rb") as file:
            return _looks_like_dicom(file.read(512))
    except (OSError, ValueError):
        return False


@contextmanager
def open_dicom(path: str | Path, keywords: tuple[str, ...]) -> Iterator[DicomFile]:
    """Open a file, and turn any error raised in the block into a SliceError.

    Args:
        path: A DICOM file.
        keywords: The elements to parse.

    Yields:
        The open file.

    Raises:
        SliceError: The file cannot be read, is not DICOM or is an index (DICOMDIR).
    """
    path = Path(path)
    try:
        _silence_pydicom()
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise SliceError(path, "not a file")
        with open(path, "rb") as file:
            yield _parse(path, file, keywords)
    except HemorrhageError:
        raise
    except FileNotFoundError:
        raise SliceError(path, "no such file") from None
    except MemoryError:
        raise SliceError(path, "not enough memory to decode it") from None
    except Exception as error:
        reraise_slice_error(error)
        # Decoders raise almost any error on damaged files. Their messages may quote values, which
        # may name the patient, so only the kind of error is passed on.
        if isinstance(error, OSError) and error.errno is not None:
            raise SliceError(path, os.strerror(error.errno).lower()) from None
        raise SliceError(path, f"damaged: cannot be decoded ({type(error).__name__})") from None


def _looks_like_dicom(head: bytes) -> bool:
    return _has_preamble(head) or any(_starts_with_element(head, order) for order in "<>")


def _has_preamble(head: bytes) -> bool:
    return head[_PREAMBLE_BYTES : _PREAMBLE_BYTES + 4] == b"DICM"


def _starts_with_element(head: bytes, order: str) -> bool:
    if len(head) < 8:
        return False
    group, element = struct.unpack_from(f"{order}HH", head)
    if group not in (0x0002, 0x0008) or element > 0x0100:
        return False
    vr = head[4:6]
    if vr in _SHORT_VRS or vr in LONG_VRS:
        return True
    # Without a VR, four bytes of length are weak evidence: a second element must follow.
    (length,) = struct.unpack_from(f"{order}I", head, 4)
    if order == ">" or length % 2 or len(head) < 12 + length:
        return False
    next_group, next_element = struct.unpack_from("<HH", head, 8 + length)
    return (group, element) < (next_group, next_element) and next_group <= 0x0010


@functools.cache
def _configure_pydicom() -> None:
    # Imported late: it takes a quarter of a second, which `--help` should not.
    import pydicom

    pydicom.config.settings.reading_validation_mode = pydicom.config.IGNORE
    # They log values of the file, and errors that are raised here anyway.
    logging.getLogger("pydicom").setLevel(logging.CRITICAL)
    logging.getLogger("pylibjpeg").setLevel(logging.CRITICAL)


def _silence_pydicom() -> None:
    """Suppress pydicom's warnings by a filter; `warnings.catch_warnings` is not thread-safe."""
    _configure_pydicom()
    # Leaving a `catch_warnings` block elsewhere removes the filter again.
    if _PYDICOM_FILTER not in warnings.filters:
        warnings.filterwarnings("ignore", module="pydicom")


@functools.cache
def _tags_of(keywords: tuple[str, ...]) -> list[int]:
    from pydicom.tag import Tag

    return [Tag(keyword) for keyword in keywords]


def _parse(path: Path, file: BinaryIO, keywords: tuple[str, ...]) -> DicomFile:
    from pydicom.filereader import read_dataset

    size = os.fstat(file.fileno()).st_size
    if size == 0:
        raise SliceError(path, "the file is empty (0 bytes)")
    head = file.read(512)
    if not _looks_like_dicom(head):
        raise SliceError(path, "not a DICOM file")
    stream = BoundedStream(path, file, size)
    stream.seek(_PREAMBLE_BYTES + 4 if _has_preamble(head) else 0)
    meta = read_dataset(
        stream.as_binary_io(), False, True, stop_when=lambda tag, vr, length: tag >> 16 != 2
    )
    sop_class = read_text(meta, "MediaStorageSOPClassUID")
    if path.name.upper() == "DICOMDIR" or sop_class == MEDIA_STORAGE_DIRECTORY:
        raise SliceError(path, "an index of other files (DICOMDIR), not an image")
    syntax = read_text(meta, "TransferSyntaxUID") or _guess_transfer_syntax(stream)
    if syntax == DEFLATED:
        inflated = _inflate(path, file)
        stream = BoundedStream(path, inflated, inflated.getbuffer().nbytes)

    def stop_when(tag: int, vr: str | None, length: int) -> bool:
        tag = int(tag)  # pydicom's tags take long to compare
        # The one element that pydicom parses at once, whatever its length.
        if tag == _CHARACTER_SET and length > MAX_VALUE_BYTES:
            raise SliceError(path, "damaged: its character set is too long")
        return tag in _PIXEL_TAGS

    dataset = read_dataset(
        stream.as_binary_io(),
        is_implicit_VR=syntax == IMPLICIT,
        is_little_endian=syntax != BIG_ENDIAN,
        stop_when=stop_when,
        specific_tags=list(_tags_of(keywords)),
    )
    if not len(dataset):
        raise SliceError(path, "no readable content: it is damaged, encrypted or not an image")
    return DicomFile(path, dataset, stream, syntax)


def _guess_transfer_syntax(stream: BoundedStream) -> str:
    """Infer the transfer syntax of a file that declares none from its first element."""
    start = stream.tell()
    first = stream.read(6)
    stream.seek(start)
    if first[4:6] not in _SHORT_VRS and first[4:6] not in LONG_VRS:
        return IMPLICIT
    # The small group number of a big-endian file reads as a large little-endian one.
    return BIG_ENDIAN if int.from_bytes(first[:2], "little") >= 0x0100 else EXPLICIT


def _inflate(path: Path, file: BinaryIO) -> io.BytesIO:
    """Inflate the rest of a file, up to a limit (PS3.5, section A.5)."""
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    inflated = io.BytesIO()
    step = 1 << 20
    while not inflater.eof and (chunk := inflater.unconsumed_tail or file.read(step)):
        inflated.write(inflater.decompress(chunk, step))
        if inflated.tell() > MAX_INFLATED_BYTES:
            raise SliceError(
                path, f"inflates to more than the limit of {MAX_INFLATED_BYTES >> 20} MiB"
            )
    inflated.write(inflater.flush())
    if not inflater.eof:
        raise SliceError(path, "truncated: its deflated data ends early")
    inflated.seek(0)
    return inflated
