"""DICOM files: their header, their slices in Hounsfield units, and the windows that they name.

Listing, sorting and grouping live elsewhere. A file comes from anywhere, so nothing that it
declares is believed before it is compared with what the file can hold.
"""

from __future__ import annotations

import functools
import io
import logging
import math
import os
import re
import stat
import struct
import warnings
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

import numpy as np

from hemorrhage_tf.data.header import MAX_PIXELS, Header
from hemorrhage_tf.data.windows import AIR, Window
from hemorrhage_tf.errors import HemorrhageError, OptionError, SliceError

if TYPE_CHECKING:
    from pydicom.dataelem import RawDataElement
    from pydicom.dataset import Dataset

DICOM_SUFFIXES = (".dcm", ".dicom", ".ima")

# Below this no tissue lies: what is lower is how a scanner marks what it did not measure.
LOWEST_HOUNSFIELD = -1024
MODALITIES = ("CT", "OT", "SC")
BODY_PARTS = ("HEAD", "SKULL", "BRAIN", "CRANI")

# What keeps the peak memory of any file below 1 GB; real slices stay far below all of them.
_MAX_FRAME_BYTES = 128_000_000
_MAX_ENCODED_BYTES = 64 << 20
# The decoders of JPEG 2000 hold every sample in several copies of 32 bits.
_MAX_ENCODED_SAMPLES = 32_000_000
# A run of 2 bytes becomes up to 128, so this many bytes become at most half a gigabyte.
_MAX_RUN_LENGTH_BYTES = 8 << 20
_MAX_INFLATED_BYTES = 256 << 20
_MAX_HEADER_BYTES = 32 << 20
# Every element of a header costs a read or more, and is kept with some hundred bytes.
_MAX_READS = 600_000
# Of a tag that is no sequence and no table; pydicom makes an object of each of its values.
_MAX_VALUE_BYTES = 1 << 16
_MAX_TABLE_BYTES = 2 << 16
_MAX_FRAMES = 100_000
_BLOCK_PIXELS = 1 << 20

_DICOMDIR = "1.2.840.10008.1.3.10"
_IMPLICIT = "1.2.840.10008.1.2"
_EXPLICIT = "1.2.840.10008.1.2.1"
_DEFLATED = "1.2.840.10008.1.2.1.99"
_BIG_ENDIAN = "1.2.840.10008.1.2.2"
_NATIVE = (_IMPLICIT, _EXPLICIT, _DEFLATED, _BIG_ENDIAN)
_RUN_LENGTH = "1.2.840.10008.1.2.5"
_JPEG_EXTENDED = "1.2.840.10008.1.2.4.51"
_JPEG_LOSSY = ("1.2.840.10008.1.2.4.50", _JPEG_EXTENDED)
_JPEG_LOSSLESS = tuple(f"1.2.840.10008.1.2.4.{number}" for number in (57, 70))
_JPEG = _JPEG_LOSSY + _JPEG_LOSSLESS
_JPEG_LS = tuple(f"1.2.840.10008.1.2.4.{number}" for number in (80, 81))
_JPEG_2000 = tuple(f"1.2.840.10008.1.2.4.{number}" for number in (90, 91, 201, 202, 203))
_PLUGINS = {
    _RUN_LENGTH: "pydicom",
    # gdcm reads these as well, but it ends the whole process at some damaged ones.
    **dict.fromkeys(_JPEG_LOSSY, "pillow"),
    **dict.fromkeys(_JPEG_LOSSLESS + _JPEG_LS, "gdcm"),
    **dict.fromkeys(_JPEG_2000, "pylibjpeg"),
}

_CHARACTER_SET = 0x00080005
_UNDEFINED_LENGTH = 0xFFFFFFFF
_PIXEL_DATA = 0x7FE00010
_PIXEL_TAGS = (0x7FE00008, 0x7FE00009, _PIXEL_DATA)
_ITEM = 0xFFFEE000
_SEQUENCE_END = 0xFFFEE0DD
_LONG_VRS = (b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"UC", b"UN", b"UR", b"UT")
_SHORT_VRS = b"AE AS AT CS DA DS DT FD FL IS LO LT PN SH SL SS ST TM UI UL US".split()

