"""The manifest: which slices there are, with label, patient and split. Pixels are not read here."""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from hemorrhage_tf.data.readers import IMAGE_SUFFIXES, is_image_path
from hemorrhage_tf.errors import DataError, OptionError, Problem

POSITIVE_NAMES = frozenset(
    {"hemorrhage", "hemorrhagic", "haemorrhage", "haemorrhagic", "bleed", "ich", "positive"}
)
NEGATIVE_NAMES = frozenset({"normal", "no_hemorrhage", "negative", "healthy", "none"})
SPLITS = ("train", "test")
_Row = tuple[int, Sequence[str]]  # its line in the file, and its cells
MAX_DEPTH = 2

LAYOUTS = """\
  a Kaggle-style folder: labels.csv with the columns id and hemorrhage, and images named by id
    in the folder or one or two folders below
  a folder of two class folders, say normal/ and hemorrhage/ (--positive NAME for other names)
  a CSV manifest: path,label[,patient][,split]"""


@dataclass(frozen=True, slots=True)
class Record:
    """One slice of a manifest.

    Attributes:
        path: the image file.
        label: 1 for hemorrhage, 0 for none.
        patient: whose slice it is, or None where the manifest does not say.
        split: "train" or "test" where the manifest says, else None.
    """

    path: Path
    label: int
    patient: str | None = None
    split: str | None = None


@dataclass(frozen=True)
class Manifest:
    """A list of labeled slices.

    Attributes:
        records: the slices, in a stable order.
        root: the folder that paths are shown relative to.
        layout: "kaggle", "class folders" or "csv".
        problems: labels without images, images without labels, labels outside the two classes.
    """

    records: tuple[Record, ...]
    root: Path
    layout: str
    problems: tuple[Problem, ...] = field(default=())

    def __len__(self) -> int:
        return len(self.records)

    @property
    def labels(self) -> np.ndarray:
        """int64 array `(n,)` of 0 and 1."""
        return np.array([record.label for record in self.records], np.int64)

    def name(self, record: Record) -> str:
        """The record's path as outputs show it: relative to the root where it lies below it."""
        try:
            return record.path.relative_to(self.root).as_posix()
        except ValueError:
            return record.path.as_posix()


def read_manifest(source: str | Path | Manifest, positive: str | None = None) -> Manifest:
    """Lists the slices of a folder or CSV file.

    Accepted are a Kaggle-style folder (`labels.csv` and images named by id, in the folder or up to
    two folders below), a folder of two class folders, and a CSV manifest with the columns `path`,
    `label` and optionally `patient` and `split`.

    Args:
        source: a folder, a CSV file, or a manifest, which is returned as it is.
        positive: the class name that means hemorrhage, where it is not a known one. Default None.

    Returns:
        The manifest. What is wrong with single rows stands in its `problems`.

    Raises:
        DataError: there is nothing there, or its layout is none of the accepted ones.
        OptionError: `positive` is needed, or names no class.
    """
    if isinstance(source, Manifest):
        return source
    source = Path(source)
    if source.is_file() and source.suffix.lower() == ".csv":
        return _read_csv(source, positive)
    if source.is_file():
        raise DataError(f"{source}: a file that is no CSV manifest. Accepted are:\n{LAYOUTS}")
    if not source.is_dir():
        raise DataError(f"{source}: no such file or folder. Accepted are:\n{LAYOUTS}")
    for name in ("labels.csv", "manifest.csv"):
        if (source / name).is_file():
            return _read_csv(source / name, positive)
    return _read_class_folders(source, positive)


def find_images(folder: Path, max_depth: int | None = None) -> list[Path]:
    """Finds the images below a folder, sorted, hidden files and folders left out.

    Args:
        folder: where to look.
        max_depth: how many folders below it; None for all. Default None.
    """
    found: list[Path] = []
    stack = [(folder, 0)]
    while stack:
        current, depth = stack.pop()
        for entry in current.iterdir():
            if entry.name.startswith((".", "__MACOSX")):
                continue
            if entry.is_dir() and not entry.is_symlink():
                if max_depth is None or depth < max_depth:
                    stack.append((entry, depth + 1))
            elif is_image_path(entry):
                found.append(entry)
    return sorted(found)


def _read_csv(path: Path, positive: str | None) -> Manifest:
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file, skipinitialspace=True)
            rows = [(reader.line_num, [cell.strip() for cell in row]) for row in reader]
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: cannot be read as CSV ({error}). Save it as UTF-8.") from None
    rows = [(number, row) for number, row in rows if any(row)]
    if not rows:
        raise DataError(f"{path}: the file is empty. Accepted are:\n{LAYOUTS}")
    header = [name.lower() for name in rows[0][1]]
    if "path" in header and "label" in header:
        return _read_path_rows(path, header, rows[1:], positive)
    label_columns = [name for name in ("hemorrhage", "label") if name in header]
    if "id" in header and label_columns:
        return _read_id_rows(path, header, rows[1:], label_columns[0], positive)
    raise DataError(
        f"{path}: the columns must be path and label, or id and hemorrhage. "
        f"Received: {', '.join(rows[0][1])}"
    )


