"""The HTML report of an evaluation: gathers its content from the model and the slices."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hemorrhage_tf.core.progress import Progress
from hemorrhage_tf.datasets.slice_index import SliceIndex
from hemorrhage_tf.evaluation.robustness import robustness
from hemorrhage_tf.evaluation.scan_metrics import SCANS, SLICES, SLICES_IN_SCANS
from hemorrhage_tf.imaging.readers import read_slice
from hemorrhage_tf.inference.model import BATCH_SIZE
from hemorrhage_tf.models.run_files import is_run_folder, read_history
from hemorrhage_tf.reports.content import model_rows, not_tested
from hemorrhage_tf.reports.evaluation_content import (
    EvaluationContent,
    gallery_items,
    gallery_kinds,
)
from hemorrhage_tf.reports.gallery import GalleryItem
from hemorrhage_tf.reports.html_report import write_report
from hemorrhage_tf.reports.report_content import LevelContent, ReportContent

ROBUSTNESS_SLICES = 100  # slices, at most, that are altered to measure robustness


def write_evaluation_report(
    path: str | Path, evaluation: EvaluationContent, progress: Progress
) -> Path:
    """Write the HTML report of an evaluation.

    Args:
        path: Of the HTML file. An existing file is replaced; missing folders are created.
        evaluation: Its model, slices and metrics.
        progress: Where progress is reported.

    Returns:
        The path.

    Raises:
        OutputError: If the file cannot be written. No partial file is left behind.
    """
    slices, metrics, model = evaluation.slices, evaluation.metrics, evaluation.model
    counts_slices = SLICES in evaluation.levels
    main = evaluation.levels[evaluation.main_level]
    all_slices_count = counts_slices and len(main.labels) == len(slices)
    content = ReportContent(
        title=evaluation.title,
        metrics=metrics,
        labels=main.labels,
        probabilities=main.repeats[0],
        threshold=metrics["threshold"],
        unit=main.unit,
        names=slices.names if all_slices_count else (),
        groups=main.groups,
        levels=[
            LevelContent(name, metrics[name], evaluation.levels[name])
            for name in (SLICES_IN_SCANS, SCANS)
            if name in evaluation.levels and name != evaluation.main_level
        ],
        scan_details=metrics["scan_details"],
        scan_rows=_scan_rows(evaluation),
        model_rows=model_rows(model.metadata),
        data_rows=_data_rows(slices),
        history=_read_history(model.path),
        audit=None if evaluation.audit is None else evaluation.audit.to_dict(),
        gallery=_gallery(evaluation, progress) if counts_slices else (),
        robustness=_measure_robustness(evaluation, progress),
        subgroups=_subgroup_rows(evaluation) or None,
        comparisons=evaluation.comparisons,
        model_names=evaluation.model_names,
        against=evaluation.against_levels,
        warnings=metrics["warnings"],
        not_tested=not_tested(metrics),
        versions=model.metadata.versions,
    )
    with progress.stage(f"Writing {path}"):
        return write_report(path, content)


def _scan_rows(evaluation: EvaluationContent) -> list[tuple[str, int, float, bool, int, int]]:
    """Return the rows of the table of scans, wrong ones first, then by falling probability."""
    rows = [
        (one.scan, int(label), one.probability, one.is_hemorrhage, one.slices, one.flagged)
        for one, label in zip(evaluation.scans, evaluation.scan_labels, strict=True)
    ]
    return sorted(rows, key=lambda row: (row[1] == row[3], -row[2]))


def _data_rows(slices: SliceIndex) -> list[tuple[str, str]]:
    patients = {record.patient for record in slices.manifest.records if record.patient}
    return [
        ("slices", f"{len(slices)}, {int(slices.labels.sum())} with hemorrhage"),
        *_scan_counts(slices),
        ("layout", slices.manifest.layout),
        ("groups", str(len(np.unique(slices.groups)))),
        ("patients", str(len(patients) or "unknown")),
        ("slices in Hounsfield units", str(int(slices.is_hounsfield.sum()))),
        ("content hash", slices.data_hash),
    ]


def _scan_counts(slices: SliceIndex) -> list[tuple[str, str]]:
    scans = slices.scans
    if not len(scans):
        return []
    return [("scans", f"{len(scans)}, {int(scans.labels.sum())} with hemorrhage")]


def _read_history(path: Path) -> list[dict[str, str]]:
    """Return the rows of a run's history.csv, or nothing for a model that is not a run folder."""
    if not is_run_folder(path):
        return []
    return read_history(path)


def _gallery(evaluation: EvaluationContent, progress: Progress) -> list[GalleryItem]:
    """Return every wrong slice and the most confident correct ones."""
    labels, threshold = evaluation.slices.labels, evaluation.model.threshold
    kinds = gallery_kinds(labels, evaluation.slice_probabilities, threshold)
    return gallery_items(evaluation, kinds, progress)


def _measure_robustness(evaluation: EvaluationContent, progress: Progress) -> list[dict[str, Any]]:
    model, slices = evaluation.model, evaluation.slices
    count = min(len(slices), ROBUSTNESS_SLICES)
    chosen = np.linspace(0, len(slices) - 1, count).astype(int)
    pixels = [read_slice(slices.refs[index]) for index in chosen]

    def predict(altered: Sequence[np.ndarray]) -> np.ndarray:
        probabilities = []
        for start in range(0, len(altered), BATCH_SIZE):
            batch = [evaluation.model_input(one) for one in altered[start : start + BATCH_SIZE]]
            probabilities.append(model.run(np.stack(batch)))
        return np.concatenate(probabilities)

    with progress.stage("Testing robustness"):
        return robustness(predict, pixels, slices.labels[chosen], model.threshold)


def _subgroup_rows(evaluation: EvaluationContent) -> list[dict[str, Any]]:
    return [
        {
            "subgroup": group.name,
            "slices": group.n,
            **{key: group.metrics[key] for key in ("sensitivity", "specificity", "roc_auc")},
        }
        for group in evaluation.subgroups
    ]
