"""Two models on the same slices: whether they differ, by paired tests, and by how much.

Differences are the first model's figure less the second's.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from hemorrhage_tf.core.errors import DataError
from hemorrhage_tf.evaluation.calibration import check_predictions
from hemorrhage_tf.evaluation.intervals import (
    BOOTSTRAPS,
    CONFIDENCE,
    NOTHING,
    Interval,
    Resamples,
    area_interval,
    delong_covariance,
    proportions,
    quantile,
    ranking,
)

EXACT_BELOW = 25  # discordant slices, from which on McNemar's statistic is near chi-square


def paired_delong(
    labels: np.ndarray,
    first: np.ndarray,
    second: np.ndarray,
    resamples: Resamples | None = None,
    confidence: float = CONFIDENCE,
) -> dict[str, Any]:
    """Tests whether two models' areas under the ROC curve differ.

    Args:
        labels: `(n,)`, 0 or 1, both present.
        first: `(n,)`, the first model's scores.
        second: `(n,)`, the second's.
        resamples: of patients, whose bootstrap then gives the variances, and Student's
            distribution the p-value; None for slices on their own.
        confidence: coverage aimed at, in (0, 1). Default 0.95.

    Returns:
        `first`, `second` and `difference`, figures; `p_value`, None where nothing varies though
        the areas differ; and `method`.

    Reference:
        E. R. DeLong et al., Biometrics 44 (1988), 837-845. Where nothing varies: G. Y. Zou and
        A. Donner, Construction of confidence limits about effect measures, Statistics in Medicine
        27 (2008), 1693-1702.
    """
    scores = np.stack([np.asarray(first, np.float64), np.asarray(second, np.float64)])
    n = len(labels)
    resamples = resamples or Resamples.make(n, None)
    classes = resamples.holding(labels == 1), resamples.holding(labels == 0)
    areas, covariance = delong_covariance(labels, scores)
    variances = [covariance[0, 0], covariance[1, 1]]
    spread = covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1]
    degrees, method = None, "paired DeLong"
    if resamples.of_patients:
        functions = [ranking(labels, one) for one in scores]

        def of_both(weights: np.ndarray) -> np.ndarray:
            one, other = (function(weights)[0] for function in functions)
            return np.stack([one, other, one - other])

        *variances, spread = resamples.variances(of_both, columns=2)
        degrees = min(resamples.degrees(labels), resamples.degrees(1 - labels))
        method = "paired bootstrap of patients"
    figures = []
    for area, variance in zip(areas, variances, strict=True):
        known = float(variance) if min(classes) > 1 and variance > NOTHING else 0.0
        interval = area_interval(float(area), known, *classes, confidence, degrees)
        figures.append(Interval(float(area), interval.low, interval.high, n))
    difference = float(areas[0] - areas[1])
    if min(classes) > 1 and spread > NOTHING:
        error = math.sqrt(spread)
        half = quantile(confidence, degrees) * error
        low, high = max(-1.0, difference - half), min(1.0, difference + half)
        p_value: float | None = _two_sided(difference / error, degrees)
    elif np.array_equal(_ranks(scores[0]), _ranks(scores[1])):
        low, high, p_value = 0.0, 0.0, 1.0
    else:
        one, other = figures
        low = difference - math.hypot(one.estimate - one.low, other.high - other.estimate)
        high = difference + math.hypot(one.high - one.estimate, other.estimate - other.low)
        low, high, p_value = max(-1.0, low), min(1.0, high), None
    return {
        "first": figures[0].to_dict(),
        "second": figures[1].to_dict(),
        "difference": Interval(difference, low, high, n).to_dict(),
        "p_value": p_value,
        "method": method,
    }


def mcnemar(only_first: int, only_second: int) -> tuple[float, str]:
    """Tests whether two models are right equally often, from where only one of them is.

    Args:
        only_first: slices that only the first model decides rightly.
        only_second: slices that only the second does.

    Returns:
        The two-sided p-value and the test: exactly binomial with fewer than 25 such slices, else
        chi-square with continuity correction.

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
    """Computes an interval of the difference of two proportions of the same slices.

    Args:
        only_first: slices that only the first model decides rightly.
        only_second: slices that only the second does.
        n: how many in all.
        confidence: coverage aimed at, in (0, 1). Default 0.95.
        degrees: degrees of freedom, for Student's quantile; None for the normal one.

    Reference:
        A. Agresti and Y. Min, Simple improved confidence intervals for comparing matched
        proportions, Statistics in Medicine 24 (2005), 729-740: half a slice more in each of the
        four cells. (One more, as D. G. Bonett and R. M. Price have it, covers 98 % here at 20.)
    """
    one, other = (only_first + 0.5) / (n + 2), (only_second + 0.5) / (n + 2)
    error = math.sqrt((one + other - (one - other) ** 2) / (n + 2))
    half = quantile(confidence, degrees) * error
    estimate = (only_first - only_second) / n
    # The adjusted center may lie so far towards 0 that a short interval would miss the estimate.
    low = min(max(-1.0, one - other - half), estimate)
    return Interval(estimate, low, max(min(1.0, one - other + half), estimate), n)