_NAME_TAGS = ("PatientName", "OtherPatientNames", "PatientBirthName", "PatientMotherBirthName")
_NUMBER_TAGS = ("OtherPatientIDs", "AccessionNumber", "AdmissionID", "PatientBirthDate")
_HEADER_TAGS = (
    *_NAME_TAGS,
    *_NUMBER_TAGS,
    *("OtherPatientIDsSequence", "ResponsiblePerson", "PatientTelephoneNumbers", "PatientID"),
    *("SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "InstanceNumber"),
    *("Modality", "ImageType", "BodyPartExamined", "ImagePositionPatient"),
    *("ImageOrientationPatient", "NumberOfFrames", "Rows", "Columns"),
    *("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"),
)
_FRAME_TAGS = (
    *("SOPClassUID", "Modality", "ImageOrientationPatient", "NumberOfFrames", "Rows", "Columns"),
    *("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"),
    *("SamplesPerPixel", "PhotometricInterpretation", "PlanarConfiguration", "BitsAllocated"),
    *("BitsStored", "HighBit", "PixelRepresentation", "PixelPaddingValue"),
    *("PixelPaddingRangeLimit", "RescaleSlope", "RescaleIntercept", "ModalityLUTSequence"),
    *("WindowCenter", "WindowWidth", "VOILUTFunction", "EncryptedAttributesSequence"),
    *("RedPaletteColorLookupTableDescriptor", "RedPaletteColorLookupTableData"),
    *("GreenPaletteColorLookupTableDescriptor", "GreenPaletteColorLookupTableData"),
    *("BluePaletteColorLookupTableDescriptor", "BluePaletteColorLookupTableData"),
    *("ExtendedOffsetTable", "ExtendedOffsetTableLengths"),
)

# What pydicom raises where the value of a tag does not fit its type.
_VALUE_ERRORS = (
    *(ValueError, TypeError, LookupError, AttributeError, ArithmeticError, OSError),
    *(NotImplementedError, RecursionError, struct.error),
)

# As `warnings.filterwarnings("ignore", module="pydicom")` stores it.
_QUIET = ("ignore", None, Warning, re.compile("pydicom"), 0)


class _Source(NamedTuple):
    """An open file: its tags, and a stream that stands where the pixel data begin."""

    path: Path
    dataset: Dataset
    stream: _Bounded
    syntax: str


class _Layout(NamedTuple):
    """How the pixels of a frame are stored; checked."""

    rows: int
    columns: int
    samples: int
    frames: int
    allocated: int
    stored: int
    high: int
    signed: bool
    planar: int
    photometric: str

    @property
    def is_color(self) -> bool:
        return self.samples == 3 or self.photometric == "PALETTE COLOR"

    @property
    def frame_bytes(self) -> int:
        """The length of an uncompressed frame in the file."""
        length = self.rows * self.columns * self.samples * self.allocated // 8
        return length // 3 * 2 if self.photometric == "YBR_FULL_422" else length


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


def read_header(path: str | Path) -> Header:
    """Reads what listing, sorting and grouping need; no pixel is read.

    Args:
        path: a DICOM file.

    Returns:
        The header. What is missing or broken in the file is None in it.

    Raises:
        SliceError: the file cannot be read, is no DICOM file, or is an index (DICOMDIR).
    """
    with _opened(path, _HEADER_TAGS) as source:
        dataset = source.dataset
        count = _frame_count(source)
        shared, per_frame = _groups(source)
        return Header(
            positions=tuple(
                _position(source, shared, per_frame, frame, count) for frame in range(count)
            ),
            patient=_text(dataset, "PatientID"),
            identifying=_identifying(source),
            series=_text(dataset, "SeriesInstanceUID"),
            instance=_text(dataset, "SOPInstanceUID"),
            number=_integer(dataset, "InstanceNumber"),
            suspicion=_suspicion(source, _orientation(source, shared, per_frame, 0)),
        )


def read_frame(path: str | Path, frame: int | None = None) -> np.ndarray:
    """Reads one slice.

    The slice is brought upright where the file says how it lies: rows from anterior to posterior,
    columns from the patient's right to left, by flips and a transposition only.

    Args:
        path: a DICOM file.
        frame: which slice of the file, from 0; None for a file of one.

    Returns:
        float32 `(height, width)` in HU; or, of a secondary capture that is a picture, uint8
        `(height, width)` or `(height, width, 3)` display pixels in [0, 255].

    Raises:
        SliceError: the file cannot be decoded, has no pixels, no such frame or another modality.

    Reference:
        DICOM PS3.3, C.7.6.3 (image pixels), C.11.1 (modality LUT), C.7.6.2 (image plane).
    """
    with _opened(path, _FRAME_TAGS) as source:
        pixel_vr, length = _pixel_element(source)
        _require_modality(source)
        layout = _layout(source)
        index = _frame_index(source, frame, layout.frames)
        shared, per_frame = _groups(source)
        rescale = _macro(source, shared, per_frame, index, "PixelValueTransformationSequence")
        raw, layout = _decode(source, layout, index, pixel_vr, length)
        stored = raw
        # In JPEG 2000 and JPEG-LS the codestream has the say in what a sample's bits are.
        if source.syntax not in _JPEG_2000 + _JPEG_LS:
            stored = _without_unused_bits(raw, layout)
        if layout.is_color:
            pixels = _color(source, layout, stored)
        elif _is_display(source, layout, rescale):
            pixels = _gray(layout, stored)
        else:
            pixels = _hounsfield(source, rescale or source.dataset, layout, raw, stored)
        return _upright(pixels, _orientation(source, shared, per_frame, index))


def file_windows(path: str | Path, frame: int | None = None) -> tuple[Window, ...]:
    """Gives the windows that a file itself names.

    Args:
        path: a DICOM file.
        frame: which slice of the file, from 0; None is the first.

    Returns:
        In the file's order; those that cannot be used, of width 0 for instance, are left out.

    Raises:
        SliceError: as `read_header`, or there is no such frame.

    Reference:
        DICOM PS3.3, C.11.2 (VOI LUT), C.7.6.16.2.10 (frame VOI LUT).
    """
    with _opened(path, _FRAME_TAGS) as source:
        index = _frame_index(source, frame or 0, _frame_count(source))
        shared, per_frame = _groups(source)
        holder = _macro(source, shared, per_frame, index, "FrameVOILUTSequence") or source.dataset
        function = (_text(holder, "VOILUTFunction") or "LINEAR").lower()
        centers, widths = _numbers(holder, "WindowCenter"), _numbers(holder, "WindowWidth")
        # The counts may differ in a broken file; a center without a width is no window.
        pairs = zip(centers, widths, strict=False)
        windows = (_window(center, width, function) for center, width in pairs)
        return tuple(window for window in windows if window is not None)


def _window(center: float, width: float, function: str) -> Window | None:
    try:
        return Window(center, width, function)
    except OptionError:
        return None


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


def _raise_refusal_behind(error: BaseException) -> None:
    """Raises the SliceError that pydicom, where it reads a sequence, turned into another one."""
    if isinstance(error.__context__, SliceError):
        raise error.__context__ from None


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


def _groups(source: _Source) -> tuple[Dataset | None, Sequence[Dataset]]:
    """Gives the functional groups of an enhanced file: of all frames, and of each."""
    shared = _items(source, source.dataset, "SharedFunctionalGroupsSequence")
    per_frame = _items(source, source.dataset, "PerFrameFunctionalGroupsSequence")
    return (shared[0] if shared else None), per_frame


def _macro(
    source: _Source,
    shared: Dataset | None,
    per_frame: Sequence[Dataset],
    frame: int,
    keyword: str,
) -> Dataset | None:
    """Gives what the functional groups say of a frame, or None where they are silent."""
    own = per_frame[frame] if frame < len(per_frame) else None
    for holder in (own, shared):
        items = _items(source, holder, keyword) if holder is not None else ()
        if items:
            return items[0]
    return None


def _frame_count(source: _Source) -> int:
    count = _integer(source.dataset, "NumberOfFrames")
    count = 1 if count is None else count
    if not 1 <= count <= _MAX_FRAMES:
        raise SliceError(
            source.path, f"declares {count} frames; accepted are 1 to {_MAX_FRAMES} of them"
        )
    return count


def _frame_index(source: _Source, frame: int | None, count: int) -> int:
    if frame is None and count > 1:
        raise SliceError(source.path, f"holds {count} frames: say which one, from 0 to {count - 1}")
    index = frame or 0
    if not 0 <= index < count:
        raise SliceError(source.path, f"has no frame {index}: it holds {count}, which count from 0")
    return index


def _orientation(
    source: _Source, shared: Dataset | None, per_frame: Sequence[Dataset], frame: int
) -> np.ndarray | None:
    """Gives the directions of a row and of a column, `(2, 3)`; None where they are unusable."""
    plane = _macro(source, shared, per_frame, frame, "PlaneOrientationSequence") or source.dataset
    cosines = np.array(_numbers(plane, "ImageOrientationPatient"))
    if cosines.size != 6 or not np.isfinite(cosines).all():
        return None
    row, column = cosines.reshape(2, 3)
    lengths = np.linalg.norm(row), np.linalg.norm(column)
    # Directions that are no unit vectors or no right angle are no directions: zeros, mostly.
    if any(abs(length - 1) > 0.1 for length in lengths) or abs(row @ column) > 0.1:
        return None
    return np.stack([row / lengths[0], column / lengths[1]])


def _normal(orientation: np.ndarray) -> np.ndarray:
    """Gives the normal of the slices; towards the head where they are axial."""
    normal = np.cross(*orientation)
    return -normal if normal[np.abs(normal).argmax()] < 0 else normal


def _position(
    source: _Source,
    shared: Dataset | None,
    per_frame: Sequence[Dataset],
    frame: int,
    count: int,
) -> float | None:
    orientation = _orientation(source, shared, per_frame, frame)
    plane = _macro(source, shared, per_frame, frame, "PlanePositionSequence")
    if plane is None and count == 1:  # of several frames, the file's one position says nothing
        plane = source.dataset
    if orientation is None or plane is None:
        return None
    corner = _numbers(plane, "ImagePositionPatient")
    if len(corner) != 3 or not all(math.isfinite(value) for value in corner):
        return None
    return float(np.dot(corner, _normal(orientation)))


def _identifying(source: _Source) -> tuple[str, ...]:
    """Gives what could stand in a file's name and tell who the patient is."""
    dataset = source.dataset
    names = [text for tag in (*_NAME_TAGS, "ResponsiblePerson") for text in _texts(dataset, tag)]
    parts = [part for name in names for part in re.split(r"[\^=\s,]+", name)]
    for tag in (*_NUMBER_TAGS, "PatientTelephoneNumbers"):
        parts += _texts(dataset, tag)
    for item in _items(source, dataset, "OtherPatientIDsSequence"):
        parts += _texts(item, "PatientID")
    # Shorter parts stand in half of all names, and tell nobody from anybody.
    return tuple(dict.fromkeys(part for part in parts if len(part) >= 3))


def _suspicion(source: _Source, orientation: np.ndarray | None) -> str | None:
    dataset = source.dataset
    if not _integer(dataset, "Rows") or not _integer(dataset, "Columns"):
        return "it holds no picture"
    modality = _code(dataset, "Modality")
    if modality and modality not in MODALITIES:
        return f"its modality is {modality}, not CT"
    kinds = {text.upper() for text in _texts(dataset, "ImageType")}
    if kinds & {"LOCALIZER", "SCOUT"}:
        return "a localizer (Image Type), not an axial slice"
    if orientation is not None and not _is_axial(orientation):
        axis = np.abs(_normal(orientation)).argmax()
        plane = "sagittal" if axis == 0 else "coronal" if axis == 1 else "oblique"
        return f"not an axial slice (its orientation is {plane})"
    part = _code(dataset, "BodyPartExamined")
    if part and not part.startswith(BODY_PARTS):
        return f"its Body Part Examined is {part}, not the head"
    return None


def _is_axial(orientation: np.ndarray) -> bool:
    return bool(abs(_normal(orientation)[2]) >= math.cos(math.pi / 4) - 1e-6)


def _code(dataset: Dataset, keyword: str) -> str:
    """Gives a code string as it may be shown: at most 16 capital letters, digits and the like."""
    return re.sub(r"[^A-Z0-9 _/-]", "", (_text(dataset, keyword) or "").upper())[:16].strip()


def _require_modality(source: _Source) -> None:
    modality = _code(source.dataset, "Modality")
    if modality and modality not in MODALITIES:
        raise SliceError(
            source.path, f"its modality is {modality}: accepted are {', '.join(MODALITIES)}"
        )


def _pixel_element(source: _Source) -> tuple[str, int]:
    """Reads the head of the pixel data; returns its VR and declared length."""
    stream, path = source.stream, source.path
    implicit, little = source.dataset.original_encoding
    order = "<" if little else ">"
    head = stream.read(8)
    if len(head) < 8:
        raise SliceError(path, _why_no_pixels(source))
    group, element = struct.unpack_from(f"{order}HH", head)
    if group << 16 | element != _PIXEL_DATA:
        raise SliceError(path, "its pixels are floating-point numbers, which are not read")
    if implicit:
        return "OW", struct.unpack_from(f"{order}I", head, 4)[0]
    vr = head[4:6]
    if vr in _LONG_VRS:
        return vr.decode("ascii"), struct.unpack(f"{order}I", stream.read(4))[0]
    return "OW", struct.unpack_from(f"{order}H", head, 6)[0]


def _why_no_pixels(source: _Source) -> str:
    from pydicom.uid import UID

    if "EncryptedAttributesSequence" in source.dataset:
        return "its content is encrypted"
    if "Rows" in source.dataset:
        return "cut short: it ends before the pixel data"
    uid = _text(source.dataset, "SOPClassUID") or ""
    name = UID(uid).name
    return f"holds no picture ({name})" if uid and name != uid else "holds no picture"


def _layout(source: _Source) -> _Layout:
    """Reads how the pixels are stored, and refuses what cannot or should not be decoded."""
    dataset, path = source.dataset, source.path

    def number(keyword: str, default: int) -> int:
        value = _integer(dataset, keyword)
        return default if value is None else value

    allocated = number("BitsAllocated", 0)
    stored = number("BitsStored", allocated)
    layout = _Layout(
        rows=number("Rows", 0),
        columns=number("Columns", 0),
        samples=number("SamplesPerPixel", 1),
        frames=_frame_count(source),
        allocated=allocated,
        stored=stored,
        high=number("HighBit", stored - 1),
        signed=number("PixelRepresentation", 0) == 1,
        planar=number("PlanarConfiguration", 0),
        photometric=_code(dataset, "PhotometricInterpretation") or "MONOCHROME2",
    )
    if layout.rows < 1 or layout.columns < 1:
        raise SliceError(path, "declares no size of the picture (Rows, Columns)")
    if layout.rows * layout.columns > MAX_PIXELS:
        raise SliceError(
            path,
            f"declares {layout.columns} x {layout.rows} pixels, more than the "
            f"{MAX_PIXELS // 1_000_000} million that are accepted",
        )
    if layout.samples not in (1, 3):
        raise SliceError(path, f"has {layout.samples} samples a pixel: accepted are 1 and 3")
    if allocated not in (8, 16, 32):
        raise SliceError(path, f"has {allocated} bits a sample: accepted are 8, 16 and 32")
    if not 1 <= stored <= allocated or not stored - 1 <= layout.high < allocated:
        raise SliceError(path, f"stores {stored} bits in {allocated}, up to bit {layout.high}")
    if layout.rows * layout.columns * layout.samples * allocated // 8 > _MAX_FRAME_BYTES:
        raise SliceError(
            path, f"a frame has more than the {_MAX_FRAME_BYTES // 1_000_000} MB that are accepted"
        )
    _require_photometric(path, layout)
    return layout


def _require_photometric(path: Path, layout: _Layout) -> None:
    gray = ("MONOCHROME1", "MONOCHROME2", "PALETTE COLOR")
    color = ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT")
    accepted = gray if layout.samples == 1 else color
    if layout.photometric not in accepted:
        raise SliceError(
            path,
            f"its photometric interpretation is {layout.photometric}: accepted for "
            f"{layout.samples} samples a pixel are {', '.join(accepted)}",
        )


def _decode(
    source: _Source, layout: _Layout, index: int, pixel_vr: str, length: int
) -> tuple[np.ndarray, _Layout]:
    """Decodes one frame, and no other; returns it with the layout that it came out in."""
    syntax, path = source.syntax, source.path
    if syntax not in _NATIVE and syntax not in _PLUGINS:
        raise SliceError(path, f"no decoder for its transfer syntax, {_syntax_name(syntax)}")
    from pydicom.pixels import get_decoder

    options = {
        "rows": layout.rows,
        "columns": layout.columns,
        "samples_per_pixel": layout.samples,
        "bits_allocated": layout.allocated,
        "bits_stored": layout.stored,
        "pixel_representation": int(layout.signed),
        "planar_configuration": layout.planar,
        "photometric_interpretation": layout.photometric,
        "number_of_frames": layout.frames,
        "pixel_keyword": "PixelData",
        "pixel_vr": pixel_vr,
        # Done here: pydicom takes the lowest bits, whatever the highest bit is said to be.
        "correct_unused_bits": False,
    }
    if syntax in _NATIVE:
        _require_length(source, layout, length)
        source.stream.allow(_MAX_FRAME_BYTES)
        pixels, after = get_decoder(syntax).as_array(
            source.stream, index=index, raw=True, **options
        )
    else:
        encoded, precision = _encoded_frame(source, layout, index)
        if syntax in _JPEG:
            if syntax == _JPEG_EXTENDED and precision == 12 and layout.samples == 1:
                return _decode_12_bits(_bare_jpeg(encoded), layout), layout
            if syntax in _JPEG_LOSSLESS:
                encoded = _bare_jpeg(encoded)
            # The decoder needs to know what is in the codestream, not what the header says; but
            # where 8 bits have less than 8 in use, gdcm ends the process (an assertion in its
            # gdcmImageCodec.cxx, of 3.2.6).
            options["bits_stored"] = max(precision, 8)
        from pydicom.encaps import encapsulate

        pixels, after = get_decoder(syntax).as_array(
            encapsulate([encoded], has_bot=False),
            index=0,
            raw=True,
            decoding_plugin=_plugin(path, syntax),
            **{**options, "number_of_frames": 1},
        )
    photometric = str(after["photometric_interpretation"])
    return pixels.astype(pixels.dtype.newbyteorder("="), copy=False), layout._replace(
        photometric=photometric
    )


def _require_length(source: _Source, layout: _Layout, length: int) -> None:
    expected = layout.frame_bytes * layout.frames
    if length == _UNDEFINED_LENGTH:
        raise SliceError(source.path, "damaged: its pixels are compressed, but said not to be")
    there = min(length, source.stream.size - source.stream.tell())
    if there < expected:
        raise SliceError(
            source.path, f"cut short: {there} bytes of pixel data, but {expected} expected"
        )


def _syntax_name(syntax: str) -> str:
    from pydicom.uid import UID

    if not re.fullmatch(r"[0-9.]{1,64}", syntax):
        return "which is no valid UID"
    name = UID(syntax).name
    return syntax if name == syntax else f"{name} ({syntax})"


def _plugin(path: Path, syntax: str) -> str:
    from pydicom.pixels import get_decoder

    wanted, available = _PLUGINS[syntax], get_decoder(syntax).available_plugins
    if wanted not in available:
        package = {"gdcm": "python-gdcm", "pylibjpeg": "pylibjpeg-openjpeg"}.get(wanted, wanted)
        raise SliceError(
            path, f"needs the package {package} for its transfer syntax, {_syntax_name(syntax)}"
        )
    if wanted == "gdcm":
        _quiet_gdcm()
    return wanted


@functools.cache
def _quiet_gdcm() -> None:
    import gdcm

    for switch_off in (gdcm.Trace.DebugOff, gdcm.Trace.WarningOff, gdcm.Trace.ErrorOff):
        switch_off()


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


def _decode_12_bits(encoded: bytes, layout: _Layout) -> np.ndarray:
    """Decodes 12-bit JPEG by gdcm itself: pydicom's plugin leaves it out, though gdcm reads it."""
    import gdcm

    _quiet_gdcm()
    fragment = gdcm.Fragment()
    fragment.SetByteStringValue(encoded)
    fragments = gdcm.SequenceOfFragments.New()
    fragments.AddFragment(fragment)
    element = gdcm.DataElement(gdcm.Tag(0x7FE0, 0x0010))
    element.SetValue(fragments.__ref__())
    image = gdcm.Image()
    image.SetNumberOfDimensions(2)
    image.SetDimensions((layout.columns, layout.rows, 1))
    image.SetDataElement(element)
    image.SetPhotometricInterpretation(
        gdcm.PhotometricInterpretation(gdcm.PhotometricInterpretation.MONOCHROME2)
    )
    image.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.JPEGExtendedProcess2_4))
    image.SetPixelFormat(gdcm.PixelFormat(1, 16, 12, 11, int(layout.signed)))
    # It hands its bytes over as text.
    pixels = image.GetBuffer().encode("utf-8", "surrogateescape")
    kind = np.int16 if layout.signed else np.uint16
    return np.frombuffer(pixels, kind).reshape(layout.rows, layout.columns)


