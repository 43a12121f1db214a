"""TODO docstring."""

from __future__ import annotations

import os
from pathlib import Path

from hemorrhage_tf.datasets.layouts.base import (
    DEFAULT_TARGET,
    RSNA,
    TARGETS,
    Layout,
    Row,
    _binary,
    _check_target,
    _contradiction,
    _files,
    _full_rows,
    _header_of,
    _Problems,
    _table_rows,
    _unnamed,
)

RSNA_TABLES = ("stage_2_train.csv", "stage_1_train.csv")


# From https://www.kaggle.com/c/rsna-intracranial-hemorrhage-detection: the second stage's folder is
# "stage_2_train", the first's was "stage_1_train_images". "" stands for beside the table.
RSNA_FOLDERS = (
    "stage_2_train",
    "stage_2_train_images",
    "stage_1_train",
    "stage_1_train_images",
    "",
)


RSNA_SUFFIXES = (".dcm", ".png")


# --- RSNA 2019 ---

# What is known of a slice fits into one number: for each finding a bit that says that a row told
# it and, above these, its value. The numbers are shared, and so are the rows' columns.
_RSNA_BITS = {finding: 1 << place for place, finding in enumerate(TARGETS)}


_RSNA_ALL = (1 << len(TARGETS)) - 1


_RSNA_BAD = 1 << (2 * len(TARGETS))


_RSNA_CODES = tuple(range(2 * _RSNA_BAD))


def _read_rsna(folder: Path, table: str, target: str) -> Layout:
    _check_target(target, TARGETS)
    problems = _Problems()
    codes = _rsna_codes(folder / table, problems)
    images = _rsna_images(folder)
    columns_of = {
        values: tuple(str(int(bool(values & bit))) for bit in _RSNA_BITS.values())
        for values in range(_RSNA_ALL + 1)
    }
    rows: list[Row] = []
    missing = 0
    for identifier, code in codes.items():
        image = images.pop(identifier, None)
        values = (code >> len(TARGETS)) & _RSNA_ALL
        if code & _RSNA_BAD:
            continue
        if code & _RSNA_ALL != _RSNA_ALL:
            lacking = [finding for finding, bit in _RSNA_BITS.items() if not code & bit]
            problems.add(
                "slices without all of their six rows",
                table,
                f"{table} {identifier}",
                f"has no row for {', '.join(lacking)}",
            )
        elif values & ~_RSNA_BITS[DEFAULT_TARGET] and not values & _RSNA_BITS[DEFAULT_TARGET]:
            problems.add(*_contradiction(table, f"{table} {identifier}"))
        elif image is None:
            missing += 1
        else:
            place, suffix = image
            label = int(bool(values & _RSNA_BITS[target]))
            rows.append(Row(place / (identifier + suffix), label, None, None, columns_of[values]))
    for identifier, (place, suffix) in images.items():
        path = place / (identifier + suffix)
        problems.add(f"images without a row in {table}", str(folder), *_unnamed(path, table))
    return Layout(RSNA, tuple(rows), TARGETS, "slice", problems.listed(), TARGETS, missing)


def _rsna_codes(path: Path, problems: _Problems) -> dict[str, int]:
    """Reads which slice has which findings; six rows a slice, 4.5 million of them."""
    rows = _table_rows(path)
    header = _header_of(next(rows)[1])
    id_column, label_column = header.index("id"), header.index("label")
    codes: dict[str, int] = {}
    shift = len(TARGETS)
    for line, cells in _full_rows(path, rows, len(header), problems):
        identifier, _, finding = cells[id_column].rpartition("_")
        bit = _RSNA_BITS.get(finding.lower())
        if bit is None or not identifier:
            problems.add(
                "rows whose ID names no slice and finding",
                path.name,
                f"{path.name} row {line}",
                f"the ID {cells[id_column]!r} is not ID_slice_finding, with a finding of "
                f"{', '.join(TARGETS)}",
            )
            continue
        code = codes.get(identifier, 0)
        value = _binary(cells[label_column])
        if value is None:
            problems.add(
                "rows with a label that is neither 0 nor 1",
                path.name,
                f"{path.name} row {line}",
                f"the label {cells[label_column]!r} of {cells[id_column]} is neither 0 nor 1",
            )
            code |= _RSNA_BAD
        elif code & bit and bool(code & (bit << shift)) != bool(value):
            problems.add(
                "rows that contradict an earlier one",
                path.name,
                f"{path.name} row {line}",
                f"says {value} of {cells[id_column]}, and an earlier row the opposite",
            )
            code |= _RSNA_BAD
        else:  # the table is known to repeat some slices
            code |= bit | (bit << shift if value else 0)
        codes[identifier] = _RSNA_CODES[code]
    return codes


def _rsna_images(folder: Path) -> dict[str, tuple[Path, str]]:
    """Finds where each slice's image is and its suffix; of several the first place's, DICOM first.

    Each folder is listed once: to ask for 752,803 files one by one takes minutes on a network.
    """
    images: dict[str, tuple[Path, str]] = {}
    for name in RSNA_FOLDERS:
        place = folder / name if name else folder
        # One pair for all files of a place and a suffix.
        pairs: dict[str, tuple[Path, str]] = {}
        for file in _files(place):  # sorted, so that .dcm comes before .png
            stem, suffix = os.path.splitext(file)
            if suffix.lower() in RSNA_SUFFIXES and stem.startswith("ID_"):
                images.setdefault(stem, pairs.setdefault(suffix, (place, suffix)))
    return images
