"""What the layouts of public data sets share: their rows, targets and problems."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hemorrhage_tf.core.errors import OptionError, Problem

RSNA, CT_ICH, CQ500 = "rsna 2019", "ct-ich", "cq500"
DEFAULT_TARGET = "any"
SUBTYPES = ("epidural", "intraparenchymal", "intraventricular", "subarachnoid", "subdural")
TARGETS = (DEFAULT_TARGET, *SUBTYPES)

# More problems of one kind are replaced by one that counts them.
_LISTED_SINGLY = 20


@dataclass(frozen=True, slots=True)
class ScanPlace:
    """The place of a slice in a scan, as the names or tables of a layout state it.

    Attributes:
        scan: A key that all slices of the scan share.
        position: The position of the slice in mm, growing from the neck to the vertex, or None.
        number: The number of the slice in the scan, or None.
        thickness: The slice thickness in mm, or None.
    """

    scan: str
    position: float | None = None
    number: int | None = None
    thickness: float | None = None


@dataclass(frozen=True, slots=True)
class Row:
    """One slice of a layout.

    Attributes:
        path: The image file.
        label: 1 if the target is present, else 0.
        patient: The patient, or None if the tables do not name one.
        frame: The index of the slice in its file, from 0; None for a file of one slice.
        columns: The values of the layout's columns, as text; "" if a table has none or the readers
            disagree.
        place: Its place in a scan; None if only the header of the file states it. Defaults to
            None.
    """

    path: Path
    label: int
    patient: str | None
    frame: int | None
    columns: tuple[str, ...]
    place: ScanPlace | None = None


@dataclass(frozen=True)
class Layout:
    """The slices of a public data set.

    Attributes:
        name: "rsna 2019", "ct-ich" or "cq500".
        rows: The slices, in the order of the table.
        columns: The names of the further columns.
        level: "slice", or "scan" if each slice carries the label of its whole scan.
        problems: What is wrong with the tables, and images that they do not name.
        targets: The columns that can be the label.
        missing: How many slices of the table (of CQ500: scans) have no image here. They are left
            out, because a part of a large data set is a data set too. Defaults to 0.
    """

    name: str
    rows: tuple[Row, ...]
    columns: tuple[str, ...]
    level: str
    problems: tuple[Problem, ...]
    targets: tuple[str, ...]
    missing: int = 0


def check_target(target: str, targets: Sequence[str]) -> None:
    """Raise an OptionError unless the target is one of the layout's."""
    if target not in targets:
        raise OptionError(f"--target {target}: no such label. Pass one of {', '.join(targets)}.")


class ProblemCollector:
    """Collects problems; of a frequent kind it keeps the first ones and the count."""

    def __init__(self) -> None:
        self._first: dict[str, list[Problem]] = defaultdict(list)
        self._count: dict[str, int] = defaultdict(int)
        self._file: dict[str, str] = {}

    def add(self, kind: str, file: str, path: str, reason: str) -> None:
        """Add a problem.

        Args:
            kind: Its kind, in the plural.
            file: The file or folder that all problems of the kind are in.
            path: The row or file that is wrong.
            reason: What is wrong with it.
        """
        self._count[kind] += 1
        self._file.setdefault(kind, file)
        if self._count[kind] <= _LISTED_SINGLY:
            self._first[kind].append(Problem(path, reason))

    def listed(self) -> tuple[Problem, ...]:
        """Return the problems, kind by kind."""
        problems: list[Problem] = []
        for kind, first in self._first.items():
            count = self._count[kind]
            if count <= _LISTED_SINGLY:
                problems += first
                continue
            named = ", ".join(problem.path for problem in first[:3])
            problems.append(Problem(self._file[kind], f"{count} {kind}, the first: {named}"))
        return tuple(problems)

    def add_contradiction(self, table: str, row: str) -> None:
        """Add a row that names a subtype but no hemorrhage."""
        reason = "names a kind of hemorrhage, but states that there is no hemorrhage"
        self.add("rows that contradict themselves", table, row, reason)

    def add_not_binary(self, table: str, row: str, values: Sequence[str]) -> None:
        """Add a row with values other than 0 and 1."""
        reason = f"neither 0 nor 1: {', '.join(values)}"
        self.add("rows with values that are neither 0 nor 1", table, row, reason)

    def add_without_row(self, kind: str, folder: str, path: Path, table: str) -> None:
        """Add an image or scan that the table does not name."""
        self.add(f"{kind} without a row in {table}", folder, str(path), f"has no row in {table}")
