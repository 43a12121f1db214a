"""TODO docstring."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from hemorrhage_tf.core.errors import SliceError
from hemorrhage_tf.imaging.dicom.elements import (
    _code,
    _integer,
    _is_empty,
    _items,
    _numbers,
    _raw_length,
    _Source,
)
from hemorrhage_tf.imaging.dicom.layout import _Layout
from hemorrhage_tf.imaging.windows import AIR

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

# Below this no tissue lies: what is lower is how a scanner marks what it did not measure.
LOWEST_HOUNSFIELD = -1024


_MAX_TABLE_BYTES = 2 << 16


_BLOCK_PIXELS = 1 << 20


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
