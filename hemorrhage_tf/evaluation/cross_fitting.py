"""Cross-fitting: each fold gets a temperature and an operating point from the other folds.

The metrics of a fold then come from a threshold that was not chosen on its own slices. The saved
model gets a temperature and an operating point fitted on all folds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hemorrhage_tf.core.errors import DataError
from hemorrhage_tf.evaluation.operating_point import OperatingPoint, choose
from hemorrhage_tf.evaluation.temperature import apply_temperature, fit_temperature


@dataclass(frozen=True)
class CrossFit:
    """Temperature and operating point, and the predictions of each fold after cross-fitting.

    Attributes:
        temperature: Divides the logits of the saved model.
        point: Operating point of the saved model.
        probabilities: For each repeat float64 `(n,)`; each fold at the temperature of the others.
        decisions: For each repeat bool `(n,)`; each fold at the threshold of the others.
    """

    temperature: float
    point: OperatingPoint
    probabilities: list[np.ndarray]
    decisions: list[np.ndarray]


def cross_fit(
    labels: np.ndarray,
    repeats: Sequence[np.ndarray],
    folds: Sequence[np.ndarray],
    criterion: str,
    calibrate: bool = True,
    groups: np.ndarray | None = None,
) -> CrossFit:
    """Fit temperature and operating point on out-of-fold predictions.

    Args:
        labels: `(n,)`, 0 or 1.
        repeats: For each repeat the out-of-fold probabilities, `(n,)` in [0, 1].
        folds: For each repeat the fold that each slice was tested in, `(n,)`.
        criterion: See `operating_point.parse_operating_point`.
        calibrate: Fit a temperature; otherwise it is 1. Defaults to True.
        groups: `(n,)`, equal for slices of one patient; None for independent slices.

    Raises:
        DataError: A class that the criterion needs is missing.
        OptionError: An invalid criterion.
    """
    adjusted, decisions = [], []
    for probabilities, fold in zip(repeats, folds, strict=True):
        tempered = np.array(probabilities, np.float64)
        predicted = np.zeros(len(labels), bool)
        for number in np.unique(fold):
            test, others = fold == number, fold != number
            temperature = 1.0
            if calibrate:
                temperature = fit_temperature(labels[others], probabilities[others])
            tempered[test] = apply_temperature(probabilities[test], temperature)
            known = apply_temperature(probabilities[others], temperature)
            try:
                threshold = choose(labels[others], known, criterion).threshold
            except DataError as error:
                raise DataError(f"in one of the folds: {error}") from None
            predicted[test] = tempered[test] >= threshold
        adjusted.append(tempered)
        decisions.append(predicted)
    temperature = 1.0
    if calibrate:
        stacked = np.concatenate([np.asarray(one) for one in repeats])
        temperature = fit_temperature(np.tile(labels, len(repeats)), stacked)
    final = [apply_temperature(np.asarray(one), temperature) for one in repeats]
    point = choose(labels, final, criterion, groups=groups)
    return CrossFit(temperature, point, adjusted, decisions)
