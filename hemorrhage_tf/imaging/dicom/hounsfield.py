"""Convert stored values to Hounsfield units, with padding set to air."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from hemorrhage_tf.core.errors import SliceError
from hemorrhage_tf.imaging.dicom.dicom_file import DicomFile
from hemorrhage_tf.imaging.dicom.elements import (
    is_empty,
    raw_length,
    read_integer,
    read_items,
    read_numbers,
)
from hemorrhage_tf.imaging.dicom.layout import PixelLayout
from hemorrhage_tf.imaging.hounsfield_scale import AIR, LOWEST_HOUNSFIELD
from hemorrhage_tf.imaging.row_blocks import convert_in_blocks

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

_MAX_TABLE_BYTES = 2 << 16
_MAX_RESCALE = 1e9


def to_hounsfield(
    file: DicomFile, tags: Dataset, layout: PixelLayout, raw: np.ndarray, stored: np.ndarray
) -> np.ndarray:
    """Convert stored values to Hounsfield units.

    Photometric interpretation is ignored: MONOCHROME1 says how to display values, not what they
    mean.

    Args:
        file: The file.
        tags: The dataset with the rescale slope and intercept: the file's, or a frame's macro.
        layout: How the pixels are stored.
        raw: Values as decoded, `(rows, columns)`.
        stored: The same without unused bits.

    Returns:
        float32 `(rows, columns)` in HU.

    Raises:
        SliceError: The rescale values or the lookup table are unusable.

    Reference:
        DICOM PS3.3, C.11.1 (modality LUT), C.7.6.16.2.9 (pixel value transformation macro).
    """
    table = read_items(file, file.dataset, "ModalityLUTSequence")
    convert = _table_lookup(file, table[0]) if table else _linear_rescale(file, tags)
    hounsfield = convert_in_blocks(convert, stored, stored.shape, np.float32)
    padding = _find_padding(file, layout, raw, stored)
    if padding is not None:
        hounsfield[padding] = AIR
    # Not every scanner declares the padding outside its field of view.
    hounsfield[hounsfield < LOWEST_HOUNSFIELD] = AIR
    return hounsfield


def _linear_rescale(file: DicomFile, tags: Dataset) -> Callable[[np.ndarray], np.ndarray]:
    slope = _read_rescale(file, tags, "RescaleSlope", 1.0)
    intercept = _read_rescale(file, tags, "RescaleIntercept", 0.0)
    if slope == 0:
        raise SliceError(file.path, "its Rescale Slope is 0: every pixel would have the same value")
    # In float64, so that integers are exact and other values are rounded once.
    return lambda block: block.astype(np.float64) * slope + intercept


def _read_rescale(file: DicomFile, tags: Dataset, keyword: str, default: float) -> float:
    numbers = read_numbers(tags, keyword)
    if not numbers and is_empty(tags, keyword):
        return default
    if not numbers or not math.isfinite(numbers[0]) or abs(numbers[0]) > _MAX_RESCALE:
        name = "Rescale Slope" if keyword == "RescaleSlope" else "Rescale Intercept"
        raise SliceError(file.path, f"its {name} is not a usable number")
    return numbers[0]


def _table_lookup(file: DicomFile, item: Dataset) -> Callable[[np.ndarray], np.ndarray]:
    from pydicom.dataset import Dataset
    from pydicom.pixels.processing import apply_modality_lut
    from pydicom.sequence import Sequence

    descriptor = read_numbers(item, "LUTDescriptor")
    if len(descriptor) != 3 or raw_length(item, "LUTData") > _MAX_TABLE_BYTES:
        raise SliceError(file.path, "damaged: its Modality LUT is not a table of 16-bit values")
    implicit, little = file.dataset.original_encoding
    holder = Dataset()
    holder.set_original_encoding(implicit, little, "iso8859")
    holder.ModalityLUTSequence = Sequence([item])
    # pydicom looks up in the dtype of the pixels, which the table's first value may not fit.
    return lambda block: apply_modality_lut(block.astype(np.int32), holder)


def _find_padding(
    file: DicomFile, layout: PixelLayout, raw: np.ndarray, stored: np.ndarray
) -> np.ndarray | None:
    """Find the pixels that the file declares to be padding.

    Some files declare 0 or another value that tissue has too, which would turn water into air. So
    padding is trusted only if it lies outside the range of all other pixels.

    Returns:
        bool, of the shape of the slice, or None.

    Reference:
        DICOM PS3.3, C.7.5.1.1.2 (Pixel Padding Value).
    """
    value = read_integer(file.dataset, "PixelPaddingValue")
    if value is None:
        return None
    limit = read_integer(file.dataset, "PixelPaddingRangeLimit")
    ends = [_as_stored(end, layout) for end in (value, value if limit is None else limit)]
    low, high = min(ends), max(ends)
    if limit is None:
        # Padding may use all allocated bits, so the values before dropping unused bits count too.
        padding = (stored == low) | (raw == low)
    else:
        padding = (stored >= low) & (stored <= high)
    others = ~padding
    info = np.iinfo(stored.dtype)
    # Several times faster than reductions with `where`.
    lowest = np.where(others, stored, stored.dtype.type(info.max)).min()
    highest = np.where(others, stored, stored.dtype.type(info.min)).max()
    is_among_others = bool(others.any()) and low <= highest and high >= lowest
    return None if is_among_others else padding


def _as_stored(value: int, layout: PixelLayout) -> int:
    """Interpret a padding value as a sample: 63536 is -2000 in signed 16 bits."""
    value &= (1 << layout.allocated) - 1
    if not layout.signed:
        return value
    if value >= 1 << (layout.allocated - 1):
        return value - (1 << layout.allocated)
    if 1 << (layout.stored - 1) <= value < 1 << layout.stored:
        return value - (1 << layout.stored)
    return value
