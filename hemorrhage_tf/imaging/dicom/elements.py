"""TODO docstring."""

from __future__ import annotations

import io
import re
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

from hemorrhage_tf.core.errors import SliceError

if TYPE_CHECKING:
    from pydicom.dataelem import RawDataElement
    from pydicom.dataset import Dataset

_MAX_HEADER_BYTES = 32 << 20


# Every element of a header costs a read or more, and is kept with some hundred bytes.
_MAX_READS = 600_000


# Of a tag that is no sequence and no table; pydicom makes an object of each of its values.
_MAX_VALUE_BYTES = 1 << 16


# What pydicom raises where the value of a tag does not fit its type.
_VALUE_ERRORS = (
    *(ValueError, TypeError, LookupError, AttributeError, ArithmeticError, OSError),
    *(NotImplementedError, RecursionError, struct.error),
)


class _Source(NamedTuple):
    """An open file: its tags, and a stream that stands where the pixel data begin."""

    path: Path
    dataset: Dataset
    stream: _Bounded
    syntax: str


class _Bounded:
    """A stream that refuses what only a hostile file asks for: pydicom believes every length."""

    def __init__(self, path: Path, stream: BinaryIO, size: int) -> None:
        self.path, self.stream, self.size = path, stream, size
        self.allow(_MAX_HEADER_BYTES)
        self.seek, self.tell = stream.seek, stream.tell

    def allow(self, count: int) -> None:
        """Lets that many bytes be read from here on."""
        self.bytes_left, self.reads_left = count, _MAX_READS

    def read(self, size: int = -1) -> bytes:
        """Reads like a file; never more than the file has left."""
        left = max(self.size - self.tell(), 0)
        size = left if size is None or size < 0 else min(size, left)
        self.bytes_left -= size
        self.reads_left -= 1
        if self.bytes_left < 0 or self.reads_left < 0:
            raise SliceError(self.path, "its header or an encoded frame is larger than is accepted")
        return self.stream.read(size)


def _raise_refusal_behind(error: BaseException) -> None:
    """Raises the SliceError that pydicom, where it reads a sequence, turned into another one."""
    if isinstance(error.__context__, SliceError):
        raise error.__context__ from None


def _value(dataset: Dataset, keyword: str, limit: int = _MAX_VALUE_BYTES) -> Any:
    """Gives the value of a tag, or None where it is missing, empty, broken or too long."""
    if keyword not in dataset or _raw_length(dataset, keyword) > limit:
        return None
    try:
        value = dataset.get(keyword)
        return None if value is None or (hasattr(value, "__len__") and not len(value)) else value
    except _VALUE_ERRORS:
        return None


def _raw_length(dataset: Dataset, keyword: str) -> int:
    from pydicom.tag import Tag

    value = dataset.get_item(Tag(keyword)).value
    return len(value) if isinstance(value, bytes) else 0


def _values(dataset: Dataset, keyword: str) -> list[Any]:
    from pydicom.multival import MultiValue

    value = _value(dataset, keyword)
    if value is None:
        return []
    return list(value) if isinstance(value, MultiValue | list | tuple) else [value]


def _texts(dataset: Dataset, keyword: str) -> list[str]:
    texts = []
    for value in _values(dataset, keyword):
        text = value.decode("latin-1") if isinstance(value, bytes) else str(value)
        texts.append(text.strip(" \0\t\r\n"))
    return [text for text in texts if text]


def _text(dataset: Dataset, keyword: str) -> str | None:
    return "\\".join(_texts(dataset, keyword)) or None


def _numbers(dataset: Dataset, keyword: str) -> tuple[float, ...]:
    try:
        return tuple(float(value) for value in _values(dataset, keyword))
    except _VALUE_ERRORS:
        return ()


def _integer(dataset: Dataset, keyword: str) -> int | None:
    numbers = _numbers(dataset, keyword)
    return int(numbers[0]) if numbers and numbers[0].is_integer() else None


def _items(source: _Source, dataset: Dataset, keyword: str) -> Sequence[Dataset]:
    """Gives the items of a sequence; none where it is missing or broken."""
    from pydicom.dataelem import RawDataElement
    from pydicom.tag import Tag

    if keyword not in dataset:
        return ()
    tag = Tag(keyword)
    try:
        element = dataset.get_item(tag)
        if isinstance(element, RawDataElement):
            dataset.add_new(tag, "SQ", _parse_items(source, element))
        return tuple(dataset[tag].value)
    except _VALUE_ERRORS as error:
        _raise_refusal_behind(error)
        return ()


def _parse_items(source: _Source, element: RawDataElement) -> Any:
    """Parses a sequence within bounds, which pydicom's own parsing on access does not keep to."""
    from pydicom.filereader import read_sequence

    data = element.value or b""
    unknown = element.VR == "UN"  # what was written as unknown is implicit (PS3.5, 6.2.2)
    stream = _Bounded(source.path, io.BytesIO(data), len(data))
    # One budget for the whole header, however many sequences it is spread over.
    stream.reads_left = source.stream.reads_left
    try:
        return read_sequence(
            stream,
            unknown or element.is_implicit_VR,
            unknown or element.is_little_endian,
            len(data),
            "iso8859",
        )
    finally:
        source.stream.reads_left = stream.reads_left


def _code(dataset: Dataset, keyword: str) -> str:
    """Gives a code string as it may be shown: at most 16 capital letters, digits and the like."""
    return re.sub(r"[^A-Z0-9 _/-]", "", (_text(dataset, keyword) or "").upper())[:16].strip()


def _is_empty(dataset: Dataset, keyword: str) -> bool:
    """Says whether a tag is missing or has no value, rather than one that cannot be read."""
    from pydicom.tag import Tag

    if keyword not in dataset:
        return True
    value = dataset.get_item(Tag(keyword)).value
    return value is None or (isinstance(value, bytes | str) and not value.strip())
