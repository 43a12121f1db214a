"""Records: the labeled slices of a manifest. No file is read here."""

from __future__ import annotations

import math
import os
import sys
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from operator import attrgetter
from pathlib import Path
from typing import Any, NamedTuple, overload

import numpy as np

from hemorrhage_tf.core.errors import Problem
from hemorrhage_tf.imaging.readers import IMAGE_SUFFIXES, SliceRef


@dataclass(frozen=True, slots=True)
class Record:
    """One labeled slice.

    Attributes:
        path: The file.
        label: 1 for hemorrhage, 0 for none.
        patient: The patient, or None if unknown. Defaults to None.
        split: "train" or "test" if the manifest defines a split. Defaults to None.
        frame: The index of the slice in a file of several slices, from 0; None for a file of one
            slice. Defaults to None.
        scan: A key that all slices of one scan share, or None. Defaults to None.
        columns: The values of the manifest's further columns, as text. Defaults to none.
        display_path: The path to show in outputs, if the real one names the patient. Defaults to
            None.
        position: The position of the slice in its scan in mm, growing from the neck to the vertex;
            None if unknown. Defaults to None.
        number: The number of the slice in its scan, such as the Instance Number, which gives the
            order where positions are unknown; None if it has none. Defaults to None.
        thickness: The slice thickness in mm, or None if unknown. Defaults to None.
        scan_label: The label of the whole scan where it is stated, or None. Defaults to None.
        has_slice_label: Whether `label` is known of the slice itself. If False, only the label of
            the scan is known, and `label` repeats it. Defaults to True.
        scan_name: The name of the scan to show in outputs, where the manifest gives it one.
            Defaults to None.

    Example:
        >>> from pathlib import Path
        >>> import hemorrhage_tf as htf
        >>> record = htf.Record(Path("head_ct/scan.nii.gz"), label=1, patient="P1", frame=12)
        >>> str(record.ref)
        'head_ct/scan.nii.gz#12'
    """

    path: Path
    label: int
    patient: str | None = None
    split: str | None = None
    frame: int | None = None
    scan: str | None = None
    columns: tuple[str, ...] = ()
    display_path: str | None = None
    position: float | None = None
    number: int | None = None
    thickness: float | None = None
    scan_label: int | None = None
    has_slice_label: bool = True
    scan_name: str | None = None

    @property
    def ref(self) -> SliceRef:
        """The location of the slice."""
        return SliceRef(self.path, self.frame)


class _Details(NamedTuple):
    """What many slices have in common."""

    split: str | None
    scan: str | None
    columns: tuple[str, ...]
    display_path: str | None
    thickness: float | None
    scan_label: int | None
    has_slice_label: bool
    scan_name: str | None


_details_of = attrgetter(*_Details._fields)

_NO_NUMBER = -(2**63)


class Records(Sequence[Record]):
    """A sequence of records stored in columns, which need far less memory than one object each.

    Args:
        records: The records. Defaults to none.
    """

    def __init__(self, records: Iterable[Record] = ()) -> None:
        self._paths: list[str] = []
        self._labels = array("b")
        self._frames = array("i")  # -1: a file of one slice
        self._positions = array("d")  # NaN: unknown
        self._numbers = array("q")
        self._patients: list[str | None] = []
        self._details: list[_Details] = []  # equal ones share one tuple
        self._shared: dict[_Details, _Details] = {}
        for record in records:
            self.append(record)

    def append(self, record: Record) -> None:
        """Append one record."""
        details = _Details(*_details_of(record))
        self._paths.append(str(record.path))
        self._labels.append(record.label)
        self._frames.append(-1 if record.frame is None else record.frame)
        self._positions.append(math.nan if record.position is None else record.position)
        self._numbers.append(_NO_NUMBER if record.number is None else record.number)
        # `intern` rejects subclasses of str, such as the texts of NumPy arrays.
        patient = None if record.patient is None else sys.intern(str(record.patient))
        self._patients.append(patient)
        self._details.append(self._shared.setdefault(details, details))

    def __len__(self) -> int:
        return len(self._paths)

    @overload
    def __getitem__(self, index: int) -> Record: ...

    @overload
    def __getitem__(self, index: slice) -> Records: ...

    def __getitem__(self, index: int | slice) -> Record | Records:
        if isinstance(index, slice):
            return self.take(np.arange(len(self))[index])
        position, number = self._positions[index], self._numbers[index]
        return Record(
            path=Path(self._paths[index]),
            label=self._labels[index],
            patient=self._patients[index],
            frame=self.frame(index),
            position=None if math.isnan(position) else position,
            number=None if number == _NO_NUMBER else number,
            **self._details[index]._asdict(),
        )

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence):
            return NotImplemented
        return len(self) == len(other) and all(
            one == another for one, another in zip(self, other, strict=True)
        )

    __hash__ = None  # type: ignore[assignment]  # mutable

    def __repr__(self) -> str:
        return f"<{len(self)} records>"

    def take(self, indices: np.ndarray) -> Records:
        """Return the records at `indices`, in that order."""
        chosen = indices.tolist()
        taken = Records()
        taken._paths = [self._paths[index] for index in chosen]
        taken._labels = array("b", (self._labels[index] for index in chosen))
        taken._frames = array("i", (self._frames[index] for index in chosen))
        taken._positions = array("d", (self._positions[index] for index in chosen))
        taken._numbers = array("q", (self._numbers[index] for index in chosen))
        taken._patients = [self._patients[index] for index in chosen]
        taken._details = [self._details[index] for index in chosen]
        taken._shared = self._shared
        return taken

    def path(self, index: int) -> str:
        """Return the path of one record."""
        return self._paths[index]

    def frame(self, index: int) -> int | None:
        """Return the frame of one record, None for a file of one slice."""
        return None if self._frames[index] < 0 else self._frames[index]

    def display_path(self, index: int) -> str | None:
        """Return the display path of one record, None if its own path may be shown."""
        return self._details[index].display_path

    def ref(self, index: int) -> SliceRef:
        """Return the location of one slice."""
        return SliceRef(Path(self._paths[index]), self.frame(index))

    @property
    def refs(self) -> SliceRefs:
        """The location of each slice."""
        return SliceRefs(self)

    @property
    def labels(self) -> np.ndarray:
        """int64 `(n,)` of 0 and 1."""
        return np.array(self._labels, np.int64)

    @property
    def patients(self) -> Sequence[str | None]:
        """The patient of each record."""
        return self._patients

    @property
    def splits(self) -> list[str | None]:
        """The split of each record."""
        return [details.split for details in self._details]

    @property
    def scans(self) -> list[str | None]:
        """The scan of each record."""
        return [details.scan for details in self._details]

    @property
    def scan_names(self) -> list[str | None]:
        """The name of each record's scan, where the manifest gives it one."""
        return [details.scan_name for details in self._details]

    @property
    def scan_labels(self) -> list[int | None]:
        """The stated label of each record's scan."""
        return [details.scan_label for details in self._details]

    @property
    def has_slice_label(self) -> np.ndarray:
        """Bool `(n,)`: whether the label of each slice itself is known."""
        return np.array([details.has_slice_label for details in self._details], bool)

    @property
    def positions(self) -> np.ndarray:
        """float64 `(n,)`: the position of each slice in its scan in mm, NaN where unknown."""
        return np.array(self._positions, np.float64)

    @property
    def numbers(self) -> list[int | None]:
        """The number of each slice in its scan, such as the Instance Number."""
        return [None if number == _NO_NUMBER else number for number in self._numbers]

    @property
    def are_display_images(self) -> bool:
        """Whether all files are PNG or JPEG, judged by their names."""
        return all(path.lower().endswith(IMAGE_SUFFIXES) for path in self._paths)


