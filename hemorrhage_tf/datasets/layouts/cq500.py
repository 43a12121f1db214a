"""The CQ500 data set of Qure.ai: scans with the findings of three readers."""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

from hemorrhage_tf.datasets.labels import parse_binary
from hemorrhage_tf.datasets.layouts.base import (
    CQ500,
    DEFAULT_TARGET,
    TARGETS,
    Layout,
    ProblemCollector,
    Row,
    check_target,
)
from hemorrhage_tf.datasets.layouts.tables import (
    complete_rows,
    find_column,
    normalize_header,
    table_rows,
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

# "CQ500-CT-0" in the table; the folder is "CQ500CT0 CQ500CT0", or "CQ500CT0_CQ500CT0" with some
# unpackers.
_NAME = re.compile(r"cq500[-_ ]?ct[-_ ]?0*(\d+)", re.IGNORECASE)

# The archives unpack to [group/][scan/]scan scan/Unknown Study/series/*.dcm.
_DEPTH = 6


def read_cq500(folder: Path, table: str, target: str) -> Layout:
    """List the slices of all series.

    Args:
        folder: Where the data set was unpacked.
        table: The name of its table of labels.
        target: The finding to use as label.
    """
    problems = ProblemCollector()
    rows = table_rows(folder / table)
    reader = _ScanReader(table, normalize_header(next(rows)[1]), problems)
    check_target(target, reader.targets)
    images = _find_images(folder)
    listed: list[Row] = []
    named: set[int] = set()
    missing = 0
    for line, cells in complete_rows(folder / table, rows, reader.width, problems):
        row = f"{table} row {line}"
        number = reader.number(row, cells, named)
        majorities = None if number is None else reader.majorities(row, cells)
        if number is None or majorities is None:
            continue
        name, label = cells[reader.name_column], majorities[target]
        if label is None:
            problems.add(
                f"scans without a majority of the readers for or against {target}",
                table,
                row,
                f"the readers of {name} have no majority for or against {target}",
            )
            continue
        if number not in images:
            missing += 1
            continue
        values = tuple("" if value is None else str(value) for value in majorities.values())
        if reader.category is not None:
            values = (*values, cells[reader.category])
        for series, paths in images[number]:
            columns = (*values, series)
            listed += [Row(path, label, name, None, columns) for path in paths]
    for number, all_series in images.items():
        if number not in named:
            problems.add_without_row("scans", str(folder), all_series[0][1][0], table)
    category = () if reader.category is None else ("category",)
    return Layout(
        name=CQ500,
        rows=tuple(listed),
        columns=(*reader.targets, *category, "series"),
        level="scan",
        problems=problems.listed(),
        targets=reader.targets,
        missing=missing,
    )


class _ScanReader:
    """Reads the rows of the table, one per scan.

    Args:
        table: The name of the table.
        header: Its normalized header.
        problems: Where to report unusable rows.

    Attributes:
        targets: The findings of the table.
        name_column: The column of the scan's name.
        category: The column of the category, None if there is none.
        width: The number of columns.
    """

    def __init__(self, table: str, header: Sequence[str], problems: ProblemCollector) -> None:
        self._table, self._header, self._problems = table, header, problems
        self._columns = _finding_columns(header)
        self.targets = tuple(self._columns)
        self.name_column = header.index("name")
        self.category = find_column(header, "category")
        self.width = len(header)

    def number(self, row: str, cells: Sequence[str], named: set[int]) -> int | None:
        """Return the number of the scan and add it to `named`; None for an unusable name."""
        name = cells[self.name_column]
        match = _NAME.fullmatch(name)
        if match is None:
            reason = f"the name {name!r} is not CQ500-CT-number"
            self._problems.add("rows without a name", self._table, row, reason)
            return None
        number = int(match.group(1))
        if number in named:
            kind = "rows for a scan that has an earlier row"
            self._problems.add(kind, self._table, row, f"{name} has an earlier row")
            return None
        named.add(number)
        return number

    def majorities(self, row: str, cells: Sequence[str]) -> dict[str, int | None] | None:
        """Return the readers' majority for each finding; None if a value is not 0 or 1."""
        wrong = [
            f"{self._header[column]} {cells[column]!r}"
            for columns in self._columns.values()
            for column in columns
            if cells[column] and parse_binary(cells[column]) is None
        ]
        if wrong:
            self._problems.add_not_binary(self._table, row, wrong)
            return None
        return {
            finding: _majority(int(float(cells[column])) for column in columns if cells[column])
            for finding, columns in self._columns.items()
        }


def _finding_columns(header: Sequence[str]) -> dict[str, list[int]]:
    """Return the columns of each finding, one per reader; the targets of all layouts first."""
    columns: dict[str, list[int]] = defaultdict(list)
    for column, name in enumerate(header):
        reader, colon, finding = name.partition(":")
        if colon and reader in CQ500_READERS:
            columns[CQ500_FINDINGS.get(finding, finding)].append(column)
    first = [finding for finding in TARGETS if finding in columns]
    return {
        finding: columns[finding]
        for finding in (*first, *(each for each in columns if each not in first))
    }


def _majority(votes: Iterable[int]) -> int | None:
    """Return the majority of votes of 0 and 1, None for a tie or no vote."""
    counted = list(votes)
    if 2 * sum(counted) == len(counted):
        return None
    return int(2 * sum(counted) > len(counted))


def _find_images(folder: Path) -> dict[int, list[tuple[str, list[Path]]]]:
    """Find the DICOM files of each scan, as pairs of a series (a folder) and its files."""
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
        if depth == _DEPTH:
            continue
        for entry in reversed(listed):  # the last one pushed is searched first
            if entry.is_dir(follow_symlinks=False):
                match = _NAME.match(entry.name)
                scan = int(match.group(1)) if match else number
                stack.append((current / entry.name, depth + 1, scan))
    return images
