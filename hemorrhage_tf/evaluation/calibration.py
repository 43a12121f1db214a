"""Calibration: slope and intercept of the probabilities, and the reliability curve.

`logit_calibration` corrects probabilities.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from hemorrhage_tf.evaluation.intervals import CONFIDENCE, Interval, plain_interval, quantile
from hemorrhage_tf.evaluation.labeled_predictions import check_predictions
from hemorrhage_tf.evaluation.resampling import Resamples, proportions

LEAST_SLICES = 10
BINS = 10
_TIE = 1e-6  # logits closer than this overlap by rounding only
_LEAST_REST = 0.01  # share of the information that must remain without any one patient
_EDGE = 1e-7  # Keras' epsilon: a float32 sigmoid rounds to 0 or 1 near it


@dataclass(frozen=True)
class Recalibration:
    """A logistic regression of labels on the logits of their probabilities.

    Attributes:
        slope: 1 where calibrated; below 1 where probabilities are too extreme.
        intercept: Fitted together with the slope; 0 where calibrated.
        in_the_large: The intercept at a slope of 1; above 0 where probabilities are too low.
        note: The reason why one of these is missing, or None.
    """

    slope: Interval | None
    intercept: Interval | None
    in_the_large: Interval | None
    note: str | None = None


def log_odds(probabilities: np.ndarray) -> np.ndarray:
    """Return logits, float64; probabilities are clipped to [1e-7, 1 - 1e-7] first."""
    from scipy.special import logit

    return logit(np.clip(np.asarray(probabilities, np.float64), _EDGE, 1 - _EDGE))


def calibration_slope_intercept(
    labels: np.ndarray,
    probabilities: np.ndarray,
    *,
    weights: np.ndarray | None = None,
    groups: np.ndarray | None = None,
    confidence: float = CONFIDENCE,
) -> Recalibration:
    """Fit a logistic regression of the labels on the logits of the probabilities.

    Intervals come from the profile likelihood, with Student's quantile. Over patients the
    likelihood ratio is divided by the design effect, at least 1: Mancl and DeRouen's sandwich
    variance, from each patient's residuals in a fit without that patient, over the model's own
    variance. The degrees of freedom are Satterthwaite's, from each patient's part of that variance.

    Args:
        labels: `(n,)`, 0 or 1.
        probabilities: `(n,)` in [0, 1].
        weights: `(n,)`, weight of each prediction; 1 / R where R repeats predict every slice.
            None for 1. Defaults to None.
        groups: `(n,)`, equal for slices of one patient; None for independent slices.
        confidence: Nominal coverage, in (0, 1). Default 0.95.

    Returns:
        Slope and intercepts; None where they have no finite value: with one class, with fewer than
        ten slices or patients, with one probability for all slices, or where the probabilities
        separate the classes.

    Raises:
        DataError: Different lengths, or invalid labels or probabilities.

    Reference:
        D. R. Cox, Two further applications of a model for binary regression, Biometrika 45 (1958),
        562-565; B. Van Calster et al., A calibration hierarchy for risk models was defined, Journal
        of Clinical Epidemiology 74 (2016), 167-176; L. A. Mancl and T. A. DeRouen, A covariance
        estimator for GEE with improved small-sample properties, Biometrics 57 (2001), 126-134;
        W. Pan and M. M. Wall, Small-sample adjustments in using the sandwich variance estimator in
        generalized estimating equations, Statistics in Medicine 21 (2002), 1429-1441.
    """
    labels, probabilities = check_predictions(labels, probabilities)
    weights = np.ones(len(labels)) if weights is None else np.asarray(weights, np.float64)
    n = float(weights.sum())
    if round(n, 6) < LEAST_SLICES:
        return Recalibration(
            None, None, None, f"{n:g} slices are too few for a calibration slope ({LEAST_SLICES})"
        )
    if labels.min() == labels.max():
        return Recalibration(
            None, None, None, "a calibration slope needs slices with and without hemorrhage"
        )
    logits = log_odds(probabilities)
    fit = _LogisticFit(labels, logits, weights, groups, confidence)
    if 0 < fit.patients < LEAST_SLICES:
        note = f"{fit.patients} patients are too few for a calibration slope ({LEAST_SLICES})"
        return Recalibration(None, None, None, note)
    in_the_large = fit.in_the_large()
    positive, negative = logits[labels == 1], logits[labels == 0]
    if logits.min() == logits.max():
        note = "every probability is the same, so that there is no calibration slope"
        return Recalibration(None, None, in_the_large, note)
    gap = max(positive.min() - negative.max(), negative.min() - positive.max())
    if gap > -_TIE:
        note = "the probabilities separate the classes, so that no calibration slope is finite"
        return Recalibration(None, None, in_the_large, note)
    slope, intercept = fit.slope_and_intercept()
    note = "one patient decides the calibration slope nearly alone, so that it has no interval"
    return Recalibration(slope, intercept, in_the_large, None if slope else note)


class _LogisticFit:
    """A weighted logistic regression on one logit, with intervals from its likelihood.

    Attributes:
        patients: Number of patients, or 0 where no two slices share one.
    """

    def __init__(
        self,
        labels: np.ndarray,
        logits: np.ndarray,
        weights: np.ndarray,
        groups: np.ndarray | None,
        confidence: float,
    ) -> None:
        self._labels, self._logits, self._weights = labels, logits, weights
        self._n = float(round(weights.sum(), 6))
        self._units: np.ndarray | None = None
        self.patients = 0
        if groups is not None:
            patients, units = np.unique(groups, return_inverse=True)
            # Where no two slices share a patient, slices are independent, also in several repeats.
            if len(patients) < round(self._n):
                self._units, self.patients = units.reshape(-1), len(patients)
        self._confidence = confidence

    def in_the_large(self) -> Interval | None:
        """Return the intercept at a slope of 1."""
        ones = np.ones((len(self._labels), 1))
        best = self._best_intercept(1.0)
        (error,), (drop,) = self._errors_and_drops(best, 1.0, ones)
        return self._interval(best, error, drop, lambda a: self._likelihood(a, 1.0))

    def slope_and_intercept(self) -> tuple[Interval | None, Interval | None]:
        """Return slope and intercept, fitted together."""
        columns = np.stack([self._logits, np.ones_like(self._logits)], axis=1)
        slope = _root(lambda b: self._residuals(self._best_intercept(b), b) @ self._logits)
        intercept = self._best_intercept(slope)
        errors, drops = self._errors_and_drops(intercept, slope, columns)
        return (
            self._interval(
                slope, errors[0], drops[0], lambda b: self._likelihood(self._best_intercept(b), b)
            ),
            self._interval(
                intercept, errors[1], drops[1], lambda a: self._likelihood(a, self._best_slope(a))
            ),
        )

    def _likelihood(self, intercept: float, slope: float) -> float:
        linear = intercept + slope * self._logits
        return float(self._weights @ (self._labels * linear - np.logaddexp(0.0, linear)))

    def _residuals(self, intercept: float, slope: float) -> np.ndarray:
        from scipy.special import expit

        return self._weights * (self._labels - expit(intercept + slope * self._logits))

    def _best_intercept(self, slope: float) -> float:
        return _root(lambda a: self._residuals(a, slope).sum())

    def _best_slope(self, intercept: float) -> float:
        return _root(lambda b: self._residuals(intercept, b) @ self._logits)

    def _errors_and_drops(
        self, intercept: float, slope: float, columns: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return standard errors, and the drop of the likelihood at the ends of each interval."""
        from scipy.special import expit

        share = expit(intercept + slope * self._logits)
        spread = self._weights * share * (1 - share)
        inverse = np.linalg.inv((columns * spread[:, None]).T @ columns)
        model = np.diag(inverse)
        size = columns.shape[1]
        effect = np.ones(size)
        # Two coefficients; the normal quantile covers too little in small sets.
        degrees = np.full(size, self._n - 2)
        if self._units is not None:
            scores, parts = np.zeros((self.patients, size)), np.zeros((self.patients, size, size))
            np.add.at(scores, self._units, columns * self._residuals(intercept, slope)[:, None])
            np.add.at(
                parts, self._units, spread[:, None, None] * columns[:, :, None] * columns[:, None]
            )
            # The residuals of a patient in a fit without that patient.
            alone = np.eye(size) - parts @ inverse
            if np.linalg.eigvals(alone).real.min() < _LEAST_REST:
                return np.sqrt(model), np.full(size, math.inf)
            squares = (np.linalg.solve(alone, scores[:, :, None])[:, :, 0] @ inverse) ** 2
            effect = np.maximum(squares.sum(0) / model, 1.0)
            # A few patients dominate the variance; 3 is the fourth moment of a normal variable.
            fourth = (squares**2).sum(0)
            most = np.full(size, self.patients - 2.0)
            degrees = np.divide(3 * squares.sum(0) ** 2, fourth, out=most.copy(), where=fourth > 0)
            degrees = np.clip(degrees, 1.0, most)
        reach = np.array([quantile(self._confidence, one) for one in degrees])
        return np.sqrt(model), effect * reach**2 / 2

    def _interval(
        self, best: float, error: float, drop: float, likelihood: Callable[[float], float]
    ) -> Interval | None:
        """Find where the likelihood has dropped by `drop`, on both sides; None for infinity."""
        from scipy.optimize import brentq

        if not math.isfinite(drop):
            return None

        top = likelihood(best)

        def excess(value: float) -> float:
            return top - likelihood(value) - drop

        ends = []
        for step in (-2 * error, 2 * error):
            while excess(best + step) < 0:
                step *= 2
            ends.append(float(brentq(excess, best, best + step, xtol=1e-9)))
        return Interval(best, ends[0], ends[1], self._n)


