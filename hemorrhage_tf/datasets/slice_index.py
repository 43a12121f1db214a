"""The slice index: every slice of a manifest read once, before training or evaluation.

Building it reports all unusable files together, hashes the pixels, and groups slices that must not
be split.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from hemorrhage_tf.core.errors import DataError, Problem
from hemorrhage_tf.core.progress import Progress
from hemorrhage_tf.core.workers import ALONE, Workers
from hemorrhage_tf.datasets.file_array import FileArray
from hemorrhage_tf.datasets.groups import merge_groups, merge_with_patients
from hemorrhage_tf.datasets.image_statistics import ImageStatisticsTable
from hemorrhage_tf.datasets.invalid_files import raise_or_skip_invalid
from hemorrhage_tf.datasets.kept_readings import KeptReadings, pairs_key
from hemorrhage_tf.datasets.near_duplicates import (
    PAIR,
    NearDuplicates,
    find_near_duplicates,
)
from hemorrhage_tf.datasets.records import Manifest
from hemorrhage_tf.datasets.same_image import describe_alike, is_single_color, number_patients
from hemorrhage_tf.datasets.scan_checks import check_scans
from hemorrhage_tf.datasets.scan_index import ScanIndex, index_scans
from hemorrhage_tf.datasets.slice_reading import SliceReadings, read_slices
from hemorrhage_tf.datasets.thumbnails import ThumbnailArrays
from hemorrhage_tf.imaging.readers import SliceRef


def _no_exact_pairs() -> np.ndarray:
    return np.zeros((0, 2), np.int32)


def _no_near_pairs() -> np.ndarray:
    return np.zeros(0, PAIR)


@dataclass(frozen=True)
class SliceIndex:
    """Labeled slices that were read once and can be used for training or evaluation.

    Attributes:
        manifest: The `n` usable records.
        hashes: The content hash of each slice, 32 hexadecimal digits.
        is_hounsfield: bool `(n,)`: whether a slice is in HU; the others are display images.
        groups: int64 `(n,)`: slices that must stay on one side of a split share a number: those of
            one patient, and duplicates.
        exact_pairs: int32 `(k, 2)`: indices of slices with the same pixels. Defaults to none.
        near_pairs: Structured array `(k,)` with the fields `first`, `second` and `correlation`:
            slices that look almost the same, without exact duplicates. Two patients' slices are
            among them only if they are the same image, see `same_image`. Defaults to none.
        alike_pairs: As `near_pairs`: pairs that look alike but are in different groups, because
            they are of different patients. Defaults to none.
        same_image_limit: From which correlation of the fine structure two patients' slices are
            the same image. Defaults to None, without two patients.
        skipped: The problems that `skip_invalid` left out. Defaults to none.
        secret: A key that only the owner of the slices can compute. It must not be written.
            Defaults to empty.
        statistics: The image statistics. Defaults to none.
        head_shares: float64 `(n,)`: side of the head's square over the longer side of the slice.
            Defaults to none.
        warnings: Why each slice may not be one of a head CT, or None. Defaults to none.

    Example:
        >>> import hemorrhage_tf as htf
        >>> from hemorrhage_tf.core.progress import Progress
        >>> from hemorrhage_tf.datasets.slice_index import build_slice_index
        >>> index = build_slice_index(htf.read_manifest("head_ct"), Progress(quiet=True))
        >>> isinstance(index, htf.SliceIndex), len(index), len(index.exact_pairs)
        (True, 24, 0)
    """

    manifest: Manifest
    hashes: Sequence[str]
    is_hounsfield: np.ndarray
    groups: np.ndarray
    exact_pairs: np.ndarray = field(default_factory=_no_exact_pairs)
    near_pairs: np.ndarray = field(default_factory=_no_near_pairs)
    alike_pairs: np.ndarray = field(default_factory=_no_near_pairs)
    same_image_limit: float | None = None
    skipped: tuple[Problem, ...] = ()
    secret: bytes = b""
    statistics: ImageStatisticsTable = field(default_factory=ImageStatisticsTable)
    head_shares: np.ndarray = field(default_factory=lambda: np.zeros(0))
    warnings: Sequence[str | None] = ()

    def __len__(self) -> int:
        return len(self.hashes)

    @property
    def labels(self) -> np.ndarray:
        """int64 `(n,)` of 0 and 1."""
        return self.manifest.labels

    @cached_property
    def has_slice_label(self) -> np.ndarray:
        """Bool `(n,)`: whether the label of each slice itself is known, not only of its scan."""
        return self.manifest.records.has_slice_label

    @cached_property
    def scans(self) -> ScanIndex:
        """The scans; none if the data has only single slices that are labeled themselves."""
        patients = self.patient_groups
        return index_scans(self.manifest, self.groups if patients is None else patients)

    @property
    def refs(self) -> Sequence[SliceRef]:
        """The location of each slice."""
        return self.manifest.records.refs

    @property
    def names(self) -> list[str]:
        """The name of each slice as outputs show it."""
        return [self.manifest.name_at(index) for index in range(len(self))]

    @property
    def places(self) -> list[dict[str, Any]]:
        """Path and frame of each slice, as tables hold them."""
        return [self.place(index) for index in range(len(self))]

    def place(self, index: int) -> dict[str, Any]:
        """Return path and frame of one slice, as tables hold them."""
        frame = self.manifest.records.frame(index)
        return {"path": self.manifest.path_at(index), "frame": "" if frame is None else frame}

    @property
    def patients(self) -> list[str]:
        """The patient of each slice as outputs show it; empty if unknown.

        It is a hash, or the Patient ID if the manifest is not anonymous. The hash is keyed with the
        slices themselves, so that it cannot be reversed by trying out IDs without the images.
        """
        return list(self.iter_patients())

    def iter_patients(self) -> Iterator[str]:
        """Yield `patients` one by one."""
        names: dict[str | None, str] = {None: "", "": ""}
        for patient in self.manifest.records.patients:
            if patient and patient not in names:
                names[patient] = self._hashed(patient) if self.manifest.is_anonymous else patient
            yield names[patient]

    def _hashed(self, patient: str) -> str:
        return hashlib.blake2b(patient.encode(), digest_size=8, key=self.secret).hexdigest()

    @cached_property
    def patient_groups(self) -> np.ndarray | None:
        """int64 `(n,)`, one number per patient, so that intervals are over patients.

        Slices without a patient have numbers of their own, which duplicates among them share. None
        if no patient is known.
        """
        patients = self.manifest.records.patients
        if not any(patients):
            return None
        keys = [
            patient or group for patient, group in zip(patients, self.groups.tolist(), strict=True)
        ]
        return merge_groups(len(self), [], shared=[keys])

    @property
    def data_hash(self) -> str:
        """A hash of the slices and their labels, regardless of order and names."""
        lines = sorted(
            f"{key} {label}" for key, label in zip(self.hashes, self.labels, strict=True)
        )
        return hashlib.blake2b("\n".join(lines).encode(), digest_size=16).hexdigest()


def build_slice_index(
    manifest: Manifest,
    progress: Progress,
    skip_invalid: bool = False,
    keep_in: Path | None = None,
    workers: Workers = ALONE,
) -> SliceIndex:
    """Read every slice of a manifest once.

    Args:
        manifest: The labeled slices.
        progress: Where to report progress, notes and warnings.
        skip_invalid: Leave out unusable files and rows instead of raising. Defaults to False.
        keep_in: The folder to keep readings in, see `kept_readings`, so that the next command reads
            only files that have changed. Defaults to None, to keep none.
        workers: The workers that share the work; the manifest is the same on each, and so is the
            result. Defaults to this process alone.

    Returns:
        The usable slices, hashed and grouped.

    Raises:
        DataError: Files or rows cannot be used, all listed in one message; or none is left.
        ClusterError: The workers have different slices, or one was lost.
    """
    records = manifest.records
    if workers.count > 1:
        workers.require_agreement({"names of the slices": manifest.names_hash})
    kept = None if keep_in is None else KeptReadings(keep_in, manifest.root, progress)
    readings = read_slices(records.refs, progress, "Reading slices", kept=kept, workers=workers)
    problems = list(manifest.problems)
    for index, problem in sorted(readings.problems.items()):
        problems.append(replace(problem, path=manifest.findable_name_at(index)))
    readable = records if len(readings) == len(records) else records.take(readings.good)
    scans = check_scans(replace(manifest, records=readable))
    problems += scans.problems
    input_warnings = [
        *manifest.input_warnings,
        *scans.gaps,
        *(
            Problem(manifest.findable_name_at(index), reason)
            for index, reason in zip(readings.good.tolist(), readings.input_warnings, strict=True)
            if reason
        ),
    ]
    contradicting = _contradicting(manifest, readings)
    for position, other in contradicting.items():
        one, another = (manifest.name_at(int(readings.good[at])) for at in (position, other))
        problems.append(Problem(one, f"the same image has the other label in {another}"))
    raise_or_skip_invalid(problems, progress, skip_invalid, input_warnings)
    keep = np.delete(np.arange(len(readings)), sorted(scans.unusable | contradicting.keys()))
    if not len(keep):
        raise DataError(f"{manifest.root}: no usable slice is left. Add readable slices.")
    if len(keep) < len(records):
        records = records.take(readings.good[keep])
    usable = replace(manifest, records=records, problems=())
    indexed = _index(usable, readings, keep, progress, kept, workers)
    return replace(indexed, skipped=tuple(problems))


def _contradicting(manifest: Manifest, readings: SliceReadings) -> dict[int, int]:
    """Return each slice whose pixels also occur with the other label, and the first of these."""
    labels = manifest.labels[readings.good]
    # The slices of a scan with a hemorrhage are not known themselves; most of them show none.
    known = (manifest.records.has_slice_label | (manifest.labels == 0))[readings.good]
    same = _number_hashes(readings.hashes)
    first = np.full((int(same.max(initial=-1)) + 1, 2), -1)
    backward = np.flatnonzero(known)[::-1]  # the last one set is the first
    first[same[backward], labels[backward]] = backward
    other = first[same, 1 - labels]
    return {int(index): int(other[index]) for index in np.flatnonzero(known & (other >= 0))}


def _number_hashes(hashes: np.ndarray) -> np.ndarray:
    """Give equal hashes `(n, 16)` equal numbers `(n,)`."""
    keys = np.ascontiguousarray(hashes).view("S16").ravel()
    return np.unique(keys, return_inverse=True)[1].reshape(-1)


def _exact_pairs(
    same: np.ndarray, patients: np.ndarray, gray: FileArray, rows: np.ndarray
) -> np.ndarray:
    """Pair each slice with the first of the same pixels.

    The scans of many patients end with the same slices of a single color, which join no patients.

    Args:
        same: int64 `(n,)`, equal for equal pixels.
        patients: int64 `(n,)` from `number_patients`.
        gray: The thumbnails.
        rows: int64 `(n,)`: where the slices are in `gray`.

    Returns:
        int32 `(k, 2)`.
    """
    _, first = np.unique(same, return_index=True)
    copies = np.flatnonzero(first[same] != np.arange(len(same)))
    exact = np.stack([first[same][copies], copies], axis=1).astype(np.int32)
    across = np.flatnonzero(patients[exact[:, 0]] != patients[exact[:, 1]])
    empty = is_single_color(gray, rows[exact[across, 1]])
    return np.delete(exact, across[empty], axis=0)


def _index(
    manifest: Manifest,
    readings: SliceReadings,
    keep: np.ndarray,
    progress: Progress,
    kept: KeptReadings | None,
    workers: Workers,
) -> SliceIndex:
    """Group the readings at `keep`, which the records of the manifest correspond to."""
    patients = manifest.records.patients
    numbers = number_patients(patients)
    hashes = readings.hashes[keep]
    same = _number_hashes(hashes)
    exact = _exact_pairs(same, numbers, readings.gray, keep)
    with progress.stage("Comparing slices"):
        certain = merge_groups(len(keep), exact, shared=[patients])
        duplicates = _find_duplicates(readings, keep, certain, numbers, kept, workers)
    pairs = duplicates.pairs
    near = pairs[same[pairs["first"]] != same[pairs["second"]]]
    groups = merge_with_patients(exact, near, patients, manifest.records.scans)
    together = groups[near["first"]] == groups[near["second"]]
    alike = np.concatenate([duplicates.alike, near[~together]])
    alike = alike[groups[alike["first"]] != groups[alike["second"]]]
    for note in [*duplicates.notes, *describe_alike(len(alike), duplicates.same_image_limit)]:
        progress.note(note)
    warnings = readings.input_warnings
    return SliceIndex(
        manifest=manifest,
        hashes=[row.tobytes().hex() for row in hashes],
        is_hounsfield=readings.is_hounsfield[keep],
        groups=groups,
        exact_pairs=exact,
        near_pairs=near[together],
        alike_pairs=alike,
        same_image_limit=duplicates.same_image_limit,
        secret=_secret(readings, keep),
        statistics=readings.statistics.take(keep),
        head_shares=readings.head_shares[keep],
        warnings=[warnings[position] for position in keep.tolist()],
    )


def _find_duplicates(
    readings: SliceReadings,
    keep: np.ndarray,
    groups: np.ndarray,
    patients: np.ndarray,
    kept: KeptReadings | None,
    workers: Workers,
) -> NearDuplicates:
    """Find the near-duplicates, or return those that were kept for the same slices in this order.

    Args:
        readings: What was read.
        keep: int64 `(n,)`: the slices to compare.
        groups: int64 `(n,)`: slices that belong together in any case.
        patients: int64 `(n,)` from `number_patients`.
        kept: Where results are kept; None for nowhere.
        workers: The workers that share the search.
    """
    key = pairs_key(readings.hashes[keep], groups, patients)
    arrays = None if kept is None else kept.read_pairs(key)
    found = None if arrays is None else NearDuplicates.from_arrays(arrays)
    is_known = workers.gather_bytes(b"" if found is None else b"known")
    if found is None or not all(is_known):  # all workers search, or none
        found = find_near_duplicates(
            ThumbnailArrays(readings.gray, readings.contents, readings.gray_shares),
            rows=keep,
            groups=groups,
            patients=patients,
            workers=workers,
        )
        if kept is not None and workers.is_chief:
            kept.write_pairs(key, found.to_arrays())
    return found


def _secret(readings: SliceReadings, keep: np.ndarray) -> bytes:
    """Compute a key that does not follow from the hashes and statistics that outputs show."""
    parts = []
    for begin in range(0, len(keep), 1024):
        for row in readings.gray.take(keep[begin : begin + 1024]):
            parts.append(hashlib.blake2b(row, digest_size=32).digest())
    return hashlib.blake2b(b"".join(sorted(parts)), digest_size=32).digest()
