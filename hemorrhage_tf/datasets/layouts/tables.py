"""Read the tables of public data sets, row by row."""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import closing
from pathlib import Path

from hemorrhage_tf.core.errors import DataError
from hemorrhage_tf.datasets.layouts.base import ProblemCollector

NumberedRow = tuple[int, list[str]]  # the line in the file, and the cells


def table_rows(path: Path, errors: str = "strict") -> Generator[NumberedRow]:
    """Read a CSV file row by row. Cells are stripped, and blank rows are left out.

    Args:
        path: The file.
        errors: How to treat text that is not UTF-8, as in `open`. Defaults to "strict".

    Raises:
        DataError: The file cannot be read.
    """
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
        raise DataError(
            f"{path}: cannot be read ({error.strerror}). Check its permissions."
        ) from None


def normalize_header(cells: Iterable[str]) -> list[str]:
    """Return column names in lower case and without blanks."""
    return ["".join(cell.lower().split()) for cell in cells]


def has_columns(path: Path, columns: frozenset[str]) -> bool:
    """Return whether the header of a table contains some columns."""
    try:
        with closing(table_rows(path)) as rows:
            return columns <= set(normalize_header(next(rows, (0, []))[1]))
    except DataError:
        return False


def complete_rows(
    path: Path, rows: Iterable[NumberedRow], width: int, problems: ProblemCollector
) -> Iterator[NumberedRow]:
    """Yield the rows that have as many cells as the header, and report the others.

    Args:
        path: The table.
        rows: Its rows below the header.
        width: The number of cells of the header.
        problems: Where to report.
    """
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


def find_column(header: Sequence[str], *prefixes: str) -> int | None:
    """Return the first column whose name has one of some prefixes, None if there is none."""
    return next((at for at, name in enumerate(header) if name.startswith(prefixes)), None)


def parse_whole_number(text: str) -> int | None:
    """Parse a whole number such as 49, 049 or 49.0 (as spreadsheets write it)."""
    match = re.fullmatch(r"0*(\d{1,9})(\.0*)?", text)
    return int(match.group(1)) if match else None


def file_names(folder: Path) -> Iterator[str]:
    """Yield the names of the files in a folder, sorted, without hidden ones.

    A folder that does not exist has none.
    """
    if folder.is_dir():
        with os.scandir(folder) as entries:
            yield from sorted(
                entry.name
                for entry in entries
                if not entry.name.startswith(".") and entry.is_file()
            )
