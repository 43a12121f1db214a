"""Image statistics: properties of a slice other than its label and anatomy."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from PIL import Image

from hemorrhage_tf.datasets.file_array import FileArray
from hemorrhage_tf.imaging.file_format import FileFormat
from hemorrhage_tf.imaging.head_crop import count_levels

# One row of numbers per slice. A `jpeg_quality` of -1 means none; `format` is an index into
# `ImageStatisticsTable.formats`.
NUMBERS = np.dtype(
    [
        ("width", np.uint32),
        ("height", np.uint32),
        ("bits", np.uint16),
        ("jpeg_quality", np.int16),
        ("color", np.float64),
        ("marks", np.int32),
        ("mark_share", np.float64),
        ("format", np.int32),
    ]
)

_THUMBNAIL_SIZE = 16
_BLOCK = 1024  # slices whose arrays are in memory together
_BLACK_LEVEL = 24  # gray levels up to this one are background
_BORDER_SHARE = 1 / 32  # depth of the border, as a share of the side

# The larger values of each slice: gray-level counts, border, and thumbnail in [0, 255].
ARRAYS = np.dtype(
    [
        ("levels", np.uint32, 256),
        ("border", np.float64, (4, 4)),
        ("thumbnail", np.uint8, _THUMBNAIL_SIZE**2),
    ]
)

_LEVELS = np.arange(256)
_MOMENTS = np.stack([_LEVELS, _LEVELS**2, _LEVELS > _BLACK_LEVEL], axis=1).astype(np.int64)

_MARK_BRIGHTNESS = 128  # gray levels: letters reach it, noise in the background does not
_MARK_SHARE = 0.01  # of the area: no mark is larger
_MARK_EXTENT = 0.2  # of a side: no mark is longer; the head holder is
_MARK_MARGIN = 0.2  # of a side: the largest distance of a mark's center from the edge
_MARK_PIXELS = 6  # the smallest mark
_MARK_RESOLUTION = 512  # pixels per side; larger slices are subsampled

# Mode, file format and embedded metadata of a file, see `imaging.file_format.FileFormat`.
SavedFormat = tuple[str, str, frozenset[str]]


@dataclass(frozen=True, slots=True)
class ImageStatistics:
    """The statistics of one slice: plain numbers, and no pixels except a tiny thumbnail.

    Attributes:
        width: In pixels.
        height: In pixels.
        mode: The color mode of the file, see `imaging.file_format.FileFormat`.
        file_format: "PNG", "JPEG", "DICOM" or "NIfTI".
        bits: Bits per sample in the file.
        jpeg_quality: 1 to 100; None for other formats.
        metadata: The names of other embedded data.
        color: The share of pixels whose channels differ visibly.
        levels: float64 `(256,)`: the share of each gray level.
        border: float64 `(4, 4)`: mean, standard deviation, maximum and non-black share of the
            outermost pixels of the top, bottom, left and right side.
        marks: The number of burnt-in marks near the edges.
        mark_share: The share of pixels that the marks cover.
        thumbnail: float32 `(256,)`: 16 x 16 gray pixels, in [0, 1].
    """

    width: int
    height: int
    mode: str
    file_format: str
    bits: int
    jpeg_quality: int | None
    metadata: frozenset[str]
    color: float
    levels: np.ndarray
    border: np.ndarray
    marks: int
    mark_share: float
    thumbnail: np.ndarray


@dataclass(frozen=True, eq=False)
class ImageStatisticsTable:
    """The statistics of many slices: numbers in memory, larger arrays in a temporary file.

    Attributes:
        numbers: Structured array `(n,)` of the dtype `NUMBERS`.
        formats: Each combination of mode, file format and metadata that occurs.
        arrays: Rows of the dtype `ARRAYS`, possibly of further slices too.
        rows: int64 `(n,)`: the row of each slice in `arrays`.
    """

    numbers: np.ndarray = field(default_factory=lambda: np.zeros(0, NUMBERS))
    formats: tuple[SavedFormat, ...] = ()
    arrays: FileArray = field(default_factory=lambda: FileArray(ARRAYS))
    rows: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, index: int) -> ImageStatistics:
        numbers = self.numbers[index]
        arrays = self.arrays.take([int(self.rows[index])])[0]
        mode, file_format, metadata = self.formats[numbers["format"]]
        width, height = int(numbers["width"]), int(numbers["height"])
        quality = int(numbers["jpeg_quality"])
        return ImageStatistics(
            width=width,
            height=height,
            mode=mode,
            file_format=file_format,
            bits=int(numbers["bits"]),
            jpeg_quality=None if quality < 0 else quality,
            metadata=metadata,
            color=float(numbers["color"]),
            levels=arrays["levels"] / (width * height),
            border=arrays["border"],
            marks=int(numbers["marks"]),
            mark_share=float(numbers["mark_share"]),
            thumbnail=arrays["thumbnail"].astype(np.float32) / 255,
        )

    def take(self, indices: np.ndarray) -> ImageStatisticsTable:
        """Return the statistics of some slices; the temporary file is shared."""
        return ImageStatisticsTable(
            self.numbers[indices], self.formats, self.arrays, self.rows[indices]
        )

    def blocks(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield the shares of gray levels `(k, 256)` and borders `(k, 4, 4)`, block by block."""
        sizes = self.numbers["width"].astype(np.int64) * self.numbers["height"]
        for begin in range(0, len(self), _BLOCK):
            block = slice(begin, begin + _BLOCK)
            arrays = self.arrays.take(self.rows[block])
            yield arrays["levels"] / sizes[block, np.newaxis], arrays["border"]


