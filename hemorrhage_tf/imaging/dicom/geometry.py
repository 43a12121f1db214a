"""TODO docstring."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from hemorrhage_tf.core.errors import SliceError
from hemorrhage_tf.imaging.dicom.elements import _integer, _items, _numbers, _Source

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

_MAX_FRAMES = 100_000


def _groups(source: _Source) -> tuple[Dataset | None, Sequence[Dataset]]:
    """Gives the functional groups of an enhanced file: of all frames, and of each."""
    shared = _items(source, source.dataset, "SharedFunctionalGroupsSequence")
    per_frame = _items(source, source.dataset, "PerFrameFunctionalGroupsSequence")
    return (shared[0] if shared else None), per_frame


def _macro(
    source: _Source,
    shared: Dataset | None,
    per_frame: Sequence[Dataset],
    frame: int,
    keyword: str,
) -> Dataset | None:
    """Gives what the functional groups say of a frame, or None where they are silent."""
    own = per_frame[frame] if frame < len(per_frame) else None
    for holder in (own, shared):
        items = _items(source, holder, keyword) if holder is not None else ()
        if items:
            return items[0]
    return None


def _frame_count(source: _Source) -> int:
    count = _integer(source.dataset, "NumberOfFrames")
    count = 1 if count is None else count
    if not 1 <= count <= _MAX_FRAMES:
        raise SliceError(
            source.path, f"declares {count} frames; accepted are 1 to {_MAX_FRAMES} of them"
        )
    return count


def _frame_index(source: _Source, frame: int | None, count: int) -> int:
    if frame is None and count > 1:
        raise SliceError(source.path, f"holds {count} frames: say which one, from 0 to {count - 1}")
    index = frame or 0
    if not 0 <= index < count:
        raise SliceError(source.path, f"has no frame {index}: it holds {count}, which count from 0")
    return index


def _orientation(
    source: _Source, shared: Dataset | None, per_frame: Sequence[Dataset], frame: int
) -> np.ndarray | None:
    """Gives the directions of a row and of a column, `(2, 3)`; None where they are unusable."""
    plane = _macro(source, shared, per_frame, frame, "PlaneOrientationSequence") or source.dataset
    cosines = np.array(_numbers(plane, "ImageOrientationPatient"))
    if cosines.size != 6 or not np.isfinite(cosines).all():
        return None
    row, column = cosines.reshape(2, 3)
    lengths = np.linalg.norm(row), np.linalg.norm(column)
    # Directions that are no unit vectors or no right angle are no directions: zeros, mostly.
    if any(abs(length - 1) > 0.1 for length in lengths) or abs(row @ column) > 0.1:
        return None
    return np.stack([row / lengths[0], column / lengths[1]])


def _normal(orientation: np.ndarray) -> np.ndarray:
    """Gives the normal of the slices; towards the head where they are axial."""
    normal = np.cross(*orientation)
    return -normal if normal[np.abs(normal).argmax()] < 0 else normal


def _position(
    source: _Source,
    shared: Dataset | None,
    per_frame: Sequence[Dataset],
    frame: int,
    count: int,
) -> float | None:
    orientation = _orientation(source, shared, per_frame, frame)
    plane = _macro(source, shared, per_frame, frame, "PlanePositionSequence")
    if plane is None and count == 1:  # of several frames, the file's one position says nothing
        plane = source.dataset
    if orientation is None or plane is None:
        return None
    corner = _numbers(plane, "ImagePositionPatient")
    if len(corner) != 3 or not all(math.isfinite(value) for value in corner):
        return None
    return float(np.dot(corner, _normal(orientation)))


def _is_axial(orientation: np.ndarray) -> bool:
    return bool(abs(_normal(orientation)[2]) >= math.cos(math.pi / 4) - 1e-6)


def _upright(pixels: np.ndarray, orientation: np.ndarray | None) -> np.ndarray:
    """Turns an axial slice so that columns run to the patient's left, and rows to the back."""
    if orientation is None or not _is_axial(orientation):
        return np.ascontiguousarray(pixels)
    row, column = orientation
    if abs(row[0]) + abs(column[1]) < abs(row[1]) + abs(column[0]):
        pixels, row, column = pixels.swapaxes(0, 1), column, row
    if row[0] < 0:
        pixels = pixels[:, ::-1]
    if column[1] < 0:
        pixels = pixels[::-1]
    return np.ascontiguousarray(pixels)
