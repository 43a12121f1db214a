"""The manifest: which slices there are, with label, patient and split. Pixels are not read here."""

from __future__ import annotations

import csv
import os
from array import array
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from hemorrhage_tf.data.columns import Interned, Listed
from hemorrhage_tf.data.header import Header
from hemorrhage_tf.data.layouts import read_layout, recognize
from hemorrhage_tf.data.listing import find_slice_files, refs_of, scan_key, slice_paths
from hemorrhage_tf.data.readers import (
    PICTURE_SUFFIXES,
    SLICE_SUFFIXES,
    SliceRef,
    is_picture,
    is_slice_path,
    read_header,
)
from hemorrhage_tf.errors import DataError, OptionError, Problem, SliceError
from hemorrhage_tf.reporting import Reporter

POSITIVE_NAMES = frozenset(
    {"hemorrhage", "hemorrhagic", "haemorrhage", "haemorrhagic", "bleed", "ich", "positive"}
)
NEGATIVE_NAMES = frozenset({"normal", "no_hemorrhage", "negative", "healthy", "none"})
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


@dataclass(frozen=True, slots=True)
class Record:
    """One slice of a manifest.

    Attributes:
        path: the file.
        label: 1 for hemorrhage, 0 for none.
        patient: whose slice it is, or None where nothing says.
        split: "train" or "test" where the manifest says, else None.
        frame: which of the file's several slices, from 0; None in a file that holds one.
        scan: what the slices of one volume or series have in common, or None.
        columns: the values of the manifest's further columns.
        shown: its path in outputs, where the path itself names the patient; else None.
    """

    path: Path
    label: int
    patient: str | None = None
    split: str | None = None
    frame: int | None = None
    scan: str | None = None
    columns: tuple[str, ...] = ()
    shown: str | None = None

    @property
    def ref(self) -> SliceRef:
        """Where the slice is."""
        return SliceRef(self.path, self.frame)


class Records(Listed):
    """The records of a manifest in columns, which take less than as many objects would.

    Args:
        records: the records.
        root: the folder of the manifest, which paths below it are kept relative to.
    """

    __slots__ = ("_begin", "_columns", "_frames", "_labels", "_patients", "_paths", "_rest")

    def __init__(self, records: Iterable[Record] = (), root: str | Path = "") -> None:
        self._begin = _below(root)
        self._paths: list[str] = []
        self._labels = array("b")
        self._patients = Interned()
        # Split, scan, shown path and further columns, which in most sets repeat or are missing.
        self._rest = Interned()
        self._frames = array("i")
        for record in records:
            self.append(record)

    def append(self, record: Record) -> None:
        """Adds one at the end."""
        self.add(
            *(str(record.path), record.label, record.patient, record.split, record.frame),
            *(record.scan, record.columns, record.shown),
        )

    def add(
        self,
        path: str,
        label: int,
        patient: str | None = None,
        split: str | None = None,
        frame: int | None = None,
        scan: str | None = None,
        columns: tuple[str, ...] = (),
        shown: str | None = None,
    ) -> None:
        """Adds one at the end, with the values of a `Record`; the path as text."""
        below = path.startswith(self._begin)
        # What does not lie below the root is marked: no path holds that character.
        self._paths.append(path[len(self._begin) :] if below else "\0" + path)
        self._labels.append(label)
        self._patients.append(patient)
        self._rest.append((split, scan, columns, shown))
        self._frames.append(-1 if frame is None else frame)

    def __len__(self) -> int:
        return len(self._paths)

    def _value(self, index: int) -> Record:
        split, scan, columns, shown = self._rest[index]
        frame = self.frame(index)
        return Record(
            *(Path(self.path(index)), self._labels[index], self._patients[index], split, frame),
            *(scan, columns, shown),
        )

    def path(self, index: int) -> str:
        """Gives the path of one as text."""
        kept = self._paths[index]
        return kept[1:] if kept.startswith("\0") else self._begin + kept

    def frame(self, index: int) -> int | None:
        """Gives the frame of one, None in a file of one slice."""
        return None if self._frames[index] < 0 else self._frames[index]

    def shown(self, index: int) -> str:
        """Gives the path of one as outputs show it, without its frame."""
        shown = self._rest[index][3]
        kept = self._paths[index]
        if shown or kept.startswith("\0"):
            return shown or Path(kept[1:]).as_posix()
        return kept.replace(os.sep, "/")

    @property
    def labels(self) -> np.ndarray:
        """int64 `(n,)`."""
        return np.array(self._labels, np.int8).astype(np.int64)

    @property
    def patients(self) -> Interned:
        """The patient of each."""
        return self._patients

    @property
    def splits(self) -> list[str | None]:
        """The split of each."""
        return [rest[0] for rest in self._rest]

    @property
    def has_scans(self) -> bool:
        """Whether any is of a volume or series."""
        return any(rest[1] for rest in self._rest.values)

    @property
    def are_pictures(self) -> bool:
        """Whether all are of PNG and JPEG files, by their names."""
        return all(path.lower().endswith(PICTURE_SUFFIXES) for path in self._paths)

    def ref(self, index: int) -> SliceRef:
        """Says where one is."""
        return SliceRef(Path(self.path(index)), self.frame(index))

    def take(self, indices: np.ndarray) -> Records:
        """Gives some of them."""
        taken = Records()
        taken._begin = self._begin
        taken._paths = [self._paths[index] for index in indices]
        taken._labels = array("b", np.array(self._labels, np.int8)[indices].tobytes())
        taken._frames = array("i", np.array(self._frames, np.int32)[indices].tobytes())
        taken._patients = self._patients.take(indices)
        taken._rest = self._rest.take(indices)
        return taken


