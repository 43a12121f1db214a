"""Audit labeled slices: unusable files, duplicates, and properties that predict the label.

Unusable files are results of an audit, not errors. Every file is read once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from hemorrhage_tf.auditing.audit_result import Audit, Pair, Patients, Storage
from hemorrhage_tf.auditing.class_differences import class_differences
from hemorrhage_tf.auditing.duplicate_pairs import (
    EXACT_DUPLICATE,
    NEAR_DUPLICATE,
    DuplicatePair,
    DuplicatePairs,
    find_duplicate_pairs,
)
from hemorrhage_tf.auditing.shortcuts import sample_slices, shortcut_baselines
from hemorrhage_tf.core.errors import Problem
from hemorrhage_tf.core.progress import Progress
from hemorrhage_tf.datasets import thumbnails
from hemorrhage_tf.datasets.cropped_duplicates import CROP_CANDIDATES
from hemorrhage_tf.datasets.groups import merge_with_patients
from hemorrhage_tf.datasets.image_statistics import ImageStatisticsTable
from hemorrhage_tf.datasets.kept_readings import KeptReadings, pairs_key
from hemorrhage_tf.datasets.near_duplicates import PAIR
from hemorrhage_tf.datasets.records import Manifest
from hemorrhage_tf.datasets.same_image import number_patients
from hemorrhage_tf.datasets.scan_checks import check_scans
from hemorrhage_tf.datasets.slice_index import SliceIndex
from hemorrhage_tf.datasets.slice_reading import SliceReadings, read_slices

MOST_PAIRS = 10_000  # listed in an audit


@dataclass(frozen=True)
class _Evidence:
    """What an audit is based on.

    Attributes:
        manifest: The `n` readable slices.
        problems: Unusable files and rows.
        statistics: Of each slice.
        pairs: duplicates.
        groups: int64 `(n,)`, equal for slices that belong together.
        alike: The number of pairs of different patients that look alike but are kept apart.
        same_image_limit: From which correlation of the fine structure two patients' slices are
            the same image; None without two patients.
    """

    manifest: Manifest
    problems: Sequence[Problem]
    statistics: ImageStatisticsTable
    pairs: Sequence[DuplicatePair]
    groups: np.ndarray
    alike: int
    same_image_limit: float | None


def audit_manifest(
    manifest: Manifest, progress: Progress, seed: int = 0, keep_in: Path | None = None
) -> Audit:
    """Read and audit labeled slices, and also search for flipped duplicates.

    Args:
        manifest: The slices. Unreadable files become results, not errors.
        progress: Where to report progress.
        seed: Random seed of the folds and the models of the shortcut baselines. Defaults to 0.
        keep_in: The folder to keep readings in, see `datasets.kept_readings`, so that the next
            audit reads only files that have changed. Defaults to None, to keep none.
    """
    records = manifest.records
    kept = None if keep_in is None else KeptReadings(keep_in, manifest.root, progress)
    readings = read_slices(records.refs, progress, "Auditing slices", for_audit=True, kept=kept)
    problems = list(manifest.problems)
    for index, problem in sorted(readings.problems.items()):
        problems.append(replace(problem, path=manifest.name_at(index)))
    readable = replace(manifest, records=records.take(readings.good), problems=())
    problems += check_scans(readable, is_written=True).problems
    patients = readable.records.patients
    with progress.stage("Comparing slices"):
        found = _find_pairs(readings, number_patients(patients), kept)
    exact = [pair.indices for pair in found.pairs if pair.relation == EXACT_DUPLICATE]
    near = [
        (*pair.indices, pair.correlation)
        for pair in found.pairs
        if pair.relation != EXACT_DUPLICATE
    ]
    groups = merge_with_patients(
        np.array(exact, int).reshape(-1, 2),
        np.array(near, PAIR),
        patients,
        readable.records.scans,
    )
    pairs = [pair for pair in found.pairs if groups[pair.first] == groups[pair.second]]
    apart = groups[found.alike[:, 0]] != groups[found.alike[:, 1]]
    evidence = _Evidence(
        manifest=readable,
        problems=problems,
        statistics=readings.statistics,
        pairs=pairs,
        groups=groups,
        alike=int(apart.sum()) + len(found.pairs) - len(pairs),
        same_image_limit=found.same_image_limit,
    )
    return _audit(evidence, progress, seed)


def _find_pairs(
    readings: SliceReadings, patients: np.ndarray, kept: KeptReadings | None
) -> DuplicatePairs:
    """Find the duplicate pairs, or return those that were kept for the same slices."""
    key = pairs_key(readings.hashes, patients)
    arrays = None if kept is None else kept.read_pairs(key)
    found = None if arrays is None else DuplicatePairs.from_arrays(arrays)
    if found is None:
        found = find_duplicate_pairs(readings, patients)
        if kept is not None:
            kept.write_pairs(key, found.to_arrays())
    return found


def audit_slices(slices: SliceIndex, progress: Progress, seed: int = 0) -> Audit:
    """Audit the slices of an index, with its duplicates and groups.

    Args:
        slices: The index.
        progress: Where to report progress.
        seed: Random seed of the folds and the models of the shortcut baselines. Defaults to 0.
    """
    exact = [DuplicatePair(i, j, EXACT_DUPLICATE, 1.0) for i, j in slices.exact_pairs.tolist()]
    near = [
        DuplicatePair(i, j, NEAR_DUPLICATE, correlation)
        for i, j, correlation in slices.near_pairs.tolist()
    ]
    evidence = _Evidence(
        manifest=slices.manifest,
        problems=slices.skipped,
        statistics=slices.statistics,
        pairs=exact + near,
        groups=slices.groups,
        alike=len(slices.alike_pairs),
        same_image_limit=slices.same_image_limit,
    )
    return _audit(evidence, progress, seed)


def _audit(evidence: _Evidence, progress: Progress, seed: int) -> Audit:
    manifest, table, groups = evidence.manifest, evidence.statistics, evidence.groups
    labels = manifest.labels
    differences, unvaried = class_differences(table, labels, groups)
    chosen = sample_slices(len(groups), seed)
    drawn = [table[index] for index in chosen.tolist()]
    shortcuts = shortcut_baselines(drawn, labels[chosen], groups[chosen], progress, seed)
    return Audit(
        root="" if manifest.root_is_named else str(manifest.root),
        layout=manifest.layout,
        slices=len(labels),
        hemorrhage=int(labels.sum()),
        groups=len(np.unique(groups)),
        problems=tuple(evidence.problems),
        pairs=tuple(_describe_pair(manifest, table, pair) for pair in evidence.pairs[:MOST_PAIRS]),
        patients=_count_patients(manifest),
        storage=_count_storage(manifest, table),
        differences=differences,
        unvaried=unvaried,
        shortcuts=shortcuts,
        audited=len(chosen),
        alike=evidence.alike,
        same_image_limit=evidence.same_image_limit,
        notes=_notes(len(labels), len(chosen), len(evidence.pairs)),
    )


def _notes(slices: int, drawn: int, pairs: int) -> tuple[str, ...]:
    """Describe which results of a large set come from a part of it only."""
    notes = []
    if pairs > MOST_PAIRS:
        notes.append(f"Only the first {MOST_PAIRS} of {pairs} duplicate pairs are listed.")
    if slices > thumbnails.ALL_PAIRS_UP_TO:
        notes.append(
            f"The shortcut baselines use {drawn} of {slices} slices. Cropped duplicates were "
            f"searched among the {CROP_CANDIDATES} slices nearest in gray levels."
        )
    return tuple(notes)


def _describe_pair(
    manifest: Manifest, statistics: ImageStatisticsTable, pair: DuplicatePair
) -> Pair:
    first, second = (manifest.records[index] for index in pair.indices)
    widths, heights = (
        statistics.numbers[name][list(pair.indices)].tolist() for name in ("width", "height")
    )
    return Pair(
        first=manifest.name(first),
        second=manifest.name(second),
        relation=pair.relation,
        correlation=round(min(pair.correlation, 1.0), 4),
        first_size=(widths[0], heights[0]),
        second_size=(widths[1], heights[1]),
        first_label=first.label,
        second_label=second.label,
        across_split=first.split != second.split,
        same_patient=(
            first.patient == second.patient if first.patient and second.patient else None
        ),
    )


def _count_patients(manifest: Manifest) -> Patients:
    labels: dict[str, list[int]] = {}
    parts: dict[str, set[str | None]] = {}
    for record in manifest.records:
        if record.patient is not None:
            labels.setdefault(record.patient, []).append(record.label)
            parts.setdefault(record.patient, set()).add(record.split)
    kinds = [set(of_patient) for of_patient in labels.values()]
    counts = [len(of_patient) for of_patient in labels.values()]
    return Patients(
        count=len(labels),
        unnamed=len(manifest.records) - sum(counts),
        with_hemorrhage=kinds.count({1}),
        without=kinds.count({0}),
        with_both=kinds.count({0, 1}),
        across_split=sum(len(of_patient) > 1 for of_patient in parts.values()),
        median_slices=float(np.median(counts)) if counts else None,
        most_slices=max(counts, default=0),
    )


def _count_storage(manifest: Manifest, statistics: ImageStatisticsTable) -> tuple[Storage, ...]:
    formats = [statistics.formats[index] for index in statistics.numbers["format"].tolist()]
    bits = statistics.numbers["bits"].tolist()
    kinds = [
        (file_format, mode, depth)
        for (mode, file_format, _), depth in zip(formats, bits, strict=True)
    ]
    labels = manifest.labels.tolist()
    storage = []
    for rank, ((file_format, mode, depth), count) in enumerate(Counter(kinds).most_common()):
        indices = [index for index, kind in enumerate(kinds) if kind == (file_format, mode, depth)]
        positive = sum(labels[index] for index in indices)
        storage.append(
            Storage(
                file_format=file_format,
                mode=mode,
                bits=depth,
                hemorrhage=positive,
                normal=count - positive,
                paths=() if rank == 0 else tuple(manifest.name_at(index) for index in indices),
            )
        )
    return tuple(storage)
