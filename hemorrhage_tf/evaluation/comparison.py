"""Comparison of two models on the same slices: paired tests, and differences with intervals.

Differences are the first model's metric less the second's.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from hemorrhage_tf.core.errors import DataError
from hemorrhage_tf.evaluation.areas import area_interval, delong_covariance, weighted_areas
from hemorrhage_tf.evaluation.intervals import CONFIDENCE, Interval, plain_interval, quantile
from hemorrhage_tf.evaluation.labeled_predictions import DEFAULT_THRESHOLD, check_predictions
from hemorrhage_tf.evaluation.resampling import (
    NEGLIGIBLE_VARIANCE,
    Bootstrap,
    Resamples,
    proportions,
)

EXACT_BELOW = 25  # discordant slices; from here on McNemar's statistic is close to chi-square
_BOOTSTRAP_METHOD = "paired bootstrap of patients"


def paired_delong(
    labels: np.ndarray,
    first: np.ndarray,
    second: np.ndarray,
    resamples: Resamples | None = None,
    confidence: float = CONFIDENCE,
) -> dict[str, Any]:
    """Test whether the areas under the ROC curves of two models differ.

    Args:
        labels: `(n,)`, 0 or 1, both present.
        first: `(n,)`, scores of the first model.
        second: `(n,)`, scores of the second.
        resamples: Of patients; their bootstrap then provides the variances, and Student's
            distribution the p-value. None for independent slices.
        confidence: Nominal coverage, in (0, 1). Default 0.95.

    Returns:
        `first`, `second` and `difference`, each with its interval; `p_value`, None where the areas
        differ but have no variance; and `method`.

    Reference:
        E. R. DeLong et al., Biometrics 44 (1988), 837-845. Without a variance: G. Y. Zou and
        A. Donner, Construction of confidence limits about effect measures, Statistics in Medicine
        27 (2008), 1693-1702.
    """
    scores = np.stack([np.asarray(first, np.float64), np.asarray(second, np.float64)])
    n = len(labels)
    resamples = resamples or Resamples.make(n, None)
    positives, negatives = resamples.holding(labels == 1), resamples.holding(labels == 0)
    estimates, covariance = delong_covariance(labels, scores)
    variances = np.array(
        [
            covariance[0, 0],
            covariance[1, 1],
            covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1],
        ]
    )
    degrees, method = None, "paired DeLong"
    if resamples.of_patients:
        variances = _bootstrap_variances(labels, scores, resamples)
        degrees = min(resamples.degrees(labels), resamples.degrees(1 - labels))
        method = _BOOTSTRAP_METHOD
    usable = (variances > NEGLIGIBLE_VARIANCE) & (min(positives, negatives) > 1)
    areas = []
    for area, variance in zip(
        estimates.tolist(), np.where(usable, variances, 0.0).tolist(), strict=False
    ):
        interval = area_interval(area, variance, positives, negatives, confidence, degrees)
        areas.append(Interval(area, interval.low, interval.high, n))
    estimate = float(estimates[0] - estimates[1])
    p_value: float | None
    if usable[2]:
        error = math.sqrt(variances[2])
        half = quantile(confidence, degrees) * error
        low, high = estimate - half, estimate + half
        p_value = _two_sided(estimate / error, degrees)
    elif np.array_equal(_ranks(scores[0]), _ranks(scores[1])):
        low, high, p_value = 0.0, 0.0, 1.0
    else:
        one, other = areas
        low = estimate - math.hypot(one.estimate - one.low, other.high - other.estimate)
        high = estimate + math.hypot(one.high - one.estimate, other.estimate - other.low)
        p_value = None
    return {
        "first": areas[0].to_dict(),
        "second": areas[1].to_dict(),
        "difference": Interval(estimate, max(-1.0, low), min(1.0, high), n).to_dict(),
        "p_value": p_value,
        "method": method,
    }


def _bootstrap_variances(
    labels: np.ndarray, scores: np.ndarray, resamples: Resamples
) -> np.ndarray:
    """Compute the variances of the first area, of the second, and of their difference."""
    functions = [weighted_areas(labels, one) for one in scores]

    def areas_and_difference(weights: np.ndarray) -> np.ndarray:
        one, other = (function(weights)[0] for function in functions)
        return np.stack([one, other, one - other])

    return resamples.variances(areas_and_difference, columns=2)


def mcnemar(only_first: int, only_second: int) -> tuple[float, str]:
    """Test whether two models are right equally often.

    Args:
        only_first: Number of slices that only the first model decides correctly.
        only_second: Number of slices that only the second decides correctly.

    Returns:
        The two-sided p-value and the name of the test: exact binomial with fewer than 25 such
        slices, else chi-square with continuity correction.

    Reference:
        Q. McNemar, Note on the sampling error of the difference between correlated proportions or
        percentages, Psychometrika 12 (1947), 153-157; A. L. Edwards, Psychometrika 13 (1948),
        185-187.
    """
    from scipy.special import bdtr, chdtrc

    discordant = only_first + only_second
    if discordant < EXACT_BELOW:
        p_value = min(1.0, 2 * float(bdtr(min(only_first, only_second), discordant, 0.5)))
        return p_value, "McNemar, exact binomial"
    # The correction must not turn equal counts into a difference.
    statistic = max(abs(only_first - only_second) - 1, 0) ** 2 / discordant
    return float(chdtrc(1, statistic)), "McNemar, chi-square with continuity correction"


def paired_difference(
    only_first: float,
    only_second: float,
    n: float,
    confidence: float = CONFIDENCE,
    degrees: float | None = None,
) -> Interval:
    """Compute an interval of the difference of two proportions of the same slices.

    Args:
        only_first: Number of slices that only the first model decides correctly.
        only_second: Number of slices that only the second decides correctly.
        n: Number of slices in all.
        confidence: Nominal coverage, in (0, 1). Default 0.95.
        degrees: Degrees of freedom, for Student's quantile; None for the normal one.

    Reference:
        A. Agresti and Y. Min, Simple improved confidence intervals for comparing matched
        proportions, Statistics in Medicine 24 (2005), 729-740: half a slice more in each of the
        four cells.
    """
    one, other = (only_first + 0.5) / (n + 2), (only_second + 0.5) / (n + 2)
    error = math.sqrt((one + other - (one - other) ** 2) / (n + 2))
    half = quantile(confidence, degrees) * error
    estimate = (only_first - only_second) / n
    # The adjusted center may lie so far toward 0 that a short interval would miss the estimate.
    low = min(max(-1.0, one - other - half), estimate)
    return Interval(estimate, low, max(min(1.0, one - other + half), estimate), n)


def compare(
    labels: np.ndarray,
    first: np.ndarray,
    second: np.ndarray,
    thresholds: tuple[float, float] = (DEFAULT_THRESHOLD, DEFAULT_THRESHOLD),
    groups: np.ndarray | None = None,
    bootstrap: Bootstrap | None = None,
) -> dict[str, Any]:
    """Compare two models on the same slices.

    Args:
        labels: `(n,)`, 0 or 1.
        first: `(n,)`, probabilities of the first model, in [0, 1].
        second: `(n,)`, probabilities of the second.
        thresholds: Of each model; probabilities at or above it are predicted hemorrhage. Default
            0.5 for both.
        groups: `(n,)`, equal for slices of one patient; None for independent slices. Where slices
            share a patient, a bootstrap of patients replaces both tests.
        bootstrap: Number of resamples and random seed of that bootstrap; None for 2000 and 0.

    Returns:
        `n`, `n_positive`, `n_negative`, `thresholds`, `intervals_of`, `n_groups`; and for
        `roc_auc` (paired DeLong), `accuracy`, `sensitivity` and `specificity` (McNemar): `first`,
        `second` and `difference`, each with its interval; `p_value`; `method`; for the last three
        also `only_first_right` and `only_second_right`. None where a class is missing.

    Raises:
        DataError: Invalid predictions or thresholds, or different lengths.
    """
    labels, first = check_predictions(labels, first)
    second = check_predictions(labels, second)[1]
    if len(thresholds) != 2 or not all(math.isfinite(one) for one in thresholds):
        raise DataError(
            f"thresholds {thresholds}: a comparison needs two finite thresholds. Pass one for "
            "each model."
        )
    bootstrap = bootstrap or Bootstrap()
    resamples = Resamples.make(len(labels), groups, bootstrap.resamples, bootstrap.seed)
    positive = labels == 1
    right = [
        (probabilities >= threshold) == positive
        for probabilities, threshold in zip((first, second), thresholds, strict=True)
    ]
    has_both_classes = 0 < positive.sum() < len(labels)
    parts = {
        "accuracy": np.ones(len(labels), bool),
        "sensitivity": positive,
        "specificity": ~positive,
    }
    return {
        "n": len(labels),
        "n_positive": int(positive.sum()),
        "n_negative": int((~positive).sum()),
        "thresholds": [float(one) for one in thresholds],
        "intervals_of": resamples.drawn,
        "n_groups": resamples.count,
        "roc_auc": paired_delong(labels, first, second, resamples) if has_both_classes else None,
        **{
            name: _compare_decisions(right[0], right[1], part, resamples) if part.any() else None
            for name, part in parts.items()
        },
    }


def _compare_decisions(
    first: np.ndarray, second: np.ndarray, part: np.ndarray, resamples: Resamples
) -> dict[str, Any]:
    """Compare which decisions `(n,)` of two models are right, on a part of the slices."""
    n = int(part.sum())
    only_first = int(np.sum(part & first & ~second))
    only_second = int(np.sum(part & second & ~first))
    right = np.stack([part & first, part & second], axis=1).astype(np.float64)
    inside = np.stack([part, part], axis=1).astype(np.float64)
    shares = proportions(right, inside, resamples)
    if resamples.of_patients:
        difference, p_value = _difference_over_patients(right, inside, resamples)
        method = _BOOTSTRAP_METHOD
    else:
        difference = paired_difference(only_first, only_second, n)
        p_value, method = mcnemar(only_first, only_second)
    return {
        "first": plain_interval(shares[0]),
        "second": plain_interval(shares[1]),
        "difference": difference.to_dict(),
        "p_value": p_value,
        "method": method,
        "only_first_right": only_first,
        "only_second_right": only_second,
    }


def _difference_over_patients(
    right: np.ndarray, inside: np.ndarray, resamples: Resamples
) -> tuple[Interval, float | None]:
    """Take the interval at the effective number of slices, as `resampling.proportions` does."""
    n, gain = float(inside[:, 0].sum()), right[:, 0] - right[:, 1]
    one, other = float((gain > 0).sum() / n), float((gain < 0).sum() / n)
    patients = resamples.holding(inside[:, 0] > 0)
    degrees = resamples.degrees(inside[:, 0])

    def difference(weights: np.ndarray) -> np.ndarray:
        with np.errstate(invalid="ignore", divide="ignore"):
            return (weights @ gain / (weights @ inside[:, 0]))[None]

    variance = float(resamples.variances(difference)[0])
    naive = (one + other - (one - other) ** 2) / n
    p_value: float | None
    if patients > 1 and variance > NEGLIGIBLE_VARIANCE and naive > NEGLIGIBLE_VARIANCE:
        effective = n / max(variance / naive, 1.0)
        p_value = _two_sided((one - other) / math.sqrt(variance), degrees)
    else:
        effective = float(min(patients, n))
        # One patient proves neither a difference nor its absence, unless no decision differs.
        p_value = 1.0 if one == other and (patients > 1 or one == 0) else None
    interval = paired_difference(one * effective, other * effective, effective, degrees=degrees)
    return Interval(one - other, interval.low, interval.high, n), p_value


def _two_sided(statistic: float, degrees: float | None) -> float:
    from scipy.special import ndtr, stdtr

    below = ndtr(-abs(statistic)) if degrees is None else stdtr(degrees, -abs(statistic))
    return float(2 * below)


def _ranks(scores: np.ndarray) -> np.ndarray:
    return np.unique(scores, return_inverse=True)[1]
