"""Confidence intervals: of proportions, of areas under curves, of ratios; over slices or patients.

Slices of one patient resemble each other, so that they tell less than as many patients would.
Where there are patients, a bootstrap that draws whole patients gives the variance, and the usual
intervals are then taken at the number of slices that would have that variance.
`benchmarks/coverage.py` simulates how often each interval here holds the true value.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from hemorrhage_tf.core.errors import DataError

CONFIDENCE = 0.95
BOOTSTRAPS = 2000
NOTHING = 1e-12  # a variance that is no more than rounding
_AT_ONCE = 2_000_000  # weights in memory at a time, 16 MB of them


@dataclass(frozen=True)
class Interval:
    """A figure with its confidence interval.

    Attributes:
        estimate: the figure.
        low: the interval's lower end.
        high: its upper end.
        n: how many slices it rests on; a fraction where it is a mean over repeats.
    """

    estimate: float
    low: float
    high: float
    n: float

    def to_dict(self) -> dict[str, float | int]:
        """Gives plain values for JSON; a whole n as a whole number."""
        n = int(self.n) if self.n == int(self.n) else float(self.n)
        return {"estimate": self.estimate, "low": self.low, "high": self.high, "n": n}


def quantile(confidence: float, degrees: float | None = None) -> float:
    """Gives how many standard errors an interval reaches to each side.

    Args:
        confidence: coverage aimed at, in (0, 1).
        degrees: degrees of freedom for Student's; None for the normal quantile. Default None.
    """
    from scipy.special import ndtri, stdtrit

    tail = 0.5 + confidence / 2
    return float(ndtri(tail) if degrees is None else stdtrit(degrees, tail))


def wilson(successes: float, n: float, confidence: float = CONFIDENCE) -> Interval | None:
    """Computes Wilson's score interval of a proportion.

    Args:
        successes: how many of the n; may be a fraction when it is a mean over repeats of a
            cross-validation, which add no slices and so leave n as it is.
        n: how many in all; a fraction where it too is such a mean.
        confidence: coverage aimed at, in (0, 1). Default 0.95.

    Returns:
        The interval, or None when n is 0.

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
    areas, covariance = delong_covariance(labels, np.asarray(scores)[None])
    return float(areas[0]), float(covariance[0, 0])