def _read_path_rows(
    path: Path, header: Sequence[str], rows: Sequence[_Row], positive: str | None
) -> Manifest:
    to_label = _label_parser(
        {row[header.index("label")] for _, row in rows if _fits(row, header)}, positive
    )
    records: list[Record] = []
    problems: list[Problem] = []
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
            label = to_label(cells["label"])
            if not image.is_file():
                raise ValueError("has a label but there is no such image")
            if split not in (None, *SPLITS):
                raise ValueError(f"the split {cells['split']!r} is neither train nor test")
        except ValueError as error:
            problems.append(Problem(cells["path"], str(error)))
            continue
        records.append(Record(image, label, cells.get("patient") or None, split))
    if 0 < sum(record.split is None for record in records) < len(records):
        problems += [
            Problem(str(record.path), "the split is blank, while other rows have one")
            for record in records
            if record.split is None
        ]
        records = [record for record in records if record.split is not None]
    return Manifest(tuple(records), path.parent, "csv", tuple(problems))


def _read_id_rows(
    path: Path,
    header: Sequence[str],
    rows: Sequence[_Row],
    label_column: str,
    positive: str | None,
) -> Manifest:
    images = find_images(path.parent, MAX_DEPTH)
    by_stem: dict[str, list[Path]] = defaultdict(list)
    for image in images:
        by_stem[_unpadded(image.stem)].append(image)
    column = header.index(label_column)
    to_label = _label_parser({row[column] for _, row in rows if _fits(row, header)}, positive)
    records: list[Record] = []
    problems: list[Problem] = []
    named: set[str] = set()
    for number, row in rows:
        if not _fits(row, header):
            problems.append(
                Problem(f"{path.name} row {number}", f"has {len(row)} cells, not {len(header)}")
            )
            continue
        cells = dict(zip(header, row, strict=True))
        identifier = _unpadded(
            Path(cells["id"]).stem if _is_file_name(cells["id"]) else cells["id"]
        )
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
        records.append(Record(found[0], label, cells.get("patient") or None))
    problems += [
        Problem(str(image), f"has no row in {path.name}")
        for image in images
        if _unpadded(image.stem) not in named
    ]
    return Manifest(tuple(records), path.parent, "kaggle", tuple(problems))


def _read_class_folders(folder: Path, positive: str | None) -> Manifest:
    classes = {
        entry.name: images
        for entry in sorted(folder.iterdir())
        if entry.is_dir() and not entry.name.startswith(".") and (images := find_images(entry))
    }
    loose = [entry for entry in sorted(folder.iterdir()) if is_image_path(entry)]
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
    records = [
        Record(image, to_label(name)) for name, images in classes.items() for image in images
    ]
    problems = [
        Problem(str(image), "lies beside the class folders, without a label") for image in loose
    ]
    return Manifest(tuple(records), folder, "class folders", tuple(problems))


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


def _is_file_name(identifier: str) -> bool:
    return identifier.lower().endswith(IMAGE_SUFFIXES)


def _fits(row: Sequence[str], header: Sequence[str]) -> bool:
    return len(row) == len(header)


def expand_images(arguments: Iterable[str | Path]) -> list[Path]:
    """Turns files, folders and glob patterns into image paths.

    Args:
        arguments: files, folders (searched at every depth) and patterns such as `scans/*.png`.

    Returns:
        The paths in the order of the arguments, each once; a folder's or pattern's are sorted.

    Raises:
        DataError: an argument is no file, and no folder or pattern with an image in it.
    """
    import glob

    paths: dict[Path, None] = {}
    problems: list[Problem] = []
    for argument in arguments:
        path = Path(argument)
        if path.is_dir():
            found = find_images(path)
            reason = "the folder holds no PNG or JPEG image"
        elif path.exists():
            found, reason = [path], ""
        else:
            found = sorted(Path(match) for match in glob.glob(str(argument), recursive=True))
            found = [match for match in found if is_image_path(match)]
            reason = "no such file or folder, and no image matches it as a pattern"
        if not found:
            problems.append(Problem(str(argument), reason))
        paths.update(dict.fromkeys(found))
    if problems:
        raise DataError.of_problems(
            "These arguments name no image:", problems, "Give PNG or JPEG files, folders or globs."
        )
    return list(paths)
