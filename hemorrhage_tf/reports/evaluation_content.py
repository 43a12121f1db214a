"""What the report and the figures of an evaluation show: its predictions, metrics and slices."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from hemorrhage_tf.auditing.audit_result import Audit
from hemorrhage_tf.core.progress import Progress
from hemorrhage_tf.datasets.slice_index import SliceIndex
from hemorrhage_tf.evaluation.labeled_predictions import LabeledPredictions
from hemorrhage_tf.evaluation.scan_metrics import SCANS, SLICES
from hemorrhage_tf.evaluation.subgroups import Subgroup, subgroup_metrics
from hemorrhage_tf.imaging.readers import read_slice
from hemorrhage_tf.inference.evidence import Decision
from hemorrhage_tf.inference.model import Model
from hemorrhage_tf.inference.overlay import draw_overlay
from hemorrhage_tf.inference.predictions import ScanPrediction, SlicePrediction
from hemorrhage_tf.pipeline.model_input import ModelInput
from hemorrhage_tf.reports.gallery import (
    CONFIDENT_HEMORRHAGE,
    CONFIDENT_NORMAL,
    FALSE_NEGATIVE,
    FALSE_POSITIVE,
    GalleryItem,
)

CONFIDENT_SLICES = 6  # correct slices per class in the gallery


@dataclass(frozen=True, eq=False, kw_only=True)
class EvaluationContent:
    """An evaluation, as its report needs it.

    Attributes:
        title: Heading of the page.
        model: The evaluated model.
        model_input: How the slices are converted to model input.
        slices: The evaluated slices.
        predictions: One for each slice.
        levels: The predictions of each level, by the names of `scan_metrics`.
        columns: The further columns of the manifest, as `Evaluation.columns`. Defaults to none.
        scans: The predictions of scans. Defaults to none.
        scan_labels: int64 `(m,)` of the scans. Defaults to none.
        metrics: `Evaluation.metrics`, with `warnings`.
        audit: Of the slices, or None. Defaults to None.
        comparisons: With a second model by level, from `comparison.compare`. Defaults to none.
        model_names: Names of the two models of the comparison.
        against_levels: The predictions of the second model by level. Defaults to none.
        against_path: Of the second model, or None. Defaults to None.
    """

    title: str
    model: Model
    model_input: ModelInput
    slices: SliceIndex
    predictions: Sequence[SlicePrediction]
    levels: Mapping[str, LabeledPredictions]
    columns: Mapping[str, np.ndarray] = field(default_factory=dict)
    scans: Sequence[ScanPrediction] = ()
    scan_labels: Sequence[int] | np.ndarray = ()
    metrics: Mapping[str, Any]
    audit: Audit | None = None
    comparisons: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    model_names: tuple[str, str] = ("this model", "the other model")
    against_levels: Mapping[str, LabeledPredictions] = field(default_factory=dict)
    against_path: Path | None = None

    @cached_property
    def slice_probabilities(self) -> np.ndarray:
        """float32 `(slices,)`, the probability of each slice alone."""
        return np.array([one.probability for one in self.predictions], np.float32)

    @cached_property
    def subgroups(self) -> tuple[Subgroup, ...]:
        """The metrics of each value of each column that has few values."""
        return subgroup_metrics(self.levels[self.main_level], self.columns)

    @property
    def main_level(self) -> str:
        """The level of the main metrics."""
        return SLICES if SLICES in self.levels else SCANS

    def metrics_of(self, level: str) -> Mapping[str, Any]:
        """Return the metrics of a level."""
        if level == self.main_level:
            return self.metrics
        metrics: Mapping[str, Any] = self.metrics[level]
        return metrics


def gallery_items(
    evaluation: EvaluationContent, kinds: Mapping[int, str], progress: Progress
) -> list[GalleryItem]:
    """Return images of slices, those that reach the threshold with overlays if the model has them.

    Args:
        evaluation: The evaluation.
        kinds: The kind of each slice by its index, from `gallery_kinds`.
        progress: Where progress is reported.
    """
    model, model_input, slices = evaluation.model, evaluation.model_input, evaluation.slices
    probabilities = evaluation.slice_probabilities
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
        decision = Decision(float(probabilities[index]), model.threshold)
        overlay = None
        if cam is not None and decision.excess > 0:
            overlay = _encode_png(draw_overlay(pixels, cam, model_input, decision))
        items.append(
            GalleryItem(
                name=names[index],
                label=int(labels[index]),
                probability=float(probabilities[index]),
                predicted_hemorrhage=bool(probabilities[index] >= model.threshold),
                kind=kind,
                image=_encode_png(Image.fromarray(display)),
                overlay=overlay,
            )
        )
    return items


def gallery_kinds(
    labels: np.ndarray, probabilities: np.ndarray, threshold: float
) -> dict[int, str]:
    """Return which slices belong in the gallery: every wrong one, and the most confident others.

    Args:
        labels: `(n,)`, 0 or 1.
        probabilities: `(n,)`, in [0, 1].
        threshold: Probabilities at or above it are predicted hemorrhage.

    Returns:
        The kind of each slice by its index; the wrong ones by falling probability.
    """
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
