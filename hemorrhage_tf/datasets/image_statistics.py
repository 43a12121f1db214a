"""ImageStatistics: what is known of one slice beside its label, in numbers, when its file has been read."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from hemorrhage_tf.datasets.column_store import FileColumn, Interned, Listed
from hemorrhage_tf.imaging.file_format import FileFormat

_THUMBNAIL_SIZE = 16
_CHUNK = 1024  # slices whose statistics are in memory together
_BLACK_LEVEL = 24  # gray levels: what is darker counts as background
_BORDER_SHARE = 1 / 32  # of a side: how deep the border is

_LEVELS = np.arange(256)
_MOMENTS = np.stack([_LEVELS, _LEVELS**2, _LEVELS > _BLACK_LEVEL], axis=1).astype(np.int64)

_MARK_BRIGHTNESS = 128  # gray levels: a letter reaches it, noise in the background does not
_MARK_SHARE = 0.01  # of the area: no mark is larger
_MARK_EXTENT = 0.2  # of a side: no mark is longer, the head holder is
_MARK_MARGIN = 0.2  # of a side: how near the edge its center lies
_MARK_PIXELS = 6
_MARK_RESOLUTION = 512  # pixels a side: larger slices are thinned out


@dataclass(frozen=True, slots=True)
class ImageStatistics:
    """What is known of one slice beside its label: plain numbers, no pixels but a thumbnail's.

    Attributes:
        width: in pixels.
        height: in pixels.
        mode: see `file_format.FileFormat`, as of the next four.
        file_format: "PNG", "JPEG", "DICOM" or "NIfTI".
        bits: per sample, in the file.
        jpeg_quality: 1 to 100.
        metadata: what else is embedded, by name.
        color: share of pixels whose channels differ visibly.
        levels: float64 `(256,)`, the share of each gray level.
        border: float64 `(4, 4)`: for the outermost pixels of each side, mean, standard deviation,
            maximum and share that is not black.
        marks: how many burnt-in marks stand near the edges.
        mark_share: share of the pixels that these cover.
        thumbnail: float32 `(256,)`, gray, 16 x 16, in [0, 1].
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


