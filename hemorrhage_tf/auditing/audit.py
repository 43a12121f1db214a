"""The audit: what is wrong with labeled slices, and what tells the classes apart beside anatomy.

It raises nothing because of bad files: they are findings. Every file is read once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from hemorrhage_tf.auditing.audit_result import ALIKE, SAME_PIXELS, Audit, Pair, Patients, Storage
from hemorrhage_tf.auditing.class_differences import _differences
from hemorrhage_tf.auditing.shortcuts import sample, shortcuts
from hemorrhage_tf.core.errors import Problem
from hemorrhage_tf.core.progress import Progress
from hemorrhage_tf.datasets import near_duplicate_search, near_duplicates
from hemorrhage_tf.datasets.column_store import Made
from hemorrhage_tf.datasets.image_statistics import ImageStatistics, ImageStatisticsTable
from hemorrhage_tf.datasets.records import Manifest
from hemorrhage_tf.datasets.slice_index import SliceIndex
from hemorrhage_tf.datasets.slice_reading import SliceReadings, read_slices

MOST_PAIRS = 10_000  # that are listed


def audit(manifest: Manifest, progress: Progress, seed: int = 0) -> Audit:
    """Audits labeled slices.

    Args:
        manifest: what to audit. Files that cannot be read are findings, no errors.
        progress: where progress goes.
        seed: of the folds and of the models of the shortcut baselines. Default 0.
    """
    records = manifest.records
    readings = read_slices(
        Made(records.ref, len(records)), progress, "Auditing slices", for_audit=True
    )
    problems = list(manifest.problems)
    for index, problem in sorted(readings.problems.items()):
        problems.append(replace(problem, path=manifest.name_at(index)))
    good = replace(manifest, records=records.take(readings.good), problems=())
    with progress.stage("Comparing slices"):
        links = _links(readings)
    groups = near_duplicates.merge_groups(
        len(readings),
        [(i, j) for i, j, _, _ in links],
        shared=[good.records.patients],
    )
    return _audit(good, problems, readings.statistics, links, groups, progress, seed)


def audit_scanned(
    slices: SliceIndex,
    progress: Progress,
    seed: int = 0,
    statistics: Sequence[ImageStatistics] | None = None,
) -> Audit:
    """Audits slices that were scanned, by the duplicates and groups that the scan found.

    Args:
        slices: the scanned slices.
        progress: where progress goes.
        seed: of the folds and of the models of the shortcut baselines. Default 0.
        statistics: what `image_statistics` gave for each slice; None for what the scan found. Default None.
    """
    if statistics is None:
        statistics = slices.statistics
    links = [(i, j, SAME_PIXELS, 1.0) for i, j in slices.exact_pairs]
    links += [(i, j, ALIKE, correlation) for i, j, correlation in slices.near_pairs]
    return _audit(slices.manifest, slices.skipped, statistics, links, slices.groups, progress, seed)


def _audit(
    manifest: Manifest,
    problems: Sequence[Problem],
    statistics: Sequence[ImageStatistics],
    links: Sequence[tuple[int, int, str, float]],
    groups: np.ndarray,
    progress: Progress,
    seed: int,
) -> Audit:
    labels = manifest.labels
    table = ImageStatisticsTable.of(statistics)
    differences, unvaried = _differences(table, labels, groups)
    chosen = sample(len(groups), seed)
    drawn = [table[index] for index in chosen]
    found = shortcuts(drawn, labels[chosen], groups[chosen], progress, seed)
    return Audit(
        root="" if manifest.root_is_named else str(manifest.root),
        layout=manifest.layout,
        slices=len(labels),
        hemorrhage=int(labels.sum()),
        groups=len(np.unique(groups)),
        problems=tuple(problems),
        pairs=tuple(_pair(manifest, table, *link) for link in links[:MOST_PAIRS]),
        patients=_patients(manifest),
        storage=_storage(manifest, table),
        differences=differences,
        unvaried=unvaried,
        shortcuts=found,
        audited=len(chosen),
        notes=_notes(len(labels), len(chosen), len(links)),
    )


def _notes(slices: int, drawn: int, links: int) -> tuple[str, ...]:
    """Says what rests on a part of a large set only."""
    notes = []
    if links > MOST_PAIRS:
        notes.append(
            f"Of {links} pairs of slices that show the same picture the first {MOST_PAIRS} are "
            "listed and counted."
        )
    if slices > near_duplicates.ALL_PAIRS_UP_TO:
        notes.append(
            f"Of {slices} slices {drawn} were drawn for the shortcut baselines, and crops were "
            f"looked for among the {near_duplicate_search.CROP_CANDIDATES} slices nearest to each in gray "
            "levels."
        )
    return tuple(notes)


# What slices have to do with each other.


def _links(readings: SliceReadings) -> list[tuple[int, int, str, float]]:
    """Finds the pairs that show the same picture, each once, by the simplest of its relations."""
    found: dict[tuple[int, int], tuple[str, float]] = {}
    keys = [key.tobytes() for key in readings.hashes.packed]
    first: dict[bytes, int] = {}
    for index, key in enumerate(keys):
        original = first.setdefault(key, index)
        if original != index:
            found[original, index] = (SAME_PIXELS, 1.0)
    if keys:
        every = np.arange(len(keys))
        for flip in (None, *near_duplicates.FLIPS):
            relation = ALIKE if flip is None else f"{ALIKE}, flipped {flip}"
            pairs = near_duplicate_search.near_pairs(readings.thumbnails, every, flip)
            for i, j, correlation in zip(*(column.tolist() for column in pairs), strict=True):
                # A head is nearly symmetric: of several flips that fit, the best is meant.
                if correlation > found.get((i, j), ("", -1.0))[1] + 1e-3 and keys[i] != keys[j]:
                    found[i, j] = (relation, correlation)
        for i, j, correlation, flip in near_duplicate_search.cropped_pairs(
            readings.contents, readings.shares, every
        ):
            if keys[i] != keys[j]:
                relation = f"{ALIKE}, cropped" + (f" and flipped {flip}" if flip else "")
                found.setdefault((i, j), (relation, correlation))
    links = [(i, j, relation, value) for (i, j), (relation, value) in found.items()]
    return sorted(links, key=lambda link: (link[2] != SAME_PIXELS, -link[3], link[:2]))


def _pair(
    manifest: Manifest,
    statistics: ImageStatisticsTable,
    i: int,
    j: int,
    relation: str,
    correlation: float,
) -> Pair:
    one, other = manifest.records[i], manifest.records[j]
    numbers = statistics.numbers
    sizes = [(int(numbers[at]["width"]), int(numbers[at]["height"])) for at in (i, j)]
    return Pair(
        manifest.name(one),
        manifest.name(other),
        relation,
        round(min(correlation, 1.0), 4),
        *sizes,
        one.label,
        other.label,
        one.split != other.split,
    )


def _patients(manifest: Manifest) -> Patients:
    labels: dict[str, list[int]] = {}
    parts: dict[str, set[str | None]] = {}
    for record in manifest.records:
        if record.patient is not None:
            labels.setdefault(record.patient, []).append(record.label)
            parts.setdefault(record.patient, set()).add(record.split)
    kinds = [set(found) for found in labels.values()]
    counts = [len(found) for found in labels.values()]
    return Patients(
        count=len(labels),
        unnamed=len(manifest.records) - sum(counts),
        with_hemorrhage=kinds.count({1}),
        without=kinds.count({0}),
        with_both=kinds.count({0, 1}),
        across_split=sum(len(found) > 1 for found in parts.values()),
        median_slices=float(np.median(counts)) if counts else None,
        most_slices=max(counts, default=0),
    )


def _storage(manifest: Manifest, statistics: ImageStatisticsTable) -> tuple[Storage, ...]:
    bits = statistics.numbers["bits"].tolist()
    kinds = [
        (file_format, mode, depth)
        for (mode, file_format, _), depth in zip(statistics.texts, bits, strict=True)
    ]
    labels = manifest.labels.tolist()
    found = []
    for rank, (kind, count) in enumerate(Counter(kinds).most_common()):
        places = [place for place, each in enumerate(kinds) if each == kind]
        positive = sum(labels[place] for place in places)
        names = () if rank == 0 else tuple(manifest.name_at(place) for place in places)
        found.append(Storage(*kind, positive, count - positive, names))
    return tuple(found)
