"""Where a slice lies in the patient: its orientation, its position, and how to show it upright.

Directions are unit vectors in the patient's coordinates, which grow to the patient's left, to
posterior and to the head (PS3.3, section C.7.6.2.1.1).
"""

from __future__ import annotations

import math

import numpy as np

from hemorrhage_tf.imaging.dicom.dicom_file import DicomFile
from hemorrhage_tf.imaging.dicom.elements import read_numbers
from hemorrhage_tf.imaging.dicom.frames import FunctionalGroups, find_macro


def read_orientation(file: DicomFile, groups: FunctionalGroups, frame: int) -> np.ndarray | None:
    """Read the orientation of a frame.

    Returns:
        float64 `(2, 3)`: the directions of a row and of a column; None if they are unusable.

    Reference:
        DICOM PS3.3, C.7.6.2.1.1 (Image Orientation), C.7.6.16.2.4 (plane orientation macro).
    """
    plane = find_macro(file, groups, frame, "PlaneOrientationSequence") or file.dataset
    cosines = np.array(read_numbers(plane, "ImageOrientationPatient"))
    if cosines.size != 6 or not np.isfinite(cosines).all():
        return None
    row, column = cosines.reshape(2, 3)
    lengths = np.linalg.norm(row), np.linalg.norm(column)
    # Reject vectors that are not about orthonormal; most of those in real files are zeros.
    if any(abs(length - 1) > 0.1 for length in lengths) or abs(row @ column) > 0.1:
        return None
    return np.stack([row / lengths[0], column / lengths[1]])


def slice_normal(orientation: np.ndarray) -> np.ndarray:
    """Return the normal of a slice, `(3,)`; for axial slices it points to the head."""
    normal = np.cross(*orientation)
    return -normal if normal[np.abs(normal).argmax()] < 0 else normal


def read_orientations(
    file: DicomFile, groups: FunctionalGroups, frame_count: int
) -> list[np.ndarray | None]:
    """Read the orientation of each frame; frames that have none of their own are listed once."""
    return [
        read_orientation(file, groups, frame) for frame in _distinct_frames(groups, frame_count)
    ]


def read_positions(
    file: DicomFile, groups: FunctionalGroups, frame_count: int
) -> tuple[float | None, ...]:
    """Compute the position of each frame along its normal, in mm; None where the file lacks it.

    Reference:
        DICOM PS3.3, C.7.6.2.1.1 (Image Position), C.7.6.16.2.3 (plane position macro).
    """
    distinct = [
        _read_position(file, groups, frame, frame_count)
        for frame in _distinct_frames(groups, frame_count)
    ]
    return tuple(distinct + distinct[-1:] * (frame_count - len(distinct)))


def _distinct_frames(groups: FunctionalGroups, frame_count: int) -> range:
    """Return the frames with groups of their own, and the first without; the rest are like it."""
    return range(min(frame_count, len(groups.per_frame) + 1))


def _read_position(
    file: DicomFile, groups: FunctionalGroups, frame: int, frame_count: int
) -> float | None:
    orientation = read_orientation(file, groups, frame)
    plane = find_macro(file, groups, frame, "PlanePositionSequence")
    if plane is None and frame_count == 1:  # one position cannot describe several frames
        plane = file.dataset
    if orientation is None or plane is None:
        return None
    corner = read_numbers(plane, "ImagePositionPatient")
    if len(corner) != 3 or not all(math.isfinite(value) for value in corner):
        return None
    return float(np.dot(corner, slice_normal(orientation)))


def read_thickness(file: DicomFile, groups: FunctionalGroups) -> float | None:
    """Read the slice thickness of the first frame in mm; None if the file lacks it.

    Reference:
        DICOM PS3.3, C.7.6.2.1 (Slice Thickness), C.7.6.16.2.1 (pixel measures macro).
    """
    measures = find_macro(file, groups, 0, "PixelMeasuresSequence") or file.dataset
    values = read_numbers(measures, "SliceThickness")
    is_usable = len(values) == 1 and math.isfinite(values[0]) and values[0] > 0
    return float(values[0]) if is_usable else None


def is_axial(orientation: np.ndarray) -> bool:
    """Return whether a slice is tilted by at most 45 degrees from the axial plane."""
    return bool(abs(slice_normal(orientation)[2]) >= math.cos(math.pi / 4) - 1e-6)


def to_upright(pixels: np.ndarray, orientation: np.ndarray | None) -> np.ndarray:
    """Flip and transpose an axial slice so that columns run to the left and rows to posterior."""
    if orientation is None or not is_axial(orientation):
        return np.ascontiguousarray(pixels)
    row, column = orientation
    if abs(row[0]) + abs(column[1]) < abs(row[1]) + abs(column[0]):
        pixels, row, column = pixels.swapaxes(0, 1), column, row
    if row[0] < 0:
        pixels = pixels[:, ::-1]
    if column[1] < 0:
        pixels = pixels[::-1]
    return np.ascontiguousarray(pixels)
