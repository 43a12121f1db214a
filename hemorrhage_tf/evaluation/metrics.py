"""Figures of a binary classifier, each with its interval, from labels and probabilities alone."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from hemorrhage_tf.core.errors import DataError, OptionError
from hemorrhage_tf.evaluation.calibration import (
    LEAST_SLICES,
    calibration_slope_intercept,
    check_predictions,
    reliability_curve,
)
from hemorrhage_tf.evaluation.intervals import (
    BOOTSTRAPS,
    NOTHING,
    Interval,
    Resamples,
    area_interval,
    delong_variance,
    log_interval,
    logit_interval,
    proportions,
    ranking,
    ratio_ends,
    wilson,
)

DEFAULT_THRESHOLD = 0.5
# With 20 patients of 10 slices whose errors correlate by 0.5, simulated intervals hold 88 %.
FEW_PATIENTS = 30
# Of more slices fewer resamples are drawn, so that they take no longer. A standard deviation
# from b normal resamples has a relative standard error of 1 / sqrt(2 (b - 1)): 3.5 % for the 400 of
# 100,000 slices.
MOST_RESAMPLED, LEAST_BOOTSTRAPS = 20_000, 200


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
    *,
    decisions: Sequence[np.ndarray] | None = None,
    groups: np.ndarray | None = None,
    prevalence: float | None = None,
    seed: int = 0,
    bootstraps: int = BOOTSTRAPS,
) -> dict[str, Any]:
    """Computes the figures of one set of predictions, or of repeated out-of-fold predictions.

    With several repeats each figure is the mean over them. Repeats of a cross-validation add no
    slices, so that n stays the number of slices, and intervals do not narrow with the repeats.

    Args:
        labels: `(n,)`, 0 or 1.
        repeats: for each repeat the probabilities of all slices, `(n,)` in [0, 1].
        threshold: probabilities at or above it count as hemorrhage. Default 0.5.
        decisions: for each repeat what is called hemorrhage, bool `(n,)`, where folds have
            thresholds of their own; None for what is at or above the threshold.
        groups: `(n,)`, equal for slices of one patient; None for slices on their own. Where slices
            share a patient, intervals are over patients, which a bootstrap draws whole.
        prevalence: share of slices with hemorrhage where the model is to be used, in (0, 1).
        seed: of the bootstrap. Default 0.
        bootstraps: how many resamples; of more than `MOST_RESAMPLED` slices proportionally fewer,
            but `LEAST_BOOTSTRAPS`, which `notes` says. Default 2000.

    Returns:
        A dictionary of plain values for JSON. A figure is a dictionary of estimate, low, high and
        n, or None where it cannot be had:

        - `accuracy`, `sensitivity`, `specificity`, `ppv`, `npv` (Wilson);
        - `roc_auc` (DeLong on the logit scale; over patients the bootstrap's variance);
        - `pr_auc` (average precision, bootstrap variance on the logit scale);
        - `brier` (mean squared error of the probability, on the log scale);
        - `calibration`: `slope`, `intercept` and `in_the_large` (profile likelihood of the pooled
          predictions), and the `reliability` curve, see `calibration.reliability_curve`;
        - `at_prevalence`: `prevalence`, `ppv` and `npv` there (MOVER-R), or None;
        - `confusion`: mean counts; `n`, `n_positive`, `n_negative`, `threshold`;
        - `intervals_of`: `slices` or `patients`; `n_groups`, how many of them;
        - `repeats`: the single repeats' estimates, lists by figure; `spread`: mean, sd, least and
          most of each of those lists, or None of one repeat;
        - `pooled`: `roc_auc` and `pr_auc` where the predictions of all repeats are ranked together,
          or None of one repeat. (The other figures are the same pooled and in the mean);
        - `notes`: what a reader must know: what is missing, and why.

    Raises:
        DataError: no slices, a prediction that is no probability, or lengths that differ.
        OptionError: a prevalence outside (0, 1).

    Reference:
        Average precision and its interval: K. Boyd et al., Area under the precision-recall curve:
        point estimates and confidence intervals, ECML PKDD (2013). Brier: G. W. Brier,
        Verification of forecasts expressed in terms of probability, Monthly Weather Review 78
        (1950), 1-3. The others: at the functions of `intervals` and `calibration`.
    """
    check_prevalence(prevalence)
    labels = np.asarray(labels)
    if len(repeats) == 0:
        raise DataError("there are no predictions to evaluate")
    checked = [check_predictions(labels, probabilities) for probabilities in repeats]
    labels = checked[0][0]
    scores = np.stack([probabilities for _, probabilities in checked])
    drawn = bootstraps
    if len(labels) > MOST_RESAMPLED:
        fewer = bootstraps * MOST_RESAMPLED // len(labels)
        drawn = min(bootstraps, max(LEAST_BOOTSTRAPS, fewer))
    resamples = Resamples.make(len(labels), groups, drawn, seed)
    n, positives = len(labels), int(labels.sum())
    called = scores >= threshold if decisions is None else np.stack(decisions).astype(bool)
    tables = [confusion(labels, each) for each in called]
    mean = {name: float(np.mean([table[name] for table in tables])) for name in tables[0]}
    decided = _proportions(labels, called, resamples)
    ranked = _ranked(labels, scores, resamples)
    brier, briers = _brier(labels, scores, resamples)
    recalibration = calibration_slope_intercept(
        np.tile(labels, len(scores)),
        scores.ravel(),
        weights=np.full(scores.size, 1 / len(scores)),
        groups=np.tile(resamples.units, len(scores)),
    )
    whole = len(repeats) == 1
    single = {
        "accuracy": [(table["true_positive"] + table["true_negative"]) / n for table in tables],
        "sensitivity": [table["true_positive"] / positives for table in tables if positives],
        "specificity": [
            table["true_negative"] / (n - positives) for table in tables if positives < n
        ],
        "roc_auc": ranked.single_roc,
        "pr_auc": ranked.single_pr,
        "brier": briers,
    }
    return {
        **{name: _plain(figure) for name, figure in decided.items()},
        "roc_auc": _plain(ranked.roc_auc),
        "pr_auc": _plain(ranked.pr_auc),
        "brier": _plain(brier),
        "calibration": {
            "slope": _plain(recalibration.slope),
            "intercept": _plain(recalibration.intercept),
            "in_the_large": _plain(recalibration.in_the_large),
            "reliability": reliability_curve(labels, scores, resamples),
        },
        "at_prevalence": at_prevalence(decided["sensitivity"], decided["specificity"], prevalence),
        "confusion": {name: int(value) if whole else value for name, value in mean.items()},
        "n": n,
        "n_positive": positives,
        "n_negative": n - positives,
        "threshold": float(threshold),
        "intervals_of": resamples.drawn,
        "n_groups": resamples.count,
        "repeats": single,
        "spread": None if whole else {name: _spread(found) for name, found in single.items()},
        "pooled": None
        if whole
        else {"roc_auc": _plain(ranked.pooled_roc), "pr_auc": _plain(ranked.pooled_pr)},
        "notes": [
            *_notes(labels, scores, resamples, recalibration.note),
            *(
                [f"the intervals rest on {drawn} resamples, fewer than usual for so many slices"]
                if drawn < bootstraps
                else []
            ),
        ],
    }


def check_prevalence(prevalence: float | None) -> None:
    """Raises an OptionError for a prevalence outside (0, 1); None is none."""
    if prevalence is not None and not 0 < prevalence < 1:
        raise OptionError(
            "--prevalence is the share of slices with hemorrhage where the model is to be used, "
            f"between 0 and 1, both left out. Received: {prevalence:g}. Give, say, 0.1"
        )


def at_prevalence(
    sensitivity: Interval | None, specificity: Interval | None, prevalence: float | None
) -> dict[str, Any] | None:
    """Computes the predictive values at another prevalence than that of the slices.

    Args:
        sensitivity: with its interval; None without slices with hemorrhage.
        specificity: with its interval; None without others.
        prevalence: in (0, 1), or None.

    Returns:
        `prevalence`, `ppv` and `npv`, figures or None; or None as a whole without a prevalence.

    Reference:
        Bayes' theorem; the ends are those of the likelihood ratios, see `intervals.ratio_ends`.
    """
    if prevalence is None:
        return None
    found: dict[str, Any] = {"prevalence": float(prevalence), "ppv": None, "npv": None}
    if sensitivity is None or specificity is None:
        return found
    odds = prevalence / (1 - prevalence)
    for name, right, wrong, prior in (
        ("ppv", sensitivity, _complement(specificity), odds),
        ("npv", specificity, _complement(sensitivity), 1 / odds),
    ):
        # As shares of all slices, so that 0 of one of them divides nothing by 0.
        good, bad = right.estimate * prior, wrong.estimate
        if good + bad == 0:
            continue
        low, high = (
            1 / (1 + 1 / (end * prior)) if end else 0.0 for end in ratio_ends(right, wrong)
        )
        found[name] = Interval(good / (good + bad), low, high, right.n + wrong.n).to_dict()
    return found


def _complement(share: Interval) -> Interval:
    return Interval(1 - share.estimate, 1 - share.high, 1 - share.low, share.n)


def _plain(figure: Interval | None) -> dict[str, float | int] | None:
    return figure and figure.to_dict()


def _proportions(
    labels: np.ndarray, called: np.ndarray, resamples: Resamples
) -> dict[str, Interval | None]:
    """Computes the five proportions of decisions `(repeats, n)`, as means over the repeats."""
    positive = labels == 1
    share = called.mean(0)
    hit, spared = positive * share, ~positive * (1 - share)
    pairs = {
        "accuracy": (hit + spared, np.ones(len(labels))),
        "sensitivity": (hit, positive),
        "specificity": (spared, ~positive),
        "ppv": (hit, share),
        "npv": (spared, 1 - share),
    }
    successes, out_of = (np.stack(columns, axis=1) for columns in zip(*pairs.values(), strict=True))
    found = proportions(successes, out_of.astype(np.float64), resamples)
    return dict(zip(pairs, found, strict=True))


@dataclass(frozen=True)
class _Ranked:
    """The areas under both curves: mean over repeats, repeats ranked together, single repeats."""

    roc_auc: Interval | None = None
    pr_auc: Interval | None = None
    pooled_roc: Interval | None = None
    pooled_pr: Interval | None = None
    single_roc: list[float] = field(default_factory=list)
    single_pr: list[float] = field(default_factory=list)


def _ranked(labels: np.ndarray, scores: np.ndarray, resamples: Resamples) -> _Ranked:
    count, n = scores.shape
    if labels.min() == labels.max():
        return _Ranked()
    functions = [ranking(labels, one) for one in scores]
    pooled = ranking(np.tile(labels, count), scores.ravel())

    def areas(weights: np.ndarray) -> np.ndarray:
        found = [function(weights) for function in functions]
        if count > 1:
            found.append(pooled(np.tile(weights, count)))
        return np.concatenate(found)

    # Of a weight's copies the widest are those of the repeats ranked together.
    variances = resamples.variances(areas, columns=count).reshape(-1, 2)
    estimates = areas(np.ones((1, n))).reshape(-1, 2)
    classes = resamples.holding(labels == 1), resamples.holding(labels == 0)
    between = min(resamples.degrees(labels), resamples.degrees(1 - labels))

    def roc(area: float, variance: float) -> Interval:
        degrees = between if resamples.of_patients else None
        known = variance if min(classes) > 1 and variance > NOTHING else 0.0
        return replace(area_interval(area, known, *classes, degrees=degrees), n=n)

    def pr(area: float, variance: float) -> Interval | None:
        if min(classes) > 1 and variance > NOTHING and area < 1:
            return logit_interval(area, variance, n, degrees=between)
        # Nothing to go by: as of a proportion of the positives (Boyd et al.'s binomial interval).
        interval = wilson(area * classes[0], classes[0])
        return interval and replace(interval, estimate=area, n=n)

    by_mean, mean = variances[:count].mean(0), estimates[:count].mean(0)
    if not resamples.of_patients:
        # A variance of each repeat, and their mean: repeats do not narrow the interval.
        by_mean[0] = np.mean([delong_variance(labels, one)[1] for one in scores])
    return _Ranked(
        roc_auc=roc(float(mean[0]), float(by_mean[0])),
        pr_auc=pr(float(mean[1]), float(by_mean[1])),
        pooled_roc=roc(*map(float, (estimates[-1, 0], variances[-1, 0]))),
        pooled_pr=pr(*map(float, (estimates[-1, 1], variances[-1, 1]))),
        single_roc=estimates[:count, 0].tolist(),
        single_pr=estimates[:count, 1].tolist(),
    )


def _brier(
    labels: np.ndarray, scores: np.ndarray, resamples: Resamples
) -> tuple[Interval, list[float]]:
    errors = (scores - labels) ** 2
    n, single = len(labels), errors.mean(1)
    if resamples.of_patients:
        each = resamples.variances(lambda weights: (weights @ errors.T / weights.sum(1)[:, None]).T)
    else:
        each = errors.var(1, ddof=1) / n if n > 1 else np.full(len(scores), np.nan)
    estimate, variance = float(single.mean()), float(each.mean())
    if math.isfinite(variance):
        degrees = resamples.degrees(np.ones(n))
        interval = log_interval(estimate, variance, n, degrees=degrees)
    else:
        interval = Interval(estimate, 0.0, 1.0, n)
    return interval, single.tolist()


def _spread(found: list[float]) -> dict[str, float] | None:
    if not found:
        return None
    return {
        "mean": float(np.mean(found)),
        "sd": float(np.std(found, ddof=1)),
        "least": min(found),
        "most": max(found),
    }


def _notes(
    labels: np.ndarray, scores: np.ndarray, resamples: Resamples, of_calibration: str | None
) -> list[str]:
    n, notes = len(labels), []
    if labels.min() == labels.max():
        present, missing = ("with", "without") if labels[0] else ("without", "with")
        figure = "specificity" if labels[0] else "sensitivity"
        notes.append(
            f"all {n} slices are {present} hemorrhage, so that {figure}, the areas under the "
            f"curves and the calibration slope cannot be had; add slices {missing} hemorrhage"
        )
    elif of_calibration:
        notes.append(of_calibration)
    if n < LEAST_SLICES:
        notes.append(f"{n} slices show little: read the intervals, not the estimates")
    if resamples.of_patients and resamples.count < FEW_PATIENTS:
        notes.append(
            f"the slices are of {resamples.count} patients only; with fewer than {FEW_PATIENTS} "
            "intervals over patients are rough"
        )
    constant = sum(one.min() == one.max() for one in scores)
    if constant and n > 1:
        where = "" if len(scores) == 1 else f" in {constant} of {len(scores)} repeats"
        notes.append(
            f"every prediction is the same ({scores[0][0]:.3g}){where}: the model does not tell "
            "slices apart"
        )
    return notes


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
