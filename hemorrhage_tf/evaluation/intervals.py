"""Confidence intervals: Wilson's for a proportion, DeLong's for the area under the ROC curve."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Interval:
    """A figure with its confidence interval.

    Attributes:
        estimate: the figure.
        low: the interval's lower end.
        high: its upper end.
        n: how many slices it rests on.
    """

    estimate: float
    low: float
    high: float
    n: int

    def to_dict(self) -> dict[str, float | int]:
        """Gives plain values for JSON."""
        return {"estimate": self.estimate, "low": self.low, "high": self.high, "n": self.n}


def _normal_quantile(confidence: float) -> float:
    from scipy.special import ndtri

    return float(ndtri(0.5 + confidence / 2))


def wilson(successes: float, n: int, confidence: float = CONFIDENCE) -> Interval | None:
    """Computes Wilson's score interval of a proportion.

    Args:
        successes: how many of the n; may be a fraction when it is a mean over repeats of a
            cross-validation, which add no slices and so leave n as it is.
        n: how many in all.
        confidence: coverage aimed at, in (0, 1). Default 0.95.

    Returns:
        The interval, or None when n is 0.

    Reference:
        E. B. Wilson, Probable inference, the law of succession, and statistical inference, Journal
        of the American Statistical Association 22 (1927), 209-212.
    """
    if n == 0:
        return None
    z = _normal_quantile(confidence)
    p = successes / n
    center = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    # At p = 0 and p = 1 the ends are exactly 0 and 1; rounding must not push them past p.
    return Interval(p, max(0.0, min(center - half, p)), min(1.0, max(center + half, p)), n)


def delong_variance(labels: np.ndarray, scores: np.ndarray) -> tuple[float, float]:
    """Computes the area under the ROC curve and DeLong's estimate of its variance.

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
    from scipy.stats import rankdata

    positive, negative = scores[labels == 1], scores[labels == 0]
    m, n = len(positive), len(negative)
    ranks = rankdata(np.concatenate([positive, negative]))
    area = (ranks[:m].sum() - m * (m + 1) / 2) / (m * n)
    if min(m, n) < 2:
        return float(area), math.nan
    by_positive = (ranks[:m] - rankdata(positive)) / n
    by_negative = 1.0 - (ranks[m:] - rankdata(negative)) / m
    variance = by_positive.var(ddof=1) / m + by_negative.var(ddof=1) / n
    return float(area), float(variance)


def area_interval(
    area: float,
    variance: float,
    positives: int,
    negatives: int,
    confidence: float = CONFIDENCE,
) -> Interval:
    """Computes a confidence interval of an area under the ROC curve.

    On the logit scale, which keeps it inside [0, 1] and covers better near 1 than the plain one.
    Wholly separated classes have no variance to go by: the ends are then the areas that differ from
    the estimate by the quantile times Hanley and McNeil's standard error at that area.

    Args:
        area: the estimate, in [0, 1].
        variance: of the estimate, from `delong_variance`.
        positives: slices with hemorrhage.
        negatives: slices without.
        confidence: coverage aimed at, in (0, 1). Default 0.95.

    Reference:
        G. Qin and L. Hotilovac, Comparison of non-parametric confidence intervals for the area
        under the ROC curve, Statistical Methods in Medical Research 17 (2008), 207-221;
        J. A. Hanley and B. J. McNeil, The meaning and use of the area under a receiver operating
        characteristic (ROC) curve, Radiology 143 (1982), 29-36.
    """
    n = positives + negatives
    z = _normal_quantile(confidence)
    if variance > 0 and 0 < area < 1:
        logit = math.log(area / (1 - area))
        half = z * math.sqrt(variance) / (area * (1 - area))
        return Interval(
            area, 1 / (1 + math.exp(half - logit)), 1 / (1 + math.exp(-half - logit)), n
        )
    return Interval(
        area,
        1 - _score_end(1 - area, z, negatives, positives),
        _score_end(area, z, positives, negatives),
        n,
    )


def _score_end(area: float, z: float, positives: int, negatives: int) -> float:
    """Finds the upper end: the largest area that the estimate does not rule out."""
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
