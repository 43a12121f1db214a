"""Check that slices, positions and labels of each scan agree."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from hemorrhage_tf.core.errors import Problem
from hemorrhage_tf.datasets.records import Manifest
from hemorrhage_tf.datasets.scan_index import name_scans, scan_members
from hemorrhage_tf.datasets.slice_gaps import describe_gaps

# Slices closer than this, in mm, are at one position. Headers round to 0.001 mm or better, and the
# thinnest slices of CT are 0.2 mm apart.
SAME_POSITION = 0.01


@dataclass
class ScanProblems:
    """What is wrong with scans.

    Attributes:
        problems: One for each slice or scan that cannot be used.
        unusable: The indices of the slices that these problems concern.
        gaps: Scans in which slices seem to be missing.
    """

    problems: list[Problem] = field(default_factory=list)
    unusable: set[int] = field(default_factory=set)
    gaps: list[Problem] = field(default_factory=list)


def check_scans(manifest: Manifest, is_written: bool = False) -> ScanProblems:
    """Find scans that contradict themselves.

    Args:
        manifest: The labeled slices that can be read.
        is_written: Whether the problems are written to a file, so that paths that name a patient
            must not be in them. Defaults to False.

    Returns:
        The problems: slices of two patients under one scan name, contradicting labels, slices
        without a position among slices that have one, and two slices at one position.
    """
    found = ScanProblems()
    checker = _ScanChecker(manifest, found, is_written)
    members, positions = scan_members(manifest.records)
    names = name_scans(manifest, members)
    for name, indices in zip(names, members, strict=True):
        if not checker.check_whole(name, indices):
            found.unusable.update(indices.tolist())
            continue
        usable = checker.check_positions(indices)
        if len(usable) > 1 and np.isfinite(positions[usable]).all():
            checker.check_gaps(name, usable, positions[usable])
    return found


class _ScanChecker:
    def __init__(self, manifest: Manifest, found: ScanProblems, is_written: bool) -> None:
        records = manifest.records
        self._manifest, self._found = manifest, found
        self._name_at = manifest.name_at if is_written else manifest.findable_name_at
        self._patients = records.patients
        self._labels = records.labels
        self._has_slice_label = records.has_slice_label
        self._scan_labels = records.scan_labels
        self._positions = records.positions
        self._numbers = records.numbers

    def check_whole(self, name: str, indices: np.ndarray) -> bool:
        """Report a scan of two patients or with contradicting labels; return whether it is fine."""
        reason = self._patient_problem(indices) or self._label_problem(indices)
        if reason is not None:
            self._found.problems.append(Problem(name, reason))
        return reason is None

    def _patient_problem(self, indices: np.ndarray) -> str | None:
        first: dict[str, int] = {}
        for index in indices.tolist():
            patient = self._patients[index]
            if patient is not None:
                first.setdefault(patient, index)
        if len(first) < 2:
            return None
        # The IDs themselves are not written.
        slices = self._names(list(first.values()))
        return f"holds slices of {len(first)} patients ({slices}): give each scan its own name"

    def _label_problem(self, indices: np.ndarray) -> str | None:
        first: dict[int, int] = {}
        for index in indices.tolist():
            label = self._scan_labels[index]
            if label is not None:
                first.setdefault(label, index)
        if len(first) == 2:
            negative, positive = self._names([first[0]]), self._names([first[1]])
            return f"has the scan label 0 in {negative} and 1 in {positive}"
        if 0 not in first:
            return None
        positive_slices = indices[(self._labels[indices] == 1) & self._has_slice_label[indices]]
        if not len(positive_slices):
            return None
        names = self._names(positive_slices.tolist())
        return f"is labeled 0 as a scan, but these of its slices are labeled 1: {names}"

    def check_positions(self, indices: np.ndarray) -> np.ndarray:
        """Report slices without a position or with that of another; return the others."""
        placed = np.isfinite(self._positions[indices])
        if not placed.any():
            return indices
        if not placed.all():
            if all(self._numbers[index] is not None for index in indices.tolist()):
                return indices  # these give the order
            for index in indices[~placed].tolist():
                reason = "has no position, while other slices of its scan have one"
                self._reject(index, reason)
            indices = indices[placed]
            indices = indices[np.argsort(self._positions[indices], kind="stable")]
        usable = [int(indices[0])]
        for index in indices[1:].tolist():
            position, previous = self._positions[index], usable[-1]
            if position - self._positions[previous] < SAME_POSITION:
                other = self._name_at(previous)
                self._reject(index, f"is at the same position as {other}: {position:.6g} mm")
            else:
                usable.append(index)
        return np.array(usable, np.int64)

    def check_gaps(self, name: str, indices: np.ndarray, positions: np.ndarray) -> None:
        """Report where slices seem to be missing."""
        gaps = describe_gaps(
            positions.tolist(),
            [self._numbers[index] for index in indices.tolist()],
            lambda place: self._manifest.name_at(int(indices[place])),
        )
        if gaps is not None:
            self._found.gaps.append(Problem(name, gaps))

    def _reject(self, index: int, reason: str) -> None:
        self._found.problems.append(Problem(self._name_at(index), reason))
        self._found.unusable.add(index)

    def _names(self, indices: Sequence[int]) -> str:
        return ", ".join(self._name_at(index) for index in indices)
