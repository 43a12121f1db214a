"""Thumbnails: the small gray images that slices are compared by."""

from __future__ import annotations

import os
from typing import NamedTuple

import numpy as np
from PIL import Image

from hemorrhage_tf.datasets.file_array import FileArray
from hemorrhage_tf.imaging.head_crop import count_levels

THUMBNAIL_SIZE = 32  # pixels per side
CONTENT_SIZE = 64
GRAY_BINS = 22

# The axes of a thumbnail that each flip reverses.
FLIPS: dict[str, tuple[int, ...]] = {
    "left to right": (1,),
    "top to bottom": (0,),
    "both ways": (0, 1),
}

# Up to this many slices are compared pair by pair. In larger sets, whose comparison would grow with
# the square of their size, most pairs are ruled out first.
ALL_PAIRS_UP_TO = 4_000

# The threads that compare slices. BLAS runs single-threaded in each.
COMPARISON_THREADS = min(os.cpu_count() or 1, 8)

_BACKGROUND_LEVEL = 24  # gray levels up to this one are background
_BONE_LEVEL = 200  # gray levels from this one are bone or marks, which cropping removes


class Thumbnails(NamedTuple):
    """The reductions of one slice.

    Attributes:
        gray: float32 `(2, 1024)`: the whole slice and its content without dark edges, each as a
            32 x 32 gray thumbnail of zero mean and unit length; zeros if it has a single color.
        content: float32 `(64, 64)`: the content as a gray thumbnail, in [0, 255].
        gray_shares: float32 `(22,)`: the shares of the gray levels between background and bone.
    """

    gray: np.ndarray
    content: np.ndarray
    gray_shares: np.ndarray


class ThumbnailArrays(NamedTuple):
    """The thumbnails of many slices, a row for each; see `Thumbnails` for their shapes."""

    gray: FileArray
    contents: FileArray
    gray_shares: np.ndarray


def make_thumbnails(pixels: np.ndarray, levels: np.ndarray | None = None) -> Thumbnails:
    """Reduce a slice for comparison with others.

    Args:
        pixels: uint8 `(height, width)` or `(height, width, 3)`, in [0, 255].
        levels: int64 `(256,)`, how many of gray pixels have each level, if known already. Defaults
            to None.

    Returns:
        The thumbnails and the distribution of gray levels.
    """
    gray = _to_gray(pixels)
    whole = _box_resized(Image.fromarray(gray), THUMBNAIL_SIZE)
    box = _content_box(gray)
    content = gray[box]
    image = Image.fromarray(content)
    small = np.stack([whole.ravel(), _box_resized(image, THUMBNAIL_SIZE).ravel()])
    larger = _box_resized(image, CONTENT_SIZE)
    del image  # a copy of the slice; counting gray levels takes another one
    if levels is None or pixels.ndim == 3:
        counts = count_levels(content.astype(np.uint8))
    else:  # around the content, all pixels are background
        counts = levels.copy()
        counts[_BACKGROUND_LEVEL] = np.count_nonzero(pixels[box] == _BACKGROUND_LEVEL)
    bins = counts[_BACKGROUND_LEVEL:_BONE_LEVEL].reshape(GRAY_BINS, -1)
    shares = bins.sum(axis=1).astype(np.float32)
    return Thumbnails(unit_vectors(small), larger, shares / max(shares.sum(), 1))


def unit_vectors(flat: np.ndarray) -> np.ndarray:
    """Subtract the mean along the last axis and scale to unit length.

    Args:
        flat: `(..., n)`.

    Returns:
        float32 `(..., n)`; zeros for constant values.
    """
    centered = flat - flat.mean(axis=-1, keepdims=True)
    length = np.sqrt(np.add.reduce(centered * centered, axis=-1, keepdims=True))
    centered /= np.maximum(length, 1e-3)  # in place: this takes most of the time of comparing
    # Rounding leaves a tiny residue of constant values, which must not be amplified.
    np.copyto(centered, 0, where=length <= 1e-3)
    return centered.astype(np.float32, copy=False)


def flip_thumbnails(flat: np.ndarray, flip: str | None) -> np.ndarray:
    """Flip flattened 32 x 32 thumbnails.

    Args:
        flat: `(..., 1024)`.
        flip: A key of `FLIPS`, or None to return them unchanged.
    """
    if flip is None:
        return flat
    square = flat.reshape(*flat.shape[:-1], THUMBNAIL_SIZE, THUMBNAIL_SIZE)
    return np.flip(square, tuple(axis - 2 for axis in FLIPS[flip])).reshape(flat.shape)


def _box_resized(image: Image.Image, side: int) -> np.ndarray:
    return np.asarray(image.resize((side, side), Image.Resampling.BOX))


def _to_gray(pixels: np.ndarray) -> np.ndarray:
    if pixels.ndim == 2:
        return pixels.astype(np.float32)
    # Several times faster than the mean along the last axis.
    red, green, blue = (pixels[..., channel].astype(np.float32) for channel in range(3))
    return (red + green + blue) / np.float32(3)


def _content_box(gray: np.ndarray) -> tuple[slice, slice]:
    """Return the box without the outer rows and columns that hold background only."""
    content = gray > _BACKGROUND_LEVEL
    rows, columns = np.flatnonzero(content.any(axis=1)), np.flatnonzero(content.any(axis=0))
    if not rows.size:
        return slice(None), slice(None)
    return slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
