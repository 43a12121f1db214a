"""Areas under the ROC and the precision-recall curve, with their variances and intervals."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np

from hemorrhage_tf.evaluation.intervals import (
    CONFIDENCE,
    Interval,
    logit_interval,
    quantile,
    wilson,
)
from hemorrhage_tf.evaluation.resampling import NEGLIGIBLE_VARIANCE, Resamples


def delong_variance(labels: np.ndarray, scores: np.ndarray) -> tuple[float, float]:
    """Compute the area under the ROC curve and DeLong's estimate of its variance.

    Args:
        labels: `(n,)`, 0 or 1, both present.
        scores: `(n,)`, higher for hemorrhage.

    Returns:
        The area and its variance (NaN with fewer than two slices of a class).

    Reference:
        E. R. DeLong et al., Comparing the areas under two or more correlated receiver operating
        characteristic curves, Biometrics 44 (1988), 837-845; by midranks as in X. Sun and W. Xu,
        IEEE Signal Processing Letters 21 (2014), 1389-1393.
    """
    areas, covariance = delong_covariance(labels, np.asarray(scores)[None])
    return float(areas[0]), float(covariance[0, 0])


def delong_covariance(labels: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Compute areas under ROC curves over the same slices, and their covariance matrix.

    Args:
        labels: `(n,)`, 0 or 1, both present.
        scores: `(k, n)`, one row for each model, higher for hemorrhage.

    Returns:
        The areas, `(k,)`, and DeLong's covariance matrix, `(k, k)` (NaN with fewer than two slices
        of a class).

    Reference:
        As `delong_variance`.
    """
    from scipy.stats import rankdata

    positive, negative = scores[:, labels == 1], scores[:, labels == 0]
    m, n = positive.shape[1], negative.shape[1]
    ranks = rankdata(np.concatenate([positive, negative], axis=1), axis=1)
    areas = (ranks[:, :m].sum(1) - m * (m + 1) / 2) / (m * n)
    if min(m, n) < 2:
        return areas, np.full((len(scores), len(scores)), math.nan)
    by_positive = (ranks[:, :m] - rankdata(positive, axis=1)) / n
    by_negative = 1.0 - (ranks[:, m:] - rankdata(negative, axis=1)) / m
    covariance = np.cov(by_positive) / m + np.cov(by_negative) / n
    return areas, np.atleast_2d(covariance)


def clustered_variance(
    labels: np.ndarray, scores: np.ndarray, groups: np.ndarray
) -> tuple[float, float]:
    """Compute an area under the ROC curve, and its variance for slices in groups.

    With one slice per group this is DeLong's variance.

    Args:
        labels: `(n,)`, 0 or 1, both present.
        scores: `(n,)`, higher for hemorrhage.
        groups: `(n,)`, equal for slices that belong together.

    Returns:
        The area and its variance (NaN with fewer than two groups of a class).

    Reference:
        N. A. Obuchowski, Nonparametric analysis of clustered ROC curve data, Biometrics 53 (1997),
        567-578.
    """
    area, variance = delong_variance(labels, scores)
    _, cluster = np.unique(groups, return_inverse=True)
    count = cluster.max() + 1
    if count == len(labels):
        return area, variance
    positive = labels == 1
    m, n = int(positive.sum()), int((~positive).sum())
    above = (scores[positive, None] > scores[~positive]) + 0.5 * (
        scores[positive, None] == scores[~positive]
    )
    ones = np.bincount(cluster[positive], above.mean(axis=1) - area, count)
    zeros = np.bincount(cluster[~positive], above.mean(axis=0) - area, count)
    with_ones, with_zeros = (len(np.unique(cluster[part])) for part in (positive, ~positive))
    if min(with_ones, with_zeros) < 2:
        return area, math.nan
    variance = (
        with_ones / (with_ones - 1) * np.sum(ones**2) / m**2
        + with_zeros / (with_zeros - 1) * np.sum(zeros**2) / n**2
        + 2 * count / (count - 1) * np.sum(ones * zeros) / (m * n)
    )
    return area, float(variance)


