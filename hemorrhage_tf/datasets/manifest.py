"""The manifest: which slices there are, with label, patient and split. Pixels are not read here."""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from hemorrhage_tf.core.errors import DataError, OptionError, Problem
from hemorrhage_tf.core.progress import Progress
from hemorrhage_tf.datasets.header_records import _with_headers
from hemorrhage_tf.datasets.labels import _label_parser
from hemorrhage_tf.datasets.layouts.registry import read_layout, recognize
from hemorrhage_tf.datasets.records import Manifest, Record, Records
from hemorrhage_tf.datasets.series import find_slice_files, slice_paths
from hemorrhage_tf.imaging.readers import (
    SLICE_SUFFIXES,
    is_display_image,
    is_slice_path,
)

SPLITS = ("train", "test")


LEVELS = ("slice", "scan")


_Row = tuple[int, Sequence[str]]  # its line in the file, and its cells


MAX_DEPTH = 2


# Columns of a CSV manifest that have a meaning of their own; any other is kept as it is.
_FIXED_COLUMNS = ("path", "id", "patient", "split", "frame")


LAYOUTS = """\
  a Kaggle-style folder: labels.csv with the columns id and hemorrhage, and files named by id
    in the folder or one or two folders below
  a folder of two class folders, say normal/ and hemorrhage/ (--positive NAME for other names)
  a CSV manifest: path,label[,patient][,split][,frame][,any further columns]
  RSNA 2019 (stage_2_train.csv), PhysioNet ct-ich (hemorrhage_diagnosis*.csv), CQ500 (reads.csv)
The files are PNG, JPEG, DICOM or NIfTI."""


def read_manifest(
    source: str | Path | Manifest,
    positive: str | None = None,
    target: str | None = None,
    anonymize: bool = True,
    progress: Progress | None = None,
) -> Manifest:
    """Lists the slices of a folder or CSV file.

    Accepted are a Kaggle-style folder (`labels.csv` and files named by id, in the folder or up to
    two folders below), a folder of two class folders, a CSV manifest with the columns `path`,
    `label` and optionally `patient`, `split`, `frame` and any others, and the folders of RSNA 2019,
    PhysioNet ct-ich and CQ500 as they are unpacked. Of DICOM and NIfTI files the headers are read:
    a file of several slices gives a record for each, and the Patient ID becomes the patient where
    the manifest names none.

    Args:
        source: a folder, a CSV file, or a manifest, which is returned as it is.
        positive: the class name that means hemorrhage, where it is not a known one. Default None.
        target: the column to take as label, where there are several. Default None: the label
            column; of a known data set "any".
        anonymize: keep what names a patient out of the paths that are shown. Default True.
        progress: where progress goes, or None for nowhere.

    Returns:
        The manifest. What is wrong with single rows and files stands in its `problems`.

    Raises:
        DataError: there is nothing there, or its layout is none of the accepted ones.
        OptionError: `positive` is needed, or names no class; or there is no such target.
    """
    if isinstance(source, Manifest):
        return source
    manifest = _read_labels(Path(source), positive, target)
    return _with_headers(manifest, anonymize, progress or Progress(quiet=True))


def _read_labels(source: Path, positive: str | None, target: str | None) -> Manifest:
    if source.is_file() and source.suffix.lower() == ".csv":
        return _read_csv(source, positive, target)
    if source.is_file():
        raise DataError(f"{source}: a file that is no CSV manifest. Accepted are:\n{LAYOUTS}")
    if not source.is_dir():
        raise DataError(f"{source}: no such file or folder. Accepted are:\n{LAYOUTS}")
    known = recognize(source)
    if known is not None:
        layout = read_layout(source, known, target)
        records = Records(
            (
                Record(row.path, row.label, row.patient, frame=row.frame, columns=row.columns)
                for row in layout.rows
            ),
            source,
        )
        left_out = ()
        if layout.missing:
            unit = f"{layout.missing} {layout.level}s"
            reason = f"of its table have no file in the folder, and are left out: {unit}"
            left_out = (Problem(str(source), reason),)
        return Manifest(
            *(records, source, known, layout.problems, layout.columns),
            level=layout.level,
            input_warnings=left_out,
        )
    for name in ("labels.csv", "manifest.csv"):
        if (source / name).is_file():
            return _read_csv(source / name, positive, target)
    if target is not None:
        raise OptionError(
            f"--target {target}: class folders have one label, and no columns to choose from"
        )
    return _read_class_folders(source, positive)


