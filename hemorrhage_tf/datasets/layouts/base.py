"""TODO docstring."""

from __future__ import annotations

import csv
import os
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from hemorrhage_tf.core.errors import DataError, OptionError, Problem

RSNA, CT_ICH, CQ500 = "rsna 2019", "ct-ich", "cq500"
DEFAULT_TARGET = "any"


SUBTYPES = ("epidural", "intraparenchymal", "intraventricular", "subarachnoid", "subdural")


TARGETS = (DEFAULT_TARGET, *SUBTYPES)


# Of one kind of problem so many are listed singly; more become one that counts them.
_LISTED_SINGLY = 20


_Row = tuple[int, list[str]]  # its line in the file, and its cells


@dataclass(frozen=True, slots=True)
class Row:
    """One slice of a layout.

    Attributes:
        path: the image file.
        label: 1 where the target was found, else 0.
        patient: whose slice it is, or None where the tables do not say.
        frame: which slice of the file, from 0; None where the file is one slice.
        columns: the values of the layout's columns, as text; "" where a table does not say, or
            where readers disagree.
    """

    path: Path
    label: int
    patient: str | None
    frame: int | None
    columns: tuple[str, ...]


@dataclass(frozen=True)
class Layout:
    """A known data set, listed.

    Attributes:
        name: "rsna 2019", "ct-ich" or "cq500".
        rows: the slices, in the table's order.
        columns: the names of the rows' further columns.
        level: "slice", or "scan" where a label is of the whole scan and given to each slice of it.
        problems: what is wrong with the tables, and images that they do not name.
        targets: the columns that the label can be taken from.
        missing: how many slices (of CQ500: scans) of the table have no image here; they are left
            out, for the data sets are large and a part of one is a data set too.
    """

    name: str
    rows: tuple[Row, ...]
    columns: tuple[str, ...]
    level: str
    problems: tuple[Problem, ...]
    targets: tuple[str, ...]
    missing: int = 0


def _check_target(wanted: str, targets: Sequence[str]) -> None:
    if wanted not in targets:
        raise OptionError(f"--target {wanted}: accepted are {', '.join(targets)}")


class _Problems:
    """Collects problems; of a kind that is frequent it keeps the first names and the count."""

    def __init__(self) -> None:
        self._first: dict[str, list[Problem]] = defaultdict(list)
        self._count: dict[str, int] = defaultdict(int)
        self._file: dict[str, str] = {}

    def add(self, kind: str, file: str, path: str, reason: str) -> None:
        """Adds one: its kind in the plural, the file, and the problem as it is shown alone."""
        self._count[kind] += 1
        self._file.setdefault(kind, file)
        if self._count[kind] <= _LISTED_SINGLY:
            self._first[kind].append(Problem(path, reason))

    def listed(self) -> tuple[Problem, ...]:
        """Gives them, kind by kind."""
        problems: list[Problem] = []
        for kind, first in self._first.items():
            count = self._count[kind]
            if count <= _LISTED_SINGLY:
                problems += first
                continue
            named = ", ".join(problem.path for problem in first[:3])
            problems.append(Problem(self._file[kind], f"{count} {kind}, the first: {named}"))
        return tuple(problems)


def _table_rows(path: Path, errors: str = "strict") -> Iterator[_Row]:
    """Reads a table row by row, cells stripped and blank rows left out."""
    try:
        with open(path, newline="", encoding="utf-8-sig", errors=errors) as file:
            reader = csv.reader(file, skipinitialspace=True)
            for row in reader:
                cells = [cell.strip() for cell in row]
                if any(cells):
                    yield reader.line_num, cells
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: cannot be read as CSV ({error}). Save it as UTF-8.") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from None


def _header_of(cells: Iterable[str]) -> list[str]:
    """Brings column names to one form: lower case, without blanks around or within."""
    return ["".join(cell.lower().split()) for cell in cells]


def _header_fits(path: Path, needed: frozenset[str]) -> bool:
    try:
        with closing(_table_rows(path)) as rows:
            return needed <= set(_header_of(next(rows, (0, []))[1]))
    except DataError:
        return False


def _full_rows(path: Path, rows: Iterator[_Row], width: int, problems: _Problems) -> Iterator[_Row]:
    """Passes on the rows that have as many cells as the header."""
    for line, cells in rows:
        if len(cells) == width:
            yield line, cells
        else:
            problems.add(
                "rows with more or fewer cells than the header",
                path.name,
                f"{path.name} row {line}",
                f"has {len(cells)} cells, not {width}",
            )


def _binary(text: str) -> int | None:
    if text in ("0", "1"):
        return int(text)
    try:
        value = float(text)
    except ValueError:
        return None
    return int(value) if value in (0.0, 1.0) else None


def _files(folder: Path) -> Iterator[str]:
    """Names the files of a folder, sorted, hidden ones left out; none where there is no folder."""
    if folder.is_dir():
        with os.scandir(folder) as entries:
            yield from sorted(
                entry.name
                for entry in entries
                if not entry.name.startswith(".") and entry.is_file()
            )


def _column_of(header: Sequence[str], *starts: str) -> int | None:
    return next((at for at, name in enumerate(header) if name.startswith(starts)), None)


def _whole(text: str) -> int | None:
    """Reads a whole number, as 49, 049 or 49.0 (spreadsheets write that)."""
    match = re.fullmatch(r"0*(\d{1,9})(\.0*)?", text)
    return int(match.group(1)) if match else None


# --- problems that several layouts have ---


def _contradiction(table: str, row: str) -> tuple[str, str, str, str]:
    return (
        "rows that contradict themselves",
        table,
        row,
        "names a kind of hemorrhage, and says that there is none of any kind",
    )


def _not_binary(table: str, row: str, wrong: Sequence[str]) -> tuple[str, str, str, str]:
    return (
        "rows with values that are neither 0 nor 1",
        table,
        row,
        f"neither 0 nor 1: {', '.join(wrong)}",
    )


def _unnamed(path: Path, table: str) -> tuple[str, str]:
    return str(path), f"has no row in {table}"