def area_interval(
    area: float,
    variance: float,
    positives: int,
    negatives: int,
    confidence: float = CONFIDENCE,
    degrees: float | None = None,
) -> Interval:
    """Compute a confidence interval of an area under the ROC curve.

    The interval is symmetric on the logit scale, which keeps it inside [0, 1] and covers better
    near 1 than the plain one. Perfectly separated classes have no variance: the ends are then the
    areas that differ from the estimate by the quantile times Hanley and McNeil's standard error.

    Args:
        area: The estimate, in [0, 1].
        variance: Of the estimate, from `delong_variance`.
        positives: Number of slices with hemorrhage.
        negatives: Number of slices without.
        confidence: Nominal coverage, in (0, 1). Default 0.95.
        degrees: Degrees of freedom of the variance, for Student's quantile; None for the normal
            one. Defaults to None.

    Reference:
        G. Qin and L. Hotilovac, Comparison of non-parametric confidence intervals for the area
        under the ROC curve, Statistical Methods in Medical Research 17 (2008), 207-221;
        J. A. Hanley and B. J. McNeil, The meaning and use of the area under a receiver operating
        characteristic (ROC) curve, Radiology 143 (1982), 29-36.
    """
    n = positives + negatives
    z = quantile(confidence)
    if variance > 0 and 0 < area < 1:
        return logit_interval(area, variance, n, confidence, degrees)
    return Interval(
        area,
        1 - _hanley_mcneil_end(1 - area, z, negatives, positives),
        _hanley_mcneil_end(area, z, positives, negatives),
        n,
    )


def _hanley_mcneil_end(area: float, z: float, positives: int, negatives: int) -> float:
    """Find the upper end: the largest area that the estimate does not rule out."""
    from scipy.optimize import brentq

    def excess(candidate: float) -> float:
        q1 = candidate / (2 - candidate)
        q2 = 2 * candidate**2 / (1 + candidate)
        variance = (
            candidate * (1 - candidate)
            + (positives - 1) * (q1 - candidate**2)
            + (negatives - 1) * (q2 - candidate**2)
        ) / (positives * negatives)
        return (candidate - area) ** 2 - z * z * max(variance, 0.0)

    if area >= 1:
        return 1.0
    # At the estimate itself the excess is negative, or zero at its own edge; at 1 it is positive.
    return float(brentq(excess, max(area, 1e-12), 1.0))


