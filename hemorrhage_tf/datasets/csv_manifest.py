"""Manifests as CSV files, whose rows name slices by path or by id."""

from __future__ import annotations

import csv
import math
import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
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
_FIXED_COLUMNS = ("path", "id", "patient", "split", "frame", "scan", "position")
SCAN_LABEL = "scan_label"


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
    # The label of a scan is about hemorrhage of any kind, not about another target.
    has_scan_labels = target is None and SCAN_LABEL in header
    has_labels = label_column in header or has_scan_labels
    if not has_labels or not {"path", "id"} & set(header):
        raise DataError(
            f"{path}: the columns must be path and label, or id and hemorrhage. "
            f"Received: {', '.join(rows[0][1])}. Rename the columns."
        )
    table = _Table.create(
        path, header, rows[1:], (label_column, SCAN_LABEL if has_scan_labels else None), positive
    )
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
        names = ("label", "any") if "path" in header else ("hemorrhage", "label", "any")
        return next((name for name in names if name in header), names[0])
    wanted = target.strip().lower()
    columns = [name for name in header if name not in (*_FIXED_COLUMNS, SCAN_LABEL)]
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
        scan_label_column: The name of the column with the labels of scans, or None.
        further: The names of the further columns, which are kept as they are.
        patient_of_scan: The patient of each scan of which a row names one.
        to_label: Converts the text of a label to 0 or 1.
    """

    path: Path
    header: Sequence[str]
    rows: Sequence[_NumberedRow]
    label_column: str
    scan_label_column: str | None
    further: tuple[str, ...]
    patient_of_scan: Mapping[str, str]
    to_label: Callable[[str], int]

    @classmethod
    def create(
        cls,
        path: Path,
        header: Sequence[str],
        rows: Sequence[_NumberedRow],
        label_columns: tuple[str, str | None],
        positive: str | None,
    ) -> _Table:
        complete = [
            dict(zip(header, cells, strict=True)) for _, cells in rows if len(cells) == len(header)
        ]
        label_column, scan_label_column = label_columns
        labels: set[str] = set()
        for row in complete:
            label, scan_label = row.get(label_column, ""), row.get(scan_label_column or "", "")
            labels |= {label or scan_label, scan_label or label}
        own = (*_FIXED_COLUMNS, *label_columns)
        return cls(
            path=path,
            header=header,
            rows=rows,
            label_column=label_column,
            scan_label_column=scan_label_column,
            further=tuple(name for name in header if name not in own),
            patient_of_scan={
                row["scan"]: row["patient"]
                for row in complete
                if row.get("scan") and row.get("patient")
            },
            to_label=label_parser(labels, positive),
        )

    @property
    def root(self) -> Path:
        return self.path.parent

    def manifest(self, layout: str, records: Records, problems: Sequence[Problem]) -> Manifest:
        """Return the manifest of the usable rows."""
        return Manifest(
            records=records,
            root=self.root,
            layout=layout,
            problems=tuple(problems),
            columns=self.further,
            level="slice" if records.has_slice_label.all() else "scan",
        )

    def complete_rows(self, problems: list[Problem]) -> Iterator[dict[str, str]]:
        """Yield the rows by column name, and report those with missing cells or too many."""
        key = "path" if "path" in self.header else "id"
        for line, cells in self.rows:
            row = f"{self.path.name} row {line}"
            named = dict(zip(self.header, cells, strict=False))
            if len(cells) != len(self.header):
                reason = f"has {len(cells)} cells, not {len(self.header)}"
                problems.append(Problem(row, reason))
            elif named[key]:
                yield named
            elif self._text(named, self.scan_label_column):
                problems.append(Problem(row, f"has a scan_label, but no {key} of a slice"))
            else:
                problems.append(Problem(row, f"has no {key}"))

    def record(self, cells: Mapping[str, str], path: Path) -> Record:
        """Return the record of a row; frame, split and folders are left to the caller.

        Raises:
            ValueError: A label or the position cannot be used.
        """
        label, scan_label, has_slice_label = self._labels(cells)
        scan = cells.get("scan") or None
        position = _parse_position(cells.get("position", ""))
        patient = cells.get("patient") or self.patient_of_scan.get(scan or "")
        is_image = is_display_image(path)
        if is_image and not path.is_dir() and scan is None:
            for name, value in ((SCAN_LABEL, scan_label), ("position", position)):
                if value is not None:
                    raise ValueError(f"has a {name}, but the row names no scan")
        return Record(
            path=path,
            label=label,
            patient=patient or (scan if is_image else None),  # other files have headers
            scan=scan,
            columns=tuple(cells[name] for name in self.further),
            position=position,
            scan_label=scan_label,
            has_slice_label=has_slice_label,
            scan_name=scan,
        )

    def _text(self, cells: Mapping[str, str], column: str | None) -> str:
        return "" if column is None else cells.get(column, "")

    def _labels(self, cells: Mapping[str, str]) -> tuple[int, int | None, bool]:
        """Return the label, the label of the scan, and whether the first is of the slice itself."""
        text = self._text(cells, self.label_column)
        scan_text = self._text(cells, self.scan_label_column)
        scan_label = self.to_label(scan_text) if scan_text else None
        if text or self.scan_label_column is None:
            return self.to_label(text), scan_label, True
        if scan_label is None:
            raise ValueError("has neither a label nor a scan_label")
        return scan_label, scan_label, False


def _read_path_rows(table: _Table) -> Manifest:
    records = Records()
    problems: list[Problem] = []
    for cells in table.complete_rows(problems):
        try:
            slices = _records_of_path(table, cells)
        except ValueError as error:
            problems.append(Problem(cells["path"], str(error)))
            continue
        for record in slices:
            records.append(record)
    is_blank = np.array([split is None for split in records.splits], bool)
    if 0 < is_blank.sum() < len(records):
        problems += [
            Problem(records.path(index), "the split is blank, while other rows have one")
            for index in np.flatnonzero(is_blank).tolist()
        ]
        records = records.take(np.flatnonzero(~is_blank))
    return table.manifest("csv", records, problems)


def _records_of_path(table: _Table, cells: Mapping[str, str]) -> list[Record]:
    """Return the records of a row that names a file or a folder.

    Raises:
        ValueError: The row cannot be used.
    """
    path = table.root / cells["path"]
    split = cells.get("split", "").lower() or None
    record = replace(table.record(cells, path), split=split)
    frame = _parse_frame(cells.get("frame", ""))
    is_folder = path.is_dir()
    images = find_slice_files(path) if is_folder else [path]
    if not images:
        raise ValueError("is a folder without slices")
    if is_folder and frame is not None:
        raise ValueError("is a folder, so the row must not have a frame")
    if is_folder and record.position is not None:
        raise ValueError("is a folder, so the row must not have a position")
    if not is_folder and not path.is_file():
        raise ValueError("has a label, but the file does not exist")
    if split not in (None, *SPLITS):
        raise ValueError(f"the split is {cells['split']!r}, not train or test")
    if not is_folder:
        return [replace(record, frame=frame)]
    if record.scan_label not in (None, record.label):
        raise ValueError(
            f"is a whole scan with the label {record.label} and the scan_label {record.scan_label}"
        )
    record = replace(record, has_slice_label=False, scan_label=record.label)
    places = {image: place for place, image in enumerate(sorted(images, key=_natural_order))}
    records = []
    for image in images:
        completed = replace(record, path=image)
        if is_display_image(image):  # other files have headers, which name their scan
            scan = record.scan or str(path)
            patient = record.patient or scan
            completed = replace(completed, scan=scan, patient=patient, number=places[image])
        records.append(completed)
    return records


def _natural_order(path: Path) -> list[tuple[int, str]]:
    """Sort 2.png before 10.png."""
    parts = re.findall(r"\d+|\D+", str(path))
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in parts]


def _parse_position(text: str) -> float | None:
    if not text:
        return None
    try:
        position = float(text)
    except ValueError:
        position = math.nan
    if not math.isfinite(position):
        raise ValueError(f"the position {text!r} is not a number of millimeters")
    return position


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
            if not matches:
                raise ValueError("has a label, but no image")
            if len(matches) > 1:
                raise ValueError("matches several images: " + ", ".join(map(str, matches)))
            records.append(table.record(cells, matches[0]))
        except ValueError as error:
            problems.append(Problem(f"{table.path.name} id {cells['id']}", str(error)))
    problems += [
        Problem(str(image), f"has no row in {table.path.name}")
        for image in images
        if _identifier(image.name) not in named
    ]
    return table.manifest("kaggle", records, problems)


def _identifier(name: str) -> str:
    """Return the id of a file name or cell: no suffix, and no leading zeros of a number."""
    for suffix in sorted(SLICE_SUFFIXES, key=len, reverse=True):
        if name.lower().endswith(suffix):
            name = name[: -len(suffix)]
            break
    return str(int(name)) if name.isdecimal() else name
