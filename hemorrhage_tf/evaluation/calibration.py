"""Calibration: whether a probability of 0.8 means eight in ten, and the temperature that mends it.

Slope and intercept say how far probabilities are off, the reliability curve shows where, and a
temperature makes them bolder or meeker without changing their order.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from hemorrhage_tf.core.errors import DataError
from hemorrhage_tf.evaluation.intervals import (
    CONFIDENCE,
    Interval,
    Resamples,
    proportions,
    quantile,
)

LEAST_SLICES = 10
TEMPERATURES = (0.05, 20.0)
BINS = 10
_TIE = 1e-6  # logits closer than this overlap by rounding only
_LEAST_REST = 0.01  # of the information, with any one patient left out
_EDGE = 1e-7  # Keras' epsilon: a float32 sigmoid rounds to 0 or 1 near it


@dataclass(frozen=True)
class Recalibration:
    """How labels follow the logits of the probabilities.

    Attributes:
        slope: 1 where calibrated; below 1 where probabilities are too extreme.
        intercept: fitted together with the slope; 0 where calibrated.
        in_the_large: the intercept at a slope of 1; above 0 where probabilities are too low.
        note: why a figure is missing, or None.
    """

    slope: Interval | None
    intercept: Interval | None
    in_the_large: Interval | None
    note: str | None = None


def log_odds(probabilities: np.ndarray) -> np.ndarray:
    """Computes logits, float64; of 0 and 1 those of 1e-7 and 1 - 1e-7."""
    from scipy.special import logit

    return logit(np.clip(np.asarray(probabilities, np.float64), _EDGE, 1 - _EDGE))


def why_no_temperature(labels: np.ndarray, probabilities: np.ndarray) -> str | None:
    """Says why no temperature can be fitted, or None where one can.

    Args:
        labels: `(n,)`, 0 or 1.
        probabilities: `(n,)` in [0, 1].
    """
    labels, logits = np.asarray(labels), log_odds(probabilities)
    if len(labels) < LEAST_SLICES:
        return f"{len(labels)} slices are too few to fit a temperature on ({LEAST_SLICES} at least)"
    if labels.min() == labels.max():
        return "a temperature needs slices with and without hemorrhage"
    signed = np.where(labels == 1, logits, -logits)
    if signed.min() >= 0 and signed.max() > 0:
        return (
            "every slice is on the right side of 0.5, so that a temperature would only make the "
            "probabilities bolder without end"
        )
    if not signed.any():
        return "every probability is 0.5, which no temperature changes"
    return None


def fit_temperature(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """Fits the temperature that probabilities predict the labels best at.

    It divides the logits and minimizes the log-loss, between 0.05 and 20. Fit it on out-of-fold
    predictions: on slices that were trained on every model looks too meek.

    Args:
        labels: `(n,)`, 0 or 1.
        probabilities: `(n,)` in [0, 1].

    Returns:
        The temperature, above 1 where probabilities were too extreme; 1.0 where
        `why_no_temperature` has a reason.

    Raises:
        DataError: lengths that differ, labels or probabilities that are none.

    Reference:
        C. Guo et al., On calibration of modern neural networks, ICML (2017).
    """
    from scipy.optimize import brentq
    from scipy.special import expit

    labels, probabilities = check_predictions(labels, probabilities)
    if why_no_temperature(labels, probabilities) is not None:
        return 1.0
    logits = log_odds(probabilities)

    def gradient(inverse: float) -> float:
        return float(np.sum(logits * (labels - expit(inverse * logits))))

    # The log-loss is convex in the inverse temperature, so its gradient has one root at most.
    least, most = 1 / TEMPERATURES[1], 1 / TEMPERATURES[0]
    if gradient(least) <= 0:
        return TEMPERATURES[1]
    if gradient(most) >= 0:
        return TEMPERATURES[0]
    return float(1 / brentq(gradient, least, most, xtol=1e-12))


def apply_temperature(probabilities: np.ndarray, temperature: float) -> np.ndarray:
    """Divides the logits by a temperature.

    Args:
        probabilities: any shape, in [0, 1].
        temperature: above 0; 1 changes nothing.

    Returns:
        float64 of the same shape, in the same order; 0, 0.5 and 1 stay where they are.

    Raises:
        DataError: a temperature that is not above 0.
    """
    from scipy.special import expit, logit

    if not (math.isfinite(temperature) and temperature > 0):
        raise DataError(f"a temperature must be a number above 0. Received: {temperature}")
    return expit(logit(np.asarray(probabilities, np.float64)) / temperature)


def check_predictions(
    labels: np.ndarray, probabilities: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Checks labels and one set of probabilities.

    Args:
        labels: `(n,)`, 0 or 1.
        probabilities: `(n,)` in [0, 1].

    Returns:
        Both as int64 and float64 arrays.

    Raises:
        DataError: none at all, lengths that differ, a label other than 0 and 1, a probability that
            is not a number or outside [0, 1].
    """
    labels, probabilities = np.asarray(labels), np.asarray(probabilities, np.float64)
    n = len(labels)
    if probabilities.shape != (n,):
        raise DataError(f"{len(probabilities)} predictions for {n} labels")
    if n == 0:
        raise DataError("there are no predictions to evaluate")
    bad = int(np.sum(~np.isfinite(probabilities)))
    if bad:
        raise DataError(f"{bad} of {n} predictions are not numbers")
    wrong = probabilities[(probabilities < 0) | (probabilities > 1)]
    if len(wrong):
        raise DataError(
            f"{len(wrong)} of {n} predictions are no probabilities, which lie in [0, 1]. "
            f"Received: {wrong[0]:g}. Of logits take the sigmoid first"
        )
    other = labels[(labels != 0) & (labels != 1)]
    if len(other):
        raise DataError(
            f"labels must be 1 (hemorrhage) or 0 (normal). Received: {other[0]} and "
            f"{len(other) - 1} more"
        )
    return labels.astype(np.int64), probabilities


