"""The CT-ICH data set of PhysioNet: slices with subtypes, from NIfTI volumes or JPEG images.

Reference:
    https://physionet.org/content/ct-ich
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hemorrhage_tf.core.errors import DataError
from hemorrhage_tf.datasets.labels import parse_binary
from hemorrhage_tf.datasets.layouts.base import (
    CT_ICH,
    SUBTYPES,
    TARGETS,
    Layout,
    ProblemCollector,
    Row,
    ScanPlace,
    check_target,
)
from hemorrhage_tf.datasets.layouts.tables import (
    complete_rows,
    file_names,
    find_column,
    normalize_header,
    parse_whole_number,
    table_rows,
)

# The table and the folder, of version 1.3.1 and of versions 1.0 to 1.3.0.
CT_ICH_TABLES = {
    "hemorrhage_diagnosis_raw_ct.csv": "ct_scans",
    "hemorrhage_diagnosis.csv": "Patients_CT",
}
CT_ICH_DEMOGRAPHICS = ("Patient_demographics.csv", "patient_demographics.csv")
CT_ICH_TARGETS = (*TARGETS, "fracture")


def read_ct_ich(folder: Path, table: str, target: str) -> Layout:
    """List the slices.

    Args:
        folder: Where the data set was unpacked.
        table: The name of its table of labels.
        target: The finding to use as label.
    """
    check_target(target, CT_ICH_TARGETS)
    problems = ProblemCollector()
    rows = table_rows(folder / table)
    reader = _SliceReader(folder / table, normalize_header(next(rows)[1]), problems)
    place = CT_ICH_TABLES[table]
    images = _Images(folder / place)
    names, demographics = _read_demographics(folder)
    listed: list[Row] = []
    named: set[tuple[int, int]] = set()
    missing = 0
    for line, cells in complete_rows(folder / table, rows, reader.width, problems):
        row = f"{table} row {line}"
        key = reader.patient_and_slice(row, cells, named)
        values = None if key is None else reader.findings(row, cells)
        if key is None or values is None:
            continue
        path, frame = images.find(*key)
        if path is None:
            missing += 1
            continue
        columns = (*map(str, values), *demographics.get(key[0], ("",) * len(names)))
        label = values[CT_ICH_TARGETS.index(target)]
        # The images of a patient are one scan. Its millimeters are unknown; volumes state them.
        spot = ScanPlace(str(path.parent), number=key[1]) if frame is None else None
        listed.append(Row(path, label, str(key[0]), frame, columns, spot))
    patients = {patient for patient, _ in named}
    for patient, path in images.volumes.items():
        if patient not in patients:
            problems.add_without_row("scans", place, path, table)
    for key, path in images.slices.items():
        if key not in named:
            problems.add_without_row("images", place, path, table)
    return Layout(
        name=CT_ICH,
        rows=tuple(listed),
        columns=(*CT_ICH_TARGETS, *names),
        level="slice",
        problems=problems.listed(),
        targets=CT_ICH_TARGETS,
        missing=missing,
    )


class _SliceReader:
    """Reads the rows of the table, one per slice.

    Args:
        path: The table.
        header: Its normalized header.
        problems: Where to report unusable rows.

    Attributes:
        width: The number of columns.

    Raises:
        DataError: Columns are missing.
    """

    def __init__(self, path: Path, header: Sequence[str], problems: ProblemCollector) -> None:
        missing = [name for name in (*SUBTYPES, "fracture_yes_no") if name not in header]
        if missing:
            raise DataError(
                f"{path}: the columns {', '.join(missing)} are missing. "
                f"Received: {', '.join(header)}. Unpack the data set again."
            )
        self._table, self._header, self._problems = path.name, header, problems
        names = ("no_hemorrhage", *SUBTYPES, "fracture_yes_no")
        self._columns = [header.index(name) for name in names]
        self._patient, self._slice = header.index("patientnumber"), header.index("slicenumber")
        self.width = len(header)

    def patient_and_slice(
        self, row: str, cells: Sequence[str], named: set[tuple[int, int]]
    ) -> tuple[int, int] | None:
        """Return patient and slice number and add them to `named`; None for unusable ones."""
        patient, number = (
            parse_whole_number(cells[column]) for column in (self._patient, self._slice)
        )
        if patient is None or number is None or number < 1:
            self._problems.add(
                "rows without a patient number and a slice number from 1",
                self._table,
                row,
                f"patient {cells[self._patient]!r}, slice {cells[self._slice]!r}: both must be "
                "whole numbers, slices from 1",
            )
            return None
        if (patient, number) in named:
            self._problems.add(
                "rows for a slice that has an earlier row",
                self._table,
                row,
                f"slice {number} of patient {patient} has an earlier row",
            )
            return None
        named.add((patient, number))
        return patient, number

    def findings(self, row: str, cells: Sequence[str]) -> list[int] | None:
        """Return 0 or 1 for each target; None if the row contradicts itself."""
        parsed = [parse_binary(cells[column]) for column in self._columns]
        values = [value for value in parsed if value is not None]
        if len(values) < len(parsed):
            wrong = [
                f"{self._header[column]} {cells[column]!r}"
                for column, value in zip(self._columns, parsed, strict=True)
                if value is None
            ]
            self._problems.add_not_binary(self._table, row, wrong)
            return None
        values[0] = 1 - values[0]  # the table has "no hemorrhage" instead of "any"
        if not values[0] and any(values[1 : len(TARGETS)]):
            self._problems.add_contradiction(self._table, row)
            return None
        return values


@dataclass
class _Images:
    """The files of the data set: 049.nii by patient, or 049/brain/1.jpg by patient and slice.

    Args:
        folder: The folder that holds them.
    """

    folder: Path

    def __post_init__(self) -> None:
        self.volumes: dict[int, Path] = {}
        self.slices: dict[tuple[int, int], Path] = {}
        for name in file_names(self.folder):
            stem, _, suffix = name.partition(".")
            if suffix.lower() in ("nii", "nii.gz") and stem.isdecimal():
                self.volumes.setdefault(int(stem), self.folder / name)
        patients = sorted(self.folder.iterdir()) if self.folder.is_dir() else []
        for patient in patients:
            if not patient.name.isdecimal():
                continue
            brain = patient / "brain"  # bone/ holds the same slices in another window
            for name in file_names(brain):
                stem, suffix = os.path.splitext(name)
                # Next to 14.jpg there is 14_HGE_Seg.jpg if the hemorrhage is outlined.
                if suffix.lower() in (".jpg", ".jpeg", ".png") and stem.isdecimal():
                    self.slices.setdefault((int(patient.name), int(stem)), brain / name)

    def find(self, patient: int, number: int) -> tuple[Path | None, int | None]:
        """Return the file of a slice and its frame; None for each that there is not."""
        if patient in self.volumes:
            return self.volumes[patient], number - 1
        return self.slices.get((patient, number)), None


def _read_demographics(
    folder: Path,
) -> tuple[tuple[str, ...], dict[int, tuple[str, ...]]]:
    """Read age and sex by patient, if the table is there.

    Its header spans two rows, and its cells have line breaks: "Patient Number", "Age (years)".
    """
    path = next((folder / name for name in CT_ICH_DEMOGRAPHICS if (folder / name).is_file()), None)
    if path is None:
        return (), {}
    # Only numbers and sexes are used, so notes in another encoding do no harm.
    rows = list(table_rows(path, errors="replace"))
    header = normalize_header(rows[0][1]) if rows else []
    patient_column = find_column(header, "patient")
    columns = {
        name: column
        for name, column in (
            ("age", find_column(header, "age")),
            ("sex", find_column(header, "gender", "sex")),
        )
        if column is not None
    }
    if patient_column is None or not columns:
        return (), {}
    demographics = {}
    for _, cells in rows[1:]:
        patient = parse_whole_number(cells[patient_column]) if len(cells) == len(header) else None
        if patient is not None:
            demographics[patient] = tuple(cells[column].lower() for column in columns.values())
    return tuple(columns), demographics