class SliceRefs(Sequence[SliceRef]):
    """The locations of the slices of records, created on access to save memory.

    Args:
        records: The records.
    """

    def __init__(self, records: Records) -> None:
        self._records = records

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self._records.ref(each) for each in range(len(self))[index]]
        return self._records.ref(range(len(self))[index])


@dataclass(frozen=True)
class Manifest:
    """A list of labeled slices.

    Attributes:
        records: The slices, in a stable order. Any other sequence of `Record` is converted to
            `Records`.
        root: The folder that paths are shown relative to.
        layout: "kaggle", "class folders", "csv", "rsna 2019", "ct-ich" or "cq500".
        problems: Labels without files, files without labels, labels outside the two classes, and
            files whose header cannot be read. Defaults to none.
        columns: The names of the further columns, such as subtypes. Defaults to none.
        level: "slice", or "scan" if slices carry only the label of their whole scan. Default
            "slice".
        input_warnings: Files whose tags do not fit axial slices of a head CT. Defaults to none.
        is_anonymous: Whether names of patients are kept out of outputs. Defaults to True.
        root_is_named: Whether the path of the root names a patient. Defaults to False.

    Example:
        >>> import hemorrhage_tf as htf
        >>> manifest = htf.read_manifest("head_ct")
        >>> len(manifest), manifest.layout, int(manifest.labels.sum())
        (24, 'kaggle', 12)
        >>> manifest.name(manifest.records[0]).endswith("000.png")
        True
    """

    records: Records
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
            object.__setattr__(self, "records", Records(self.records))

    def _repr_html_(self) -> str:
        from hemorrhage_tf.datasets.manifest_html import manifest_html

        return manifest_html(self)

    def __len__(self) -> int:
        return len(self.records)

    @property
    def labels(self) -> np.ndarray:
        """int64 `(n,)` of 0 and 1."""
        return self.records.labels

    @property
    def names_hash(self) -> str:
        """A hash of the names of the slices in their order, 32 hexadecimal digits."""
        digest = blake2b(digest_size=16)
        for index in range(len(self)):
            digest.update(self.name_at(index).encode(errors="surrogateescape") + b"\0")
        return digest.hexdigest()

    def path_at(self, index: int) -> str:
        """Return the path to show for the record at `index`, without its frame."""
        display_path = self.records.display_path(index)
        return display_path or relative_path(self.records.path(index), self.root)

    def name_at(self, index: int) -> str:
        """Return the name to show for the record at `index`; see `name`."""
        path, frame = self.path_at(index), self.records.frame(index)
        return path if frame is None else f"{path}#{frame}"

    def findable_name_at(self, index: int) -> str:
        """Return a name that lets the user find the file, even if its path names a patient.

        It is for messages only, and must not be written.
        """
        if self.records.display_path(index):
            return str(self.records.ref(index))
        return self.name_at(index)

    def name(self, record: Record) -> str:
        """Return the name to show for a record: its path relative to the root, and its frame."""
        path = record.display_path or relative_path(record.path, self.root)
        return path if record.frame is None else f"{path}#{record.frame}"


def relative_path(path: str | Path, root: Path) -> str:
    """Return a path relative to a folder with forward slashes; unchanged if it lies elsewhere."""
    text, folder = str(path), str(root)
    prefix = "" if folder == "." else folder if folder.endswith(os.sep) else folder + os.sep
    return text.removeprefix(prefix).replace(os.sep, "/")
