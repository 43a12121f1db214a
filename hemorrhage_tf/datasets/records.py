"""TODO docstring."""

from __future__ import annotations

import os
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from hemorrhage_tf.core.errors import Problem
from hemorrhage_tf.datasets.column_store import Interned, Listed
from hemorrhage_tf.imaging.readers import (
    IMAGE_SUFFIXES,
    SliceRef,
)


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
    def are_display_images(self) -> bool:
        """Whether all are of PNG and JPEG files, by their names."""
        return all(path.lower().endswith(IMAGE_SUFFIXES) for path in self._paths)

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
        input_warnings: files that do not look like axial slices of a head CT by their tags.
        is_anonymous: whether names of patients are kept out of what is written.
        root_is_named: whether the root's own path names a patient.
    """

    records: Sequence[Record]
    root: Path
    layout: str
    problems: tuple[Problem, ...] = field(default=())
    columns: tuple[str, ...] = ()
    level: str = "slice"
    input_warnings: tuple[Problem, ...] = ()
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


def _below(root: str | Path) -> str:
    """Gives what the paths below a folder begin with."""
    text = str(root)
    return "" if text in ("", ".") else text if text.endswith(os.sep) else text + os.sep


def _relative(path: Path, root: Path) -> str:
    try:
        return path.relative_to(root).as_posix()
    except ValueError:
        return path.as_posix()
