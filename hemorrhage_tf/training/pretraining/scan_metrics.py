"""Metrics of a scan model on phantom scans: by length, form and extent of the hemorrhage."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from hemorrhage_tf.evaluation.intervals import wilson
from hemorrhage_tf.evaluation.labeled_predictions import LabeledPredictions
from hemorrhage_tf.evaluation.metrics import compute_metrics
from hemorrhage_tf.models.scan_score import mean_of_highest
from hemorrhage_tf.training.pretraining.scan_samples import ScanFeatures

# Ranges of the number of slices, and of the number of slices with a hemorrhage, in the tables.
LENGTHS = ((20, 29), (30, 49), (50, 99), (100, 250))
EXTENTS = ((1, 3), (4, 9), (10, 250))


@dataclass(frozen=True)
class ScanDecisions:
    """Probabilities of scans and their slices, with the thresholds of both.

    Attributes:
        scans: float64 `(m,)`, probabilities of the scans.
        slices: float64 `(n,)`, probabilities of the slices in their scans.
        slices_alone: float64 `(n,)`, probabilities of the slices alone.
        scan_threshold: Threshold of scans.
        slice_threshold: Threshold of slices in their scans.
    """

    scans: np.ndarray
    slices: np.ndarray
    slices_alone: np.ndarray
    scan_threshold: float
    slice_threshold: float


def scan_model_metrics(scans: ScanFeatures, decisions: ScanDecisions) -> dict[str, Any]:
    """Compute the metrics of a scan model, in one level.

    Args:
        scans: The scans, of which every head has one without and one with a hemorrhage.
        decisions: The model's probabilities and thresholds.

    Returns:
        Plain values: `n` scans, `roc_auc` with its interval over heads, `sensitivity` and
        `specificity` with Wilson intervals; the ROC AUC of slices alone and in their scans, and of
        the mean of the three highest slices; and the same by length, form and number of slices
        with a hemorrhage.
    """
    from sklearn.metrics import roc_auc_score

    members, labels = scans.members, scans.scan_labels
    first = np.array([slices[0] for slices in members])
    lengths = np.array([len(slices) for slices in members])
    visible = np.array([int(scans.labels[slices].sum()) for slices in members])
    display = scans.display[first]
    predictions = LabeledPredictions(
        labels,
        [decisions.scans],
        decisions.scan_threshold,
        groups=scans.scans[first] // 2,
        unit="scans",
    )
    area = compute_metrics(predictions).to_dict()["roc_auc"]
    highest = [mean_of_highest(decisions.slices_alone[slices]) for slices in members]
    in_scans = decisions.slices >= decisions.slice_threshold
    is_normal = np.repeat(labels == 0, lengths)
    metrics: dict[str, Any] = {
        "n": len(labels),
        "slices": len(scans),
        "roc_auc": area["estimate"],
        "roc_auc_interval": [area["low"], area["high"]],
        "roc_auc_of_three_highest": float(roc_auc_score(labels, highest)),
        **_decided(labels, decisions, np.ones(len(labels), bool)),
        "slice_roc_auc": float(roc_auc_score(scans.labels, decisions.slices_alone)),
        "slice_in_scan_roc_auc": float(roc_auc_score(scans.labels, decisions.slices)),
        "slice_in_scan_sensitivity": float(in_scans[scans.labels == 1].mean()),
        "slice_in_scan_specificity": float(1 - in_scans[is_normal].mean()),
    }
    parts = {
        f"{low} to {high} slices": (lengths >= low) & (lengths <= high) for low, high in LENGTHS
    }
    parts |= {"Hounsfield units": ~display, "display images": display}
    for name, part in parts.items():
        area = (
            float(roc_auc_score(labels[part], decisions.scans[part]))
            if _both(labels[part])
            else None
        )
        row = {"n": int(part.sum()), "roc_auc": area, **_decided(labels, decisions, part)}
        metrics |= {f"{name}: {key}": value for key, value in row.items()}
    for low, high in EXTENTS:
        part = (visible >= low) & (visible <= high)
        shown = f"hemorrhage in {low} to {high} slices"
        found = decisions.scans[part] >= decisions.scan_threshold
        metrics |= {f"{shown}: n": int(part.sum())}
        metrics |= {f"{shown}: sensitivity": float(found.mean()) if len(found) else None}
    return metrics


def _both(labels: np.ndarray) -> bool:
    return bool(0 < labels.sum() < len(labels))


def _decided(labels: np.ndarray, decisions: ScanDecisions, part: np.ndarray) -> dict[str, Any]:
    """Return sensitivity and specificity of a part of the scans, with their intervals."""
    positive = decisions.scans >= decisions.scan_threshold
    metrics: dict[str, Any] = {}
    for name, label in (("sensitivity", 1), ("specificity", 0)):
        chosen = part & (labels == label)
        interval = wilson(float((positive[chosen] == bool(label)).sum()), int(chosen.sum()))
        metrics[name] = None if interval is None else interval.estimate
        metrics[f"{name}_interval"] = None if interval is None else [interval.low, interval.high]
    return metrics
