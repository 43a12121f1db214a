"""Crops of content thumbnails, resampled to small sizes and scaled to unit length.

A crop is described by its ends: the shares of an axis that are cut off at its beginning and end.
Which slices are compared is decided in `cropped_duplicates`.
"""

from __future__ import annotations

import functools

import numpy as np

from hemorrhage_tf.datasets.thumbnails import CONTENT_SIZE, FLIPS, THUMBNAIL_SIZE, unit_vectors

Ends = tuple[float, float]

COARSE_SIZE = 16  # pixels per side of the crops that are compared before those at full size
CROP_STEP = 0.025
LARGEST_CROP = 0.1  # share of the axis, at each end

# Crops below this correlation at the coarse size are not compared at full size.
COARSE_CORRELATION = 0.93


def crop_ends(step: float = CROP_STEP) -> list[Ends]:
    """Return the ends of every crop of one axis.

    Args:
        step: The step between crops, as a share of the axis. Default 0.025.
    """
    offsets = np.arange(0, LARGEST_CROP + 1e-9, step)
    return [(low, high) for low in offsets for high in offsets]


@functools.lru_cache(maxsize=512)
def resampling(ends: tuple[Ends, ...], size: int) -> np.ndarray:
    """Return the matrices that crop an axis and average it to a size.

    Args:
        ends: `k` crops of the axis.
        size: The pixels that remain.

    Returns:
        float32 `(k, size, 64)`. The array is cached; it must not be changed.
    """
    matrices = []
    for low, high in ends:
        edges = np.linspace(low * CONTENT_SIZE, (1 - high) * CONTENT_SIZE, size + 1)
        pixels = np.arange(CONTENT_SIZE)
        begin, end = edges[:-1, np.newaxis], edges[1:, np.newaxis]
        overlap = np.minimum(end, pixels + 1) - np.maximum(begin, pixels)
        matrices.append(overlap.clip(0) / (end - begin))
    return np.array(matrices, np.float32)