@dataclass(frozen=True)
class Manifest:
    """A list of labeled slices.

    Attributes:
        records: the slices, in a stable order; any sequence of them is taken, and kept as
            `Records`.
        root: the folder that paths are shown relative to.
        layout: "kaggle", "class folders", "csv", "rsna 2019", "ct-ich" or "cq500".
        problems: labels without files, files without labels, labels outside the two classes, files
            whose header cannot be read.
        columns: the names of the further columns, such as subtypes.
        level: "slice", or "scan" where the label of a whole scan stands for each of its slices.
        suspicions: files that do not look like axial slices of a head CT by their tags.
        is_anonymous: whether names of patients are kept out of what is written.
        root_is_named: whether the root's own path names a patient.
    """

    records: Sequence[Record]
    root: Path
    layout: str
    problems: tuple[Problem, ...] = field(default=())
    columns: tuple[str, ...] = ()
    level: str = "slice"
    suspicions: tuple[Problem, ...] = ()
    is_anonymous: bool = True
    root_is_named: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.records, Records):
            object.__setattr__(self, "records", Records(self.records, self.root))

    def __len__(self) -> int:
        return len(self.records)

    @property
    def labels(self) -> np.ndarray:
        """int64 array `(n,)` of 0 and 1."""
        return self.records.labels

    def path_at(self, index: int) -> str:
        """The path of one record as outputs show it, by its place."""
        if self.records._begin != _below(self.root):  # the records of another root
            return self.name(replace(self.records[index], frame=None))
        return self.records.shown(index)

    def name_at(self, index: int) -> str:
        """One record as outputs show it, by its place; see `name`."""
        path, frame = self.path_at(index), self.records.frame(index)
        return path if frame is None else f"{path}#{frame}"

    def name(self, record: Record) -> str:
        """The record as outputs show it: its path, relative to the root where it lies below it."""
        name = record.shown or _relative(record.path, self.root)
        return name if record.frame is None else f"{name}#{record.frame}"