def _root(decreasing: Callable[[float], float]) -> float:
    """Find the root of a decreasing function."""
    from scipy.optimize import brentq

    low, high = -1.0, 1.0
    while decreasing(low) < 0:
        low *= 2
    while decreasing(high) > 0:
        high *= 2
    return float(brentq(decreasing, low, high, xtol=1e-11))


def reliability_curve(
    labels: np.ndarray,
    probabilities: np.ndarray,
    resamples: Resamples | None = None,
    bins: int = BINS,
) -> list[dict[str, Any]]:
    """Compare predicted probabilities with observed shares, in bins of equal width.

    Args:
        labels: `(n,)`, 0 or 1.
        probabilities: `(n,)`, or `(repeats, n)` for counts that are means over repeats; in [0, 1].
        resamples: Of patients, for intervals over patients; None for independent slices.
        bins: Number of bins, at least 1. Defaults to 10.

    Returns:
        For each non-empty bin: `from` and `to`, its edges (the upper one belongs to the next bin);
        `n`, a fraction for a mean; `predicted`, the mean probability; and `observed`, the share
        with hemorrhage with Wilson's interval.
    """
    labels = np.asarray(labels)
    repeats = np.atleast_2d(np.asarray(probabilities, np.float64))
    if resamples is None:
        resamples = Resamples.make(len(labels), None)
    edges = np.arange(bins + 1) / bins
    number = np.clip(np.searchsorted(edges, repeats, side="right") - 1, 0, bins - 1)
    inside = number[:, :, None] == np.arange(bins)
    share = inside.mean(0)
    used = np.flatnonzero(share.sum(0))
    observed = proportions((share * labels[:, None])[:, used], share[:, used], resamples)
    curve = []
    for index, interval in zip(used.tolist(), observed, strict=True):
        plain = plain_interval(interval)
        assert plain is not None  # only bins with slices
        curve.append(
            {
                "from": float(edges[index]),
                "to": float(edges[index + 1]),
                "n": plain["n"],
                "predicted": float(repeats[inside[:, :, index]].mean()),
                "observed": plain,
            }
        )
    return curve