def _read_csv(path: Path, positive: str | None, target: str | None) -> Manifest:
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file, skipinitialspace=True)
            rows = [
                (reader.line_num, cells)
                for row in reader
                if any(cells := tuple(cell.strip() for cell in row))
            ]
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: cannot be read as CSV ({error}). Save it as UTF-8.") from None
    if not rows:
        raise DataError(f"{path}: the file is empty. Accepted are:\n{LAYOUTS}")
    header = [name.lower() for name in rows[0][1]]
    label_column = _label_column(path, header, target)
    if "path" in header and label_column in header:
        return _read_path_rows(path, header, rows[1:], label_column, positive)
    if "id" in header and label_column in header:
        return _read_id_rows(path, header, rows[1:], label_column, positive)
    raise DataError(
        f"{path}: the columns must be path and label, or id and hemorrhage. "
        f"Received: {', '.join(rows[0][1])}"
    )


def _label_column(path: Path, header: Sequence[str], target: str | None) -> str:
    """Names the column that holds the label: the target, or the usual one."""
    if target is None:
        names = ("label",) if "path" in header else ("hemorrhage", "label")
        return next((name for name in names if name in header), names[0])
    wanted = target.strip().lower()
    columns = [name for name in header if name not in _FIXED_COLUMNS]
    if wanted not in columns:
        raise OptionError(
            f"--target {target}: {path.name} has no such column. Accepted: {', '.join(columns)}"
        )
    return wanted


def _further_columns(header: Sequence[str], label_column: str) -> tuple[str, ...]:
    return tuple(name for name in header if name not in (*_FIXED_COLUMNS, label_column))


def _read_path_rows(
    path: Path,
    header: Sequence[str],
    rows: Sequence[_Row],
    label_column: str,
    positive: str | None,
) -> Manifest:
    column = header.index(label_column)
    further = _further_columns(header, label_column)
    to_label = _label_parser({row[column] for _, row in rows if _fits(row, header)}, positive)
    records = Records(root=path.parent)
    problems: list[Problem] = []
    scans = False
    for number, row in rows:
        if not _fits(row, header):
            problems.append(
                Problem(f"{path.name} row {number}", f"has {len(row)} cells, not {len(header)}")
            )
            continue
        cells = dict(zip(header, row, strict=True))
        image = path.parent / cells["path"]
        split = cells.get("split", "").lower() or None
        try:
            label = to_label(cells[label_column])
            frame = _frame(cells.get("frame", ""))
            images = find_slice_files(image) if image.is_dir() else [image]
            if image.is_dir() and (not images or frame is not None):
                raise ValueError("a folder without slices, or with a frame")
            if not image.is_dir() and not image.is_file():
                raise ValueError("has a label but there is no such image")
            if split not in (None, *SPLITS):
                raise ValueError(f"the split {cells['split']!r} is neither train nor test")
        except ValueError as error:
            problems.append(Problem(cells["path"], str(error)))
            continue
        values = tuple(cells[name] for name in further)
        patient = cells.get("patient") or None
        scan = str(image) if image.is_dir() else None
        scans |= scan is not None
        for each in images:
            # Headers tell of the others; pictures of a row are known to be of one scan only by it.
            of_scan = scan if is_display_image(each) else None
            records.append(Record(each, label, patient or of_scan, split, frame, of_scan, values))
    blank = np.array([split is None for split in records.splits], bool)
    if 0 < blank.sum() < len(records):
        problems += [
            Problem(str(Path(records.path(index))), "the split is blank, while other rows have one")
            for index in np.flatnonzero(blank)
        ]
        records = records.take(np.flatnonzero(~blank))
    level = "scan" if scans else "slice"
    return Manifest(records, path.parent, "csv", tuple(problems), further, level)


