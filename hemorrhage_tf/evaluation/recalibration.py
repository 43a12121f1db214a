"""Recalibration: a trained model gets calibration and threshold on local slices or scans.

Only temperature, offset and threshold are fitted, by cross-fitting over whole patients: the metrics
of a patient come from a calibration and a threshold of other patients.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from hemorrhage_tf.core.errors import DataError, OptionError
from hemorrhage_tf.datasets.splits import folds, repeat_seed
from hemorrhage_tf.evaluation.cross_fitting import CrossFit, OutOfFold, cross_fit
from hemorrhage_tf.evaluation.labeled_predictions import LabeledPredictions
from hemorrhage_tf.evaluation.logit_calibration import LogitCalibration
from hemorrhage_tf.evaluation.operating_point import parse_operating_point
from hemorrhage_tf.evaluation.resampling import Resamples

# With fewer patients of a class, calibration and threshold depend on single patients.
LEAST_PATIENTS = 8
# The width of an interval shrinks with the square root of the number of patients.
TIMES_FOR_HALF = 4


@dataclass(frozen=True)
class RecalibrationSettings:
    """Settings of a recalibration.

    Attributes:
        operating_point: Criterion for the threshold of slices, see
            `operating_point.parse_operating_point`. Defaults to "balanced".
        scan_operating_point: The same for scans. Defaults to "balanced".
        folds: Number of folds of the cross-fitting, at least 2. Defaults to 5.
        repeats: Number of repetitions with other folds, at least 1. Defaults to 5.
        seed: Random seed of the folds. Defaults to 0.

    Raises:
        OptionError: A value that is not accepted.
    """

    operating_point: str = "balanced"
    scan_operating_point: str = "balanced"
    folds: int = 5
    repeats: int = 5
    seed: int = 0

    def __post_init__(self) -> None:
        """Check every value."""
        parse_operating_point(self.operating_point)
        parse_operating_point(self.scan_operating_point, "scans")
        for option, value, least in (
            ("--folds", self.folds, 2),
            ("--repeats", self.repeats, 1),
            ("--seed", self.seed, 0),
        ):
            if not isinstance(value, int) or isinstance(value, bool) or value < least:
                raise OptionError(
                    f"{option} {value}: must be a whole number of at least {least}. Pass one."
                )


@dataclass(frozen=True, eq=False)
class LevelRecalibration:
    """The recalibration of one level: of slices alone, slices in their scans, or scans.

    Attributes:
        fit: Calibration and operating point, and what each fold gets from the others.
        after: The labeled predictions after it, out of fold.
    """

    fit: CrossFit
    after: LabeledPredictions


def fold_numbers(
    labels: np.ndarray, groups: np.ndarray, settings: RecalibrationSettings
) -> np.ndarray:
    """Assign whole groups to the folds of each repeat.

    Args:
        labels: `(n,)`, 0 or 1.
        groups: `(n,)`, equal for slices that stay together.
        settings: Number of folds and repeats, and the random seed.

    Returns:
        int64 `(repeats, n)`, from 1.

    Raises:
        DataError: Too few groups of a class.
    """
    numbers = np.zeros((settings.repeats, len(labels)), np.int64)
    for repeat, row in enumerate(numbers):
        seed = repeat_seed(settings.seed, repeat)
        for number, (_, test) in enumerate(folds(labels, groups, settings.folds, seed), start=1):
            row[test] = number
    return numbers


def why_not(labels: np.ndarray, groups: np.ndarray, count: int, unit: str) -> str | None:
    """Return why the data cannot support a recalibration, or None if it can.

    Args:
        labels: `(n,)`, 0 or 1.
        groups: `(n,)`, equal for slices or scans that stay together.
        count: Number of folds.
        unit: What the `n` are, "slices" or "scans".
    """
    least = max(LEAST_PATIENTS, count)
    received = [len(np.unique(groups[labels == label])) for label in (1, 0)]
    if min(received) >= least:
        return None
    return (
        f"it takes at least {least} patients whose {unit} show hemorrhage and {least} with {unit} "
        f"that show none. Received: {received[0]} and {received[1]} (where patients are unknown, "
        f"each of the {unit} counts as one, and duplicates together)"
    )


def recalibrate_level(
    before: LabeledPredictions,
    folds_of: Sequence[np.ndarray],
    criterion: str,
    repeats: Sequence[np.ndarray] | None = None,
) -> LevelRecalibration:
    """Fit calibration and threshold on local predictions, and predict each fold by the others.

    Args:
        before: The labeled predictions of the model as it is.
        folds_of: For each repeat the fold of each slice or scan, `(n,)`.
        criterion: See `operating_point.parse_operating_point`.
        repeats: For each repeat scores `(n,)` that get a threshold but no calibration, and replace
            the predictions. None to calibrate these. Defaults to None.

    Raises:
        DataError: A class is missing in the other folds of one, or nothing can be calibrated.
        OptionError: An invalid criterion.
    """
    is_calibrated = repeats is None
    predictions = OutOfFold(
        labels=before.labels,
        repeats=[before.repeats[0]] * len(folds_of) if repeats is None else repeats,
        folds=folds_of,
        groups=before.groups,
        unit=before.unit,
    )
    fit = cross_fit(predictions, criterion, "platt" if is_calibrated else "none")
    if fit.note:
        raise DataError(f"{fit.note}. Add labeled {before.unit}.")
    after = replace(
        before,
        repeats=fit.probabilities,
        threshold=fit.point.threshold,
        decisions=fit.decisions,
    )
    return LevelRecalibration(fit, after)


def compose(first: LogitCalibration, second: LogitCalibration) -> LogitCalibration:
    """Return the calibration that applies one after the other."""
    return LogitCalibration(
        first.temperature * second.temperature,
        first.offset / second.temperature + second.offset,
    )


def needed_for_half(predictions: LabeledPredictions) -> dict[str, Any]:
    """Compute how many patients would make intervals half as wide.

    Widths shrink with the square root of the number, so that it takes four times as many. The
    interval of the sensitivity depends on patients with hemorrhage, that of the specificity on
    patients with slices (scans) without.

    Args:
        predictions: The labeled predictions.

    Returns:
        `counted`, the units of the intervals; and `sensitivity` and `specificity`, each with the
        `received` and the `needed` number of these.
    """
    labels = np.asarray(predictions.labels)
    resamples = Resamples.make(len(labels), predictions.groups, unit=predictions.unit)
    counts = {
        name: resamples.holding(labels == label)
        for name, label in (("sensitivity", 1), ("specificity", 0))
    }
    return {
        "counted": resamples.drawn,
        **{
            name: {"received": count, "needed": TIMES_FOR_HALF * count}
            for name, count in counts.items()
        },
    }
