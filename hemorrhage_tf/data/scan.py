"""The scan: every slice of a manifest read once, before anything is trained or evaluated on it.

It finds all bad files together, hashes what the slices show, and groups what must not be split.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from hemorrhage_tf.data import duplicates
from hemorrhage_tf.data.canonical import find_head
from hemorrhage_tf.data.facts import Facts, facts_of
from hemorrhage_tf.data.listing import expand_paths, list_slices
from hemorrhage_tf.data.manifest import Manifest, Record
from hemorrhage_tf.data.readers import SliceRef, content_hash, read_slice
from hemorrhage_tf.data.suspicion import suspicion
from hemorrhage_tf.data.windows import picture_of
from hemorrhage_tf.errors import DataError, Problem, SliceError
from hemorrhage_tf.reporting import Reporter

_LISTED = 20  # suspicions that are named one by one

# Pillow and NumPy release the interpreter's lock while they decode and compute; more threads than
# cores read more slowly.
_THREADS = min(4, os.cpu_count() or 1)
_AHEAD = 1024  # slices


@dataclass(frozen=True)
class ScannedSlices:
    """Slices that were read once and are good to train or evaluate on.

    Attributes:
        manifest: the good records.
        hashes: content hash of each.
        is_hounsfield: bool `(n,)`: which are in HU; the others are pictures.
        groups: int64 `(n,)`: slices of one patient, duplicates and near-duplicates share a number.
        exact_pairs: indices of slices with the same pixels.
        near_pairs: `(i, j, correlation)` of slices that look alike, exact duplicates left out.
        skipped: the problems that `skip_bad` went on without.
        secret: what only those know who have the slices. It is not to be written.
        facts: what is known of each beside its label, see `data.facts`.
        head_shares: side of the head's square over the longer side of the slice, of each.
        warnings: what makes each look like something else than a head CT, or None.
    """

    manifest: Manifest
    hashes: tuple[str, ...]
    is_hounsfield: np.ndarray
    groups: np.ndarray
    exact_pairs: tuple[tuple[int, int], ...]
    near_pairs: tuple[tuple[int, int, float], ...]
    skipped: tuple[Problem, ...]
    secret: bytes
    facts: tuple[Facts, ...] = ()
    head_shares: tuple[float, ...] = ()
    warnings: tuple[str | None, ...] = ()

    def __len__(self) -> int:
        return len(self.hashes)

    @property
    def labels(self) -> np.ndarray:
        """int64 array `(n,)` of 0 and 1."""
        return self.manifest.labels

    @property
    def refs(self) -> list[SliceRef]:
        """Where each slice is."""
        return [record.ref for record in self.manifest.records]

    @property
    def names(self) -> list[str]:
        """The paths as outputs show them."""
        return [self.manifest.name(record) for record in self.manifest.records]

    @property
    def places(self) -> list[dict[str, Any]]:
        """Path and frame of each, as tables hold them."""
        return [
            {
                "path": self.manifest.name(replace(record, frame=None)),
                "frame": "" if record.frame is None else record.frame,
            }
            for record in self.manifest.records
        ]

    @property
    def patients(self) -> list[str]:
        """The patient of each as outputs show it: a hash, or the ID where names are to be shown.

        The hash is keyed with the slices themselves, so that it cannot be traced back by trying
        out IDs without having the images. Empty where no patient is known.
        """
        return [
            (self._hashed(record.patient) if self.manifest.is_anonymous else record.patient)
            if record.patient
            else ""
            for record in self.manifest.records
        ]

    def _hashed(self, patient: str) -> str:
        return hashlib.blake2b(patient.encode(), digest_size=8, key=self.secret).hexdigest()

    @property
    def data_hash(self) -> str:
        """A hash of the set of slices and their labels, whatever their order and names."""
        lines = sorted(
            f"{key} {label}" for key, label in zip(self.hashes, self.labels, strict=True)
        )
        return hashlib.blake2b("\n".join(lines).encode(), digest_size=16).hexdigest()


def scan(manifest: Manifest, reporter: Reporter, skip_bad: bool = False) -> ScannedSlices:
    """Reads every slice once.

    Args:
        manifest: what to read.
        reporter: where progress and notes go.
        skip_bad: go on without bad files instead of raising. Default False.

    Returns:
        The good slices, hashed and grouped.

    Raises:
        DataError: files that cannot be used, all in one message; or nothing is left.
    """
    found = _read_each([record.ref for record in manifest.records], _seen, reporter)
    problems = list(manifest.problems)
    suspicions = list(manifest.suspicions)
    records: list[Record] = []
    seen: list[_Seen] = []
    for record, look in zip(manifest.records, found, strict=True):
        if isinstance(look, Problem):
            problems.append(replace(look, path=_findable(manifest, record)))
            continue
        if look.suspicion:
            suspicions.append(Problem(_findable(manifest, record), look.suspicion))
        records.append(record)
        seen.append(look)

    hashes = [look.content_hash for look in seen]
    contradicting = _contradicting(manifest, records, hashes)
    problems += [
        Problem(
            manifest.name(records[index]), "the same picture has the other label elsewhere: " + at
        )
        for index, at in contradicting.items()
    ]
    raise_or_skip(problems, reporter, skip_bad, suspicions)
    keep = [index for index in range(len(records)) if index not in contradicting]
    if not keep:
        raise DataError(f"{manifest.root}: no slice is left to use")
    return _group(
        replace(manifest, records=tuple(records[index] for index in keep), problems=()),
        [seen[index] for index in keep],
        tuple(problems),
    )


def _findable(manifest: Manifest, record: Record) -> str:
    """Names a slice to the user at the terminal, who must find it whatever its path names."""
    return str(record.ref) if record.shown else manifest.name(record)


@dataclass(frozen=True, slots=True)
class _Seen:
    """What is kept of a slice that was read."""

    content_hash: str
    is_hounsfield: bool
    thumbnails: np.ndarray
    content: np.ndarray
    shares: np.ndarray
    facts: Facts
    head_share: float
    suspicion: str | None


def _seen(ref: SliceRef, pixels: np.ndarray) -> _Seen:
    picture = picture_of(pixels)
    content, shares = duplicates.contents(picture)
    head = find_head(pixels)
    return _Seen(
        content_hash(pixels),
        pixels.dtype != np.uint8,
        duplicates.thumbnails(picture),
        np.rint(content).astype(np.uint8),
        shares,
        facts_of(ref.path, pixels),
        head.side / max(pixels.shape[:2]),
        suspicion(pixels, head),
    )


@dataclass(frozen=True)
class FoundSlices:
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


def find_slices(
    arguments: str | Path | Iterable[str | Path], reporter: Reporter, skip_bad: bool = False
) -> FoundSlices:
    """Finds the slices that arguments name, and reads each once.

    Args:
        arguments: files of any format, folders and globs, one or several.
        reporter: where progress, notes and warnings go.
        skip_bad: leave bad files out instead of raising. Default False.

    Returns:
        The good ones.

    Raises:
        DataError: what cannot be read, all in one message; or nothing is left.
    """
    if isinstance(arguments, str | Path):
        arguments = [arguments]
    listing = list_slices(expand_paths(arguments), reporter)
    found = _read_each(
        listing.slices, lambda ref, pixels: (pixels.dtype != np.uint8, suspicion(pixels)), reporter
    )
    problems = [*listing.problems, *(look for look in found if isinstance(look, Problem))]
    suspicions = [
        *listing.suspicions,
        *(
            Problem(str(ref), look[1])
            for ref, look in zip(listing.slices, found, strict=True)
            if isinstance(look, tuple) and look[1]
        ),
    ]
    raise_or_skip(problems, reporter, skip_bad, suspicions)
    good = [index for index, look in enumerate(found) if isinstance(look, tuple)]
    if not good:
        raise DataError("no slice is left to use")
    scan_of = {index: scan.name for scan in listing.scans for index in scan.members}
    return FoundSlices(
        tuple(listing.slices[index] for index in good),
        np.array([found[index][0] for index in good]),
        tuple(scan_of.get(index) for index in good),
        tuple(found[index][1] for index in good),
    )


def _read_each(
    slices: Sequence[SliceRef], look: Callable[[SliceRef, np.ndarray], Any], reporter: Reporter
) -> list[Any]:
    """Reads every slice and gives what `look` makes of it, or what is wrong with it."""

    def read(ref: SliceRef) -> Any:
        try:
            return look(ref, read_slice(ref))
        except SliceError as error:
            return error.problem

    found: list[Any] = []
    pool = ThreadPoolExecutor(_THREADS)
    try:
        with reporter.progress("Reading slices", len(slices)) as advance:
            # A task for every slice at once would take more memory than what is found.
            for begin in range(0, len(slices), _AHEAD):
                for seen in pool.map(read, slices[begin : begin + _AHEAD]):
                    found.append(seen)
                    advance(1)
    finally:
        pool.shutdown(cancel_futures=True)  # so that Ctrl-C does not wait for the rest
    return found


def raise_or_skip(
    problems: Sequence[Problem],
    reporter: Reporter,
    skip_bad: bool,
    suspicions: Sequence[Problem] = (),
) -> None:
    """Raises one error of all that is wrong, or warns of it; suspicions are only warned of."""
    lines = _listed(suspicions)
    if problems and not skip_bad:
        title = f"These files or rows cannot be used ({len(problems)}):"
        next_step = "Mend or remove them, or go on without them with --skip-bad."
        if lines:
            next_step += f"\nThese look unlike head-CT slices ({len(suspicions)}):\n{lines}"
        raise DataError.of_problems(title, problems, next_step)
    if problems:
        reporter.warn(f"went on without {len(problems)} bad files or rows (--skip-bad)")
    if lines:
        reporter.warn(
            f"these look unlike axial slices of a whole head CT ({len(suspicions)}), and are used "
            "all the same",
            f":\n{lines}",
        )


def _listed(problems: Sequence[Problem]) -> str:
    lines = [f"  {problem.path}: {problem.reason}" for problem in problems[:_LISTED]]
    if len(problems) > _LISTED:
        lines.append(f"  and {len(problems) - _LISTED} more")
    return "\n".join(lines)


def _contradicting(manifest: Manifest, records: list[Record], hashes: list[str]) -> dict[int, str]:
    """Maps each slice whose pixels also occur with the other label to where they do."""
    first: dict[tuple[str, int], Record] = {}
    for record, key in zip(records, hashes, strict=True):
        first.setdefault((key, record.label), record)
    return {
        index: manifest.name(first[key, 1 - record.label])
        for index, (record, key) in enumerate(zip(records, hashes, strict=True))
        if (key, 1 - record.label) in first
    }


def _group(
    manifest: Manifest,
    found: Sequence[_Seen],
    skipped: tuple[Problem, ...],
) -> ScannedSlices:
    hashes = tuple(look.content_hash for look in found)
    stacked = np.stack([look.thumbnails for look in found])
    seen: dict[str, int] = {}
    exact = [
        (seen[key], index)
        for index, key in enumerate(hashes)
        if seen.setdefault(key, index) != index
    ]
    cropped = duplicates.cropped_duplicates(
        np.stack([look.content for look in found]).astype(np.float32),
        np.stack([look.shares for look in found]),
    )
    alike = {(i, j): correlation for i, j, correlation, _ in cropped}
    alike |= {(i, j): correlation for i, j, correlation in duplicates.near_duplicates(stacked)}
    near = [(i, j, alike[i, j]) for i, j in sorted(alike) if hashes[i] != hashes[j]]
    groups = duplicates.merge_groups(
        len(hashes),
        [*exact, *((i, j) for i, j, _ in near)],
        shared=[[record.patient for record in manifest.records]],
    )
    is_hounsfield = np.array([look.is_hounsfield for look in found])
    return ScannedSlices(
        *(manifest, hashes, is_hounsfield, groups, tuple(exact), tuple(near), skipped),
        secret=_secret(found),
        facts=tuple(look.facts for look in found),
        head_shares=tuple(look.head_share for look in found),
        warnings=tuple(look.suspicion for look in found),
    )


def _secret(found: Sequence[_Seen]) -> bytes:
    """Makes a key that does not follow from the hashes and figures that outputs show."""
    parts = sorted(hashlib.blake2b(look.thumbnails, digest_size=32).digest() for look in found)
    return hashlib.blake2b(b"".join(parts), digest_size=32).digest()
