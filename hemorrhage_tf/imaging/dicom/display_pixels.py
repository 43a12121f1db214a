"""Convert the stored values of a secondary capture to display pixels, 8-bit gray or RGB."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from hemorrhage_tf.core.errors import SliceError
from hemorrhage_tf.imaging.dicom.dicom_file import DicomFile
from hemorrhage_tf.imaging.dicom.elements import is_empty, read_code, read_numbers
from hemorrhage_tf.imaging.dicom.layout import PixelLayout
from hemorrhage_tf.imaging.row_blocks import convert_in_blocks

if TYPE_CHECKING:
    from pydicom.dataset import Dataset


def is_gray_display_image(file: DicomFile, layout: PixelLayout, rescale: Dataset | None) -> bool:
    """Return whether gray pixels have at most 8 bits and no tag relates them to HU."""
    dataset = file.dataset
    has_modality_transform = rescale is not None or any(
        not is_empty(dataset, keyword)
        for keyword in ("RescaleSlope", "RescaleIntercept", "ModalityLUTSequence")
    )
    return (
        layout.stored <= 8 and not has_modality_transform and read_code(dataset, "Modality") != "CT"
    )


def to_gray_levels(layout: PixelLayout, stored: np.ndarray) -> np.ndarray:
    """Spread stored values over the gray levels, uint8 `(rows, columns)`.

    Reference:
        DICOM PS3.3, C.7.6.3.1.2 (photometric interpretation).
    """
    highest = (1 << layout.stored) - 1
    lowest = -(1 << (layout.stored - 1)) if layout.signed else 0

    def convert(block: np.ndarray) -> np.ndarray:
        gray = block.astype(np.int32) - lowest
        if layout.photometric == "MONOCHROME1":  # its lowest value is white
            gray = highest - gray
        return (gray * 255 + highest // 2) // highest

    return convert_in_blocks(convert, stored, stored.shape, np.uint8)


def to_rgb(file: DicomFile, layout: PixelLayout, stored: np.ndarray) -> np.ndarray:
    """Convert color to RGB, uint8 `(rows, columns, 3)`.

    Raises:
        SliceError: The file has a palette that is missing or segmented.

    Reference:
        DICOM PS3.3, C.7.6.3.1.2 (photometric interpretation), C.7.9 (palettes).
    """
    from pydicom.pixels.processing import apply_color_lut, convert_color_space

    shape = (layout.rows, layout.columns, 3)
    if layout.photometric == "PALETTE COLOR":
        if "RedPaletteColorLookupTableData" not in file.dataset:
            raise SliceError(file.path, "its color palette is missing or segmented")
        depth = int(read_numbers(file.dataset, "RedPaletteColorLookupTableDescriptor")[2])

        def look_up(block: np.ndarray) -> np.ndarray:
            rgb = apply_color_lut(block.astype(np.int32), file.dataset)[..., :3]
            return rgb >> 8 if depth > 8 else rgb

        return convert_in_blocks(look_up, stored, shape, np.uint8)

    def convert(block: np.ndarray) -> np.ndarray:
        if layout.stored > 8:
            block = block >> (layout.stored - 8)
        block = block.astype(np.uint8)
        if layout.photometric.startswith("YBR_FULL"):
            return convert_color_space(block, "YBR_FULL", "RGB")
        return block

    return convert_in_blocks(convert, stored, shape, np.uint8)
