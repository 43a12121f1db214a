"""DICOM files: their header, their slices in Hounsfield units, and the windows that they name.

Listing, sorting and grouping live elsewhere. A file comes from anywhere, so nothing that it
declares is believed before it is compared with what the file can hold.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from hemorrhage_tf.core.errors import OptionError
from hemorrhage_tf.imaging.dicom.elements import _integer, _numbers, _text
from hemorrhage_tf.imaging.dicom.geometry import (
    _frame_count,
    _frame_index,
    _groups,
    _macro,
    _orientation,
    _position,
    _upright,
)
from hemorrhage_tf.imaging.dicom.hounsfield import _color, _gray, _hounsfield, _is_display
from hemorrhage_tf.imaging.dicom.identity import (
    _NAME_TAGS,
    _NUMBER_TAGS,
    _identifying,
    _input_warning,
    _require_modality,
)
from hemorrhage_tf.imaging.dicom.layout import _layout
from hemorrhage_tf.imaging.dicom.parse import _opened
from hemorrhage_tf.imaging.dicom.pixels import _decode, _pixel_element, _without_unused_bits
from hemorrhage_tf.imaging.dicom.transfer_syntaxes import _JPEG_2000, _JPEG_LS
from hemorrhage_tf.imaging.header import Header
from hemorrhage_tf.imaging.windows import Window

if TYPE_CHECKING:
    pass


DICOM_SUFFIXES = (".dcm", ".dicom", ".ima")


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
            input_warning=_input_warning(source, _orientation(source, shared, per_frame, 0)),
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
