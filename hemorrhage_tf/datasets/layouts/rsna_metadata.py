"""A table of DICOM tags beside the images of RSNA 2019, as is shared with PNG conversions.

There is no official one. Those that people share name their columns by the keywords of DICOM, with
or without underscores, and split vectors over several columns or write them as one text.
"""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Container, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hemorrhage_tf.core.errors import DataError
from hemorrhage_tf.datasets.layouts.base import ProblemCollector, ScanPlace
from hemorrhage_tf.datasets.layouts.tables import complete_rows, normalize_header, table_rows
from hemorrhage_tf.imaging.dicom.geometry import slice_normal

RSNA_METADATA_TABLES = (
    "stage_2_train_metadata.csv",
    "stage_1_train_metadata.csv",
    "train_metadata.csv",
    "train_metadata_noidx.csv",
)

# Names of columns without blanks and underscores, in lower case; the first that exists counts.
_IDS = ("sopinstanceuid", "id", "imageid", "image", "filename", "fname", "file")
_SERIES = ("seriesinstanceuid", "studyinstanceuid")  # here a study has one series
_POSITION, _ORIENTATION = "imagepositionpatient", "imageorientationpatient"

_SEPARATORS = re.compile(r"[\s,;\\\[\]()'\"]+")  # of the numbers of a vector


@dataclass(frozen=True, slots=True)
class SliceMetadata:
    """The tags of one slice.

    Attributes:
        patient: The Patient ID, or None.
        place: The series, and the place of the slice in it.
    """

    patient: str | None
    place: ScanPlace


@dataclass(frozen=True)
class Metadata:
    """The tags of the slices, by id, and the name of their table."""

    table: str
    tags: dict[str, SliceMetadata]


def read_rsna_metadata(
    folder: Path, wanted: Container[str], problems: ProblemCollector
) -> Metadata | None:
    """Read the tags of slices.

    Args:
        folder: The folder of the data set.
        wanted: The ids of the slices, such as "ID_000012eaf".
        problems: Where to report rows that cannot be used.

    Returns:
        The tags, without those of slices whose series is blank; None if there is no such table.

    Raises:
        DataError: The table lacks the column of the id or of the series.
    """
    path = next((folder / name for name in RSNA_METADATA_TABLES if (folder / name).is_file()), None)
    if path is None:
        return None
    rows = table_rows(path)
    header = [name.replace("_", "") for name in normalize_header(next(rows, (0, []))[1])]
    columns = _Columns.find(path, header)
    metadata = Metadata(path.name, {})
    for line, cells in complete_rows(path, rows, len(header), problems):
        identifier, tags = columns.identifier(cells), columns.tags(cells)
        if identifier not in wanted or not tags.place.scan:
            continue
        if metadata.tags.setdefault(identifier, tags) != tags:
            kind = "rows that contradict an earlier one"
            reason = f"has other tags for {identifier} than an earlier row"
            problems.add(kind, path.name, f"{path.name} row {line}", reason)
        if tags.place.position is None and (text := columns.position_text(cells)):
            kind = "rows with an Image Position that is not three numbers"
            reason = f"the Image Position {text!r} is not three numbers"
            problems.add(kind, path.name, f"{path.name} row {line}", reason)
    return metadata


@dataclass(frozen=True)
class _Columns:
    """Where a table has the tags: the indices of columns, none for a tag that it lacks."""

    ids: int
    series: int
    patient: int | None
    position: tuple[int, ...]
    orientation: tuple[int, ...]
    number: int | None
    thickness: int | None

    @classmethod
    def find(cls, path: Path, header: Sequence[str]) -> _Columns:
        def first(*names: str) -> int | None:
            return next((header.index(name) for name in names if name in header), None)

        ids, series = first(*_IDS), first(*_SERIES)
        if ids is None or series is None:
            raise DataError(
                f"{path}: must have a column with the id of the slice, such as SOPInstanceUID, and "
                f"a column SeriesInstanceUID. Received: {', '.join(header)}. Rename the columns, "
                "or remove the table."
            )
        return cls(
            ids=ids,
            series=series,
            patient=first("patientid", "patient"),
            position=_vector_columns(header, _POSITION, 3),
            orientation=_vector_columns(header, _ORIENTATION, 6),
            number=first("instancenumber"),
            thickness=first("slicethickness"),
        )

    def identifier(self, cells: Sequence[str]) -> str:
        name = Path(cells[self.ids]).name.partition(".")[0]
        return name if name.startswith("ID_") else f"ID_{name}"

    def tags(self, cells: Sequence[str]) -> SliceMetadata:
        number, thickness = (
            None if column is None else _first(_numbers([cells[column]]))
            for column in (self.number, self.thickness)
        )
        patient = "" if self.patient is None else cells[self.patient]
        place = ScanPlace(
            scan=sys.intern(cells[self.series]),
            position=self._position(cells),
            number=int(number) if number is not None and abs(number) < 2**31 else None,
            thickness=thickness,
        )
        return SliceMetadata(sys.intern(patient) if patient else None, place)

    def position_text(self, cells: Sequence[str]) -> str:
        """Return what a row states as the position; empty if it is blank."""
        text = ", ".join(cells[column] for column in self.position)
        return text if _SEPARATORS.sub("", text) else ""

    def _position(self, cells: Sequence[str]) -> float | None:
        corner = _numbers([cells[column] for column in self.position])
        if len(corner) != 3:
            return None
        cosines = _numbers([cells[column] for column in self.orientation])
        if len(cosines) != 6 or not any(cosines):
            return corner[2]
        return float(np.dot(corner, slice_normal(np.array(cosines).reshape(2, 3))))


def _vector_columns(header: Sequence[str], name: str, length: int) -> tuple[int, ...]:
    """Return the columns of a vector: one of text, or one for each number.

    The numbers may be counted from 0 or named x, y and z. Some tables give the first number no
    index: ImagePositionPatient, ImagePositionPatient1, ImagePositionPatient2.
    """
    for suffixes in (range(length), ("x", "y", "z"), ("", *range(1, length))):
        names = [f"{name}{suffix}" for suffix in suffixes]
        if len(names) == length and all(each in header for each in names):
            return tuple(header.index(each) for each in names)
    return (header.index(name),) if name in header else ()


def _numbers(cells: Sequence[str]) -> list[float]:
    """Return all numbers in some cells, such as "['-125.0', '12', '80.5']"; none if one is not."""
    texts = [text for cell in cells for text in _SEPARATORS.split(cell) if text]
    try:
        values = [float(text) for text in texts]
    except ValueError:
        return []
    return values if all(map(math.isfinite, values)) else []


def _first(values: Sequence[float]) -> float | None:
    return values[0] if values else None