def delong_covariance(labels: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Computes areas under ROC curves over the same slices, and how they vary together.

    Args:
        labels: `(n,)`, 0 or 1, both present.
        scores: `(k, n)`, a row for each model, higher for hemorrhage.

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


def area_interval(
    area: float,
    variance: float,
    positives: int,
    negatives: int,
    confidence: float = CONFIDENCE,
    degrees: float | None = None,
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
        degrees: degrees of freedom of the variance, for Student's quantile; None for the normal
            one. Default None.

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


def logit_interval(
    estimate: float,
    variance: float,
    n: float,
    confidence: float = CONFIDENCE,
    degrees: float | None = None,
) -> Interval:
    """Computes an interval that is symmetric on the logit scale.

    Args:
        estimate: in (0, 1).
        variance: of the estimate itself, carried to the logit by the delta method.
        n: how many slices it rests on.
        confidence: coverage aimed at, in (0, 1). Default 0.95.
        degrees: degrees of freedom of the variance; None for the normal quantile. Default None.
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
    """Computes an interval of a mean in [0, 1], symmetric on the log scale.

    Args:
        estimate: the mean; at 0 nothing varied, and Wilson's end for none of n is taken.
        variance: of the estimate itself, carried to the logarithm by the delta method.
        n: how many slices it rests on.
        confidence: coverage aimed at, in (0, 1). Default 0.95.
        degrees: degrees of freedom of the variance; None for the normal quantile. Default None.
    """
    if estimate == 0:
        return wilson(0, n, confidence) or Interval(0.0, 0.0, 1.0, n)
    half = quantile(confidence, degrees) * math.sqrt(variance) / estimate
    # A variance that is large beside the mean would overflow; the end is 1 long before that.
    factor = math.exp(min(half, 700.0))
    return Interval(estimate, estimate / factor, min(1.0, estimate * factor), n)


def ratio_ends(first: Interval, second: Interval) -> tuple[float, float]:
    """Computes the ends of an interval of a ratio of two independent proportions.

    It recovers each proportion's variance from the ends of its own interval (MOVER-R). With
    Wilson's ends it holds up where a proportion is 0 or 1, where the delta method of Mercaldo et
    al. (Statistics in Medicine 26 (2007), 2170-2183) covers far below 95 % at 40 slices.

    Args:
        first: the numerator.
        second: the denominator.

    Returns:
        The lower end and the upper end, which is infinite where the denominator may be 0.

    Reference:
        R. G. Newcombe, MOVER-R confidence intervals for ratios and products of two independently
        estimated quantities, Statistical Methods in Medical Research 25 (2016), 1774-1778.
    """
    product = first.estimate * second.estimate

    def end(one: float, other: float) -> tuple[float, float, float]:
        numerator = one * (2 * first.estimate - one)
        denominator = other * (2 * second.estimate - other)
        root = math.sqrt(max(product * product - numerator * denominator, 0.0))
        return numerator, denominator, root

    numerator, _, root = end(first.low, second.high)
    # The textbook form with its fraction turned over, since its own denominator may be 0 here.
    low = numerator / (product + root) if numerator > 0 else 0.0
    _, denominator, root = end(first.high, second.low)
    high = (product + root) / denominator if denominator > 0 else math.inf
    return low, high


@dataclass(frozen=True)
class Resamples:
    """Bootstrap resamples: how often each slice was drawn.

    Attributes:
        units: int64 `(n,)`: the unit that each slice is drawn with, counted from 0.
        count: how many units there are.
        bootstraps: how many resamples.
        seed: of the draws.
    """

    units: np.ndarray
    count: int
    bootstraps: int = BOOTSTRAPS
    seed: int = 0

    @classmethod
    def make(
        cls, n: int, groups: np.ndarray | None, bootstraps: int = BOOTSTRAPS, seed: int = 0
    ) -> Resamples:
        """Makes resamples of patients, or of slices where no two share a patient.

        Args:
            n: how many slices.
            groups: `(n,)`, equal for slices of one patient; None for slices on their own.
            bootstraps: how many resamples, at least 2. Default 2000.
            seed: of the draws. Default 0.

        Raises:
            DataError: groups of another length.
        """
        if groups is not None and len(groups) != n:
            raise DataError(f"{len(groups)} groups for {n} labels")
        if groups is not None:
            found, units = np.unique(np.asarray(groups), return_inverse=True)
            if len(found) < n:
                return cls(units.reshape(-1), len(found), bootstraps, seed)
        return cls(np.arange(n), n, bootstraps, seed)

    @property
    def of_patients(self) -> bool:
        """Whether some slices share a patient."""
        return self.count < len(self.units)

    @property
    def drawn(self) -> str:
        """What is drawn: `patients` or `slices`."""
        return "patients" if self.of_patients else "slices"

    def holding(self, slices: np.ndarray) -> int:
        """Counts the units that hold at least one of the slices that a mask `(n,)` marks."""
        return len(np.unique(self.units[slices]))

    def degrees(self, share: np.ndarray) -> float:
        """Computes the degrees of freedom of a variance between units, at least 1.

        Units with many slices decide more than others, so that fewer than all of them count: the
        square of the sum of their sizes over the sum of the squares (L. Kish, Survey sampling,
        1965), less 1.

        Args:
            share: `(n,)`, what each slice counts.
        """
        sizes = np.bincount(self.units, weights=share, minlength=self.count)
        return max(float(sizes.sum() ** 2 / (sizes**2).sum()) - 1, 1.0)

    def weights(self, columns: int = 1) -> Iterator[np.ndarray]:
        """Gives how often each slice was drawn, some resamples at a time.

        Args:
            columns: how many arrays of that size the caller makes of it. Default 1.

        Yields:
            float64 `(b, n)`; the `b` add up to `bootstraps`.
        """
        rng = np.random.default_rng(self.seed)
        at_once = max(1, _AT_ONCE // (len(self.units) * columns))
        for begin in range(0, self.bootstraps, at_once):
            rows = min(at_once, self.bootstraps - begin)
            drawn = rng.integers(0, self.count, (rows, self.count))
            drawn += np.arange(rows)[:, None] * self.count
            counts = np.bincount(drawn.ravel(), minlength=rows * self.count)
            yield counts.reshape(rows, self.count)[:, self.units].astype(np.float64)

    def variances(
        self, statistic: Callable[[np.ndarray], np.ndarray], columns: int = 1
    ) -> np.ndarray:
        """Computes bootstrap variances.

        Args:
            statistic: of weights `(b, n)` makes `(k, b)`, NaN where a resample has none.
            columns: as in `weights`. Default 1.

        Returns:
            `(k,)`, NaN where fewer than two resamples have the figure, or there is one unit. A
            resample of m units varies by (m - 1) / m of what it should, which is made good.
        """
        found = np.concatenate([statistic(weights) for weights in self.weights(columns)], axis=1)
        if self.count < 2:
            return np.full(len(found), math.nan)
        there = np.isfinite(found)
        many = there.sum(1)
        with np.errstate(invalid="ignore", divide="ignore"):
            means = np.where(there, found, 0.0).sum(1) / many
            squares = np.where(there, (found - means[:, None]) ** 2, 0.0).sum(1)
            variances = squares / (many - 1) * self.count / (self.count - 1)
        return np.where(many > 1, variances, math.nan)


def proportions(
    successes: np.ndarray,
    out_of: np.ndarray,
    resamples: Resamples,
    confidence: float = CONFIDENCE,
) -> list[Interval | None]:
    """Computes proportions with Wilson's interval, over slices or over patients.

    Over patients Wilson's interval is taken at the effective number of slices: n over the design
    effect, which is the bootstrap variance over p (1 - p) / n, times the square of Student's over
    the normal quantile; and at most n. Where patients do not vary, as where all are right, there is
    nothing to go by, and the number of patients is taken.

    Args:
        successes: `(n, k)`, each slice's share of each numerator.
        out_of: `(n, k)`, its share of each denominator.
        resamples: of patients or of slices.
        confidence: coverage aimed at, in (0, 1). Default 0.95.

    Returns:
        `k` intervals; None where the denominator is 0.

    Reference:
        J. N. K. Rao and A. J. Scott, A simple method for the analysis of clustered binary data,
        Biometrics 48 (1992), 577-585; E. L. Korn and B. I. Graubard, Confidence intervals for
        proportions with small expected number of positive counts estimated from survey data,
        Survey Methodology 24 (1998), 193-201.
    """
    # A mean over five repeats adds up to a count only but for rounding.
    totals, numbers = successes.sum(0).round(9), out_of.sum(0).round(9)
    if not resamples.of_patients:
        pairs = zip(totals.tolist(), numbers.tolist(), strict=True)
        return [wilson(total, n, confidence) for total, n in pairs]

    def ratios(weights: np.ndarray) -> np.ndarray:
        with np.errstate(invalid="ignore", divide="ignore"):
            return ((weights @ successes) / (weights @ out_of)).T

    found: list[Interval | None] = []
    for column, variance in enumerate(resamples.variances(ratios)):
        total, n = float(totals[column]), float(numbers[column])
        if n == 0:
            found.append(None)
            continue
        effective = min(float(resamples.holding(out_of[:, column] > 0)), n)
        naive = total / n * (1 - total / n) / n
        if variance > NOTHING and naive > NOTHING:
            degrees = resamples.degrees(out_of[:, column])
            student = quantile(confidence, degrees) / quantile(confidence)
            effective = n / max(float(variance) / naive * student**2, 1.0)
        interval = wilson(total / n * effective, effective, confidence)
        found.append(interval and replace(interval, estimate=total / n, n=n))
    return found


def ranking(labels: np.ndarray, scores: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """Makes a function of weights that gives the areas under both curves.

    The precision-recall area is the average precision: the precision at each threshold, weighted
    by what the threshold adds to the recall. Ties are one threshold.

    Args:
        labels: `(n,)`, 0 or 1.
        scores: `(n,)`, higher for hemorrhage.

    Returns:
        Of weights `(b, n)` it makes `(2, b)`: ROC AUC and PR AUC, NaN where a class has no weight.

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
        called = np.cumsum(drawn, axis=1)[:, ends]
        hits = np.cumsum(drawn * positive, axis=1)[:, ends]
        false = called - hits
        new_hits = np.diff(hits, axis=1, prepend=0.0)
        new_false = np.diff(false, axis=1, prepend=0.0)
        positives, negatives = hits[:, -1], false[:, -1]
        with np.errstate(invalid="ignore", divide="ignore"):
            below = negatives[:, None] - false + new_false / 2
            roc = (new_hits * below).sum(1) / (positives * negatives)
            precision = np.divide(hits, called, out=np.zeros_like(hits), where=called > 0)
            recall = (new_hits * precision).sum(1) / positives
            return np.stack([roc, np.where(negatives > 0, recall, math.nan)])

    return areas
