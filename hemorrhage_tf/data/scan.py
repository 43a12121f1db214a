"""The scan: every slice of a manifest read once, before anything is trained or evaluated on it.

It finds all bad files together, hashes what the slices show, and groups what must not be split.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from hemorrhage_tf.data import duplicates
from hemorrhage_tf.data.manifest import Manifest, Record
from hemorrhage_tf.data.readers import content_hash, read_slice
from hemorrhage_tf.errors import DataError, Problem, SliceError
from hemorrhage_tf.reporting import Reporter

_THREADS = 4  # Pillow releases the interpreter's lock while it decodes


@dataclass(frozen=True)
class ScannedSlices:
    """Slices that were read once and are good to train or evaluate on.

    Attributes:
        manifest: the good records.
        hashes: content hash of each.
        groups: int64 `(n,)`: slices of one patient, duplicates and near-duplicates share a number.
        exact_pairs: indices of slices with the same pixels.
        near_pairs: `(i, j, correlation)` of slices that look alike, exact duplicates left out.
        skipped: the problems that `skip_bad` went on without.
    """

    manifest: Manifest
    hashes: tuple[str, ...]
    groups: np.ndarray
    exact_pairs: tuple[tuple[int, int], ...]
    near_pairs: tuple[tuple[int, int, float], ...]
    skipped: tuple[Problem, ...]

    def __len__(self) -> int:
        return len(self.hashes)

    @property
    def labels(self) -> np.ndarray:
        """int64 array `(n,)` of 0 and 1."""
        return self.manifest.labels

    @property
    def names(self) -> list[str]:
        """The paths as outputs show them."""
        return [self.manifest.name(record) for record in self.manifest.records]

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
    found = _read_each(
        [record.path for record in manifest.records],
        lambda pixels: (content_hash(pixels), duplicates.thumbnails(pixels)),
        reporter,
    )
    problems = list(manifest.problems)
    records: list[Record] = []
    hashes: list[str] = []
    stacked: list[np.ndarray] = []
    for record, seen in zip(manifest.records, found, strict=True):
        if isinstance(seen, Problem):
            problems.append(replace(seen, path=manifest.name(record)))
            continue
        records.append(record)
        hashes.append(seen[0])
        stacked.append(seen[1])

    contradicting = _contradicting(manifest, records, hashes)
    problems += [
        Problem(
            manifest.name(records[index]), "the same picture has the other label elsewhere: " + at
        )
        for index, at in contradicting.items()
    ]
    _raise_or_skip(problems, reporter, skip_bad)
    keep = [index for index in range(len(records)) if index not in contradicting]
    if not keep:
        raise DataError(f"{manifest.root}: no slice is left to use")
    return _group(
        replace(manifest, records=tuple(records[index] for index in keep), problems=()),
        tuple(hashes[index] for index in keep),
        np.stack([stacked[index] for index in keep]),
        tuple(problems),
    )


def readable(paths: Sequence[Path], reporter: Reporter, skip_bad: bool = False) -> list[Path]:
    """Checks that image files can be read.

    Args:
        paths: the files.
        reporter: where progress and notes go.
        skip_bad: leave bad files out instead of raising. Default False.

    Returns:
        The good ones, in their order.

    Raises:
        DataError: files that cannot be read, all in one message; or none is left.
    """
    found = _read_each(paths, lambda pixels: None, reporter)
    problems = [seen for seen in found if isinstance(seen, Problem)]
    _raise_or_skip(problems, reporter, skip_bad)
    good = [path for path, seen in zip(paths, found, strict=True) if not isinstance(seen, Problem)]
    if not good:
        raise DataError("no slice is left to predict")
    return good


def _read_each(
    paths: Sequence[Path], look: Callable[[np.ndarray], Any], reporter: Reporter
) -> list[Any]:
    """Reads every file and gives what `look` makes of its pixels, or what is wrong with it."""

    def read(path: Path) -> Any:
        try:
            return look(read_slice(path))
        except SliceError as error:
            return error.problem

    found = []
    pool = ThreadPoolExecutor(_THREADS)
    try:
        with reporter.progress("Reading slices", len(paths)) as advance:
            for seen in pool.map(read, paths):
                found.append(seen)
                advance(1)
    finally:
        pool.shutdown(cancel_futures=True)  # so that Ctrl-C does not wait for the rest
    return found


def _raise_or_skip(problems: Sequence[Problem], reporter: Reporter, skip_bad: bool) -> None:
    if problems and not skip_bad:
        raise DataError.of_problems(
            f"These files or rows cannot be used ({len(problems)}):",
            problems,
            "Mend or remove them, or go on without them with --skip-bad.",
        )
    if problems:
        reporter.warn(f"went on without {len(problems)} bad files or rows (--skip-bad)")


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
    hashes: tuple[str, ...],
    stacked: np.ndarray,
    skipped: tuple[Problem, ...],
) -> ScannedSlices:
    seen: dict[str, int] = {}
    exact = [
        (seen[key], index)
        for index, key in enumerate(hashes)
        if seen.setdefault(key, index) != index
    ]
    near = [
        pair for pair in duplicates.near_duplicates(stacked) if hashes[pair[0]] != hashes[pair[1]]
    ]
    groups = duplicates.merge_groups(
        len(hashes),
        [*exact, *((i, j) for i, j, _ in near)],
        shared=[[record.patient for record in manifest.records]],
    )
    return ScannedSlices(manifest, hashes, groups, tuple(exact), tuple(near), skipped)
