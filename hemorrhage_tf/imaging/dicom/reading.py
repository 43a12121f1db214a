"""Read the header of a DICOM file, or one of its slices.

Nothing that a file declares is trusted before it is compared with what the file can hold. Listing,
sorting and grouping files is in `datasets.series`.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from hemorrhage_tf.imaging.dicom.display_pixels import (
    is_gray_display_image,
    to_gray_levels,
    to_rgb,
)
from hemorrhage_tf.imaging.dicom.elements import read_instance_number, read_text
from hemorrhage_tf.imaging.dicom.frames import (
    FRAME_COUNT_KEYWORDS,
    check_frame_index,
    find_macro,
    read_frame_count,
    read_functional_groups,
)
from hemorrhage_tf.imaging.dicom.geometry import (
    read_orientation,
    read_positions,
    read_thickness,
    to_upright,
)
from hemorrhage_tf.imaging.dicom.hounsfield import to_hounsfield
from hemorrhage_tf.imaging.dicom.identity import IDENTIFYING_KEYWORDS, read_identifying_texts
from hemorrhage_tf.imaging.dicom.layout import read_layout
from hemorrhage_tf.imaging.dicom.parse import open_dicom
from hemorrhage_tf.imaging.dicom.pixels import clear_unused_bits, decode_frame, read_pixel_element
from hemorrhage_tf.imaging.dicom.series_tags import SERIES_KEYWORDS, read_series_tags
from hemorrhage_tf.imaging.dicom.tag_checks import check_tags, require_modality
from hemorrhage_tf.imaging.dicom.transfer_syntaxes import JPEG_2000, JPEG_LS
from hemorrhage_tf.imaging.header import Header

DICOM_SUFFIXES = (".dcm", ".dicom", ".ima")

_FRAME_GEOMETRY = (
    "ImageOrientationPatient",
    *FRAME_COUNT_KEYWORDS,
    "SharedFunctionalGroupsSequence",
    "PerFrameFunctionalGroupsSequence",
)
_HEADER_KEYWORDS = (
    *IDENTIFYING_KEYWORDS,
    "SOPClassUID",
    "SOPInstanceUID",
    "SeriesInstanceUID",
    "InstanceNumber",
    "ImagePositionPatient",
    "SliceThickness",
    *SERIES_KEYWORDS,
    *_FRAME_GEOMETRY,
)
_FRAME_KEYWORDS = (
    "SOPClassUID",
    "Modality",
    "EncryptedAttributesSequence",
    *_FRAME_GEOMETRY,
    "SamplesPerPixel",
    "PhotometricInterpretation",
    "PlanarConfiguration",
    "BitsStored",
    "HighBit",
    "PixelRepresentation",
    "PixelPaddingValue",
    "PixelPaddingRangeLimit",
    "RescaleSlope",
    "RescaleIntercept",
    "ModalityLUTSequence",
    "RedPaletteColorLookupTableDescriptor",
    "RedPaletteColorLookupTableData",
    "GreenPaletteColorLookupTableDescriptor",
    "GreenPaletteColorLookupTableData",
    "BluePaletteColorLookupTableDescriptor",
    "BluePaletteColorLookupTableData",
    "ExtendedOffsetTable",
    "ExtendedOffsetTableLengths",
)


def read_header(path: str | Path) -> Header:
    """Read the tags that listing, sorting and grouping need; no pixels are read.

    Args:
        path: A DICOM file.

    Returns:
        The header. Tags that are missing or malformed are None in it.

    Raises:
        SliceError: The file cannot be read, is not DICOM or is an index (DICOMDIR).
    """
    with open_dicom(path, _HEADER_KEYWORDS) as file:
        dataset = file.dataset
        count = read_frame_count(file)
        groups = read_functional_groups(file)
        orientation = read_orientation(file, groups, 0)
        return Header(
            positions=read_positions(file, groups, count),
            patient=read_text(dataset, "PatientID"),
            identifying=read_identifying_texts(file),
            series=read_text(dataset, "SeriesInstanceUID"),
            instance=read_text(dataset, "SOPInstanceUID"),
            number=read_instance_number(dataset),
            thickness=read_thickness(file, groups),
            series_tags=read_series_tags(file, groups, orientation),
            input_warning=check_tags(file, orientation),
        )


def read_frame(path: str | Path, frame: int | None = None) -> np.ndarray:
    """Read one slice.

    If the file states the orientation, the slice is shown upright: rows run from anterior to
    posterior and columns from the patient's right to left. Only flips and a transposition are used.

    Args:
        path: A DICOM file.
        frame: Index of the frame, from 0. Defaults to None, for a file of one frame.

    Returns:
        float32 `(height, width)` in HU; for a secondary capture that shows a display image, uint8
        `(height, width)` or `(height, width, 3)` in [0, 255].

    Raises:
        SliceError: The file cannot be decoded, has no pixels, no such frame or another modality.

    Reference:
        DICOM PS3.3, C.7.6.3 (image pixel), C.11.1 (modality LUT), C.7.6.2 (image plane).
    """
    with open_dicom(path, _FRAME_KEYWORDS) as file:
        element = read_pixel_element(file)
        require_modality(file)
        layout = read_layout(file)
        index = check_frame_index(file, frame, layout.frames)
        groups = read_functional_groups(file)
        rescale = find_macro(file, groups, index, "PixelValueTransformationSequence")
        raw, layout = decode_frame(file, layout, index, element)
        stored = raw
        # In JPEG 2000 and JPEG-LS the codestream decides which bits belong to a sample.
        if file.transfer_syntax not in JPEG_2000 + JPEG_LS:
            stored = clear_unused_bits(raw, layout)
        if layout.is_color:
            pixels = to_rgb(file, layout, stored)
        elif is_gray_display_image(file, layout, rescale):
            pixels = to_gray_levels(layout, stored)
        else:
            pixels = to_hounsfield(file, rescale or file.dataset, layout, raw, stored)
        return to_upright(pixels, read_orientation(file, groups, index))