def pack_statistics(
    statistics: Sequence[ImageStatistics],
) -> tuple[np.ndarray, np.ndarray, list[SavedFormat]]:
    """Convert statistics to arrays.

    Returns:
        Structured arrays `(n,)` of the dtypes `NUMBERS`, without the index of the format, and
        `ARRAYS`; and the format of each slice.
    """
    numbers, arrays = np.zeros(len(statistics), NUMBERS), np.zeros(len(statistics), ARRAYS)
    for index, each in enumerate(statistics):
        quality = -1 if each.jpeg_quality is None else each.jpeg_quality
        size = (each.width, each.height, each.bits, quality)
        numbers[index] = (*size, each.color, each.marks, each.mark_share, 0)
        levels = np.rint(each.levels * (each.width * each.height))
        arrays[index] = (levels, each.border, np.rint(each.thumbnail * 255))
    return numbers, arrays, [(each.mode, each.file_format, each.metadata) for each in statistics]


def image_statistics(
    saved: FileFormat, image: np.ndarray, levels: np.ndarray | None = None
) -> ImageStatistics:
    """Compute the statistics of one slice.

    Args:
        saved: How the file was saved, from `read_slice_and_format`.
        image: The display image: uint8 `(height, width)` or `(height, width, 3)`, in [0, 255].
        levels: int64 `(256,)`, how many pixels of a gray image have each level, if known already.
            Defaults to None.
    """
    gray = _gray(image)
    if levels is None or image.ndim == 3:
        levels = count_levels(gray)
    marks, mark_share = edge_marks(gray)
    size = (_THUMBNAIL_SIZE, _THUMBNAIL_SIZE)
    small = np.asarray(Image.fromarray(gray).resize(size, Image.Resampling.BOX), np.float32)
    return ImageStatistics(
        width=image.shape[1],
        height=image.shape[0],
        mode=saved.mode,
        file_format=saved.file_format,
        bits=saved.bits,
        jpeg_quality=saved.jpeg_quality,
        metadata=saved.metadata,
        color=_color(image),
        levels=levels / gray.size,
        border=_border(gray),
        marks=marks,
        mark_share=mark_share,
        thumbnail=small.ravel() / 255,
    )


