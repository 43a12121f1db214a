"""Calibration of probabilities by their logits: a temperature, and an offset after Platt.

The temperature makes probabilities more or less extreme; the offset moves them to the prevalence of
the data. Neither changes the order of the probabilities.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from hemorrhage_tf.core.errors import DataError
from hemorrhage_tf.evaluation.calibration import LEAST_SLICES, log_odds
from hemorrhage_tf.evaluation.labeled_predictions import check_predictions

CALIBRATIONS = ("platt", "temperature", "none")
TEMPERATURES = (0.05, 20.0)
_LARGEST_STEP = 5.0  # of a coefficient of standardized logits, in one iteration
_ITERATIONS = 1000
_PRECISION = 1e-10
_SAME = 1e-6  # logits closer than this differ by rounding only


@dataclass(frozen=True)
class LogitCalibration:
    """A calibration of probabilities: the logit is divided by a temperature, and an offset added.

    Attributes:
        temperature: Above 0; above 1 where probabilities were too extreme. Defaults to 1.
        offset: Added to the divided logit; below 0 where probabilities were too high. Defaults
            to 0.

    Raises:
        DataError: A temperature that is not above 0, or a value that is not finite.
    """

    temperature: float = 1.0
    offset: float = 0.0

    def __post_init__(self) -> None:
        """Validate both values."""
        if not (math.isfinite(self.temperature) and self.temperature > 0):
            raise DataError(
                f"temperature {self.temperature}: a temperature must be a finite number above 0. "
                "Pass 1 to leave probabilities unchanged."
            )
        if not math.isfinite(self.offset):
            raise DataError(
                f"offset {self.offset}: an offset must be a finite number. Pass 0 to leave "
                "probabilities unchanged."
            )

    @property
    def is_identity(self) -> bool:
        """Whether it leaves probabilities unchanged."""
        return self.temperature == 1 and self.offset == 0

    def apply(self, probabilities: np.ndarray) -> np.ndarray:
        """Calibrate probabilities.

        Args:
            probabilities: Any shape, in [0, 1].

        Returns:
            float64 of the same shape, in the same order; 0 and 1 stay unchanged.
        """
        from scipy.special import expit, logit

        logits = logit(np.asarray(probabilities, np.float64))
        return expit(logits / self.temperature + self.offset)


def why_no_calibration(
    labels: np.ndarray,
    probabilities: np.ndarray,
    kind: str = "platt",
    *,
    weights: np.ndarray | None = None,
    unit: str = "slices",
) -> str | None:
    """Return the reason why no calibration can be fitted, or None if one can.

    Args:
        labels: `(n,)`, 0 or 1.
        probabilities: `(n,)` in [0, 1].
        kind: "platt" or "temperature". Defaults to "platt".
        weights: `(n,)`; 1 / R where R repeats predict every slice. None for 1. Defaults to None.
        unit: What the `n` are, "slices" or "scans". Defaults to "slices".
    """
    labels, logits = np.asarray(labels), log_odds(probabilities)
    n = len(labels) if weights is None else round(float(np.sum(weights)))
    if n < LEAST_SLICES:
        return f"{n} {unit} are too few to calibrate on (at least {LEAST_SLICES})"
    if labels.min() == labels.max():
        return f"a calibration needs {unit} with and without hemorrhage"
    if kind != "temperature":
        return None
    signed = np.where(labels == 1, logits, -logits)
    if signed.min() >= 0 and signed.max() > 0:
        return (
            f"all {unit} are on the right side of 0.5, so the log-loss falls without end as the "
            "temperature approaches 0"
        )
    if not signed.any():
        return "every probability is 0.5, which no temperature changes"
    return None


def fit_calibration(
    labels: np.ndarray,
    probabilities: np.ndarray,
    kind: str = "platt",
    weights: np.ndarray | None = None,
) -> LogitCalibration:
    """Fit a calibration of probabilities.

    Fit it on out-of-fold predictions: on training slices every model looks underconfident.

    "platt" is a logistic regression of the labels on the logits, by maximum likelihood with Firth's
    penalty. The penalty is about as much as one slice: it removes the first-order bias of maximum
    likelihood in small sets, and keeps the result finite where the probabilities separate the
    classes. "temperature" has no offset and no penalty. The temperature stays between 0.05 and 20.

    Args:
        labels: `(n,)`, 0 or 1.
        probabilities: `(n,)` in [0, 1].
        kind: "platt", "temperature", or "none" for no calibration. Defaults to "platt".
        weights: `(n,)`; 1 / R where R repeats predict every slice. None for 1. Defaults to None.

    Returns:
        The calibration; one that changes nothing where `why_no_calibration` returns a reason. Of
        equal probabilities "platt" fits the offset alone.

    Raises:
        DataError: Different lengths, or invalid labels or probabilities.

    Reference:
        J. Platt, Probabilistic outputs for support vector machines, in Advances in large margin
        classifiers (1999), 61-74; D. Firth, Bias reduction of maximum likelihood estimates,
        Biometrika 80 (1993), 27-38; G. Heinze and M. Schemper, A solution to the problem of
        separation in logistic regression, Statistics in Medicine 21 (2002), 2409-2419; C. Guo et
        al., On calibration of modern neural networks, ICML (2017).
    """
    labels, probabilities = check_predictions(labels, probabilities)
    if kind == "none" or why_no_calibration(labels, probabilities, kind, weights=weights):
        return LogitCalibration()
    weights = np.ones(len(labels)) if weights is None else np.asarray(weights, np.float64)
    logits = log_odds(probabilities)
    if kind == "temperature":
        return LogitCalibration(_fit_temperature(labels, logits, weights))
    center = np.average(logits, weights=weights)
    scale = math.sqrt(np.average((logits - center) ** 2, weights=weights))
    slope = 1.0
    if np.ptp(logits) > _SAME:
        columns = np.stack([np.ones_like(logits), (logits - center) / scale], axis=1)
        constant, slope = _firth(columns, np.zeros_like(logits), labels, weights)
        slope /= scale
        if 1 / TEMPERATURES[1] < slope < 1 / TEMPERATURES[0]:
            return LogitCalibration(float(1 / slope), float(constant - slope * center))
        slope = float(np.clip(slope, 1 / TEMPERATURES[1], 1 / TEMPERATURES[0]))
    known = slope * (logits - center)
    [constant] = _firth(np.ones((len(logits), 1)), known, labels, weights)
    return LogitCalibration(1 / slope, float(constant - slope * center))


def _fit_temperature(labels: np.ndarray, logits: np.ndarray, weights: np.ndarray) -> float:
    """Return the temperature with the smallest log-loss."""
    from scipy.optimize import brentq
    from scipy.special import expit

    def gradient(inverse: float) -> float:
        return float(np.sum(weights * logits * (labels - expit(inverse * logits))))

    # The log-loss is convex in the inverse temperature, so its gradient has at most one root.
    least, most = 1 / TEMPERATURES[1], 1 / TEMPERATURES[0]
    if gradient(least) <= 0:
        return TEMPERATURES[1]
    if gradient(most) >= 0:
        return TEMPERATURES[0]
    return float(1 / brentq(gradient, least, most, xtol=1e-12))


def _firth(
    columns: np.ndarray, known: np.ndarray, labels: np.ndarray, weights: np.ndarray
) -> np.ndarray:
    """Maximize the likelihood of a logistic regression, with Firth's penalty.

    Args:
        columns: `(n, k)`, the first of ones.
        known: `(n,)`, part of the logits that has no coefficient.
        labels: `(n,)`, 0 or 1.
        weights: `(n,)`.

    Returns:
        `(k,)` coefficients.
    """
    from scipy.special import expit

    # Not by BLAS, whose result may depend on its number of threads.
    def objective(coefficients: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
        linear = known + np.sum(columns * coefficients, axis=1)
        share = expit(linear)
        spread = weights * share * (1 - share)
        information = np.einsum("ni,nj,n->ij", columns, columns, spread)
        likelihood = np.sum(weights * (labels * linear - np.logaddexp(0.0, linear)))
        sign, logarithm = np.linalg.slogdet(information)
        if sign <= 0:  # so far away that every share is 0 or 1
            return -math.inf, np.zeros_like(coefficients), information
        inverse = np.linalg.inv(information)
        leverage = np.einsum("ni,ij,nj,n->n", columns, inverse, columns, spread)
        residuals = weights * (labels - share) + leverage * (0.5 - share)
        score = np.sum(columns * residuals[:, None], axis=0)
        return float(likelihood + logarithm / 2), score, information

    coefficients = np.zeros(columns.shape[1])
    value, score, information = objective(coefficients)
    for _ in range(_ITERATIONS):
        step = np.linalg.solve(information, score)
        size = np.abs(step).max()
        step *= min(1.0, _LARGEST_STEP / max(size, _PRECISION))
        fraction = 1.0
        reached = objective(coefficients + step)
        # Near the optimum the objective differs by rounding only.
        while reached[0] < value - 1e-12 * abs(value) and fraction > _PRECISION:
            fraction /= 2
            reached = objective(coefficients + fraction * step)
        coefficients = coefficients + fraction * step
        value, score, information = reached
        if size * fraction < _PRECISION:
            break
    return coefficients