def read_manifest(
    source: str | Path | Manifest,
    positive: str | None = None,
    target: str | None = None,
    anonymize: bool = True,
    reporter: Reporter | None = None,
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
        reporter: where progress goes, or None for nowhere.

    Returns:
        The manifest. What is wrong with single rows and files stands in its `problems`.

    Raises:
        DataError: there is nothing there, or its layout is none of the accepted ones.
        OptionError: `positive` is needed, or names no class; or there is no such target.
    """
    if isinstance(source, Manifest):
        return source
    manifest = _read_labels(Path(source), positive, target)
    return _with_headers(manifest, anonymize, reporter or Reporter(quiet=True))


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
            suspicions=left_out,
        )
    for name in ("labels.csv", "manifest.csv"):
        if (source / name).is_file():
            return _read_csv(source / name, positive, target)
    if target is not None:
        raise OptionError(
            f"--target {target}: class folders have one label, and no columns to choose from"
        )
    return _read_class_folders(source, positive)


def _with_headers(manifest: Manifest, anonymize: bool, reporter: Reporter) -> Manifest:
    """Adds what DICOM and NIfTI headers say: slices, patients, scans."""
    if manifest.records.are_pictures:
        return replace(manifest, is_anonymous=anonymize)
    records = Records(root=manifest.root)
    problems: list[Problem] = []
    suspicions: list[Problem] = []
    headers: dict[Path, Header | None] = {}  # of files that several records may be of
    unnamed: dict[tuple, str] = {}
    instances: dict[str, Path] = {}
    names = _Names(manifest.root)
    level = manifest.level
    with reporter.progress("Reading headers", len(manifest)) as advance:
        for record in manifest.records:
            advance(1)
            path = record.path
            if is_picture(path):
                records.append(record)
                continue
            if path in headers:
                header = headers[path]
            else:
                header = _checked_header(path, instances, problems, suspicions)
                if header is None or len(header) > 1:
                    headers[path] = header
            if header is None:
                continue
            key = scan_key(path, header)
            patient = record.patient or header.patient
            if patient is None:
                patient = unnamed.setdefault(key, f"unnamed-{len(unnamed) + 1:04d}")
            described = replace(record, patient=patient, scan=str(key))
            if anonymize:
                names.learn(path, header)
            if record.frame is not None and record.frame >= len(header):
                problems.append(
                    Problem(str(record.ref), f"the file holds {len(header)} slices, from 0")
                )
            elif record.frame is not None or len(header) == 1:
                records.append(described)
            else:
                level = "scan"
                for ref in refs_of(path, header):
                    records.append(replace(described, frame=ref.frame))
    records = names.keep_out_of(records)
    shared: list[Problem] = []
    if all(patient is None for patient in manifest.records.patients):
        records, shared = _apart(records, manifest.root)
    return replace(
        manifest,
        records=records,
        problems=(*manifest.problems, *problems),
        suspicions=(*manifest.suspicions, *suspicions, *shared),
        level=level,
        is_anonymous=anonymize,
        root_is_named=anonymize and names.root_is_named,
    )


def _checked_header(
    path: Path,
    instances: dict[str, Path],
    problems: list[Problem],
    suspicions: list[Problem],
) -> Header | None:
    """Reads a header; None, and a problem more, where the file cannot be used."""
    try:
        header = read_header(path)
    except SliceError as error:
        problems.append(error.problem)
        return None
    first = instances.setdefault(header.instance, path) if header.instance else path
    if first != path:
        problems.append(Problem(str(path), f"the same SOP Instance UID as {first}"))
        return None
    if header.suspicion:
        suspicions.append(Problem(str(path), header.suspicion))
    return header


def _apart(records: Records, root: Path) -> tuple[Records, list[Problem]]:
    """Takes scans for patients where every file names the same one, as anonymized files often do.

    All slices would be one group otherwise, and nothing could be held out.
    """
    patients = set(records.patients)
    scans = {record.scan for record in records}
    if len(patients) > 1 or len(scans) < 2 or None in scans:
        return records, []
    note = Problem(
        f"{len(scans)} scans",
        "all name the same patient, or were anonymized with one name: each scan counts as a "
        "patient of its own",
    )
    return Records((replace(each, patient=each.scan) for each in records), root), [note]


class _Names:
    """Keeps the names of patients out of the paths that outputs show.

    Args:
        root: the folder that the paths are relative to.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._resolved = str(root.resolve()).casefold()
        self._numbers: dict[str, str] = {}
        self.root_is_named = False

    def learn(self, path: Path, header: Header) -> None:
        """Finds the folders and names in a path that tell whom its header names."""
        tokens = [
            token.casefold()
            for token in (header.patient or "", *header.identifying)
            if len(token) >= 3
        ]
        self.root_is_named |= any(token in self._resolved for token in tokens)
        for part in Path(_relative(path, self._root)).parts:
            if any(token in part.casefold() for token in tokens):
                self._numbers.setdefault(part, f"anonymous-{len(self._numbers) + 1:04d}")

    def keep_out_of(self, records: Records) -> Records:
        """Numbers the named parts of all paths, also of files whose own header tells nothing."""
        if not self._numbers:
            return records
        shown = (replace(record, shown=self._shown(record.path)) for record in records)
        return Records(shown, self._root)

    def _shown(self, path: Path) -> str | None:
        parts = Path(_relative(path, self._root)).parts
        if self._numbers.keys().isdisjoint(parts):
            return None
        return Path(*(self._numbers.get(part, part) for part in parts)).as_posix()


def _below(root: str | Path) -> str:
    """Gives what the paths below a folder begin with."""
    text = str(root)
    return "" if text in ("", ".") else text if text.endswith(os.sep) else text + os.sep


def _relative(path: Path, root: Path) -> str:
    try:
        return path.relative_to(root).as_posix()
    except ValueError:
        return path.as_posix()


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
            of_scan = scan if is_picture(each) else None
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


def _label_parser(names: set[str], positive: str | None) -> Callable[[str], int]:
    """Makes the function from a label as written to 0 or 1; it raises ValueError on others."""
    if positive is not None:
        if positive not in names:
            raise OptionError(
                f"--positive {positive}: no such class. Received: {', '.join(sorted(names))}"
            )
        negatives = names - {positive}
        if len(negatives) > 1:
            raise DataError(
                "there must be two classes. Received: " + ", ".join(sorted(names)) + ". "
                "Leave the others out of the data."
            )

        def to_named_label(text: str) -> int:
            return int(text == positive)

        return to_named_label

    lowered = {name.lower() for name in names}
    if not any(
        _binary(name) is not None or name in POSITIVE_NAMES | NEGATIVE_NAMES for name in lowered
    ):
        raise OptionError(
            f"the classes are {', '.join(sorted(names)) or 'missing'}: say which one means "
            "hemorrhage with --positive NAME"
        )

    def to_label(text: str) -> int:
        lower = text.lower()
        binary = _binary(lower)
        if binary is not None:
            return binary
        if lower in POSITIVE_NAMES:
            return 1
        if lower in NEGATIVE_NAMES or (len(lowered) == 2 and lowered & POSITIVE_NAMES):
            return 0
        if len(lowered) == 2 and lowered & NEGATIVE_NAMES:
            return 1
        raise ValueError(f"the label {text!r} is outside the two classes, 0 and 1")

    return to_label


def _binary(text: str) -> int | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return int(value) if value in (0.0, 1.0) else None


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
