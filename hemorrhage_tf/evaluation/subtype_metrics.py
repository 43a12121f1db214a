"""Metrics of a model with an output for each subtype, and the weighted log loss of RSNA 2019."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hemorrhage_tf.core.errors import DataError
from hemorrhage_tf.evaluation.areas import repeated_areas
from hemorrhage_tf.evaluation.intervals import CONFIDENCE, Interval, plain_interval, quantile
from hemorrhage_tf.evaluation.metrics import number_of_resamples
from hemorrhage_tf.evaluation.resampling import Bootstrap, Resamples, proportions

ANY_WEIGHT = 2.0  # of any hemorrhage in the weighted log loss; a subtype has 1
_CLIPPED = 1e-15  # probabilities are kept this far from 0 and 1, as in the challenge
FEW_SLICES = 10  # with a subtype; fewer get a note


@dataclass(frozen=True)
class SubtypePredictions:
    """Predictions of any hemorrhage and of subtypes: one set, or repeated out-of-fold sets.

    Attributes:
        names: The names of the subtypes, in the order of the columns.
        labels: `(n, 1 + subtypes)`: any hemorrhage first; 0, 1, or -1 where it is unknown.
        repeats: For each repeat the probabilities, `(n, 1 + subtypes)` in [0, 1].
        decisions: For each repeat bool `(n, subtypes)`, True for predicted.
        groups: `(n,)`, equal for slices of one patient; None for independent slices. Defaults to
            None.
    """

    names: Sequence[str]
    labels: np.ndarray
    repeats: Sequence[np.ndarray]
    decisions: Sequence[np.ndarray]
    groups: np.ndarray | None = None

    def __post_init__(self) -> None:
        shape = np.shape(self.labels)
        for repeat in self.repeats:
            if np.shape(repeat) != shape or shape[1] != 1 + len(self.names):
                raise DataError(
                    f"labels {shape} and probabilities {np.shape(repeat)}: both must be "
                    f"(n, {1 + len(self.names)}), any hemorrhage and {len(self.names)} subtypes. "
                    "Pass arrays of that shape."
                )
            if not (np.min(repeat, initial=0) >= 0 and np.max(repeat, initial=0) <= 1):
                raise DataError(
                    "a prediction of a subtype is not a probability in [0, 1]. Check the model."
                )


def subtype_metrics(
    predictions: SubtypePredictions, bootstrap: Bootstrap | None = None
) -> dict[str, Any]:
    """Compute the metrics of subtypes.

    Args:
        predictions: Labels, probabilities and decisions.
        bootstrap: Number of resamples and random seed; None for 2000 and 0.

    Returns:
        Plain values for JSON:

        - `subtypes`: by name `n` (slices whose subtype is known), `n_positive`, `roc_auc`,
          `pr_auc`, `sensitivity` and `specificity` with intervals as in `metrics.binary_metrics`,
          and `notes`. A metric is None where one of its classes does not occur; a note says so.
        - `weighted_log_loss`: estimate, low, high and n, see `weighted_log_loss`; or None without
          slices whose subtypes are all known.
    """
    bootstrap = bootstrap or Bootstrap()
    by_name = {
        name: _of_subtype(predictions, column, bootstrap)
        for column, name in enumerate(predictions.names)
    }
    loss = _mean_weighted_log_loss(predictions, bootstrap)
    return {"subtypes": by_name, "weighted_log_loss": plain_interval(loss)}


def weighted_log_loss(labels: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """Compute the weighted log loss of the RSNA 2019 challenge, of each slice.

    With weights w of 2 for any hemorrhage and 1 for each subtype, the loss of a slice is
    sum_k w_k * -(y_k * log(p_k) + (1 - y_k) * log(1 - p_k)) / sum_k w_k. Its mean over the slices
    is the score of the challenge; the lowest is best. Probabilities are clipped to
    [1e-15, 1 - 1e-15].

    Args:
        labels: `(n, 1 + subtypes)`, 0 or 1; any hemorrhage first.
        probabilities: `(n, 1 + subtypes)` in [0, 1].

    Returns:
        float64 `(n,)`.

    Reference:
        RSNA Intracranial Hemorrhage Detection, evaluation (2019),
        https://www.kaggle.com/c/rsna-intracranial-hemorrhage-detection/overview/evaluation; A. E.
        Flanders et al., Construction of a machine learning dataset through collaboration: the RSNA
        2019 Brain CT Hemorrhage Challenge, Radiology: Artificial Intelligence 2 (2020), e190211.
    """
    clipped = np.clip(np.asarray(probabilities, np.float64), _CLIPPED, 1 - _CLIPPED)
    losses = -np.where(np.asarray(labels) == 1, np.log(clipped), np.log1p(-clipped))
    weights = np.ones(losses.shape[1])
    weights[0] = ANY_WEIGHT
    return np.sum(losses * weights, axis=1) / weights.sum()


def _of_subtype(
    predictions: SubtypePredictions, column: int, bootstrap: Bootstrap
) -> dict[str, Any]:
    """Compute the metrics of one subtype over the slices where it is known."""
    known = np.asarray(predictions.labels[:, 1 + column] >= 0)
    labels = predictions.labels[known, 1 + column].astype(np.int64)
    positives = int(labels.sum())
    values: dict[str, Any] = {"n": len(labels), "n_positive": positives}
    names = ("roc_auc", "pr_auc", "sensitivity", "specificity")
    if not len(labels):
        return {**values, **dict.fromkeys(names), "notes": ["it is not known of any slice"]}
    resamples = _resamples(predictions, known, bootstrap)
    scores = np.stack([repeat[known, 1 + column] for repeat in predictions.repeats])
    share = np.mean([decided[known, column] for decided in predictions.decisions], axis=0)
    classes = np.stack([labels == 1, labels == 0], axis=1).astype(np.float64)
    right = classes * np.stack([share, 1 - share], axis=1)
    sensitivity, specificity = proportions(right, classes, resamples)
    areas = repeated_areas(labels, scores.astype(np.float64), resamples)
    metrics = (areas.roc_auc, areas.pr_auc, sensitivity, specificity)
    plain = map(plain_interval, metrics)
    return {
        **values,
        **dict(zip(names, plain, strict=True)),
        "notes": _notes(labels, resamples),
    }


def _notes(labels: np.ndarray, resamples: Resamples) -> list[str]:
    positives = int(labels.sum())
    if positives == 0:
        return ["no slice shows it, so that it cannot be evaluated"]
    if positives == len(labels):
        return ["every slice shows it, so that specificity and areas are not defined"]
    if positives >= FEW_SLICES:
        return []
    patients = ""
    if resamples.of_patients:
        count = resamples.holding(labels == 1)
        patients = f" of {count} patient{'s' if count > 1 else ''}"
    return [f"{positives} slices{patients} show it: read the intervals, not the estimates"]


def _mean_weighted_log_loss(
    predictions: SubtypePredictions, bootstrap: Bootstrap
) -> Interval | None:
    """Compute the mean loss with an interval that is symmetric on the log scale."""
    known = np.asarray(np.all(predictions.labels >= 0, axis=1))
    n = int(known.sum())
    if not n:
        return None
    labels = predictions.labels[known]
    losses = np.stack([weighted_log_loss(labels, repeat[known]) for repeat in predictions.repeats])
    resamples = _resamples(predictions, known, bootstrap)
    estimate = float(losses.mean())
    # Means over repeats: the mean of their variances, as for the other metrics.
    variances = resamples.variances(
        lambda weights: (weights @ losses.T / weights.sum(1)[:, None]).T
    )
    variance = float(variances.mean())
    if not math.isfinite(variance):  # of a single slice or patient
        return Interval(estimate, 0.0, -math.log(_CLIPPED), n)
    half = quantile(CONFIDENCE, resamples.degrees(np.ones(n))) * math.sqrt(variance) / estimate
    factor = math.exp(min(half, 700.0))
    return Interval(estimate, estimate / factor, estimate * factor, n)


def _resamples(
    predictions: SubtypePredictions, known: np.ndarray, bootstrap: Bootstrap
) -> Resamples:
    n, groups = int(known.sum()), predictions.groups
    drawn = number_of_resamples(n, bootstrap.resamples)
    return Resamples.make(n, None if groups is None else groups[known], drawn, bootstrap.seed)
