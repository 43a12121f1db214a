"""The scan: every slice of a manifest read once, before anything is trained or evaluated on it.

It finds all bad files together, hashes what the slices show, and groups what must not be split.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from hemorrhage_tf.core.errors import DataError, Problem, SliceError
from hemorrhage_tf.core.progress import Progress
from hemorrhage_tf.datasets import near_duplicate_search, near_duplicates
from hemorrhage_tf.datasets.column_store import Hashes, Made, Tuples
from hemorrhage_tf.datasets.image_statistics import ImageStatistics
from hemorrhage_tf.datasets.records import Manifest, Record
from hemorrhage_tf.datasets.series import expand_paths, list_slices
from hemorrhage_tf.datasets.slice_reading import THREADS, SliceReadings, read_slices
from hemorrhage_tf.imaging.input_checks import check_input
from hemorrhage_tf.imaging.readers import SliceRef, read_slice

_LISTED = 20  # input_warnings that are named one by one

_AHEAD = 1024  # slices


@dataclass(frozen=True)
class SliceIndex:
    """Slices that were read once and are good to train or evaluate on.

    Attributes:
        manifest: the good records.
        hashes: content hash of each.
        is_hounsfield: bool `(n,)`: which are in HU; the others are pictures.
        groups: int64 `(n,)`: slices of one patient, duplicates and near-duplicates share a number.
        exact_pairs: indices of slices with the same pixels.
        near_pairs: `(i, j, correlation)` of slices that look alike, exact duplicates left out.
        skipped: the problems that `skip_invalid` went on without.
        secret: what only those know who have the slices. It is not to be written.
        statistics: what is known of each beside its label, see `data.statistics`.
        head_shares: side of the head's square over the longer side of the slice, of each.
        warnings: what makes each look like something else than a head CT, or None.
    """

    manifest: Manifest
    hashes: Sequence[str]
    is_hounsfield: np.ndarray
    groups: np.ndarray
    exact_pairs: Sequence[tuple[int, int]]
    near_pairs: Sequence[tuple[int, int, float]]
    skipped: tuple[Problem, ...]
    secret: bytes
    statistics: Sequence[ImageStatistics] = ()
    head_shares: np.ndarray | Sequence[float] = ()
    warnings: Sequence[str | None] = ()

    def __len__(self) -> int:
        return len(self.hashes)

    @property
    def labels(self) -> np.ndarray:
        """int64 array `(n,)` of 0 and 1."""
        return self.manifest.labels

    @property
    def refs(self) -> Sequence[SliceRef]:
        """Where each slice is; made when it is asked for."""
        return Made(self.manifest.records.ref, len(self))

    @property
    def names(self) -> list[str]:
        """The paths as outputs show them."""
        return [self.manifest.name_at(index) for index in range(len(self))]

    @property
    def places(self) -> list[dict[str, Any]]:
        """Path and frame of each, as tables hold them."""
        return [self.place(index) for index in range(len(self))]

    def place(self, index: int) -> dict[str, Any]:
        """Path and frame of one, as tables hold them."""
        records = self.manifest.records
        frame = records.frame(index)
        return {"path": self.manifest.path_at(index), "frame": "" if frame is None else frame}

    @property
    def patients(self) -> list[str]:
        """The patient of each as outputs show it: a hash, or the ID where names are to be shown.

        The hash is keyed with the slices themselves, so that it cannot be traced back by trying
        out IDs without having the images. Empty where no patient is known.
        """
        return list(self.iter_patients())

    def iter_patients(self) -> Iterator[str]:
        """Gives `patients` one by one."""
        patients = self.manifest.records.patients
        shown = [
            (self._hashed(each) if self.manifest.is_anonymous else each) if each else ""
            for each in patients.values
        ]
        return map(shown.__getitem__, patients.codes.tolist())

    def _hashed(self, patient: str) -> str:
        return hashlib.blake2b(patient.encode(), digest_size=8, key=self.secret).hexdigest()

    @property
    def patient_groups(self) -> np.ndarray | None:
        """Groups where patients are known, else None: intervals are then over patients."""
        known = any(record.patient for record in self.manifest.records)
        return self.groups if known else None

    @property
    def data_hash(self) -> str:
        """A hash of the set of slices and their labels, whatever their order and names."""
        lines = sorted(
            f"{key} {label}" for key, label in zip(self.hashes, self.labels, strict=True)
        )
        return hashlib.blake2b("\n".join(lines).encode(), digest_size=16).hexdigest()


def build_slice_index(
    manifest: Manifest, progress: Progress, skip_invalid: bool = False
) -> SliceIndex:
    """Reads every slice once.

    Args:
        manifest: what to read.
        progress: where progress and notes go.
        skip_invalid: go on without bad files instead of raising. Default False.

    Returns:
        The good slices, hashed and grouped.

    Raises:
        DataError: files that cannot be used, all in one message; or nothing is left.
    """
    records = manifest.records
    readings = read_slices(Made(records.ref, len(records)), progress, "Reading slices")
    problems = list(manifest.problems)
    for index, problem in sorted(readings.problems.items()):
        problems.append(replace(problem, path=_findable(manifest, records[index])))
    input_warnings = list(manifest.input_warnings)
    if any(readings.input_warnings.values):
        input_warnings += [
            Problem(_findable(manifest, records[index]), reason)
            for index, reason in zip(readings.good.tolist(), readings.input_warnings, strict=True)
            if reason
        ]
    contradicting = _contradicting(manifest, readings)
    problems += [
        Problem(
            manifest.name_at(readings.good[place]),
            "the same picture has the other label elsewhere: "
            + manifest.name_at(readings.good[at]),
        )
        for place, at in contradicting.items()
    ]
    raise_or_skip_invalid(problems, progress, skip_invalid, input_warnings)
    keep = np.delete(np.arange(len(readings)), list(contradicting))
    if not len(keep):
        raise DataError(f"{manifest.root}: no slice is left to use")
    left = manifest
    if len(keep) < len(records):
        left = replace(manifest, records=records.take(readings.good[keep]))
    return _group(replace(left, problems=()), readings, keep, tuple(problems), progress)


def _findable(manifest: Manifest, record: Record) -> str:
    """Names a slice to the user at the terminal, who must find it whatever its path names."""
    return str(record.ref) if record.shown else manifest.name(record)


@dataclass(frozen=True)
class UnlabeledSlices:
    """Unlabeled slices that were read once and are good to predict.

    Attributes:
        slices: where they are; those of a scan follow each other, from the neck to the vertex.
        is_hounsfield: bool `(n,)`: which are in HU; the others are pictures.
        scans: the name of the volume or series of each; None for a slice on its own.
        warnings: what makes each look like something else than a head CT, or None.
    """

    slices: tuple[SliceRef, ...]
    is_hounsfield: np.ndarray
    scans: tuple[str | None, ...]
    warnings: tuple[str | None, ...]

    def __len__(self) -> int:
        return len(self.slices)


def index_unlabeled_slices(
    arguments: str | Path | Iterable[str | Path], progress: Progress, skip_invalid: bool = False
) -> UnlabeledSlices:
    """Finds the slices that arguments name, and reads each once.

    Args:
        arguments: files of any format, folders and globs, one or several.
        progress: where progress, notes and warnings go.
        skip_invalid: leave bad files out instead of raising. Default False.

    Returns:
        The good ones.

    Raises:
        DataError: what cannot be read, all in one message; or nothing is left.
    """
    if isinstance(arguments, str | Path):
        arguments = [arguments]
    listing = list_slices(expand_paths(arguments), progress)
    found = _read_each(
        listing.slices,
        lambda ref, pixels: (pixels.dtype != np.uint8, check_input(pixels)),
        progress,
    )
    problems = [*listing.problems, *(look for look in found if isinstance(look, Problem))]
    input_warnings = [
        *listing.input_warnings,
        *(
            Problem(str(ref), look[1])
            for ref, look in zip(listing.slices, found, strict=True)
            if isinstance(look, tuple) and look[1]
        ),
    ]
    raise_or_skip_invalid(problems, progress, skip_invalid, input_warnings)
    good = [index for index, look in enumerate(found) if isinstance(look, tuple)]
    if not good:
        raise DataError("no slice is left to use")
    scan_of = {index: scan.name for scan in listing.scans for index in scan.members}
    return UnlabeledSlices(
        tuple(listing.slices[index] for index in good),
        np.array([found[index][0] for index in good]),
        tuple(scan_of.get(index) for index in good),
        tuple(found[index][1] for index in good),
    )


def _read_each(
    slices: Sequence[SliceRef], look: Callable[[SliceRef, np.ndarray], Any], progress: Progress
) -> list[Any]:
    """Reads every slice and gives what `look` makes of it, or what is wrong with it."""

    def read(ref: SliceRef) -> Any:
        try:
            return look(ref, read_slice(ref))
        except SliceError as error:
            return error.problem

    found: list[Any] = []
    pool = ThreadPoolExecutor(THREADS)
    try:
        with progress.track("Reading slices", len(slices)) as advance:
            # A task for every slice at once would take more memory than what is found.
            for begin in range(0, len(slices), _AHEAD):
                for seen in pool.map(read, slices[begin : begin + _AHEAD]):
                    found.append(seen)
                    advance(1)
    finally:
        pool.shutdown(cancel_futures=True)  # so that Ctrl-C does not wait for the rest
    return found


def raise_or_skip_invalid(
    problems: Sequence[Problem],
    progress: Progress,
    skip_invalid: bool,
    input_warnings: Sequence[Problem] = (),
) -> None:
    """Raises one error of all that is wrong, or warns of it; input_warnings are only warned of."""
    lines = _listed(input_warnings)
    if problems and not skip_invalid:
        title = f"These files or rows cannot be used ({len(problems)}):"
        next_step = "Mend or remove them, or go on without them with --skip-invalid."
        if lines:
            next_step += f"\nThese look unlike head-CT slices ({len(input_warnings)}):\n{lines}"
        raise DataError.of_problems(title, problems, next_step)
    if problems:
        progress.warn(f"went on without {len(problems)} bad files or rows (--skip-invalid)")
    if lines:
        progress.warn(
            f"these look unlike axial slices of a whole head CT ({len(input_warnings)}), and are used "
            "all the same",
            f":\n{lines}",
        )


def _listed(problems: Sequence[Problem]) -> str:
    lines = [f"  {problem.path}: {problem.reason}" for problem in problems[:_LISTED]]
    if len(problems) > _LISTED:
        lines.append(f"  and {len(problems) - _LISTED} more")
    return "\n".join(lines)


def _contradicting(manifest: Manifest, readings: SliceReadings) -> dict[int, int]:
    """Maps each slice whose pixels also occur with the other label to the first where they do."""
    labels = manifest.labels[readings.good]
    same = _numbered(readings.hashes)
    first = np.full((int(same.max(initial=-1)) + 1, 2), -1)
    first[same[::-1], labels[::-1]] = np.arange(len(same))[::-1]  # the last to be set is the first
    other = first[same, 1 - labels]
    return {int(index): int(other[index]) for index in np.flatnonzero(other >= 0)}


def _numbered(hashes: Hashes) -> np.ndarray:
    """Gives equal hashes equal numbers."""
    keys = np.ascontiguousarray(hashes.packed).view("S16").ravel()
    return np.unique(keys, return_inverse=True)[1].reshape(-1)


def _group(
    manifest: Manifest,
    readings: SliceReadings,
    keep: np.ndarray,
    skipped: tuple[Problem, ...],
    progress: Progress,
) -> SliceIndex:
    packed = readings.hashes.packed[keep]
    same = _numbered(Hashes(packed))
    _, first = np.unique(same, return_index=True)
    copies = np.flatnonzero(first[same] != np.arange(len(same)))
    exact = Tuples(first[same][copies].astype(np.int32), copies.astype(np.int32))
    with progress.stage("Comparing slices"):
        together = near_duplicates.merge_groups(
            len(keep), np.stack(exact.columns, axis=1), shared=[manifest.records.patients]
        )
        found = near_duplicate_search.find_near_duplicates(
            *(readings.thumbnails, readings.contents, readings.shares, keep, together)
        )
    for note in found.notes:
        progress.note(note)
    differ = same[found.first] != same[found.second]
    near = Tuples(
        found.first[differ], found.second[differ], found.correlation[differ].astype(np.float32)
    )
    patients = manifest.records.patients
    groups = near_duplicates.merge_groups(
        len(keep),
        np.concatenate([np.stack(each.columns[:2], axis=1) for each in (exact, near)]),
        shared=[patients],
    )
    warnings = readings.input_warnings
    return SliceIndex(
        *(manifest, Hashes(packed), readings.is_hounsfield[keep], groups, exact, near, skipped),
        secret=_secret(readings, keep),
        statistics=readings.statistics
        if len(keep) == len(readings)
        else readings.statistics.take(keep),
        head_shares=readings.head_shares[keep],
        warnings=tuple(warnings[index] for index in keep.tolist()),
    )


def _secret(readings: SliceReadings, keep: np.ndarray) -> bytes:
    """Makes a key that does not follow from the hashes and figures that outputs show."""
    parts = []
    for begin in range(0, len(keep), 1024):
        for row in readings.thumbnails.take(keep[begin : begin + 1024]):
            parts.append(hashlib.blake2b(row, digest_size=32).digest())
    return hashlib.blake2b(b"".join(sorted(parts)), digest_size=32).digest()
