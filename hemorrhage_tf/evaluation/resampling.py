"""Bootstrap over slices or over patients, and proportions with intervals over either.

Slices of one patient are correlated and carry less information than slices of as many patients.
Where slices share a patient, a bootstrap that draws whole patients estimates the variance, and the
usual interval is taken at the number of independent slices with that variance.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from hemorrhage_tf.core.errors import DataError
from hemorrhage_tf.evaluation.intervals import CONFIDENCE, Interval, quantile, wilson

BOOTSTRAPS = 2000
NEGLIGIBLE_VARIANCE = 1e-12  # no more than rounding
WEIGHTS_IN_MEMORY = 2_000_000  # at a time, 16 MB


@dataclass(frozen=True)
class Bootstrap:
    """Settings of a bootstrap.

    Attributes:
        resamples: Number of resamples, at least 2. Defaults to 2000.
        seed: Random seed. Defaults to 0.
    """

    resamples: int = BOOTSTRAPS
    seed: int = 0


@dataclass(frozen=True)
class Resamples:
    """Bootstrap resamples of patients, or of slices.

    Attributes:
        units: int64 `(n,)`: index of the unit that each slice is drawn with, counted from 0.
        count: Number of units.
        bootstraps: Number of resamples.
        seed: Random seed.
        unit: What the `n` are, "slices" or "scans". Default "slices".
    """

    units: np.ndarray
    count: int
    bootstraps: int = BOOTSTRAPS
    seed: int = 0
    unit: str = "slices"

    @classmethod
    def make(
        cls,
        n: int,
        groups: np.ndarray | None,
        bootstraps: int = BOOTSTRAPS,
        seed: int = 0,
        unit: str = "slices",
    ) -> Resamples:
        """Create resamples of patients, or of slices where no two share a patient.

        Args:
            n: Number of slices.
            groups: `(n,)`, equal for slices of one patient; None for independent slices.
            bootstraps: Number of resamples, at least 2. Defaults to 2000.
            seed: Random seed. Defaults to 0.
            unit: What the `n` are, "slices" or "scans". Default "slices".

        Raises:
            DataError: The number of groups differs from `n`.
        """
        if groups is not None and len(groups) != n:
            raise DataError(
                f"{len(groups)} groups for {n} labels: each label needs one group. Pass arrays of "
                "the same length."
            )
        if groups is not None:
            patients, units = np.unique(np.asarray(groups), return_inverse=True)
            if len(patients) < n:
                return cls(units.reshape(-1), len(patients), bootstraps, seed, unit)
        return cls(np.arange(n), n, bootstraps, seed, unit)

    @property
    def of_patients(self) -> bool:
        """Whether some slices share a patient."""
        return self.count < len(self.units)

    @property
    def drawn(self) -> str:
        """The name of the units: `patients`, or `slices` or `scans`."""
        return "patients" if self.of_patients else self.unit

    def holding(self, slices: np.ndarray) -> int:
        """Return the number of units with at least one slice in a mask `(n,)`."""
        return len(np.unique(self.units[slices]))

    def degrees(self, share: np.ndarray) -> float:
        """Compute the degrees of freedom of a variance between units, at least 1.

        Units with many slices dominate, so the effective number of units is smaller than their
        count: the squared sum of their sizes over the sum of the squared sizes, less 1.

        Args:
            share: `(n,)`, weight of each slice.

        Reference:
            L. Kish, Survey sampling, Wiley (1965).
        """
        sizes = np.bincount(self.units, weights=share, minlength=self.count)
        return max(float(sizes.sum() ** 2 / (sizes**2).sum()) - 1, 1.0)

    def weights(self, columns: int = 1) -> Iterator[np.ndarray]:
        """Yield how often each slice was drawn, several resamples at a time.

        Args:
            columns: Number of arrays of that size that the caller derives from each. Defaults to 1.

        Yields:
            float64 `(b, n)`; the `b` add up to `bootstraps`.
        """
        rng = np.random.default_rng(self.seed)
        at_once = max(1, WEIGHTS_IN_MEMORY // (len(self.units) * columns))
        for begin in range(0, self.bootstraps, at_once):
            rows = min(at_once, self.bootstraps - begin)
            drawn = rng.integers(0, self.count, (rows, self.count))
            drawn += np.arange(rows)[:, None] * self.count
            counts = np.bincount(drawn.ravel(), minlength=rows * self.count)
            yield counts.reshape(rows, self.count)[:, self.units].astype(np.float64)

    def variances(
        self, statistic: Callable[[np.ndarray], np.ndarray], columns: int = 1
    ) -> np.ndarray:
        """Compute bootstrap variances.

        A resample of m units varies by (m - 1) / m of the true variance; the result is corrected
        for that.

        Args:
            statistic: Maps weights `(b, n)` to `(k, b)`, NaN where it is undefined in a resample.
            columns: As in `weights`. Defaults to 1.

        Returns:
            `(k,)`, NaN where fewer than two resamples have the statistic, or with a single unit.
        """
        values = np.concatenate([statistic(weights) for weights in self.weights(columns)], axis=1)
        if self.count < 2:
            return np.full(len(values), math.nan)
        defined = np.isfinite(values)
        many = defined.sum(1)
        with np.errstate(invalid="ignore", divide="ignore"):
            means = np.where(defined, values, 0.0).sum(1) / many
            squares = np.where(defined, (values - means[:, None]) ** 2, 0.0).sum(1)
            variances = squares / (many - 1) * self.count / (self.count - 1)
        return np.where(many > 1, variances, math.nan)


def proportions(
    successes: np.ndarray,
    out_of: np.ndarray,
    resamples: Resamples,
    confidence: float = CONFIDENCE,
) -> list[Interval | None]:
    """Compute proportions with Wilson's interval, over slices or over patients.

    Over patients, Wilson's interval is taken at the effective number of slices: n over the design
    effect. The design effect is the bootstrap variance over p (1 - p) / n, times the squared ratio
    of Student's quantile to the normal one, and at least 1. Where patients do not vary, for example
    because all decisions are right, the number of patients is the effective number.

    Args:
        successes: `(n, k)`, share of each slice in each numerator.
        out_of: `(n, k)`, share of each slice in each denominator.
        resamples: Of patients or of slices.
        confidence: Nominal coverage, in (0, 1). Default 0.95.

    Returns:
        `k` intervals; None where the denominator is 0.

    Reference:
        J. N. K. Rao and A. J. Scott, A simple method for the analysis of clustered binary data,
        Biometrics 48 (1992), 577-585; E. L. Korn and B. I. Graubard, Confidence intervals for
        proportions with small expected number of positive counts estimated from survey data,
        Survey Methodology 24 (1998), 193-201.
    """
    # A mean over five repeats adds up to a count except for rounding.
    totals, numbers = successes.sum(0).round(9), out_of.sum(0).round(9)
    if not resamples.of_patients:
        pairs = zip(totals.tolist(), numbers.tolist(), strict=True)
        return [wilson(total, n, confidence) for total, n in pairs]

    def ratios(weights: np.ndarray) -> np.ndarray:
        with np.errstate(invalid="ignore", divide="ignore"):
            return ((weights @ successes) / (weights @ out_of)).T

    intervals: list[Interval | None] = []
    for column, variance in enumerate(resamples.variances(ratios)):
        total, n = float(totals[column]), float(numbers[column])
        if n == 0:
            intervals.append(None)
            continue
        effective = min(float(resamples.holding(out_of[:, column] > 0)), n)
        naive = total / n * (1 - total / n) / n
        if variance > NEGLIGIBLE_VARIANCE and naive > NEGLIGIBLE_VARIANCE:
            degrees = resamples.degrees(out_of[:, column])
            student = quantile(confidence, degrees) / quantile(confidence)
            effective = n / max(float(variance) / naive * student**2, 1.0)
        interval = wilson(total / n * effective, effective, confidence)
        intervals.append(interval and replace(interval, estimate=total / n, n=n))
    return intervals
