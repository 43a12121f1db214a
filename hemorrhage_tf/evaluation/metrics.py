"""Figures of a binary classifier, each with its interval, from labels and probabilities alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from hemorrhage_tf.errors import DataError
from hemorrhage_tf.evaluation.intervals import area_interval, delong_variance, wilson

DEFAULT_THRESHOLD = 0.5


def confusion(labels: np.ndarray, decisions: np.ndarray) -> dict[str, int]:
    """Counts the four outcomes.

    Args:
        labels: `(n,)`, 0 or 1.
        decisions: `(n,)`, True for hemorrhage.

    Returns:
        true_positive, false_negative, false_positive and true_negative.
    """
    positive, called = labels == 1, np.asarray(decisions, bool)
    return {
        "true_positive": int(np.sum(positive & called)),
        "false_negative": int(np.sum(positive & ~called)),
        "false_positive": int(np.sum(~positive & called)),
        "true_negative": int(np.sum(~positive & ~called)),
    }


def binary_metrics(
    labels: np.ndarray,
    repeats: Sequence[np.ndarray],
    threshold: float = DEFAULT_THRESHOLD,
) -> dict[str, Any]:
    """Computes the figures of one set of predictions, or of repeated out-of-fold predictions.

    With several repeats each figure is the mean over them. Repeats of a cross-validation add no
    slices, so that n stays the number of slices, and intervals do not narrow with the repeats.

    Args:
        labels: `(n,)`, 0 or 1.
        repeats: for each repeat the probabilities of all slices, `(n,)` in [0, 1].
        threshold: probabilities at or above it count as hemorrhage. Default 0.5.

    Returns:
        `accuracy`, `sensitivity`, `specificity` (Wilson) and `roc_auc` (DeLong), each a dictionary
        of estimate, low, high and n, or None where a class is missing; `confusion` (mean counts);
        `n`, `n_positive`, `n_negative`, `threshold`; and `repeats`, the single repeats' estimates.

    Raises:
        DataError: no slices, a probability that is not a number, or lengths that differ.
    """
    labels = np.asarray(labels)
    n = len(labels)
    for probabilities in repeats:
        if len(probabilities) != n:
            raise DataError(f"{len(probabilities)} predictions for {n} labels")
        if not np.all(np.isfinite(probabilities)):
            bad = int(np.sum(~np.isfinite(probabilities)))
            raise DataError(f"{bad} of {n} predictions are not numbers")
    if n == 0 or len(repeats) == 0:
        raise DataError("there are no predictions to evaluate")
    positives = int(labels.sum())
    tables = [confusion(labels, probabilities >= threshold) for probabilities in repeats]
    mean = {name: float(np.mean([table[name] for table in tables])) for name in tables[0]}
    areas = (
        [delong_variance(labels, probabilities) for probabilities in repeats]
        if 0 < positives < n
        else []
    )
    figures = {
        "accuracy": wilson(mean["true_positive"] + mean["true_negative"], n),
        "sensitivity": wilson(mean["true_positive"], positives),
        "specificity": wilson(mean["true_negative"], n - positives),
        "roc_auc": area_interval(
            float(np.mean([area for area, _ in areas])),
            float(np.mean([variance for _, variance in areas])),
            positives,
            n - positives,
        )
        if areas
        else None,
    }
    whole = len(repeats) == 1
    return {
        **{name: figure and figure.to_dict() for name, figure in figures.items()},
        "confusion": {name: int(value) if whole else value for name, value in mean.items()},
        "n": n,
        "n_positive": positives,
        "n_negative": n - positives,
        "threshold": threshold,
        "repeats": {
            "accuracy": [(table["true_positive"] + table["true_negative"]) / n for table in tables],
            "roc_auc": [area for area, _ in areas],
        },
    }


def summary(metrics: dict[str, Any]) -> str:
    """Says the two main figures in one line, never without interval and n.

    Args:
        metrics: from `binary_metrics`.
    """
    accuracy, area = metrics["accuracy"], metrics["roc_auc"]
    text = (
        f"accuracy {accuracy['estimate']:.1%} "
        f"({accuracy['low']:.1%} to {accuracy['high']:.1%}, n = {metrics['n']})"
    )
    if area is not None:
        text += f", ROC AUC {area['estimate']:.3f} ({area['low']:.3f} to {area['high']:.3f})"
    return text