class ImageStatisticsTable(Listed):
    """The statistics of many slices in columns; what is large of them in temporary files.

    Args:
        statistics: of the first slices. Default none.
    """

    NUMBERS = np.dtype(
        [
            *(("width", "u4"), ("height", "u4"), ("bits", "u2"), ("jpeg_quality", "i2")),
            *(("color", "f8"), ("marks", "i4"), ("mark_share", "f8")),
        ]
    )

    def __init__(self, statistics: Iterable[ImageStatistics] = ()) -> None:
        self._numbers = [np.zeros(0, self.NUMBERS)]
        self._texts = Interned()
        self._levels = FileColumn(np.uint32, (256,))
        self._border = FileColumn(np.float64, (4, 4))
        self._thumbnails = FileColumn(np.uint8, (_THUMBNAIL_SIZE**2,))
        self._rows: np.ndarray | None = None
        chunk: list[ImageStatistics] = []
        for each in statistics:
            chunk.append(each)
            if len(chunk) == _CHUNK:
                self.append(*packed(chunk))
                chunk = []
        self.append(*packed(chunk))

    @classmethod
    def of(cls, statistics: Sequence[ImageStatistics]) -> ImageStatisticsTable:
        """Gives statistics as a table, those of a table as they are."""
        return statistics if isinstance(statistics, cls) else cls(statistics)

    def append(self, arrays: Mapping[str, np.ndarray], texts: Sequence[Sequence[Any]]) -> None:
        """Adds what `packed` made of statistics."""
        self._numbers.append(arrays["numbers"])
        for mode, file_format, metadata in texts:
            self._texts.append((mode, file_format, frozenset(metadata)))
        self._levels.append(arrays["levels"])
        self._border.append(arrays["border"])
        self._thumbnails.append(arrays["gray"])

    @property
    def numbers(self) -> np.ndarray:
        """Structured array `(n,)` of the dtype `NUMBERS`; a `jpeg_quality` of -1 is none."""
        if len(self._numbers) > 1:
            self._numbers = [np.concatenate(self._numbers)]
        return self._numbers[0] if self._rows is None else self._numbers[0][self._rows]

    @property
    def texts(self) -> Interned:
        """Mode, file format and metadata of each."""
        return self._texts if self._rows is None else self._texts.take(self._rows)

    def take(self, indices: np.ndarray) -> ImageStatisticsTable:
        """Gives those of some slices; what is in files is shared."""
        taken = copy.copy(self)
        taken._numbers = [self.numbers] if self._rows is None else self._numbers
        taken._rows = np.asarray(indices) if self._rows is None else self._rows[indices]
        return taken

    def blocks(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Gives the gray levels `(k, 256)` and borders `(k, 4, 4)` of some slices at a time."""
        sizes = self._sizes()
        for begin in range(0, len(self), _CHUNK):
            rows = self._rows_of(np.arange(begin, min(begin + _CHUNK, len(self))))
            levels = self._levels.take(rows) / sizes[begin : begin + len(rows), np.newaxis]
            yield levels, self._border.take(rows)

    def __len__(self) -> int:
        return len(self._texts) if self._rows is None else len(self._rows)

    def _rows_of(self, indices: np.ndarray) -> np.ndarray:
        return indices if self._rows is None else self._rows[indices]

    def _sizes(self) -> np.ndarray:
        numbers = self.numbers
        return numbers["width"].astype(np.int64) * numbers["height"]

    def _value(self, index: int) -> ImageStatistics:
        row = self._rows_of(np.array([index]))
        numbers = self.numbers[index] if self._rows is None else self._numbers[0][row[0]]
        mode, file_format, metadata = self._texts[row[0]]
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
            levels=self._levels.take(row)[0] / (width * height),
            border=self._border.take(row)[0],
            marks=int(numbers["marks"]),
            mark_share=float(numbers["mark_share"]),
            thumbnail=self._thumbnails.take(row)[0].astype(np.float32) / 255,
        )


def packed(statistics: Sequence[ImageStatistics]) -> tuple[dict[str, np.ndarray], list[list[Any]]]:
    """Brings statistics to what a `ImageStatisticsTable` takes: arrays, and the texts of each."""
    numbers = np.array(
        [
            (
                *(each.width, each.height, each.bits),
                *(-1 if each.jpeg_quality is None else each.jpeg_quality,),
                *(each.color, each.marks, each.mark_share),
            )
            for each in statistics
        ],
        ImageStatisticsTable.NUMBERS,
    )
    levels = np.array([each.levels for each in statistics]).reshape(-1, 256)
    sizes = numbers["width"].astype(np.int64) * numbers["height"]
    gray = np.array([each.thumbnail for each in statistics], np.float32).reshape(
        -1, _THUMBNAIL_SIZE**2
    )
    arrays = {
        "numbers": numbers,
        "levels": np.rint(levels * sizes[:, np.newaxis]).astype(np.uint32),
        "border": np.array([each.border for each in statistics], np.float64).reshape(-1, 4, 4),
        "gray": np.rint(gray * 255).astype(np.uint8),
    }
    return arrays, [[each.mode, each.file_format, sorted(each.metadata)] for each in statistics]


def image_statistics(saved: FileFormat, picture: np.ndarray) -> ImageStatistics:
    """Gathers what the baselines and the comparison of the classes need of one slice.

    Args:
        saved: how it was saved, from `read_slice_and_format`.
        picture: what `display_image` gave for its pixels: uint8 `(height, width[, 3])`.
    """
    gray = _gray(picture)
    marks, mark_share = edge_marks(gray)
    size = (_THUMBNAIL_SIZE, _THUMBNAIL_SIZE)
    small = np.asarray(Image.fromarray(gray).resize(size, Image.Resampling.BOX), np.float32)
    return ImageStatistics(
        width=picture.shape[1],
        height=picture.shape[0],
        mode=saved.mode,
        file_format=saved.file_format,
        bits=saved.bits,
        jpeg_quality=saved.jpeg_quality,
        metadata=saved.metadata,
        color=_color(picture),
        levels=np.bincount(gray.ravel(), minlength=256) / gray.size,
        border=_border(gray),
        marks=marks,
        mark_share=mark_share,
        thumbnail=small.ravel() / 255,
    )


def _gray(pixels: np.ndarray) -> np.ndarray:
    """Gives display pixels as uint8 gray, by the luminance of ITU-R BT.601."""
    return pixels if pixels.ndim == 2 else np.asarray(Image.fromarray(pixels).convert("L"))


def _color(pixels: np.ndarray) -> float:
    if pixels.ndim == 2:
        return 0.0
    red, green, blue = (pixels[..., channel].astype(np.int16) for channel in range(3))
    # The rounding of a JPEG's chroma leaves gray slices with differences of a few levels.
    return float(np.mean((np.abs(red - green) > 16) | (np.abs(green - blue) > 16)))


def _border(gray: np.ndarray) -> np.ndarray:
    rows, columns = (max(1, round(side * _BORDER_SHARE)) for side in gray.shape)
    sides = (gray[:rows], gray[-rows:], gray[:, :columns], gray[:, -columns:])
    # Counting is several times quicker than NumPy's own mean and deviation of so few pixels.
    counts = np.stack([np.bincount(side.ravel(), minlength=256) for side in sides])
    found = []
    for count, (total, squares, bright) in zip(counts, (counts @ _MOMENTS).tolist(), strict=True):
        size = int(count.sum())
        deviation = math.sqrt(size * squares - total * total) / size
        found.append((total / size, deviation, np.flatnonzero(count)[-1], bright / size))
    return np.array(found, np.float64)


def edge_marks(gray: np.ndarray) -> tuple[int, float]:
    """Counts bright small spots near the edges and outside the head: letters, rulers, arrows.

    Args:
        gray: uint8 `(height, width)`.

    Returns:
        How many there are, and the share of the pixels that they cover.
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
    outside: Callable[[np.ndarray], bool] | None = None
    fitting = (areas >= _MARK_PIXELS) & (areas <= _MARK_SHARE * gray.size)
    fitting[head] = False
    if not fitting.any():
        return 0, 0.0
    boxes = ndimage.find_objects(parts)
    for number in np.flatnonzero(fitting):
        box = boxes[number - 1]
        ends = np.array([(each.start, each.stop) for each in box])
        center = ends.mean(axis=1)
        if (
            np.any(np.diff(ends)[:, 0] > _MARK_EXTENT * sides)
            or np.all(np.minimum(center, sides - center) > _MARK_MARGIN * sides)
            or gray[box].max(where=parts[box] == number, initial=0) < _MARK_BRIGHTNESS
        ):
            continue
        outside = outside or _outside(parts == head)
        if outside(center):
            marks += 1
            covered += int(areas[number])
    return marks, covered / gray.size


def _outside(head: np.ndarray) -> Callable[[np.ndarray], bool]:
    """Makes the function that says whether a point lies outside the convex hull of the head."""
    from scipy.spatial import ConvexHull, QhullError

    rows = np.flatnonzero(head.any(axis=1))
    first, last = head[rows].argmax(axis=1), head.shape[1] - 1 - head[rows, ::-1].argmax(axis=1)
    points = np.concatenate([np.stack([rows, first], 1), np.stack([rows, last], 1)])
    try:
        planes = ConvexHull(points).equations
    except (QhullError, ValueError):  # a line or a point has no inside
        return lambda point: True
    return lambda point: bool(np.any(planes[:, :2] @ point + planes[:, 2] > 0))
