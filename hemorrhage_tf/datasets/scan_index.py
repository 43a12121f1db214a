"""The scan index: which slices of a manifest form a scan, and in what order."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hemorrhage_tf.datasets.records import Manifest, Records


@dataclass(frozen=True)
class ScanIndex:
    """The `m` scans of `n` slices, in the order of their first slices.

    Attributes:
        names: The name of each scan as outputs show it, without names of patients.
        members: For each scan, the int64 indices of its slices, from the neck to the vertex.
        positions: float64 `(n,)`: the position of each slice in its scan in mm, growing along
            `members`; NaN for all slices of a scan whose positions are not known.
        labels: int64 `(m,)`: the stated label of a scan; where none is stated, 1 if any of its
            slices is labeled 1.
        has_slice_labels: bool `(m,)`: whether the labels of all slices of a scan are known. Where
            they are not, the slices of a scan labeled 0 are known to be negative all the same.
        patients: int64 `(m,)`: the group of each scan.
    """

    names: tuple[str, ...]
    members: tuple[np.ndarray, ...]
    positions: np.ndarray
    labels: np.ndarray
    has_slice_labels: np.ndarray
    patients: np.ndarray

    def __len__(self) -> int:
        return len(self.members)

    @property
    def scan_of_slice(self) -> np.ndarray:
        """int64 `(n,)`: the index of each slice's scan, -1 for a slice outside of scans."""
        scan_of_slice = np.full(len(self.positions), -1, np.int64)
        for scan, members in enumerate(self.members):
            scan_of_slice[members] = scan
        return scan_of_slice

    @property
    def lengths(self) -> np.ndarray:
        """int64 `(m,)`: the number of slices of each scan."""
        return np.array([len(members) for members in self.members], np.int64)

    @property
    def digest(self) -> str:
        """A hash of which slices form the scans, their order and positions, and the labels."""
        parts = (
            np.concatenate(self.members) if self.members else np.zeros(0, np.int64),
            self.lengths,
            self.positions,
            self.labels,
            self.has_slice_labels,
        )
        joined = b"".join(part.tobytes() for part in parts)
        return hashlib.blake2b(joined, digest_size=16).hexdigest()


def index_scans(manifest: Manifest, groups: np.ndarray) -> ScanIndex:
    """Find the scans of a manifest.

    The slices of a scan are sorted by position where all positions are known, else by number where
    all have one, else they keep the order of the manifest.

    Args:
        manifest: The `n` labeled slices.
        groups: int64 `(n,)`: the group of each slice.

    Returns:
        The scans, those of one slice included; none if the data has only single slices that are
        labeled themselves.
    """
    records = manifest.records
    members, positions = scan_members(records)
    has_slice_label = records.has_slice_label
    if has_slice_label.all() and all(len(indices) == 1 for indices in members):
        members = []
    first = np.array([indices[0] for indices in members], np.int64)
    stated = records.scan_labels
    slice_labels = records.labels
    labels = [
        next((stated[at] for at in indices if stated[at] is not None), slice_labels[indices].max())
        for indices in members
    ]
    return ScanIndex(
        names=name_scans(manifest, members),
        members=tuple(members),
        positions=positions,
        labels=np.array(labels, np.int64),
        has_slice_labels=np.array([has_slice_label[indices].all() for indices in members], bool),
        patients=np.asarray(groups, np.int64)[first],
    )


def scan_members(records: Records) -> tuple[list[np.ndarray], np.ndarray]:
    """Return the indices of each scan's slices in order, and the positions as `ScanIndex` does."""
    numbered: dict[str, int] = {}
    scans = np.fromiter(
        (-1 if key is None else numbered.setdefault(key, len(numbered)) for key in records.scans),
        np.int64,
        len(records),
    )
    inside = scans >= 0
    positions = records.positions
    numbers = np.array(
        [np.nan if number is None else number for number in records.numbers], np.float64
    )
    has_positions = _hold_for_all(np.isfinite(positions), scans, len(numbered))
    has_numbers = _hold_for_all(np.isfinite(numbers), scans, len(numbered))
    place = np.where(has_positions, positions, np.where(has_numbers, numbers, 0))
    order = np.lexsort((place, scans))[np.count_nonzero(~inside) :]  # stable: ties keep their order
    counts = np.bincount(scans[inside], minlength=len(numbered))
    members = np.split(order.astype(np.int64), np.cumsum(counts)[:-1]) if len(numbered) else []
    return members, np.where(has_positions, positions, np.nan)


def _hold_for_all(values: np.ndarray, scans: np.ndarray, count: int) -> np.ndarray:
    """Return for each slice whether a value is true for all slices of its scan."""
    inside = scans >= 0
    failures = np.bincount(scans[inside], weights=~values[inside], minlength=count)
    return inside & (np.append(failures, 1)[scans] == 0)


def name_scans(manifest: Manifest, members: Sequence[np.ndarray]) -> tuple[str, ...]:
    """Name each scan as its manifest does, or by its file or folder.

    UIDs are not shown, since they identify a patient's scan; nor are names that contain the
    Patient ID, unless the manifest is not anonymous.
    """
    given, patients = manifest.records.scan_names, manifest.records.patients
    names = []
    for indices in members:
        name, patient = given[indices[0]], patients[indices[0]] or ""
        if name is not None and manifest.is_anonymous and len(patient) >= 3:
            if patient != name and patient.casefold() in name.casefold():
                name = None
        if name is None:
            paths = {manifest.path_at(int(index)) for index in indices}
            is_volume = manifest.records.frame(int(indices[0])) is not None
            name = paths.pop() if is_volume and len(paths) == 1 else _common_folder(paths)
        names.append(name)
    count, seen = Counter(names), Counter[str]()
    for at, name in enumerate(names):
        seen[name] += 1
        if count[name] > 1:
            names[at] = f"{name} (scan {seen[name]} of {count[name]})"
    return tuple(names)


def _common_folder(paths: set[str]) -> str:
    folders = {os.path.dirname(path) for path in paths}
    return "/".join(os.path.commonprefix([folder.split("/") for folder in folders])) or "."
