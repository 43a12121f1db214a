"""The data set of the RSNA Intracranial Hemorrhage Detection challenge of 2019.

Reference:
    https://www.kaggle.com/c/rsna-intracranial-hemorrhage-detection
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from hemorrhage_tf.datasets.labels import parse_binary
from hemorrhage_tf.datasets.layouts.base import (
    DEFAULT_TARGET,
    RSNA,
    TARGETS,
    Layout,
    ProblemCollector,
    Row,
    check_target,
)
from hemorrhage_tf.datasets.layouts.rsna_metadata import SliceMetadata, read_rsna_metadata
from hemorrhage_tf.datasets.layouts.tables import (
    complete_rows,
    file_names,
    normalize_header,
    table_rows,
)

RSNA_TABLES = ("stage_2_train.csv", "stage_1_train.csv")

# The folders of the two stages; "" stands for next to the table.
RSNA_FOLDERS = (
    "stage_2_train",
    "stage_2_train_images",
    "stage_1_train",
    "stage_1_train_images",
    "",
)
RSNA_SUFFIXES = (".dcm", ".png")

# The six rows of a slice are collected in one number: bit k if there is a row for target k, bit
# 6 + k if its label is 1, and bit 12 if a row is unusable. All possible numbers are created once.
_BITS = {target: 1 << place for place, target in enumerate(TARGETS)}
_ALL = (1 << len(TARGETS)) - 1
_UNUSABLE = 1 << (2 * len(TARGETS))
_CODES = tuple(range(2 * _UNUSABLE))


def read_rsna(folder: Path, table: str, target: str) -> Layout:
    """List the slices.

    Args:
        folder: Where the data set was unpacked.
        table: The name of its table of labels.
        target: The finding to use as label.
    """
    check_target(target, TARGETS)
    problems = ProblemCollector()
    codes = _read_codes(folder / table, problems)
    images = _find_images(folder)
    # DICOM files state their tags themselves.
    converted = {name for name, (_, suffix) in images.items() if suffix.lower() != ".dcm"}
    metadata = read_rsna_metadata(folder, converted, problems) if converted else None
    columns_of = {
        values: tuple(str(int(bool(values & bit))) for bit in _BITS.values())
        for values in range(_ALL + 1)
    }
    rows: list[Row] = []
    missing = 0
    for identifier, code in codes.items():
        image = images.pop(identifier, None)
        values = (code >> len(TARGETS)) & _ALL
        if code & _UNUSABLE:
            continue
        if code & _ALL != _ALL:
            lacking = [name for name, bit in _BITS.items() if not code & bit]
            problems.add(
                "slices without all of their six rows",
                table,
                f"{table} {identifier}",
                f"has no row for {', '.join(lacking)}",
            )
        elif values & ~_BITS[DEFAULT_TARGET] and not values & _BITS[DEFAULT_TARGET]:
            problems.add_contradiction(table, f"{table} {identifier}")
        elif image is None:
            missing += 1
        else:
            place, suffix = image
            label = int(bool(values & _BITS[target]))
            row = Row(place / (identifier + suffix), label, None, None, columns_of[values])
            if metadata is None or identifier not in converted:
                rows.append(row)
            elif identifier in metadata.tags:
                rows.append(_complete(row, metadata.tags[identifier]))
            else:
                problems.add_without_row("images", str(folder), row.path, metadata.table)
    for identifier, (place, suffix) in images.items():
        problems.add_without_row("images", str(folder), place / (identifier + suffix), table)
    return Layout(RSNA, tuple(rows), TARGETS, "slice", problems.listed(), TARGETS, missing)


def _complete(row: Row, tags: SliceMetadata) -> Row:
    return replace(row, patient=tags.patient or tags.place.scan, place=tags.place)


def _read_codes(path: Path, problems: ProblemCollector) -> dict[str, int]:
    """Read the findings of each slice: six rows per slice, 4.5 million of them."""
    rows = table_rows(path)
    header = normalize_header(next(rows)[1])
    id_column, label_column = header.index("id"), header.index("label")
    codes: dict[str, int] = {}
    for line, cells in complete_rows(path, rows, len(header), problems):
        identifier, _, target = cells[id_column].rpartition("_")
        bit = _BITS.get(target.lower())
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
        value_bit = bit << len(TARGETS)
        value = parse_binary(cells[label_column])
        if value is None:
            problems.add(
                "rows with a label that is neither 0 nor 1",
                path.name,
                f"{path.name} row {line}",
                f"the label {cells[label_column]!r} of {cells[id_column]} is neither 0 nor 1",
            )
            code |= _UNUSABLE
        elif code & bit and bool(code & value_bit) != bool(value):
            problems.add(
                "rows that contradict an earlier one",
                path.name,
                f"{path.name} row {line}",
                f"has {value} for {cells[id_column]}, and an earlier row has the opposite",
            )
            code |= _UNUSABLE
        else:  # the table repeats some slices
            code |= bit | (value_bit if value else 0)
        codes[identifier] = _CODES[code]
    return codes


def _find_images(folder: Path) -> dict[str, tuple[Path, str]]:
    """Find the folder and suffix of each slice's image; the first folder counts, DICOM first.

    Each folder is listed once: asking for 752,803 files one by one takes minutes on a network.
    """
    images: dict[str, tuple[Path, str]] = {}
    for name in RSNA_FOLDERS:
        place = folder / name if name else folder
        # All files of a folder with the same suffix share one pair.
        pairs: dict[str, tuple[Path, str]] = {}
        for file in file_names(place):  # sorted, so .dcm precedes .png
            stem, suffix = os.path.splitext(file)
            if suffix.lower() in RSNA_SUFFIXES and stem.startswith("ID_"):
                images.setdefault(stem, pairs.setdefault(suffix, (place, suffix)))
    return images