def take_crops(content: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Combine every crop of the rows with every crop of the columns.

    Args:
        content: float32 `(64, 64)`, a content thumbnail.
        rows: `(r, size, 64)` from `resampling`.
        columns: `(c, size, 64)` from `resampling`.

    Returns:
        float32 `(r * c, size * size)`, of unit length.
    """
    size = rows.shape[1]
    # Two plain matrix products are several times faster than a stack of small ones.
    half = (rows.reshape(-1, CONTENT_SIZE) @ content) @ columns.reshape(-1, CONTENT_SIZE).T
    crops = half.reshape(len(rows), size, len(columns), size).transpose(0, 2, 1, 3)
    return unit_vectors(crops.reshape(len(rows) * len(columns), size * size))


def take_all_crops(contents: np.ndarray, size: int, step: float) -> np.ndarray:
    """Take every crop of each slice.

    Args:
        contents: float32 `(n, 64, 64)`.
        size: Pixels per side of the crops.
        step: The step between crops, as a share of a side.

    Returns:
        float32 `(n, k, size * size)`, of unit length.
    """
    axis = resampling(tuple(crop_ends(step)), size)
    count, flat = len(axis), axis.reshape(-1, CONTENT_SIZE)
    half = flat @ contents @ flat.T
    crops = half.reshape(-1, count, size, count, size).transpose(0, 1, 3, 2, 4)
    return unit_vectors(crops.reshape(len(contents), count * count, size * size))


def take_crop_each(contents: np.ndarray, which: np.ndarray, size: int, step: float) -> np.ndarray:
    """Take one crop of each slice.

    Args:
        contents: float32 `(n, 64, 64)`.
        which: int64 `(n,)`: the index of the crop among those of `take_all_crops`.
        size: Pixels per side of the crops.
        step: The step between crops, as a share of a side.

    Returns:
        float32 `(n, size * size)`, of unit length.
    """
    axis = resampling(tuple(crop_ends(step)), size)
    rows, columns = np.divmod(which, len(axis))
    crops = axis[rows] @ contents @ axis[columns].transpose(0, 2, 1)
    return unit_vectors(crops.reshape(len(crops), -1))


def shrink(contents: np.ndarray, size: int) -> np.ndarray:
    """Shrink content thumbnails without cropping them.

    Args:
        contents: float32 `(n, 64, 64)`.
        size: Pixels per side.

    Returns:
        float32 `(n, size * size)`, of unit length.
    """
    return unit_vectors(_shrunk(contents, size).reshape(len(contents), size * size))


def shrink_flips(contents: np.ndarray, size: int) -> np.ndarray:
    """Shrink content thumbnails, unflipped and in every flip.

    Args:
        contents: float32 `(n, 64, 64)`.
        size: Pixels per side.

    Returns:
        float32 `(4, n, size * size)`, of unit length.
    """
    small = _shrunk(contents, size)
    flips = [small, *(np.flip(small, tuple(axis + 1 for axis in axes)) for axes in FLIPS.values())]
    return unit_vectors(np.stack(flips).reshape(len(flips), len(contents), size * size))


def refined_correlation(
    content: np.ndarray,
    whole: np.ndarray,
    ends: tuple[Ends, Ends],
    correlation: float,
) -> float | None:
    """Compare crops near a guess with a whole slice.

    Args:
        content: float32 `(64, 64)`, the content thumbnail to crop.
        whole: float32 `(64, 64)`, that of the other slice, flipped as guessed.
        ends: The guess: the ends of the rows and of the columns.
        correlation: The minimum.

    Returns:
        The highest correlation, None if it is below the minimum.
    """
    near = [neighboring_ends(each, CROP_STEP) for each in ends]
    crops = take_crops(content, *(resampling(tuple(each), COARSE_SIZE) for each in near))
    coarse = crops @ shrink(whole[np.newaxis], COARSE_SIZE)[0]
    if coarse.max() < COARSE_CORRELATION:
        return None
    row, column = divmod(int(coarse.argmax()), len(near[1]))
    full = shrink(whole[np.newaxis], THUMBNAIL_SIZE)[0]
    value = float((crops_around(content, near[0][row], near[1][column]) @ full).max())
    return value if value >= correlation else None


def crops_around(content: np.ndarray, rows: Ends, columns: Ends) -> np.ndarray:
    """Take the crops half a step around a crop, at full size.

    Args:
        content: float32 `(64, 64)`.
        rows: The ends of the rows.
        columns: The ends of the columns.

    Returns:
        float32 `(k, 1024)`, of unit length.
    """
    near = (tuple(neighboring_ends(ends, CROP_STEP / 2)) for ends in (rows, columns))
    return take_crops(content, *(resampling(ends, THUMBNAIL_SIZE) for ends in near))


class CropEstimates:
    """Estimates of the correlations of the crops of `crops_around`, in a tenth of the time.

    The crops are not computed: a product with all of them is a product with their rows, and then
    with their columns. Rounding changes a correlation by far less than `SLACK`.

    Args:
        content: float32 `(64, 64)`.
        rows: The ends of the rows.
        columns: The ends of the columns.
    """

    SLACK = 1e-3

    def __init__(self, content: np.ndarray, rows: Ends, columns: Ends) -> None:
        near = [tuple(neighboring_ends(ends, CROP_STEP / 2)) for ends in (rows, columns)]
        of_rows, self._columns = (resampling(ends, THUMBNAIL_SIZE) for ends in near)
        centered = content - content.mean()  # so that little is lost where sums are subtracted
        half = of_rows.reshape(-1, CONTENT_SIZE) @ centered
        self._half = half.reshape(of_rows.shape)
        grams = self._half.transpose(0, 2, 1) @ self._half
        squares = grams.reshape(len(grams), -1) @ _column_grams(near[1]).T
        sums = self._half.sum(axis=1) @ self._columns.sum(axis=1).T
        variances = squares - sums * sums / THUMBNAIL_SIZE**2
        self._lengths = np.sqrt(np.maximum(variances, 1e-6))

    def highest(self, whole: np.ndarray) -> float:
        """Estimate the highest correlation with a whole slice.

        Args:
            whole: float32 `(1024,)` from `shrink`.
        """
        square = whole.reshape(THUMBNAIL_SIZE, THUMBNAIL_SIZE)
        combined = (square.T @ self._half).reshape(len(self._half), -1)
        products = combined @ self._columns.reshape(len(self._columns), -1).T
        return float((products / self._lengths).max())


@functools.lru_cache(maxsize=512)
def _column_grams(ends: tuple[Ends, ...]) -> np.ndarray:
    """Return the products of each pair of pixels over all columns of a crop, `(k, 64 * 64)`."""
    matrices = resampling(ends, THUMBNAIL_SIZE)
    return (matrices.transpose(0, 2, 1) @ matrices).reshape(len(ends), -1)


def _shrunk(contents: np.ndarray, size: int) -> np.ndarray:
    matrix = resampling(((0.0, 0.0),), size)[0]
    return matrix @ contents @ matrix.T


def neighboring_ends(ends: Ends, step: float) -> list[Ends]:
    """Return the ends of an axis a step around some ends.

    Args:
        ends: The ends.
        step: The step, as a share of the axis.
    """
    low, high = ends
    steps = (-step, 0, step)
    return [(max(0.0, low + one), max(0.0, high + other)) for one in steps for other in steps]
