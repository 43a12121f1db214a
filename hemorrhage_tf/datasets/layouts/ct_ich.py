"""TODO docstring."""

from __future__ import annotations

import os
from pathlib import Path

from hemorrhage_tf.core.errors import DataError
from hemorrhage_tf.datasets.layouts.base import (
    CT_ICH,
    SUBTYPES,
    TARGETS,
    Layout,
    Row,
    _binary,
    _check_target,
    _column_of,
    _contradiction,
    _files,
    _full_rows,
    _header_of,
    _not_binary,
    _Problems,
    _table_rows,
    _unnamed,
    _whole,
)

# Versions 1.3.1 and 1.0 to 1.3.0 of https://physionet.org/content/ct-ich: the table, the folder.
CT_ICH_TABLES = {
    "hemorrhage_diagnosis_raw_ct.csv": "ct_scans",
    "hemorrhage_diagnosis.csv": "Patients_CT",
}


CT_ICH_DEMOGRAPHICS = ("Patient_demographics.csv", "patient_demographics.csv")


# --- CT-ICH ---


def _read_ct_ich(folder: Path, table: str, target: str) -> Layout:
    targets = (*TARGETS, "fracture")
    _check_target(target, targets)
    problems = _Problems()
    rows = _table_rows(folder / table)
    header = _header_of(next(rows)[1])
    lacking = [name for name in (*SUBTYPES, "fracture_yes_no") if name not in header]
    if lacking:
        raise DataError(
            f"{folder / table}: lacks the columns {', '.join(lacking)}. "
            f"Received: {', '.join(header)}"
        )
    columns = [header.index(name) for name in ("no_hemorrhage", *SUBTYPES, "fracture_yes_no")]
    patient_column, slice_column = header.index("patientnumber"), header.index("slicenumber")
    place = CT_ICH_TABLES[table]
    scans, images = _ct_ich_images(folder / place)
    demographics_names, demographics = _ct_ich_demographics(folder)
    listed: list[Row] = []
    named: set[tuple[int, int]] = set()
    missing = 0
    for line, cells in _full_rows(folder / table, rows, len(header), problems):
        row = f"{table} row {line}"
        patient, number = _whole(cells[patient_column]), _whole(cells[slice_column])
        if patient is None or number is None or number < 1:
            problems.add(
                "rows without a patient number and a slice number from 1",
                table,
                row,
                f"patient {cells[patient_column]!r}, slice {cells[slice_column]!r}: both must be "
                "whole numbers, slices from 1",
            )
            continue
        if (patient, number) in named:
            problems.add(
                "rows for a slice that an earlier row is for",
                table,
                row,
                f"slice {number} of patient {patient} stands in an earlier row too",
            )
            continue
        named.add((patient, number))
        values = [_binary(cells[column]) for column in columns]
        if None in values:
            wrong = [
                f"{header[column]} {cells[column]!r}"
                for column, value in zip(columns, values, strict=True)
                if value is None
            ]
            problems.add(*_not_binary(table, row, wrong))
            continue
        values[0] = 1 - values[0]  # the table has "no hemorrhage" where others have "any"
        if not values[0] and any(values[1 : len(TARGETS)]):
            problems.add(*_contradiction(table, row))
            continue
        path = scans.get(patient) or images.get((patient, number))
        if path is None:
            missing += 1
            continue
        frame = number - 1 if patient in scans else None
        further = demographics.get(patient, ("",) * len(demographics_names))
        label = values[targets.index(target)]
        listed.append(Row(path, label, str(patient), frame, (*map(str, values), *further)))
    patients = {patient for patient, _ in named}
    for patient, path in scans.items():
        if patient not in patients:
            problems.add(f"scans without a row in {table}", place, *_unnamed(path, table))
    for key, path in images.items():
        if key not in named:
            problems.add(f"images without a row in {table}", place, *_unnamed(path, table))
    return Layout(
        CT_ICH,
        tuple(listed),
        (*targets, *demographics_names),
        "slice",
        problems.listed(),
        targets,
        missing,
    )


def _ct_ich_images(folder: Path) -> tuple[dict[int, Path], dict[tuple[int, int], Path]]:
    """Finds 049.nii by patient, or 049/brain/1.jpg by patient and slice."""
    scans: dict[int, Path] = {}
    images: dict[tuple[int, int], Path] = {}
    for name in _files(folder):
        stem, _, suffix = name.partition(".")
        if suffix.lower() in ("nii", "nii.gz") and stem.isdecimal():
            scans.setdefault(int(stem), folder / name)
    if folder.is_dir():
        for patient in sorted(folder.iterdir()):
            if not patient.name.isdecimal():
                continue
            brain = patient / "brain"  # bone/ holds the same slices through another window
            for name in _files(brain):
                stem, suffix = os.path.splitext(name)
                # Beside 14.jpg lies 14_HGE_Seg.jpg where the hemorrhage is outlined.
                if suffix.lower() in (".jpg", ".jpeg", ".png") and stem.isdecimal():
                    images.setdefault((int(patient.name), int(stem)), brain / name)
    return scans, images


def _ct_ich_demographics(
    folder: Path,
) -> tuple[tuple[str, ...], dict[int, tuple[str, ...]]]:
    """Reads age and sex by patient, where the table is there.

    Its header spans two rows, and its cells have line breaks: "Patient Number", "Age (years)".
    """
    path = next((folder / name for name in CT_ICH_DEMOGRAPHICS if (folder / name).is_file()), None)
    if path is None:
        return (), {}
    # Only its numbers and sexes are used: a note in another encoding must not stop anything.
    rows = list(_table_rows(path, errors="replace"))
    header = _header_of(rows[0][1]) if rows else []
    patient_column = _column_of(header, "patient")
    found = {
        name: column
        for name, column in (
            ("age", _column_of(header, "age")),
            ("sex", _column_of(header, "gender", "sex")),
        )
        if column is not None
    }
    if patient_column is None or not found:
        return (), {}
    demographics = {}
    for _, cells in rows[1:]:
        patient = _whole(cells[patient_column]) if len(cells) == len(header) else None
        if patient is not None:
            demographics[patient] = tuple(cells[column].lower() for column in found.values())
    return tuple(found), demographics
