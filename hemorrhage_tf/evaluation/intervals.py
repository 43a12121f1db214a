"""Confidence intervals of a proportion, of an estimate with a variance, and of a ratio.

`resampling` extends them to slices that share a patient; `areas` has those of areas under curves.
`benchmarks/coverage.py` simulates how often each interval contains the true value.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Interval:
    """A metric with its confidence interval.

    Attributes:
        estimate: The metric.
        low: Lower end of the interval.
        high: Upper end of the interval.
        n: Number of slices behind the estimate; a fraction for a mean over repeats.
    """

    estimate: float
    low: float
    high: float
    n: float

    def to_dict(self) -> dict[str, float | int]:
        """Return plain values for JSON; a whole `n` is an int."""
        n = int(self.n) if self.n == int(self.n) else float(self.n)
        return {"estimate": self.estimate, "low": self.low, "high": self.high, "n": n}


def plain_interval(interval: Interval | None) -> dict[str, float | int] | None:
    """Return an interval as plain values for JSON, or None for None."""
    return None if interval is None else interval.to_dict()


def quantile(confidence: float, degrees: float | None = None) -> float:
    """Return the number of standard errors from the estimate to each end of an interval.

    Args:
        confidence: Nominal coverage, in (0, 1).
        degrees: Degrees of freedom of Student's distribution; None for the normal distribution.
            Defaults to None.
    """
    from scipy.special import ndtri, stdtrit

    tail = 0.5 + confidence / 2
    return float(ndtri(tail) if degrees is None else stdtrit(degrees, tail))


def wilson(successes: float, n: float, confidence: float = CONFIDENCE) -> Interval | None:
    """Compute Wilson's score interval of a proportion.

    Args:
        successes: Number of successes among the `n`. A fraction for a mean over the repeats of a
            cross-validation, which add no slices and therefore leave `n` unchanged.
        n: Number of trials; a fraction for such a mean.
        confidence: Nominal coverage, in (0, 1). Default 0.95.

    Returns:
        The interval, or None when `n` is 0.

    Reference:
        E. B. Wilson, Probable inference, the law of succession, and statistical inference, Journal
        of the American Statistical Association 22 (1927), 209-212.
    """
    if n == 0:
        return None
    z = quantile(confidence)
    p = successes / n
    center = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    # At p = 0 and p = 1 the ends are exactly 0 and 1; rounding must not push them past p.
    return Interval(p, max(0.0, min(center - half, p)), min(1.0, max(center + half, p)), n)


def logit_interval(
    estimate: float,
    variance: float,
    n: float,
    confidence: float = CONFIDENCE,
    degrees: float | None = None,
) -> Interval:
    """Compute an interval that is symmetric on the logit scale.

    Args:
        estimate: In (0, 1).
        variance: Of the estimate, carried over to the logit by the delta method.
        n: Number of slices behind the estimate.
        confidence: Nominal coverage, in (0, 1). Default 0.95.
        degrees: Degrees of freedom of the variance; None for the normal quantile. Defaults to None.
    """
    from scipy.special import expit, logit

    center = logit(estimate)
    spread = estimate * (1 - estimate)
    half = quantile(confidence, degrees) * math.sqrt(variance) / spread
    return Interval(estimate, float(expit(center - half)), float(expit(center + half)), n)


def log_interval(
    estimate: float,
    variance: float,
    n: float,
    confidence: float = CONFIDENCE,
    degrees: float | None = None,
) -> Interval:
    """Compute an interval of a mean in [0, 1] that is symmetric on the log scale.

    Args:
        estimate: The mean. At 0 nothing varies, and the interval is Wilson's for 0 of `n`.
        variance: Of the estimate, carried over to the logarithm by the delta method.
        n: Number of slices behind the estimate.
        confidence: Nominal coverage, in (0, 1). Default 0.95.
        degrees: Degrees of freedom of the variance; None for the normal quantile. Defaults to None.
    """
    if estimate == 0:
        return wilson(0, n, confidence) or Interval(0.0, 0.0, 1.0, n)
    half = quantile(confidence, degrees) * math.sqrt(variance) / estimate
    # A large variance next to a small mean would overflow; the end reaches 1 long before that.
    factor = math.exp(min(half, 700.0))
    return Interval(estimate, estimate / factor, min(1.0, estimate * factor), n)


def ratio_ends(first: Interval, second: Interval) -> tuple[float, float]:
    """Compute the ends of an interval of a ratio of two independent proportions.

    The method (MOVER-R) recovers the variance of each proportion from the ends of its own interval.
    With Wilson's ends it also holds for proportions of 0 or 1, unlike the delta method.

    Args:
        first: The numerator.
        second: The denominator.

    Returns:
        The lower and the upper end; the upper end is infinite where the denominator may be 0.

    Reference:
        R. G. Newcombe, MOVER-R confidence intervals for ratios and products of two independently
        estimated quantities, Statistical Methods in Medical Research 25 (2016), 1774-1778.
    """
    product = first.estimate * second.estimate

    def terms(one: float, other: float) -> tuple[float, float, float]:
        numerator = one * (2 * first.estimate - one)
        denominator = other * (2 * second.estimate - other)
        root = math.sqrt(max(product * product - numerator * denominator, 0.0))
        return numerator, denominator, root

    numerator, _, root = terms(first.low, second.high)
    # The textbook form with its fraction inverted, because its own denominator may be 0 here.
    low = numerator / (product + root) if numerator > 0 else 0.0
    _, denominator, root = terms(first.high, second.low)
    high = (product + root) / denominator if denominator > 0 else math.inf
    return low, high
