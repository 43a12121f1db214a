"""Cross-fitting: temperature and operating point from other slices than those that are judged.

Each fold of a cross-validation is judged by what the other folds' out-of-fold predictions gave, so
that its figures are not those of slices that chose their own threshold. What the saved model gets
is fitted on all of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hemorrhage_tf.core.errors import DataError
from hemorrhage_tf.evaluation.calibration import apply_temperature, fit_temperature
from hemorrhage_tf.evaluation.operating_point import OperatingPoint, choose


@dataclass(frozen=True)
class CrossFit:
    """What was fitted, and what it makes of the predictions.

    Attributes:
        temperature: what the saved model's logits are divided by.
        point: its operating point.
        probabilities: for each repeat float64 `(n,)`, each fold's by the others' temperature.
        decisions: for each repeat bool `(n,)`, each fold's by the others' threshold.
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
    """Fits temperature and operating point on out-of-fold predictions.

    Args:
        labels: `(n,)`, 0 or 1.
        repeats: for each repeat the out-of-fold probabilities, `(n,)` in [0, 1].
        folds: for each repeat the fold that each slice was tested in, `(n,)`.
        criterion: see `operating_point.parse_operating_point`.
        calibrate: fit a temperature; else it is 1. Default True.
        groups: `(n,)`, equal for slices of one patient; None for slices on their own.

    Returns:
        The fit.

    Raises:
        DataError: a class that the criterion needs is missing.
        OptionError: a criterion that is none.
    """
    adjusted, decisions = [], []
    for probabilities, fold in zip(repeats, folds, strict=True):
        tempered = np.array(probabilities, np.float64)
        called = np.zeros(len(labels), bool)
        for number in np.unique(fold):
            test, others = fold == number, fold != number
            temperature, threshold = 1.0, None
            if calibrate:
                temperature = fit_temperature(labels[others], probabilities[others])
            tempered[test] = apply_temperature(probabilities[test], temperature)
            try:
                known = apply_temperature(probabilities[others], temperature)
                threshold = choose(labels[others], known, criterion).threshold
            except DataError as error:
                raise DataError(f"in one of the folds: {error}") from None
            called[test] = tempered[test] >= threshold
        adjusted.append(tempered)
        decisions.append(called)
    temperature = 1.0
    if calibrate:
        stacked = np.concatenate([np.asarray(each) for each in repeats])
        temperature = fit_temperature(np.tile(labels, len(repeats)), stacked)
    final = [apply_temperature(np.asarray(each), temperature) for each in repeats]
    point = choose(labels, final, criterion, groups=groups)
    return CrossFit(temperature, point, adjusted, decisions)
