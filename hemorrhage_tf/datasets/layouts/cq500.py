"""TODO docstring."""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

from hemorrhage_tf.datasets.layouts.base import (
    CQ500,
    DEFAULT_TARGET,
    TARGETS,
    Layout,
    Row,
    _binary,
    _check_target,
    _column_of,
    _full_rows,
    _header_of,
    _not_binary,
    _Problems,
    _table_rows,
    _unnamed,
)

CQ500_TABLE = "reads.csv"


CQ500_READERS = ("r1", "r2", "r3")


CQ500_FINDINGS = {
    "ich": DEFAULT_TARGET,
    "edh": "epidural",
    "iph": "intraparenchymal",
    "ivh": "intraventricular",
    "sah": "subarachnoid",
    "sdh": "subdural",
}


# "CQ500-CT-0" in the table, "CQ500CT0 CQ500CT0" as a folder, "CQ500CT0_CQ500CT0" as some unpack it.
_CQ500_NAME = re.compile(r"cq500[-_ ]?ct[-_ ]?0*(\d+)", re.IGNORECASE)


# The archives unpack to [group/][scan/]scan scan/Unknown Study/series/*.dcm.
_CQ500_DEPTH = 6


# --- CQ500 ---


def _read_cq500(folder: Path, table: str, target: str) -> Layout:
    problems = _Problems()
    rows = _table_rows(folder / table)
    header = _header_of(next(rows)[1])
    findings = _cq500_findings(header)
    targets = tuple(findings)
    _check_target(target, targets)
    name_column = header.index("name")
    category = _column_of(header, "category")
    images = _cq500_images(folder)
    listed: list[Row] = []
    named: set[int] = set()
    missing = 0
    for line, cells in _full_rows(folder / table, rows, len(header), problems):
        row = f"{table} row {line}"
        name = cells[name_column]
        match = _CQ500_NAME.fullmatch(name)
        if match is None:
            problems.add(
                "rows without a name", table, row, f"the name {name!r} is not CQ500-CT-number"
            )
            continue
        number = int(match.group(1))
        if number in named:
            problems.add(
                "rows for a scan that an earlier row is for",
                table,
                row,
                f"{name} stands in an earlier row too",
            )
            continue
        named.add(number)
        wrong = [
            f"{header[column]} {cells[column]!r}"
            for columns in findings.values()
            for column in columns
            if cells[column] and _binary(cells[column]) is None
        ]
        if wrong:
            problems.add(*_not_binary(table, row, wrong))
            continue
        majorities = {
            finding: _majority(_binary(cells[column]) for column in columns if cells[column])
            for finding, columns in findings.items()
        }
        label = majorities[target]
        if label is None:
            problems.add(
                f"scans of which the readers do not say by majority: {target}",
                table,
                row,
                f"the readers of {name} give no majority for or against {target}",
            )
            continue
        if number not in images:
            missing += 1
            continue
        values = tuple("" if value is None else str(value) for value in majorities.values())
        if category is not None:
            values = (*values, cells[category])
        for series, paths in images[number]:
            columns = (*values, series)
            listed += [Row(path, label, name, None, columns) for path in paths]
    for number, series in images.items():
        if number not in named:
            problems.add(
                f"scans without a row in {table}", str(folder), *_unnamed(series[0][1][0], table)
            )
    columns = (*targets, *(() if category is None else ("category",)), "series")
    return Layout(CQ500, tuple(listed), columns, "scan", problems.listed(), targets, missing)


def _cq500_findings(header: Sequence[str]) -> dict[str, list[int]]:
    """Finds each finding's columns, one a reader; the six of all layouts come first."""
    findings: dict[str, list[int]] = defaultdict(list)
    for column, name in enumerate(header):
        reader, colon, finding = name.partition(":")
        if colon and reader in CQ500_READERS:
            findings[CQ500_FINDINGS.get(finding, finding)].append(column)
    first = [finding for finding in TARGETS if finding in findings]
    return {
        finding: findings[finding]
        for finding in (*first, *(each for each in findings if each not in first))
    }


def _majority(values: Iterable[int]) -> int | None:
    """Counts the readers' votes; None where as many are for as against, or nobody voted."""
    votes = list(values)
    if 2 * sum(votes) == len(votes):
        return None
    return int(2 * sum(votes) > len(votes))


def _cq500_images(folder: Path) -> dict[int, list[tuple[str, list[Path]]]]:
    """Finds the DICOM files of each scan: lists of them by series, which are folders."""
    images: dict[int, list[tuple[str, list[Path]]]] = defaultdict(list)
    stack: list[tuple[Path, int, int | None]] = [(folder, 0, None)]
    while stack:
        current, depth, number = stack.pop()
        with os.scandir(current) as entries:
            listed = sorted(
                (entry for entry in entries if not entry.name.startswith((".", "__MACOSX"))),
                key=lambda entry: entry.name,
            )
        if number is not None:
            # Sorted by name, which is by number in this data set: CT000000.dcm.
            paths = [
                current / entry.name
                for entry in listed
                if entry.name.lower().endswith(".dcm") and entry.is_file()
            ]
            if paths:
                images[number].append((current.name, paths))
        if depth == _CQ500_DEPTH:
            continue
        for entry in reversed(listed):  # a stack: the last pushed comes first
            if entry.is_dir(follow_symlinks=False):
                match = _CQ500_NAME.match(entry.name)
                inside = int(match.group(1)) if match else number
                stack.append((current / entry.name, depth + 1, inside))
    return images
