"""Manifests as CSV files, whose rows name slices by path or by id."""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hemorrhage_tf.core.errors import DataError, OptionError, Problem
from hemorrhage_tf.datasets.labels import label_parser
from hemorrhage_tf.datasets.records import Manifest, Record, Records
from hemorrhage_tf.datasets.series import find_slice_files
from hemorrhage_tf.imaging.readers import SLICE_SUFFIXES, is_display_image

SPLITS = ("train", "test")

# How many folders below the table the files named by id may be.
MAX_DEPTH = 2

# Columns with a meaning of their own. All others are kept as they are.
_FIXED_COLUMNS = ("path", "id", "patient", "split", "frame")


def read_csv_manifest(path: Path, positive: str | None, target: str | None) -> Manifest:
    """List the slices of a CSV file.

    Args:
        path: The file.
        positive: The label that means hemorrhage, or None.
        target: The column to use as label, or None for the usual one.

    Raises:
        DataError: The file cannot be read, is empty, or lacks a column.
        OptionError: `positive` is needed or names no class, or there is no such target.
    """
    rows = _read_rows(path)
    header = [name.lower() for name in rows[0][1]]
    label_column = _choose_label_column(path, header, target)
    if label_column not in header or not {"path", "id"} & set(header):
        raise DataError(
            f"{path}: the columns must be path and label, or id and hemorrhage. "
            f"Received: {', '.join(rows[0][1])}. Rename the columns."
        )
    table = _Table.create(path, header, rows[1:], label_column, positive)
    return _read_path_rows(table) if "path" in header else _read_id_rows(table)


_NumberedRow = tuple[int, tuple[str, ...]]  # the line in the file, and the cells


def _read_rows(path: Path) -> list[_NumberedRow]:
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file, skipinitialspace=True)
            rows = [
                (reader.line_num, cells)
                for row in reader
                if any(cells := tuple(cell.strip() for cell in row))
            ]
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: cannot be read as CSV ({error}). Save it as UTF-8.") from None
    if not rows:
        raise DataError(
            f"{path}: the file is empty. Add a header such as path,label and one row per slice."
        )
    return rows


def _choose_label_column(path: Path, header: Sequence[str], target: str | None) -> str:
    if target is None:
        names = ("label",) if "path" in header else ("hemorrhage", "label")
        return next((name for name in names if name in header), names[0])
    wanted = target.strip().lower()
    columns = [name for name in header if name not in _FIXED_COLUMNS]
    if wanted not in columns:
        raise OptionError(
            f"--target {target}: must be a column of {path.name}. Pass one of {', '.join(columns)}."
        )
    return wanted


@dataclass(frozen=True)
class _Table:
    """The rows of a CSV manifest, and how to read their labels.

    Attributes:
        path: The file.
        header: The names of the columns, in lower case.
        rows: The rows below the header.
        label_column: The name of the column that is the label.
        further: The names of the further columns, which are kept as they are.
        to_label: Converts the text of a label to 0 or 1.
    """

    path: Path
    header: Sequence[str]
    rows: Sequence[_NumberedRow]
    label_column: str
    further: tuple[str, ...]
    to_label: Callable[[str], int]

    @classmethod
    def create(
        cls,
        path: Path,
        header: Sequence[str],
        rows: Sequence[_NumberedRow],
        label_column: str,
        positive: str | None,
    ) -> _Table:
        column = header.index(label_column)
        labels = {cells[column] for _, cells in rows if len(cells) == len(header)}
        own = (*_FIXED_COLUMNS, label_column)
        further = tuple(name for name in header if name not in own)
        return cls(path, header, rows, label_column, further, label_parser(labels, positive))

    @property
    def root(self) -> Path:
        return self.path.parent

    def complete_rows(self, problems: list[Problem]) -> Iterator[dict[str, str]]:
        """Yield the rows by column name, and report those that lack cells or have too many."""
        for line, cells in self.rows:
            if len(cells) == len(self.header):
                yield dict(zip(self.header, cells, strict=True))
            else:
                reason = f"has {len(cells)} cells, not {len(self.header)}"
                problems.append(Problem(f"{self.path.name} row {line}", reason))

    def label(self, cells: Mapping[str, str]) -> int:
        """Return the label of a row; raise ValueError for one outside the two classes."""
        return self.to_label(cells[self.label_column])

    def further_cells(self, cells: Mapping[str, str]) -> tuple[str, ...]:
        return tuple(cells[name] for name in self.further)