def _without_unused_bits(raw: np.ndarray, layout: _Layout) -> np.ndarray:
    """Drops the bits that are not the sample's: old files keep overlays in them, or anything."""
    above = layout.allocated - 1 - layout.high
    unused = layout.allocated - layout.stored
    # To the top and back, so that a signed sample takes its sign along.
    return (raw << above) >> unused if unused else raw


def _in_blocks(
    function: Callable[[np.ndarray], np.ndarray],
    pixels: np.ndarray,
    shape: tuple[int, ...],
    kind: type,
) -> np.ndarray:
    """Applies a function to some rows at a time: its temporaries would fill the memory."""
    result = np.empty(shape, kind)
    step = max(1, _BLOCK_PIXELS // shape[1])
    for top in range(0, shape[0], step):
        result[top : top + step] = function(pixels[top : top + step])
    return result


def _is_display(source: _Source, layout: _Layout, rescale: Dataset | None) -> bool:
    """Says whether gray pixels are a picture: 8 bits that no tag relates to Hounsfield units."""
    dataset = source.dataset
    related = rescale is not None or any(
        not _is_empty(dataset, keyword)
        for keyword in ("RescaleSlope", "RescaleIntercept", "ModalityLUTSequence")
    )
    return layout.stored <= 8 and not related and _code(dataset, "Modality") != "CT"


def _gray(layout: _Layout, stored: np.ndarray) -> np.ndarray:
    """Shows stored values as gray levels in [0, 255]."""
    highest = (1 << layout.stored) - 1
    lowest = -(1 << (layout.stored - 1)) if layout.signed else 0

    def show(block: np.ndarray) -> np.ndarray:
        gray = block.astype(np.int32) - lowest
        if layout.photometric == "MONOCHROME1":  # its lowest value is white
            gray = highest - gray
        return (gray * 255 + highest // 2) // highest

    return _in_blocks(show, stored, stored.shape, np.uint8)


def _color(source: _Source, layout: _Layout, stored: np.ndarray) -> np.ndarray:
    """Converts color to 8-bit RGB."""
    from pydicom.pixels import apply_color_lut, convert_color_space

    shape = (layout.rows, layout.columns, 3)
    if layout.photometric == "PALETTE COLOR":
        if "RedPaletteColorLookupTableData" not in source.dataset:
            raise SliceError(source.path, "its color palette is missing or segmented")
        depth = int(_numbers(source.dataset, "RedPaletteColorLookupTableDescriptor")[2])

        def look_up(block: np.ndarray) -> np.ndarray:
            rgb = apply_color_lut(block.astype(np.int32), source.dataset)[..., :3]
            return rgb >> 8 if depth > 8 else rgb

        return _in_blocks(look_up, stored, shape, np.uint8)

    def to_rgb(block: np.ndarray) -> np.ndarray:
        if layout.stored > 8:
            block = block >> (layout.stored - 8)
        block = block.astype(np.uint8)
        if layout.photometric.startswith("YBR_FULL"):
            return convert_color_space(block, "YBR_FULL", "RGB")
        return block

    return _in_blocks(to_rgb, stored, shape, np.uint8)


def _hounsfield(
    source: _Source, tags: Dataset, layout: _Layout, raw: np.ndarray, stored: np.ndarray
) -> np.ndarray:
    """Converts stored values to Hounsfield units, and what was not measured to air."""
    # MONOCHROME1 says how to show them, not what they are: they are not inverted.
    table = _items(source, source.dataset, "ModalityLUTSequence")
    convert = _table(source, table[0]) if table else _rescale(source, tags)
    hounsfield = _in_blocks(convert, stored, stored.shape, np.float32)
    padding = _padding(source, layout, raw, stored)
    if padding is not None:
        hounsfield[padding] = AIR
    # Scanners write -1500, -2000 or -3024 outside their circle, and not all of them declare it.
    # Nothing in a patient is thinner than air, and noise in air stays above this.
    hounsfield[hounsfield < LOWEST_HOUNSFIELD] = AIR
    return hounsfield


def _rescale(source: _Source, tags: Dataset) -> Callable[[np.ndarray], np.ndarray]:
    slope = _rescale_number(source, tags, "RescaleSlope", 1.0)
    intercept = _rescale_number(source, tags, "RescaleIntercept", 0.0)
    if slope == 0:
        raise SliceError(source.path, "its Rescale Slope is 0: every pixel would be the same")
    # In float64, so that integers come out exact and the rest is rounded once.
    return lambda block: block.astype(np.float64) * slope + intercept


def _rescale_number(source: _Source, tags: Dataset, keyword: str, default: float) -> float:
    numbers = _numbers(tags, keyword)
    if not numbers and _is_empty(tags, keyword):
        return default
    if not numbers or not math.isfinite(numbers[0]) or abs(numbers[0]) > 1e9:
        name = "Rescale Slope" if keyword == "RescaleSlope" else "Rescale Intercept"
        raise SliceError(source.path, f"its {name} is not a usable number")
    return numbers[0]


def _is_empty(dataset: Dataset, keyword: str) -> bool:
    """Says whether a tag is missing or has no value, rather than one that cannot be read."""
    from pydicom.tag import Tag

    if keyword not in dataset:
        return True
    value = dataset.get_item(Tag(keyword)).value
    return value is None or (isinstance(value, bytes | str) and not value.strip())


def _table(source: _Source, item: Dataset) -> Callable[[np.ndarray], np.ndarray]:
    from pydicom.dataset import Dataset
    from pydicom.pixels import apply_modality_lut
    from pydicom.sequence import Sequence

    if len(_numbers(item, "LUTDescriptor")) != 3 or _raw_length(item, "LUTData") > _MAX_TABLE_BYTES:
        raise SliceError(source.path, "damaged: its Modality LUT is no table of 16-bit values")
    implicit, little = source.dataset.original_encoding
    holder = Dataset()
    holder.set_original_encoding(implicit, little, "iso8859")
    holder.ModalityLUTSequence = Sequence([item])
    # pydicom looks up in the pixels' own type, which the table's first value may not fit.
    return lambda block: apply_modality_lut(block.astype(np.int32), holder)


def _padding(
    source: _Source, layout: _Layout, raw: np.ndarray, stored: np.ndarray
) -> np.ndarray | None:
    """Finds the pixels that the file declares to be padding.

    Some files declare 0, or another value that tissue has as well; taking it for padding would
    turn water into air. Padding is trusted where it lies outside the range of all other pixels.

    Returns:
        Boolean, of the shape of the slice; or None.
    """
    value = _integer(source.dataset, "PixelPaddingValue")
    if value is None:
        return None
    limit = _integer(source.dataset, "PixelPaddingRangeLimit")
    ends = [_as_stored(end, layout) for end in (value, value if limit is None else limit)]
    low, high = min(ends), max(ends)
    if limit is None:
        # Also before the unused bits were dropped: padding may use all bits that there are.
        padding = (stored == low) | (raw == low)
    else:
        padding = (stored >= low) & (stored <= high)
    others = ~padding
    info = np.iinfo(stored.dtype)
    lowest = stored.min(where=others, initial=info.max)
    highest = stored.max(where=others, initial=info.min)
    inside = bool(others.any()) and low <= highest and high >= lowest
    return None if inside else padding


def _as_stored(value: int, layout: _Layout) -> int:
    """Reads a padding value as the pixels are read: 63536 is -2000 in signed 16 bits."""
    value &= (1 << layout.allocated) - 1
    if not layout.signed:
        return value
    if value >= 1 << (layout.allocated - 1):
        return value - (1 << layout.allocated)
    if 1 << (layout.stored - 1) <= value < 1 << layout.stored:
        return value - (1 << layout.stored)
    return value


def _upright(pixels: np.ndarray, orientation: np.ndarray | None) -> np.ndarray:
    """Turns an axial slice so that columns run to the patient's left, and rows to the back."""
    if orientation is None or not _is_axial(orientation):
        return np.ascontiguousarray(pixels)
    row, column = orientation
    if abs(row[0]) + abs(column[1]) < abs(row[1]) + abs(column[0]):
        pixels, row, column = pixels.swapaxes(0, 1), column, row
    if row[0] < 0:
        pixels = pixels[:, ::-1]
    if column[1] < 0:
        pixels = pixels[::-1]
    return np.ascontiguousarray(pixels)