def compare(
    labels: np.ndarray,
    first: np.ndarray,
    second: np.ndarray,
    thresholds: tuple[float, float] = (0.5, 0.5),
    groups: np.ndarray | None = None,
    *,
    seed: int = 0,
    bootstraps: int = BOOTSTRAPS,
) -> dict[str, Any]:
    """Compares two models on the same slices.

    Args:
        labels: `(n,)`, 0 or 1.
        first: `(n,)`, the first model's probabilities, in [0, 1].
        second: `(n,)`, the second's.
        thresholds: of each model; probabilities at or above it count as hemorrhage. Default 0.5.
        groups: `(n,)`, equal for slices of one patient; None for slices on their own. Where slices
            share a patient, a bootstrap that draws patients takes the place of both tests.
        seed: of that bootstrap. Default 0.
        bootstraps: how many resamples. Default 2000.

    Returns:
        `n`, `n_positive`, `n_negative`, `thresholds`, `intervals_of`, `n_groups`; and for
        `roc_auc` (paired DeLong), `accuracy`, `sensitivity` and `specificity` (McNemar): `first`,
        `second` and `difference`, figures; `p_value`; `method`; of the last three also
        `only_first_right` and `only_second_right`. None where a class is missing.

    Raises:
        DataError: predictions that cannot be used, or lengths that differ.
    """
    labels, first = check_predictions(labels, first)
    second = check_predictions(labels, second)[1]
    if len(thresholds) != 2 or not all(math.isfinite(one) for one in thresholds):
        raise DataError(f"a comparison needs two thresholds. Received: {thresholds}")
    resamples = Resamples.make(len(labels), groups, bootstraps, seed)
    positive = labels == 1
    right = [
        (probabilities >= threshold) == positive
        for probabilities, threshold in zip((first, second), thresholds, strict=True)
    ]
    both = 0 < positive.sum() < len(labels)
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
        "roc_auc": paired_delong(labels, first, second, resamples) if both else None,
        **{
            name: _decisions(right[0], right[1], part, resamples) if part.any() else None
            for name, part in parts.items()
        },
    }


def _decisions(
    first: np.ndarray, second: np.ndarray, part: np.ndarray, resamples: Resamples
) -> dict[str, Any]:
    """Compares two models' decisions `(n,)`, whether right, on a part of the slices."""
    n = int(part.sum())
    only_first, only_second = (
        int(np.sum(part & first & ~second)),
        int(np.sum(part & second & ~first)),
    )
    right = np.stack([part & first, part & second], axis=1).astype(np.float64)
    inside = np.stack([part, part], axis=1).astype(np.float64)
    figures = proportions(right, inside, resamples)
    if resamples.of_patients:
        difference, p_value, method = _over_patients(right, inside, resamples)
    else:
        difference = paired_difference(only_first, only_second, n)
        p_value, method = mcnemar(only_first, only_second)
    return {
        **{
            name: figure and figure.to_dict()
            for name, figure in zip(("first", "second"), figures, strict=True)
        },
        "difference": difference.to_dict(),
        "p_value": p_value,
        "method": method,
        "only_first_right": only_first,
        "only_second_right": only_second,
    }


def _over_patients(
    right: np.ndarray, inside: np.ndarray, resamples: Resamples
) -> tuple[Interval, float | None, str]:
    """Takes the interval at the effective number of slices, as `intervals.proportions` does."""
    n, gain = float(inside[:, 0].sum()), right[:, 0] - right[:, 1]
    one, other = float((gain > 0).sum() / n), float((gain < 0).sum() / n)
    patients = resamples.holding(inside[:, 0] > 0)
    degrees = resamples.degrees(inside[:, 0])

    def difference(weights: np.ndarray) -> np.ndarray:
        with np.errstate(invalid="ignore", divide="ignore"):
            return (weights @ gain / (weights @ inside[:, 0]))[None]

    variance = float(resamples.variances(difference)[0])
    naive = (one + other - (one - other) ** 2) / n
    method = "paired bootstrap of patients"
    if patients > 1 and variance > NOTHING and naive > NOTHING:
        effective = n / max(variance / naive, 1.0)
        p_value: float | None = _two_sided((one - other) / math.sqrt(variance), degrees)
    else:
        effective = float(min(patients, n))
        # One patient shows a difference no more than its absence, unless no decision differs.
        p_value = 1.0 if one == other and (patients > 1 or one == 0) else None
    found = paired_difference(one * effective, other * effective, effective, degrees=degrees)
    return Interval(one - other, found.low, found.high, n), p_value, method


def _two_sided(statistic: float, degrees: float | None) -> float:
    from scipy.special import ndtr, stdtr

    below = ndtr(-abs(statistic)) if degrees is None else stdtr(degrees, -abs(statistic))
    return float(2 * below)


def _ranks(scores: np.ndarray) -> np.ndarray:
    return np.unique(scores, return_inverse=True)[1]