def _frame(text: str) -> int | None:
    if not text:
        return None
    if not text.isdecimal():
        raise ValueError(f"the frame {text!r} is no number from 0")
    return int(text)


def _read_id_rows(
    path: Path,
    header: Sequence[str],
    rows: Sequence[_Row],
    label_column: str,
    positive: str | None,
) -> Manifest:
    images = find_slice_files(path.parent, MAX_DEPTH)
    further = tuple(name for name in _further_columns(header, label_column) if name != "id")
    by_stem: dict[str, list[Path]] = defaultdict(list)
    for image in images:
        by_stem[_unpadded(_stem(image.name))].append(image)
    column = header.index(label_column)
    to_label = _label_parser({row[column] for _, row in rows if _fits(row, header)}, positive)
    records = Records(root=path.parent)
    problems: list[Problem] = []
    named: set[str] = set()
    for number, row in rows:
        if not _fits(row, header):
            problems.append(
                Problem(f"{path.name} row {number}", f"has {len(row)} cells, not {len(header)}")
            )
            continue
        cells = dict(zip(header, row, strict=True))
        identifier = _unpadded(_stem(cells["id"]))
        found = by_stem.get(identifier, [])
        try:
            if identifier in named:
                raise ValueError("the id stands in more than one row")
            named.add(identifier)
            label = to_label(cells[label_column])
            if not found:
                raise ValueError("has a label but no image")
            if len(found) > 1:
                raise ValueError("matches several images: " + ", ".join(map(str, found)))
        except ValueError as error:
            problems.append(Problem(f"{path.name} id {cells['id']}", str(error)))
            continue
        values = tuple(cells[name] for name in further)
        records.append(Record(found[0], label, cells.get("patient") or None, columns=values))
    problems += [
        Problem(str(image), f"has no row in {path.name}")
        for image in images
        if _unpadded(_stem(image.name)) not in named
    ]
    return Manifest(records, path.parent, "kaggle", tuple(problems), further)


def _read_class_folders(folder: Path, positive: str | None) -> Manifest:
    classes = {
        entry.name: images
        for entry in sorted(folder.iterdir())
        if entry.is_dir() and not entry.name.startswith(".") and (images := slice_paths(entry))
    }
    loose = [
        entry for entry in sorted(folder.iterdir()) if entry.is_file() and is_slice_path(entry)
    ]
    if len(classes) != 2:
        received = (
            f"{len(loose)} images without labels"
            if loose and not classes
            else f"class folders: {', '.join(classes) or 'none'}"
        )
        raise DataError(
            f"{folder}: holds no labels.csv and not just two folders with images. "
            f"Received: {received}. Accepted are:\n{LAYOUTS}"
        )
    to_label = _label_parser(set(classes), positive)
    records = Records(root=folder)
    for name, images in classes.items():
        label = to_label(name)
        for image in images:
            records.add(image, label)
    problems = [
        Problem(str(image), "lies beside the class folders, without a label") for image in loose
    ]
    return Manifest(records, folder, "class folders", tuple(problems))


def _unpadded(stem: str) -> str:
    """Brings `7` and `007` to one form, so that unpadded ids find padded files."""
    return str(int(stem)) if stem.isdecimal() else stem


def _stem(name: str) -> str:
    """Takes a suffix of slices off a name, if there is one."""
    for suffix in sorted(SLICE_SUFFIXES, key=len, reverse=True):
        if name.lower().endswith(suffix):
            return name[: -len(suffix)]
    return name


def _fits(row: Sequence[str], header: Sequence[str]) -> bool:
    return len(row) == len(header)
