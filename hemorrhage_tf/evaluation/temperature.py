"""Temperature scaling: one number that makes probabilities more or less extreme.

It divides the logits, so the order of the probabilities stays the same.
"""

from __future__ import annotations

import math

import numpy as np

from hemorrhage_tf.core.errors import DataError
from hemorrhage_tf.evaluation.calibration import LEAST_SLICES, log_odds
from hemorrhage_tf.evaluation.labeled_predictions import check_predictions

TEMPERATURES = (0.05, 20.0)


def why_no_temperature(labels: np.ndarray, probabilities: np.ndarray) -> str | None:
    """Return the reason why no temperature can be fitted, or None if one can.

    Args:
        labels: `(n,)`, 0 or 1.
        probabilities: `(n,)` in [0, 1].
    """
    labels, logits = np.asarray(labels), log_odds(probabilities)
    if len(labels) < LEAST_SLICES:
        return f"{len(labels)} slices are too few to fit a temperature (at least {LEAST_SLICES})"
    if labels.min() == labels.max():
        return "a temperature needs slices with and without hemorrhage"
    signed = np.where(labels == 1, logits, -logits)
    if signed.min() >= 0 and signed.max() > 0:
        return (
            "every slice is on the right side of 0.5, so the log-loss falls without end as the "
            "temperature approaches 0"
        )
    if not signed.any():
        return "every probability is 0.5, which no temperature changes"
    return None


def fit_temperature(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """Fit the temperature with the smallest log-loss, between 0.05 and 20.

    Fit it on out-of-fold predictions: on training slices every model looks underconfident.

    Args:
        labels: `(n,)`, 0 or 1.
        probabilities: `(n,)` in [0, 1].

    Returns:
        The temperature, above 1 where probabilities were too extreme; 1.0 where
        `why_no_temperature` returns a reason.

    Raises:
        DataError: Different lengths, or invalid labels or probabilities.

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

    # The log-loss is convex in the inverse temperature, so its gradient has at most one root.
    least, most = 1 / TEMPERATURES[1], 1 / TEMPERATURES[0]
    if gradient(least) <= 0:
        return TEMPERATURES[1]
    if gradient(most) >= 0:
        return TEMPERATURES[0]
    return float(1 / brentq(gradient, least, most, xtol=1e-12))


def apply_temperature(probabilities: np.ndarray, temperature: float) -> np.ndarray:
    """Divide the logits of probabilities by a temperature.

    Args:
        probabilities: Any shape, in [0, 1].
        temperature: Above 0; 1 changes nothing.

    Returns:
        float64 of the same shape, in the same order; 0, 0.5 and 1 stay unchanged.

    Raises:
        DataError: The temperature is not above 0.
    """
    from scipy.special import expit, logit

    if not (math.isfinite(temperature) and temperature > 0):
        raise DataError(
            f"temperature {temperature}: a temperature must be a finite number above 0. Pass 1 to "
            "leave probabilities unchanged."
        )
    return expit(logit(np.asarray(probabilities, np.float64)) / temperature)
