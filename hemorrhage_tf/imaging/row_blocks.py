"""Convert an image a block of rows at a time, so that temporaries stay small."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import DTypeLike

# Small enough for the processor's cache, and for memory that the allocator has at hand: fresh pages
# from the system take longer than the arithmetic.
BLOCK_PIXELS = 1 << 15


def convert_in_blocks(
    convert: Callable[[np.ndarray], np.ndarray],
    pixels: np.ndarray,
    shape: tuple[int, ...],
    dtype: DTypeLike,
) -> np.ndarray:
    """Apply a function to blocks of rows.

    Args:
        convert: Maps `(rows, ...)` to as many rows.
        pixels: The image.
        shape: Shape of the result.
        dtype: Dtype of the result.

    Returns:
        The converted image.
    """
    result: np.ndarray = np.empty(shape, dtype)
    step = max(1, BLOCK_PIXELS // shape[1])
    for top in range(0, shape[0], step):
        result[top : top + step] = convert(pixels[top : top + step])
    return result
