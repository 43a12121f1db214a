"""Metrics of a binary classifier, each with its interval, from labels and probabilities alone."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hemorrhage_tf.evaluation.areas import RepeatedAreas, repeated_areas
from hemorrhage_tf.evaluation.calibration import (
    LEAST_SLICES,
    Recalibration,
    calibration_slope_intercept,
    reliability_curve,
)
from hemorrhage_tf.evaluation.intervals import Interval, log_interval, plain_interval
from hemorrhage_tf.evaluation.labeled_predictions import DEFAULT_THRESHOLD, LabeledPredictions
from hemorrhage_tf.evaluation.predictive_values import (
    PredictiveValues,
    check_prevalence,
    predictive_values,
)
from hemorrhage_tf.evaluation.resampling import Bootstrap, Resamples, proportions

# Intervals over fewer patients cover less than they promise, see docs/decisions.md.
FEW_PATIENTS = 30
# Larger sets get fewer resamples, so that they take no longer. A standard deviation from b normal
# resamples has a relative standard error of 1 / sqrt(2 (b - 1)): 5 % at the 200 that always remain.
MOST_RESAMPLED, LEAST_BOOTSTRAPS = 20_000, 200


@dataclass(frozen=True)
class Metrics:
    """Metrics of one set of predictions, or their means over repeated sets.

    Attributes:
        accuracy: Share of right decisions (Wilson).
        sensitivity: Share of the slices with hemorrhage that are predicted hemorrhage (Wilson).
        specificity: Share of the slices without that are predicted normal (Wilson).
        ppv: Share of the slices predicted hemorrhage that have one (Wilson).
        npv: Share of the slices predicted normal that have none (Wilson).
        areas: ROC AUC (DeLong on the logit scale; over patients with the bootstrap's variance) and
            PR AUC (average precision, bootstrap variance on the logit scale).
        brier: Mean squared error of the probability (log scale).
        recalibration: Slope and intercepts (profile likelihood of the pooled predictions).
        reliability: See `calibration.reliability_curve`.
        at_prevalence: Predictive values where the model will be used (MOVER-R), or None.
        confusion: Counts of the four outcomes, or their means.
        n_positive: Number of slices with hemorrhage.
        n_negative: Number of slices without.
        threshold: Probabilities at or above it are predicted hemorrhage.
        intervals_of: Units of the intervals, `slices`, `scans` or `patients`.
        n_groups: Number of these units.
        repeats: By metric the estimate of each repeat.
        notes: What limits the metrics, and why some are missing.
    """

    accuracy: Interval | None
    sensitivity: Interval | None
    specificity: Interval | None
    ppv: Interval | None
    npv: Interval | None
    areas: RepeatedAreas
    brier: Interval
    recalibration: Recalibration
    reliability: list[dict[str, Any]]
    at_prevalence: PredictiveValues | None
    confusion: dict[str, float]
    n_positive: int
    n_negative: int
    threshold: float
    intervals_of: str
    n_groups: int
    repeats: dict[str, list[float]]
    notes: tuple[str, ...]

    @property
    def is_repeated(self) -> bool:
        """Whether these are means over several repeats."""
        return len(self.repeats["accuracy"]) > 1

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON, as `binary_metrics` describes them."""
        plain = {
            name: plain_interval(getattr(self, name))
            for name in ("accuracy", "sensitivity", "specificity", "ppv", "npv")
        }
        return {
            **plain,
            "roc_auc": plain_interval(self.areas.roc_auc),
            "pr_auc": plain_interval(self.areas.pr_auc),
            "brier": plain_interval(self.brier),
            "calibration": {
                "slope": plain_interval(self.recalibration.slope),
                "intercept": plain_interval(self.recalibration.intercept),
                "in_the_large": plain_interval(self.recalibration.in_the_large),
                "reliability": self.reliability,
            },
            "at_prevalence": self.at_prevalence and self.at_prevalence.to_dict(),
            "confusion": self.confusion,
            "n": self.n_positive + self.n_negative,
            "n_positive": self.n_positive,
            "n_negative": self.n_negative,
            "threshold": self.threshold,
            "intervals_of": self.intervals_of,
            "n_groups": self.n_groups,
            "repeats": self.repeats,
            "spread": {name: _spread(values) for name, values in self.repeats.items()}
            if self.is_repeated
            else None,
            "pooled": {
                "roc_auc": plain_interval(self.areas.pooled_roc_auc),
                "pr_auc": plain_interval(self.areas.pooled_pr_auc),
            }
            if self.is_repeated
            else None,
            "notes": list(self.notes),
        }


def binary_metrics(
    labels: np.ndarray,
    repeats: Sequence[np.ndarray],
    threshold: float = DEFAULT_THRESHOLD,
    *,
    groups: np.ndarray | None = None,
    prevalence: float | None = None,
    seed: int = 0,
) -> dict[str, Any]:
    """Compute the metrics of one set of predictions, or of repeated out-of-fold predictions.

    With several repeats each metric is the mean over them. Repeats of a cross-validation add no
    slices, so `n` stays the number of slices, and intervals do not narrow with the repeats.

    Args:
        labels: `(n,)`, 0 or 1.
        repeats: For each repeat the probabilities of all slices, `(n,)` in [0, 1].
        threshold: Probabilities at or above it are predicted hemorrhage. Default 0.5.
        groups: `(n,)`, equal for slices of one patient; None for independent slices. Where slices
            share a patient, intervals are over patients, which a bootstrap draws whole.
        prevalence: Share of slices with hemorrhage where the model will be used, in (0, 1).
        seed: Random seed of the bootstrap. Defaults to 0.

    Returns:
        A dictionary of plain values for JSON. A metric is a dictionary of estimate, low, high and
        n, or None where it is not available:

        - `accuracy`, `sensitivity`, `specificity`, `ppv`, `npv`;
        - `roc_auc`, `pr_auc`, `brier`;
        - `calibration`: `slope`, `intercept`, `in_the_large` and the `reliability` curve;
        - `at_prevalence`: `prevalence`, and `ppv` and `npv` at that prevalence; or None;
        - `confusion`: counts, or their means; `n`, `n_positive`, `n_negative`, `threshold`;
        - `intervals_of`: `slices`, `scans` or `patients`; `n_groups`, their number;
        - `repeats`: by metric the estimate of each repeat; `spread`: by metric mean, sd, least and
          most of these, or None for one repeat;
        - `pooled`: `roc_auc` and `pr_auc` of the predictions of all repeats, ranked together, or
          None for one repeat (the other metrics are the same pooled and as means);
        - `notes`: what limits the metrics, and why some are missing.

    Raises:
        DataError: No slices, a prediction that is not a probability, or different lengths.
        OptionError: A prevalence outside (0, 1).
    """
    predictions = LabeledPredictions(labels, repeats, threshold, groups=groups)
    bootstrap = Bootstrap(seed=seed)
    return compute_metrics(predictions, prevalence=prevalence, bootstrap=bootstrap).to_dict()


def compute_metrics(
    predictions: LabeledPredictions,
    *,
    prevalence: float | None = None,
    bootstrap: Bootstrap | None = None,
) -> Metrics:
    """Compute the metrics of labeled predictions; see `binary_metrics`.

    Args:
        predictions: Labels and probabilities, with the threshold or the decisions of each fold.
        prevalence: Share of slices with hemorrhage where the model will be used, in (0, 1).
        bootstrap: Number of resamples and random seed; None for 2000 and 0. Sets of more than
            `MOST_RESAMPLED` slices get proportionally fewer resamples, at least
            `LEAST_BOOTSTRAPS`; a note then says so.

    Raises:
        DataError: No slices, a prediction that is not a probability, or different lengths.
        OptionError: A prevalence outside (0, 1).

    Reference:
        Brier score: G. W. Brier, Verification of forecasts expressed in terms of probability,
        Monthly Weather Review 78 (1950), 1-3. The others: see `areas`, `calibration`, `intervals`,
        `predictive_values` and `resampling`.
    """
    check_prevalence(prevalence)
    labels, scores, predicted = predictions.check()
    bootstrap = bootstrap or Bootstrap()
    drawn = number_of_resamples(len(labels), bootstrap.resamples)
    resamples = Resamples.make(
        len(labels), predictions.groups, drawn, bootstrap.seed, predictions.unit
    )
    decided = decision_metrics(labels, predicted, resamples)
    sensitivity, specificity = decided["sensitivity"], decided["specificity"]
    areas = repeated_areas(labels, scores, resamples)
    brier, each_brier = _brier(labels, scores, resamples)
    recalibration = calibration_slope_intercept(
        np.tile(labels, len(scores)),
        scores.ravel(),
        weights=np.full(scores.size, 1 / len(scores)),
        groups=np.tile(resamples.units, len(scores)),
    )
    notes = _notes(labels, scores, resamples, recalibration.note)
    if drawn < bootstrap.resamples:
        notes.append(
            f"the intervals rest on {drawn} resamples, fewer than usual for so many "
            f"{resamples.unit}"
        )
    confusions = [confusion(labels, repeat) for repeat in predicted]
    return Metrics(
        **decided,
        areas=areas,
        brier=brier,
        recalibration=recalibration,
        reliability=reliability_curve(labels, scores, resamples),
        at_prevalence=None
        if prevalence is None
        else predictive_values(sensitivity, specificity, prevalence),
        confusion=_mean_confusion(confusions),
        n_positive=int(labels.sum()),
        n_negative=int(len(labels) - labels.sum()),
        threshold=float(predictions.threshold),
        intervals_of=resamples.drawn,
        n_groups=resamples.count,
        repeats={
            **_each_decision_metric(confusions),
            "roc_auc": areas.each_roc_auc,
            "pr_auc": areas.each_pr_auc,
            "brier": each_brier,
        },
        notes=tuple(notes),
    )


def confusion(labels: np.ndarray, decisions: np.ndarray) -> dict[str, int]:
    """Count the four outcomes.

    Args:
        labels: `(n,)`, 0 or 1.
        decisions: `(n,)`, True for predicted hemorrhage.

    Returns:
        True_positive, false_negative, false_positive and true_negative.
    """
    positive, predicted = labels == 1, np.asarray(decisions, bool)
    return {
        "true_positive": int(np.sum(positive & predicted)),
        "false_negative": int(np.sum(positive & ~predicted)),
        "false_positive": int(np.sum(~positive & predicted)),
        "true_negative": int(np.sum(~positive & ~predicted)),
    }


def _mean_confusion(confusions: Sequence[dict[str, int]]) -> dict[str, float]:
    if len(confusions) == 1:
        return dict(confusions[0])
    return {name: float(np.mean([counts[name] for counts in confusions])) for name in confusions[0]}


def _each_decision_metric(confusions: Sequence[dict[str, int]]) -> dict[str, list[float]]:
    """Compute accuracy, sensitivity and specificity of each repeat, as far as they are defined."""
    n = sum(confusions[0].values())
    positives = confusions[0]["true_positive"] + confusions[0]["false_negative"]
    negatives = n - positives
    return {
        "accuracy": [(one["true_positive"] + one["true_negative"]) / n for one in confusions],
        "sensitivity": [one["true_positive"] / positives for one in confusions if positives],
        "specificity": [one["true_negative"] / negatives for one in confusions if negatives],
    }


def number_of_resamples(n: int, bootstraps: int) -> int:
    """Return how many resamples `n` slices get; see `MOST_RESAMPLED`."""
    if n <= MOST_RESAMPLED:
        return bootstraps
    return min(bootstraps, max(LEAST_BOOTSTRAPS, bootstraps * MOST_RESAMPLED // n))


def decision_metrics(
    labels: np.ndarray, predicted: np.ndarray, resamples: Resamples
) -> dict[str, Interval | None]:
    """Compute accuracy, sensitivity, specificity, PPV and NPV, as means over the repeats.

    Args:
        labels: `(n,)`, 0 or 1.
        predicted: bool `(repeats, n)`, True for predicted hemorrhage.
        resamples: Of patients, or of slices (scans).
    """
    positive = labels == 1
    share = predicted.mean(0)
    true_positive, true_negative = positive * share, ~positive * (1 - share)
    pairs = {
        "accuracy": (true_positive + true_negative, np.ones(len(labels))),
        "sensitivity": (true_positive, positive),
        "specificity": (true_negative, ~positive),
        "ppv": (true_positive, share),
        "npv": (true_negative, 1 - share),
    }
    successes, out_of = (np.stack(columns, axis=1) for columns in zip(*pairs.values(), strict=True))
    intervals = proportions(successes, out_of.astype(np.float64), resamples)
    return dict(zip(pairs, intervals, strict=True))


def _brier(
    labels: np.ndarray, scores: np.ndarray, resamples: Resamples
) -> tuple[Interval, list[float]]:
    """Compute the mean Brier score with its interval, and the score of each repeat."""
    errors = (scores - labels) ** 2
    n, each = len(labels), errors.mean(1)
    if resamples.of_patients:
        variances = resamples.variances(
            lambda weights: (weights @ errors.T / weights.sum(1)[:, None]).T
        )
    else:
        variances = errors.var(1, ddof=1) / n if n > 1 else np.full(len(scores), np.nan)
    estimate, variance = float(each.mean()), float(variances.mean())
    if math.isfinite(variance):
        degrees = resamples.degrees(np.ones(n))
        interval = log_interval(estimate, variance, n, degrees=degrees)
    else:
        interval = Interval(estimate, 0.0, 1.0, n)
    return interval, each.tolist()


def _spread(values: list[float]) -> dict[str, float] | None:
    if not values:
        return None
    return {
        "mean": float(np.mean(values)),
        "sd": float(np.std(values, ddof=1)),
        "least": min(values),
        "most": max(values),
    }


def _notes(
    labels: np.ndarray, scores: np.ndarray, resamples: Resamples, of_calibration: str | None
) -> list[str]:
    # These sentences are part of metrics.json: programs compare them.
    n, unit, notes = len(labels), resamples.unit, []
    if labels.min() == labels.max():
        present, missing = ("with", "without") if labels[0] else ("without", "with")
        undefined = "specificity" if labels[0] else "sensitivity"
        notes.append(
            f"all {n} {unit} are {present} hemorrhage, so that {undefined}, the areas under the "
            f"curves and the calibration slope are not defined; add {unit} {missing} hemorrhage"
        )
    elif of_calibration:
        notes.append(of_calibration)
    if n < LEAST_SLICES:
        notes.append(f"{n} {unit} show little: read the intervals, not the estimates")
    if resamples.of_patients and resamples.count < FEW_PATIENTS:
        notes.append(
            f"the {unit} are of {resamples.count} patients only; with fewer than {FEW_PATIENTS} "
            "intervals over patients are rough"
        )
    constant = sum(repeat.min() == repeat.max() for repeat in scores)
    if constant and n > 1:
        where = "" if len(scores) == 1 else f" in {constant} of {len(scores)} repeats"
        notes.append(
            f"every prediction is the same ({scores[0][0]:.3g}){where}: the model does not tell "
            f"{unit} apart"
        )
    return notes


def summary(metrics: dict[str, Any]) -> str:
    """Return accuracy and ROC AUC in one line, always with interval and n.

    Args:
        metrics: From `binary_metrics`.
    """
    accuracy, area = metrics["accuracy"], metrics["roc_auc"]
    text = (
        f"accuracy {accuracy['estimate']:.1%} "
        f"({accuracy['low']:.1%} to {accuracy['high']:.1%}, n = {metrics['n']})"
    )
    if area is not None:
        text += f", ROC AUC {area['estimate']:.3f} ({area['low']:.3f} to {area['high']:.3f})"
    return text
