"""Layouts: the public data sets of hemorrhage CT, recognized and listed. No pixels are read here.

A layout is recognized by the name and the header of its table of labels. What it lists are rows:
`manifest` makes a manifest of them.
"""

from __future__ import annotations

import csv
import os
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from hemorrhage_tf.errors import DataError, OptionError, Problem

DEFAULT_TARGET = "any"
SUBTYPES = ("epidural", "intraparenchymal", "intraventricular", "subarachnoid", "subdural")
FINDINGS = (DEFAULT_TARGET, *SUBTYPES)

RSNA, CT_ICH, CQ500 = "rsna 2019", "ct-ich", "cq500"

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

# Versions 1.3.1 and 1.0 to 1.3.0 of https://physionet.org/content/ct-ich: the table, the folder.
CT_ICH_TABLES = {
    "hemorrhage_diagnosis_raw_ct.csv": "ct_scans",
    "hemorrhage_diagnosis.csv": "Patients_CT",
}
CT_ICH_DEMOGRAPHICS = ("Patient_demographics.csv", "patient_demographics.csv")

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


def recognize(folder: str | Path) -> str | None:
    """Names the layout of a folder, by the name and the header of its table of labels.

    Args:
        folder: where the data set was unpacked.

    Returns:
        "rsna 2019", "ct-ich" or "cq500"; None for anything else.
    """
    folder = Path(folder)
    for name, tables in _TABLES.items():
        for table in tables:
            if (folder / table).is_file() and _header_fits(folder / table, _NEEDED[name]):
                return name
    return None


def read_layout(folder: str | Path, name: str, target: str | None = None) -> Layout:
    """Lists the slices of a known data set.

    Args:
        folder: where the data set was unpacked.
        name: from `recognize`.
        target: the finding that the label tells of, one of the layout's `targets`, in any case.
            Default None, which is "any": hemorrhage of any kind.

    Returns:
        The layout. What is wrong with single rows stands in its `problems`, and those rows are
        left out.

    Raises:
        DataError: the table cannot be read, or none of its rows has an image.
        OptionError: the layout has no such target.
    """
    folder = Path(folder)
    wanted = DEFAULT_TARGET if target is None else target.strip().lower()
    for table in _TABLES[name]:
        if (folder / table).is_file() and _header_fits(folder / table, _NEEDED[name]):
            break
    else:
        raise DataError(f"{folder}: holds none of the tables of {name}: {', '.join(_TABLES[name])}")
    try:
        layout = _READERS[name](folder, table, wanted)
    except OSError as error:
        raise DataError(f"{error.filename}: cannot be read ({error.strerror})") from None
    if not layout.rows and not layout.problems:
        if not layout.missing:
            raise DataError(f"{folder / table}: has a header and no rows")
        raise DataError(
            f"{folder / table}: none of the {layout.missing} {layout.level}s that it names has an "
            "image in this folder. Unpack the images beside it."
        )
    return layout


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


# --- RSNA 2019 ---

# What is known of a slice fits into one number: for each finding a bit that says that a row told
# it and, above these, its value. The numbers are shared, and so are the rows' columns.
_RSNA_BITS = {finding: 1 << place for place, finding in enumerate(FINDINGS)}
_RSNA_ALL = (1 << len(FINDINGS)) - 1
_RSNA_BAD = 1 << (2 * len(FINDINGS))
_RSNA_CODES = tuple(range(2 * _RSNA_BAD))


def _read_rsna(folder: Path, table: str, target: str) -> Layout:
    _check_target(target, FINDINGS)
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
        values = (code >> len(FINDINGS)) & _RSNA_ALL
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
    return Layout(RSNA, tuple(rows), FINDINGS, "slice", problems.listed(), FINDINGS, missing)


def _rsna_codes(path: Path, problems: _Problems) -> dict[str, int]:
    """Reads which slice has which findings; six rows a slice, 4.5 million of them."""
    rows = _table_rows(path)
    header = _header_of(next(rows)[1])
    id_column, label_column = header.index("id"), header.index("label")
    codes: dict[str, int] = {}
    shift = len(FINDINGS)
    for line, cells in _full_rows(path, rows, len(header), problems):
        identifier, _, finding = cells[id_column].rpartition("_")
        bit = _RSNA_BITS.get(finding.lower())
        if bit is None or not identifier:
            problems.add(
                "rows whose ID names no slice and finding",
                path.name,
                f"{path.name} row {line}",
                f"the ID {cells[id_column]!r} is not ID_slice_finding, with a finding of "
                f"{', '.join(FINDINGS)}",
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


# --- CT-ICH ---


def _read_ct_ich(folder: Path, table: str, target: str) -> Layout:
    targets = (*FINDINGS, "fracture")
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
        if not values[0] and any(values[1 : len(FINDINGS)]):
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


def _column_of(header: Sequence[str], *starts: str) -> int | None:
    return next((at for at, name in enumerate(header) if name.startswith(starts)), None)


def _whole(text: str) -> int | None:
    """Reads a whole number, as 49, 049 or 49.0 (spreadsheets write that)."""
    match = re.fullmatch(r"0*(\d{1,9})(\.0*)?", text)
    return int(match.group(1)) if match else None


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
    first = [finding for finding in FINDINGS if finding in findings]
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


_TABLES: Mapping[str, tuple[str, ...]] = {
    RSNA: RSNA_TABLES,
    CT_ICH: tuple(CT_ICH_TABLES),
    CQ500: (CQ500_TABLE,),
}
_NEEDED = {
    RSNA: frozenset({"id", "label"}),
    CT_ICH: frozenset({"patientnumber", "slicenumber", "no_hemorrhage"}),
    CQ500: frozenset({"name", "r1:ich"}),
}
_READERS = {RSNA: _read_rsna, CT_ICH: _read_ct_ich, CQ500: _read_cq500}