def _read_path_rows(table: _Table) -> Manifest:
    records = Records()
    problems: list[Problem] = []
    has_scans = False
    for cells in table.complete_rows(problems):
        try:
            slices = _records_of_path(table, cells)
        except ValueError as error:
            problems.append(Problem(cells["path"], str(error)))
            continue
        has_scans |= (table.root / cells["path"]).is_dir()
        for record in slices:
            records.append(record)
    is_blank = np.array([split is None for split in records.splits], bool)
    if 0 < is_blank.sum() < len(records):
        problems += [
            Problem(records.path(index), "the split is blank, while other rows have one")
            for index in np.flatnonzero(is_blank).tolist()
        ]
        records = records.take(np.flatnonzero(~is_blank))
    return Manifest(
        records=records,
        root=table.root,
        layout="csv",
        problems=tuple(problems),
        columns=table.further,
        level="scan" if has_scans else "slice",
    )


def _records_of_path(table: _Table, cells: Mapping[str, str]) -> list[Record]:
    """Return the records of a row that names a file or a folder.

    Raises:
        ValueError: The row cannot be used.
    """
    path = table.root / cells["path"]
    split = cells.get("split", "").lower() or None
    label = table.label(cells)
    frame = _parse_frame(cells.get("frame", ""))
    is_folder = path.is_dir()
    images = find_slice_files(path) if is_folder else [path]
    if not images:
        raise ValueError("is a folder without slices")
    if is_folder and frame is not None:
        raise ValueError("is a folder, so the row must not have a frame")
    if not is_folder and not path.is_file():
        raise ValueError("has a label, but the file does not exist")
    if split not in (None, *SPLITS):
        raise ValueError(f"the split is {cells['split']!r}, not train or test")
    patient = cells.get("patient") or None
    columns = table.further_cells(cells)
    records = []
    for image in images:
        # Other files have headers. Display images form a scan only if a row names their folder.
        scan = str(path) if is_folder and is_display_image(image) else None
        records.append(Record(image, label, patient or scan, split, frame, scan, columns))
    return records


def _parse_frame(text: str) -> int | None:
    if not text:
        return None
    if not text.isdecimal():
        raise ValueError(f"the frame {text!r} is not a whole number from 0")
    return int(text)


def _read_id_rows(table: _Table) -> Manifest:
    images = find_slice_files(table.root, MAX_DEPTH)
    by_id: dict[str, list[Path]] = defaultdict(list)
    for image in images:
        by_id[_identifier(image.name)].append(image)
    records = Records()
    problems: list[Problem] = []
    named: set[str] = set()
    for cells in table.complete_rows(problems):
        identifier = _identifier(cells["id"])
        matches = by_id.get(identifier, [])
        try:
            if identifier in named:
                raise ValueError("the id occurs in more than one row")
            named.add(identifier)
            label = table.label(cells)
            if not matches:
                raise ValueError("has a label, but no image")
            if len(matches) > 1:
                raise ValueError("matches several images: " + ", ".join(map(str, matches)))
        except ValueError as error:
            problems.append(Problem(f"{table.path.name} id {cells['id']}", str(error)))
            continue
        columns = table.further_cells(cells)
        records.append(Record(matches[0], label, cells.get("patient") or None, columns=columns))
    problems += [
        Problem(str(image), f"has no row in {table.path.name}")
        for image in images
        if _identifier(image.name) not in named
    ]
    return Manifest(records, table.root, "kaggle", tuple(problems), table.further)


def _identifier(name: str) -> str:
    """Return the id of a file name or cell: no suffix, and no leading zeros of a number."""
    for suffix in sorted(SLICE_SUFFIXES, key=len, reverse=True):
        if name.lower().endswith(suffix):
            name = name[: -len(suffix)]
            break
    return str(int(name)) if name.isdecimal() else name
