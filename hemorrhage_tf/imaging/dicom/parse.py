"""TODO docstring."""

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
from hemorrhage_tf.imaging.dicom.elements import (
    _MAX_VALUE_BYTES,
    _Bounded,
    _raise_refusal_behind,
    _Source,
    _text,
)
from hemorrhage_tf.imaging.dicom.transfer_syntaxes import (
    _BIG_ENDIAN,
    _DEFLATED,
    _DICOMDIR,
    _EXPLICIT,
    _IMPLICIT,
)

_MAX_INFLATED_BYTES = 256 << 20


_CHARACTER_SET = 0x00080005


_UNDEFINED_LENGTH = 0xFFFFFFFF


_PIXEL_DATA = 0x7FE00010


_PIXEL_TAGS = (0x7FE00008, 0x7FE00009, _PIXEL_DATA)


_LONG_VRS = (b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"UC", b"UN", b"UR", b"UT")


_SHORT_VRS = b"AE AS AT CS DA DS DT FD FL IS LO LT PN SH SL SS ST TM UI UL US".split()


# As `warnings.filterwarnings("ignore", module="pydicom")` stores it.
_QUIET = ("ignore", None, Warning, re.compile("pydicom"), 0)


def is_dicom(path: str | Path) -> bool:
    """Says whether a file's content looks like DICOM, whatever its name.

    Args:
        path: any path; one that cannot be read gives False.

    Returns:
        True where "DICM" follows the preamble (PS3.10, section 7.1), or where the file begins, as
        old files without a preamble do, with an element of group 0002 or 0008.
    """
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):  # opening a pipe would wait for its writer
            return False
        with open(path, "rb") as file:
            return _looks_like_dicom(file.read(512))
    except (OSError, ValueError):
        return False


def _looks_like_dicom(head: bytes) -> bool:
    return head[128:132] == b"DICM" or any(_begins_with_element(head, order) for order in "<>")


def _begins_with_element(head: bytes, order: str) -> bool:
    if len(head) < 8:
        return False
    group, element = struct.unpack_from(f"{order}HH", head)
    if group not in (0x0002, 0x0008) or element > 0x0100:
        return False
    vr = head[4:6]
    if vr in _SHORT_VRS or vr in _LONG_VRS:
        return True
    # Without a VR four bytes of length are little evidence: a second element has to follow.
    (length,) = struct.unpack_from(f"{order}I", head, 4)
    if order == ">" or length % 2 or len(head) < 12 + length:
        return False
    next_group, next_element = struct.unpack_from("<HH", head, 8 + length)
    return (group, element) < (next_group, next_element) and next_group <= 0x0010


@contextmanager
def _opened(path: str | Path, keywords: tuple[str, ...]) -> Iterator[_Source]:
    """Opens a file, and turns whatever goes wrong in it into a SliceError."""
    path = Path(path)
    try:
        _quiet_pydicom()
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise SliceError(path, "not a file")
        with open(path, "rb") as file:
            yield _parse(path, file, keywords)
    except HemorrhageError:
        raise
    except FileNotFoundError:
        raise SliceError(path, "no such file") from None
    except MemoryError:
        raise SliceError(path, "there is not enough memory to decode it") from None
    except Exception as error:
        _raise_refusal_behind(error)
        # From a damaged file the decoders raise almost anything. Their messages may quote the
        # file's values, which may name the patient: only the kind of the error is passed on.
        if isinstance(error, OSError) and error.errno is not None:
            raise SliceError(path, os.strerror(error.errno).lower()) from None
        raise SliceError(path, f"damaged: cannot be decoded ({type(error).__name__})") from None


@functools.cache
def _configure_pydicom() -> None:
    # Imported late: it takes a quarter of a second, which `--help` must not.
    import pydicom

    pydicom.config.settings.reading_validation_mode = pydicom.config.IGNORE
    # It logs values of the file, and errors that are reported here anyway.
    logging.getLogger("pydicom").setLevel(logging.CRITICAL)
    logging.getLogger("pylibjpeg").setLevel(logging.CRITICAL)


def _quiet_pydicom() -> None:
    """Keeps pydicom from warning; `warnings.catch_warnings` cannot, it is not thread-safe."""
    _configure_pydicom()
    # Whoever leaves a catch_warnings of their own takes the filter away again.
    if _QUIET not in warnings.filters:
        warnings.filterwarnings("ignore", module="pydicom")


@functools.cache
def _tags(keywords: tuple[str, ...]) -> list[int]:
    from pydicom.tag import Tag

    return [Tag(keyword) for keyword in keywords]


def _parse(path: Path, file: BinaryIO, keywords: tuple[str, ...]) -> _Source:
    from pydicom.filereader import read_dataset

    size = os.fstat(file.fileno()).st_size
    if size == 0:
        raise SliceError(path, "the file is empty (0 bytes)")
    head = file.read(512)
    if not _looks_like_dicom(head):
        raise SliceError(path, "not a DICOM file")
    stream = _Bounded(path, file, size)
    stream.seek(132 if head[128:132] == b"DICM" else 0)
    meta = read_dataset(stream, False, True, stop_when=lambda tag, vr, length: tag >> 16 != 2)
    if path.name.upper() == "DICOMDIR" or _text(meta, "MediaStorageSOPClassUID") == _DICOMDIR:
        raise SliceError(path, "an index of other files (DICOMDIR), not a picture")
    syntax = _text(meta, "TransferSyntaxUID") or _guess_syntax(stream)
    if syntax == _DEFLATED:
        inflated = _inflate(path, file)
        stream = _Bounded(path, inflated, inflated.getbuffer().nbytes)

    def stop_when(tag: int, vr: str | None, length: int) -> bool:
        # The one tag that pydicom takes apart at once, whatever its length.
        if tag == _CHARACTER_SET and length > _MAX_VALUE_BYTES:
            raise SliceError(path, "damaged: its character set is too long")
        return tag in _PIXEL_TAGS

    dataset = read_dataset(
        stream,
        is_implicit_VR=syntax == _IMPLICIT,
        is_little_endian=syntax != _BIG_ENDIAN,
        stop_when=stop_when,
        specific_tags=list(_tags(keywords)),
    )
    if not len(dataset):
        raise SliceError(path, "nothing in it can be read: it is damaged, encrypted or no picture")
    return _Source(path, dataset, stream, syntax)


def _guess_syntax(stream: _Bounded) -> str:
    """Tells from the first element how a file without a transfer syntax is written."""
    start = stream.tell()
    first = stream.read(6)
    stream.seek(start)
    if first[4:6] not in _SHORT_VRS and first[4:6] not in _LONG_VRS:
        return _IMPLICIT
    # A small group in the order of big-endian bytes is a large one in the other order.
    return _BIG_ENDIAN if int.from_bytes(first[:2], "little") >= 0x0100 else _EXPLICIT


def _inflate(path: Path, file: BinaryIO) -> io.BytesIO:
    """Inflates the rest of a file, and stops where the result grows out of bounds."""
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    inflated = io.BytesIO()
    step = 1 << 20
    while not inflater.eof and (chunk := inflater.unconsumed_tail or file.read(step)):
        inflated.write(inflater.decompress(chunk, step))
        if inflated.tell() > _MAX_INFLATED_BYTES:
            raise SliceError(
                path, f"inflates to more than the {_MAX_INFLATED_BYTES >> 20} MiB that are accepted"
            )
    inflated.write(inflater.flush())
    if not inflater.eof:
        raise SliceError(path, "cut short: its deflated data end early")
    inflated.seek(0)
    return inflated