def _gray(pixels: np.ndarray) -> np.ndarray:
    """Convert display pixels to uint8 gray by the luminance of ITU-R BT.601."""
    return pixels if pixels.ndim == 2 else np.asarray(Image.fromarray(pixels).convert("L"))


def _color(pixels: np.ndarray) -> float:
    if pixels.ndim == 2:
        return 0.0
    red, green, blue = (pixels[..., channel].astype(np.int16) for channel in range(3))
    # Rounding of the chroma leaves differences of a few levels in gray JPEG files.
    return float(np.mean((np.abs(red - green) > 16) | (np.abs(green - blue) > 16)))


def _border(gray: np.ndarray) -> np.ndarray:
    rows, columns = (max(1, round(side * _BORDER_SHARE)) for side in gray.shape)
    sides = (gray[:rows], gray[-rows:], gray[:, :columns], gray[:, -columns:])
    # Counting is several times faster than np.mean and np.std of so few pixels.
    counts = np.stack([np.bincount(side.ravel(), minlength=256) for side in sides])
    values = []
    for count, (total, squares, bright) in zip(counts, (counts @ _MOMENTS).tolist(), strict=True):
        size = int(count.sum())
        deviation = math.sqrt(size * squares - total * total) / size
        values.append((total / size, deviation, np.flatnonzero(count)[-1], bright / size))
    return np.array(values, np.float64)


def edge_marks(gray: np.ndarray) -> tuple[int, float]:
    """Count small bright spots near the edges and outside the head: letters, rulers, arrows.

    Args:
        gray: uint8 `(height, width)`, in [0, 255].

    Returns:
        Their number, and the share of the pixels that they cover.
    """
    from scipy import ndimage

    step = math.ceil(max(gray.shape) / _MARK_RESOLUTION)
    gray = gray[::step, ::step]
    parts, count = ndimage.label(gray > _BLACK_LEVEL, np.ones((3, 3)))
    if count < 2:
        return 0, 0.0
    areas = np.bincount(parts.ravel())
    areas[0] = 0
    head = int(areas.argmax())
    sides = np.array(gray.shape)
    marks, covered = 0, 0
    is_outside: Callable[[np.ndarray], bool] | None = None
    is_candidate = (areas >= _MARK_PIXELS) & (areas <= _MARK_SHARE * gray.size)
    is_candidate &= np.bincount(parts[gray >= _MARK_BRIGHTNESS], minlength=len(areas)) > 0
    is_candidate[head] = False
    if not is_candidate.any():
        return 0, 0.0
    boxes = ndimage.find_objects(parts)
    for number in np.flatnonzero(is_candidate):
        ends = np.array([(each.start, each.stop) for each in boxes[number - 1]])
        center = ends.mean(axis=1)
        if np.any(np.diff(ends)[:, 0] > _MARK_EXTENT * sides) or np.all(
            np.minimum(center, sides - center) > _MARK_MARGIN * sides
        ):
            continue
        is_outside = is_outside or _outside_of(parts == head)
        if is_outside(center):
            marks += 1
            covered += int(areas[number])
    return marks, covered / gray.size


def _outside_of(head: np.ndarray) -> Callable[[np.ndarray], bool]:
    """Return a function that tests whether a point lies outside the convex hull of the head."""
    from scipy.spatial import ConvexHull, QhullError

    rows = np.flatnonzero(head.any(axis=1))
    first, last = head[rows].argmax(axis=1), head.shape[1] - 1 - head[rows, ::-1].argmax(axis=1)
    points = np.concatenate([np.stack([rows, first], 1), np.stack([rows, last], 1)])
    try:
        planes = ConvexHull(points).equations
    except (QhullError, ValueError):  # a line or a point has no interior
        return lambda point: True
    return lambda point: bool(np.any(planes[:, :2] @ point + planes[:, 2] > 0))
