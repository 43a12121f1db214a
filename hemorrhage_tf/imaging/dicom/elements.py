"""Read the values of data elements, whatever a damaged or hostile file declares.

A value that is missing, empty, malformed or too long reads as None or as an empty tuple.
"""

from __future__ import annotations

import io
import re
import struct
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from hemorrhage_tf.core.errors import SliceError
from hemorrhage_tf.imaging.dicom.dicom_file import BoundedStream, DicomFile

if TYPE_CHECKING:
    from pydicom.dataelem import RawDataElement
    from pydicom.dataset import Dataset

# Limit for elements other than sequences and lookup tables; pydicom makes an object per value.
MAX_VALUE_BYTES = 1 << 16

# Errors that pydicom raises where a value does not fit its value representation.
_VALUE_ERRORS = (
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    ArithmeticError,
    OSError,
    NotImplementedError,
    RecursionError,
    struct.error,
)


def reraise_slice_error(error: BaseException) -> None:
    """Raise the SliceError that pydicom replaced with `error` while reading a sequence, if any."""
    if isinstance(error.__context__, SliceError):
        raise error.__context__ from None


def read_value(dataset: Dataset, keyword: str, limit: int = MAX_VALUE_BYTES) -> Any:
    """Return the value of an element, or None if it is missing, empty, malformed or too long."""
    if keyword not in dataset or raw_length(dataset, keyword) > limit:
        return None
    try:
        value = dataset.get(keyword)
        return None if value is None or (hasattr(value, "__len__") and not len(value)) else value
    except _VALUE_ERRORS:
        return None


def raw_length(dataset: Dataset, keyword: str) -> int:
    """Return the length of an element's value in bytes; 0 if it was parsed already."""
    from pydicom.tag import Tag

    value = dataset.get_item(Tag(keyword)).value
    return len(value) if isinstance(value, bytes) else 0


def read_texts(dataset: Dataset, keyword: str) -> list[str]:
    """Return the values of an element as texts without padding; empty ones are left out."""
    texts = []
    for value in _read_values(dataset, keyword):
        text = value.decode("latin-1") if isinstance(value, bytes) else str(value)
        texts.append(text.strip(" \0\t\r\n"))
    return [text for text in texts if text]


def read_text(dataset: Dataset, keyword: str) -> str | None:
    """Return the value of an element as text, multiple values joined by backslashes."""
    return "\\".join(read_texts(dataset, keyword)) or None


def read_numbers(dataset: Dataset, keyword: str) -> tuple[float, ...]:
    """Return the values of an element as numbers; none if one of them is not a number."""
    try:
        return tuple(float(value) for value in _read_values(dataset, keyword))
    except _VALUE_ERRORS:
        return ()


def read_integer(dataset: Dataset, keyword: str) -> int | None:
    """Return the first value of an element if it is an integer."""
    numbers = read_numbers(dataset, keyword)
    return int(numbers[0]) if numbers and numbers[0].is_integer() else None


def read_instance_number(dataset: Dataset) -> int | None:
    """Return the Instance Number if it is one that DICOM allows (PS3.5, section 6.2, IS)."""
    number = read_integer(dataset, "InstanceNumber")
    return number if number is not None and -(2**31) <= number < 2**31 else None


def read_code(dataset: Dataset, keyword: str) -> str:
    """Return a code string that is safe to print: at most 16 characters, without odd ones."""
    return re.sub(r"[^A-Z0-9 _/-]", "", (read_text(dataset, keyword) or "").upper())[:16].strip()


def read_items(file: DicomFile, dataset: Dataset, keyword: str) -> Sequence[Dataset]:
    """Return the items of a sequence; none if it is missing or malformed."""
    from pydicom.dataelem import RawDataElement
    from pydicom.tag import Tag

    if keyword not in dataset:
        return ()
    tag = Tag(keyword)
    try:
        element = dataset.get_item(tag)
        if isinstance(element, RawDataElement):
            dataset.add_new(tag, "SQ", _parse_items(file, element))
        return tuple(dataset[tag].value)
    except _VALUE_ERRORS as error:
        reraise_slice_error(error)
        return ()


def is_empty(dataset: Dataset, keyword: str) -> bool:
    """Return whether an element is missing or has no value, rather than an unreadable one."""
    from pydicom.tag import Tag
    from pydicom.valuerep import PersonName

    if keyword not in dataset:
        return True
    value = dataset.get_item(Tag(keyword)).value
    if isinstance(value, PersonName):  # what a name becomes once it was read
        value = str(value)
    return value is None or (isinstance(value, bytes | str) and not value.strip())


def _read_values(dataset: Dataset, keyword: str) -> list[Any]:
    from pydicom.multival import MultiValue

    value = read_value(dataset, keyword)
    if value is None:
        return []
    return list(value) if isinstance(value, MultiValue | list | tuple) else [value]


def _parse_items(file: DicomFile, element: RawDataElement) -> Any:
    """Parse a sequence within the file's limits, which pydicom ignores when parsing on access."""
    from pydicom.filereader import read_sequence

    data = element.value or b""
    # A sequence written as UN is in implicit VR little endian (PS3.5, section 6.2.2).
    unknown = element.VR == "UN"
    stream = BoundedStream(file.path, io.BytesIO(data), len(data))
    # One budget for the whole header, however many sequences share it.
    stream.reads_left = file.stream.reads_left
    try:
        return read_sequence(
            stream.as_binary_io(),
            unknown or element.is_implicit_VR,
            unknown or element.is_little_endian,
            len(data),
            "iso8859",
        )
    finally:
        file.stream.reads_left = stream.reads_left
