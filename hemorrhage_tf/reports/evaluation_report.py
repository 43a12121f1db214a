"""The HTML report of an evaluation: gathers its content from the model and the slices."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from hemorrhage_tf.auditing.audit_result import Audit
from hemorrhage_tf.core.progress import Progress
from hemorrhage_tf.datasets.slice_index import SliceIndex
from hemorrhage_tf.evaluation.labeled_predictions import LabeledPredictions
from hemorrhage_tf.evaluation.metrics import binary_metrics
from hemorrhage_tf.evaluation.robustness import robustness
from hemorrhage_tf.evaluation.scan_metrics import SCANS, SLICES, SLICES_IN_SCANS
from hemorrhage_tf.imaging.readers import read_slice
from hemorrhage_tf.inference.model import BATCH_SIZE, Model
from hemorrhage_tf.inference.overlay import draw_overlay
from hemorrhage_tf.inference.predictions import ScanPrediction
from hemorrhage_tf.models.run_files import HISTORY_FILE, is_run_folder
from hemorrhage_tf.pipeline.model_input import ModelInput
from hemorrhage_tf.reports.content import model_rows, not_tested
from hemorrhage_tf.reports.gallery import (
    CONFIDENT_HEMORRHAGE,
    CONFIDENT_NORMAL,
    FALSE_NEGATIVE,
    FALSE_POSITIVE,
    GalleryItem,
)
from hemorrhage_tf.reports.html_report import write_report
from hemorrhage_tf.reports.report_content import LevelContent, ReportContent

CONFIDENT_SLICES = 6  # correct slices per class in the gallery
ROBUSTNESS_SLICES = 100  # slices, at most, that are altered to measure robustness
MAX_SUBGROUPS = 12  # a column of the manifest with more values does not define subgroups


@dataclass(frozen=True, eq=False, kw_only=True)
class EvaluationContent:
    """An evaluation, as its report needs it.

    Attributes:
        title: Heading of the page.
        model: The evaluated model.
        model_input: How the slices are converted to model input.
        slices: The evaluated slices.
        slice_probabilities: `(slices,)`, one probability per slice, in [0, 1].
        levels: The predictions of each level, by the names of `scan_metrics`.
        scans: The predictions of scans. Defaults to none.
        scan_labels: int64 `(m,)` of the scans. Defaults to none.
        metrics: `Evaluation.metrics`, with `warnings`.
        audit: Of the slices.
        comparisons: With a second model by level, from `comparison.compare`. Defaults to none.
        model_names: Names of the two models of the comparison.
    """

    title: str
    model: Model
    model_input: ModelInput
    slices: SliceIndex
    slice_probabilities: np.ndarray
    levels: Mapping[str, LabeledPredictions]
    scans: Sequence[ScanPrediction] = ()
    scan_labels: Sequence[int] | np.ndarray = ()
    metrics: Mapping[str, Any]
    audit: Audit
    comparisons: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    model_names: tuple[str, str] = ("this model", "the other model")


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
    main_level = SLICES if counts_slices else SCANS
    main = evaluation.levels[main_level]
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
            if name in evaluation.levels and name != main_level
        ],
        scan_details=metrics["scan_details"],
        scan_rows=_scan_rows(evaluation),
        model_rows=model_rows(model.metadata),
        data_rows=_data_rows(slices),
        history=_read_history(model.path),
        audit=evaluation.audit.to_dict(),
        gallery=_gallery_items(evaluation, progress) if counts_slices else (),
        robustness=_measure_robustness(evaluation, progress),
        subgroups=_subgroup_rows(evaluation) or None,
        comparisons=evaluation.comparisons,
        model_names=evaluation.model_names,
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
    with open(path / HISTORY_FILE, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def _gallery_items(evaluation: EvaluationContent, progress: Progress) -> list[GalleryItem]:
    """Return every wrong slice and the most confident correct ones, with overlays if possible."""
    model, model_input, slices = evaluation.model, evaluation.model_input, evaluation.slices
    probabilities = evaluation.slice_probabilities
    kinds = _gallery_kinds(slices.labels, probabilities, model.threshold)
    if not kinds:
        return []
    refs = [slices.refs[index] for index in kinds]
    cams: list[np.ndarray | None] = [None] * len(refs)
    if model.has_cam:
        cams = [cam for _, cam in model.probabilities_with_cams(refs, progress, model_input)]
    names, labels = slices.names, slices.labels
    items = []
    for (index, kind), ref, cam in zip(kinds.items(), refs, cams, strict=True):
        pixels = read_slice(ref)
        display = np.rint(model_input.apply_window(pixels)).astype(np.uint8)
        items.append(
            GalleryItem(
                name=names[index],
                label=int(labels[index]),
                probability=float(probabilities[index]),
                predicted_hemorrhage=bool(probabilities[index] >= model.threshold),
                kind=kind,
                image=_encode_png(Image.fromarray(display)),
                overlay=None
                if cam is None
                else _encode_png(draw_overlay(pixels, cam, model_input)),
            )
        )
    return items


def _gallery_kinds(
    labels: np.ndarray, probabilities: np.ndarray, threshold: float
) -> dict[int, str]:
    """Return the kind of each slice that belongs in the gallery, by the slice's index."""
    positive, predicted = labels == 1, probabilities >= threshold
    order = np.argsort(-probabilities, kind="stable")
    kinds = {
        int(index): FALSE_NEGATIVE if positive[index] else FALSE_POSITIVE
        for index in order[(positive != predicted)[order]]
    }
    hemorrhages = order[(positive & predicted)[order]]
    normals = order[::-1][(~positive & ~predicted)[order[::-1]]]
    kinds |= dict.fromkeys(map(int, hemorrhages[:CONFIDENT_SLICES]), CONFIDENT_HEMORRHAGE)
    kinds |= dict.fromkeys(map(int, normals[:CONFIDENT_SLICES]), CONFIDENT_NORMAL)
    return kinds


def _encode_png(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


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
    """Compute metrics for each value of each column of the manifest that has few values."""
    slices, threshold = evaluation.slices, evaluation.model.threshold
    rows = []
    for position, column in enumerate(slices.manifest.columns):
        values = np.array([record.columns[position] for record in slices.manifest.records])
        distinct = np.unique(values)
        if not 2 <= len(distinct) <= MAX_SUBGROUPS:
            continue
        for value in distinct:
            members = values == value
            probabilities = evaluation.slice_probabilities[members]
            metrics = binary_metrics(slices.labels[members], [probabilities], threshold)
            rows.append(
                {
                    "subgroup": f"{column}: {value or 'blank'}",
                    "slices": int(members.sum()),
                    **{key: metrics[key] for key in ("sensitivity", "specificity", "roc_auc")},
                }
            )
    return rows