def weighted_areas(labels: np.ndarray, scores: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """Return a function that computes both areas for weighted slices.

    The precision-recall area is the average precision: the precision at each threshold, weighted
    by the increase in recall at that threshold. Tied scores share one threshold.

    Args:
        labels: `(n,)`, 0 or 1.
        scores: `(n,)`, higher for hemorrhage.

    Returns:
        A function of weights `(b, n)` with the result `(2, b)`: ROC AUC and PR AUC, NaN where a
        class has no weight.

    Reference:
        J. Davis and M. Goadrich, The relationship between precision-recall and ROC curves, ICML
        (2006), on why the points are not joined by lines.
    """
    order = np.argsort(-scores, kind="stable")
    sorted_scores = scores[order]
    ends = np.append(np.flatnonzero(np.diff(sorted_scores)), len(scores) - 1)
    positive = (labels[order] == 1).astype(np.float64)

    def areas(weights: np.ndarray) -> np.ndarray:
        drawn = weights[:, order]
        predicted = np.cumsum(drawn, axis=1)[:, ends]
        hits = np.cumsum(drawn * positive, axis=1)[:, ends]
        false = predicted - hits
        new_hits = np.diff(hits, axis=1, prepend=0.0)
        new_false = np.diff(false, axis=1, prepend=0.0)
        positives, negatives = hits[:, -1], false[:, -1]
        with np.errstate(invalid="ignore", divide="ignore"):
            below = negatives[:, None] - false + new_false / 2
            roc = (new_hits * below).sum(1) / (positives * negatives)
            precision = np.divide(hits, predicted, out=np.zeros_like(hits), where=predicted > 0)
            recall = (new_hits * precision).sum(1) / positives
            return np.stack([roc, np.where(negatives > 0, recall, math.nan)])

    return areas


@dataclass(frozen=True)
class RepeatedAreas:
    """Areas under both curves of repeated predictions.

    Attributes:
        roc_auc: Mean over the repeats; None where a class is missing, as below.
        pr_auc: Mean over the repeats.
        pooled_roc_auc: Of the predictions of all repeats, ranked together.
        pooled_pr_auc: Of the predictions of all repeats, ranked together.
        each_roc_auc: Estimate of each repeat.
        each_pr_auc: Estimate of each repeat.
    """

    roc_auc: Interval | None = None
    pr_auc: Interval | None = None
    pooled_roc_auc: Interval | None = None
    pooled_pr_auc: Interval | None = None
    each_roc_auc: list[float] = field(default_factory=list)
    each_pr_auc: list[float] = field(default_factory=list)


def repeated_areas(labels: np.ndarray, scores: np.ndarray, resamples: Resamples) -> RepeatedAreas:
    """Compute the areas under both curves of repeated predictions.

    Args:
        labels: `(n,)`, 0 or 1.
        scores: `(repeats, n)`, higher for hemorrhage.
        resamples: Of patients or of slices.

    Reference:
        The interval of the average precision: K. Boyd et al., Area under the precision-recall
        curve: point estimates and confidence intervals, ECML PKDD (2013).
    """
    count, n = scores.shape
    if labels.min() == labels.max():
        return RepeatedAreas()
    functions = [weighted_areas(labels, repeat) for repeat in scores]
    pooled = weighted_areas(np.tile(labels, count), scores.ravel())

    def areas(weights: np.ndarray) -> np.ndarray:
        rows = [function(weights) for function in functions]
        if count > 1:
            rows.append(pooled(np.tile(weights, count)))
        return np.concatenate(rows)

    # The pooled ranking needs the widest copy of the weights.
    variances = resamples.variances(areas, columns=count).reshape(-1, 2)
    estimates = areas(np.ones((1, n))).reshape(-1, 2)
    mean_variance, mean = variances[:count].mean(0), estimates[:count].mean(0)
    if not resamples.of_patients:
        # The mean of the variances: repeats do not narrow the interval.
        mean_variance[0] = np.mean([delong_variance(labels, repeat)[1] for repeat in scores])
    roc_interval, pr_interval = _interval_functions(labels, resamples)
    return RepeatedAreas(
        roc_auc=roc_interval(float(mean[0]), float(mean_variance[0])),
        pr_auc=pr_interval(float(mean[1]), float(mean_variance[1])),
        pooled_roc_auc=roc_interval(float(estimates[-1, 0]), float(variances[-1, 0])),
        pooled_pr_auc=pr_interval(float(estimates[-1, 1]), float(variances[-1, 1])),
        each_roc_auc=estimates[:count, 0].tolist(),
        each_pr_auc=estimates[:count, 1].tolist(),
    )


def roc_area(labels: np.ndarray, scores: np.ndarray, resamples: Resamples) -> Interval | None:
    """Compute the ROC AUC of `repeated_areas` alone, without a bootstrap of independent slices.

    Args:
        labels: `(n,)`, 0 or 1.
        scores: `(repeats, n)`, higher for hemorrhage.
        resamples: Of patients or of slices.

    Returns:
        The mean over the repeats, or None where a class is missing.
    """
    if resamples.of_patients or labels.min() == labels.max():
        return repeated_areas(labels, scores, resamples).roc_auc
    areas, variances = np.transpose([delong_variance(labels, repeat) for repeat in scores])
    roc_interval, _ = _interval_functions(labels, resamples)
    return roc_interval(float(areas.mean()), float(variances.mean()))


def _interval_functions(
    labels: np.ndarray, resamples: Resamples
) -> tuple[Callable[[float, float], Interval], Callable[[float, float], Interval | None]]:
    """Return functions of an area and its variance: the interval of a ROC AUC and of a PR AUC."""
    n = len(labels)
    positives, negatives = resamples.holding(labels == 1), resamples.holding(labels == 0)
    between = min(resamples.degrees(labels), resamples.degrees(1 - labels))

    def has_variance(variance: float) -> bool:
        return min(positives, negatives) > 1 and variance > NEGLIGIBLE_VARIANCE

    def roc(area: float, variance: float) -> Interval:
        degrees = between if resamples.of_patients else None
        usable = variance if has_variance(variance) else 0.0
        interval = area_interval(area, usable, positives, negatives, degrees=degrees)
        return replace(interval, n=n)

    def pr(area: float, variance: float) -> Interval | None:
        if has_variance(variance) and area < 1:
            return logit_interval(area, variance, n, degrees=between)
        # Without a variance: as of a proportion of the positives (Boyd et al.'s binomial interval).
        interval = wilson(area * positives, positives)
        return interval and replace(interval, estimate=area, n=n)

    return roc, pr