def calibration_slope_intercept(
    labels: np.ndarray,
    probabilities: np.ndarray,
    *,
    weights: np.ndarray | None = None,
    groups: np.ndarray | None = None,
    confidence: float = CONFIDENCE,
) -> Recalibration:
    """Fits a logistic regression of the labels on the logits of the probabilities.

    Its intervals are those of the profile likelihood, with Student's quantile. Over patients the
    likelihood ratio is divided by the design effect, which is at least 1: Mancl and DeRouen's
    variance, a sandwich of what each patient is off by had the fit not seen it, over the model's;
    the degrees of freedom are Satterthwaite's, of the patients' parts of that variance.

    Args:
        labels: `(n,)`, 0 or 1.
        probabilities: `(n,)` in [0, 1].
        weights: `(n,)`, what each prediction counts; 1 / R where R repeats predict every slice.
            None for 1. Default None.
        groups: `(n,)`, equal for slices of one patient; None for slices on their own.
        confidence: coverage aimed at, in (0, 1). Default 0.95.

    Returns:
        The figures; None for those that have no finite value: with one class, with fewer than ten
        slices or patients, with one probability for all, or where the probabilities separate the
        classes.

    Raises:
        DataError: lengths that differ, labels or probabilities that are none.

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
    whole = _Fit(labels, logits, weights, groups, confidence)
    if 0 < whole.patients < LEAST_SLICES:
        note = f"{whole.patients} patients are too few for a calibration slope ({LEAST_SLICES})"
        return Recalibration(None, None, None, note)
    in_the_large = whole.in_the_large()
    positive, negative = logits[labels == 1], logits[labels == 0]
    if logits.min() == logits.max():
        note = "every probability is the same, so that there is no calibration slope"
        return Recalibration(None, None, in_the_large, note)
    gap = max(positive.min() - negative.max(), negative.min() - positive.max())
    if gap > -_TIE:
        note = "the probabilities separate the classes, so that no calibration slope is finite"
        return Recalibration(None, None, in_the_large, note)
    slope, intercept = whole.slope_and_intercept()
    note = "one patient decides the calibration slope nearly alone, so that it has no interval"
    return Recalibration(slope, intercept, in_the_large, None if slope else note)


class _Fit:
    """A weighted logistic regression on one logit, and intervals from its likelihood.

    Attributes:
        patients: how many, or 0 where no two slices share one.
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
            found, units = np.unique(groups, return_inverse=True)
            # Where no two slices share a patient, slices are independent, whatever their repeats.
            if len(found) < round(self._n):
                self._units, self.patients = units.reshape(-1), len(found)
        self._confidence = confidence

    def in_the_large(self) -> Interval | None:
        """Gives the intercept at a slope of 1."""
        ones = np.ones((len(self._labels), 1))
        best = self._best_intercept(1.0)
        (error,), (drop,) = self._errors_and_drops(best, 1.0, ones)
        return self._interval(best, error, drop, lambda a: self._likelihood(a, 1.0))

    def slope_and_intercept(self) -> tuple[Interval | None, Interval | None]:
        """Gives both, fitted together."""
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
        """Gives standard errors, and how far the likelihood drops to the intervals' ends."""
        from scipy.special import expit

        share = expit(intercept + slope * self._logits)
        spread = self._weights * share * (1 - share)
        inverse = np.linalg.inv((columns * spread[:, None]).T @ columns)
        model = np.diag(inverse)
        size = columns.shape[1]
        effect = np.ones(size)
        # Two coefficients; the normal quantile covers a little less than it says at 40 slices.
        degrees = np.full(size, self._n - 2)
        if self._units is not None:
            scores, parts = np.zeros((self.patients, size)), np.zeros((self.patients, size, size))
            np.add.at(scores, self._units, columns * self._residuals(intercept, slope)[:, None])
            np.add.at(
                parts, self._units, spread[:, None, None] * columns[:, :, None] * columns[:, None]
            )
            # What a patient would be off by had the fit not seen it.
            alone = np.eye(size) - parts @ inverse
            if np.linalg.eigvals(alone).real.min() < _LEAST_REST:
                return np.sqrt(model), np.full(size, math.inf)
            squares = (np.linalg.solve(alone, scores[:, :, None])[:, :, 0] @ inverse) ** 2
            effect = np.maximum(squares.sum(0) / model, 1.0)
            # Few patients make up most of a slope's variance; 3 is a normal one's fourth moment.
            fourth = (squares**2).sum(0)
            most = np.full(size, self.patients - 2.0)
            degrees = np.divide(3 * squares.sum(0) ** 2, fourth, out=most.copy(), where=fourth > 0)
            degrees = np.clip(degrees, 1.0, most)
        reach = np.array([quantile(self._confidence, one) for one in degrees])
        return np.sqrt(model), effect * reach**2 / 2

    def _interval(
        self, best: float, error: float, drop: float, likelihood: Callable[[float], float]
    ) -> Interval | None:
        """Finds where the likelihood has dropped so far, on both sides; None where it cannot."""
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
    """Finds where a decreasing function of all numbers is 0."""
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
    """Compares predicted probabilities with what came true, in bins of equal width.

    Args:
        labels: `(n,)`, 0 or 1.
        probabilities: `(n,)`, or `(repeats, n)`, of which counts are then means; in [0, 1].
        resamples: of patients, for their intervals; None for slices on their own.
        bins: how many, at least 1. Default 10.

    Returns:
        For each bin that is not empty: `from` and `to`, its edges (the upper one belongs to the
        next bin); `n`, a fraction where it is a mean; `predicted`, the mean probability; and
        `observed`, the share with hemorrhage with Wilson's interval.
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
    found = []
    for index, interval in zip(used.tolist(), observed, strict=True):
        figure = interval.to_dict()
        found.append(
            {
                "from": float(edges[index]),
                "to": float(edges[index + 1]),
                "n": figure["n"],
                "predicted": float(repeats[inside[:, :, index]].mean()),
                "observed": figure,
            }
        )
    return found
