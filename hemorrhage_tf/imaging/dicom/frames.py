"""The frames of a file, and the functional groups that describe them in enhanced CT.

Where a frame lies in the patient is computed in `geometry`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from hemorrhage_tf.core.errors import SliceError
from hemorrhage_tf.imaging.dicom.dicom_file import DicomFile
from hemorrhage_tf.imaging.dicom.elements import read_integer, read_items
from hemorrhage_tf.imaging.dicom.transfer_syntaxes import NATIVE

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

MAX_FRAMES = 100_000
# What `read_frame_count` needs of a file.
FRAME_COUNT_KEYWORDS = ("NumberOfFrames", "Rows", "Columns", "BitsAllocated")

# A compressed frame has at least one fragment, which begins with a tag and a length.
_FRAGMENT_HEAD_BYTES = 8


class FunctionalGroups(NamedTuple):
    """The functional groups of a multi-frame file (PS3.3, section C.7.6.16).

    Attributes:
        shared: Macros that hold for all frames, or None.
        per_frame: Macros of each frame; empty in files without them.
    """

    shared: Dataset | None
    per_frame: Sequence[Dataset]


def read_functional_groups(file: DicomFile) -> FunctionalGroups:
    """Read the functional groups of a file."""
    shared = read_items(file, file.dataset, "SharedFunctionalGroupsSequence")
    per_frame = read_items(file, file.dataset, "PerFrameFunctionalGroupsSequence")
    return FunctionalGroups(shared[0] if shared else None, per_frame)


def find_macro(
    file: DicomFile, groups: FunctionalGroups, frame: int, keyword: str
) -> Dataset | None:
    """Return a frame's macro, its own before the shared one, or None if there is neither."""
    own = groups.per_frame[frame] if frame < len(groups.per_frame) else None
    for holder in (own, groups.shared):
        items = read_items(file, holder, keyword) if holder is not None else ()
        if items:
            return items[0]
    return None


def read_frame_count(file: DicomFile) -> int:
    """Return how many frames a file declares; 1 if it declares none.

    Raises:
        SliceError: The file cannot hold as many, or they are over the limit.

    Reference:
        DICOM PS3.5, section A.4 (fragments of compressed frames).
    """
    count = read_integer(file.dataset, "NumberOfFrames")
    count = 1 if count is None else count
    if not 1 <= count <= MAX_FRAMES:
        raise SliceError(file.path, f"declares {count} frames: it must have 1 to {MAX_FRAMES}")
    # Callers loop over frames: a wrong count must not cost more than the file's size.
    largest = file.stream.size // _smallest_frame_bytes(file)
    if count > max(largest, 1):
        raise SliceError(
            file.path,
            f"declares {count} frames, but its {file.stream.size} bytes hold at most {largest}: "
            "it is truncated, or its header is wrong",
        )
    return count


def _smallest_frame_bytes(file: DicomFile) -> int:
    """Return how many bytes a frame takes at least."""
    if file.transfer_syntax not in NATIVE:
        return _FRAGMENT_HEAD_BYTES
    bits = 1
    for keyword in ("Rows", "Columns", "BitsAllocated"):
        bits *= max(read_integer(file.dataset, keyword) or 1, 1)
    return max(bits // 8, 1)


def check_frame_index(file: DicomFile, frame: int | None, count: int) -> int:
    """Return the index of the requested frame, or raise a SliceError if there is none."""
    if frame is None and count > 1:
        raise SliceError(file.path, f"holds {count} frames: choose one, from 0 to {count - 1}")
    index = frame or 0
    if not 0 <= index < count:
        raise SliceError(file.path, f"has no frame {index}: it holds {count}, numbered from 0")
    return index
