"""Cross-fitting: each fold gets a calibration and an operating point from the other folds.

The metrics of a fold then come from a threshold that was not chosen on its own slices or scans. The
saved model gets a calibration and an operating point fitted on all folds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from hemorrhage_tf.core.errors import DataError
from hemorrhage_tf.evaluation.logit_calibration import (
    LogitCalibration,
    fit_calibration,
    why_no_calibration,
)
from hemorrhage_tf.evaluation.operating_point import OperatingPoint, choose


@dataclass(frozen=True)
class OutOfFold:
    """Uncalibrated predictions of a cross-validation, of slices or of scans.

    Attributes:
        labels: `(n,)`, 0 or 1.
        repeats: For each repeat the out-of-fold probabilities, `(n,)` in [0, 1].
        folds: For each repeat the fold that each slice or scan was tested in, `(n,)`.
        groups: `(n,)`, equal for one patient; None for independent predictions. Defaults to None.
        unit: What the `n` are, "slices" or "scans". Defaults to "slices".
    """

    labels: np.ndarray
    repeats: Sequence[np.ndarray]
    folds: Sequence[np.ndarray]
    groups: np.ndarray | None = None
    unit: str = "slices"


@dataclass(frozen=True)
class CrossFit:
    """Calibration and operating point, and the predictions of each fold after cross-fitting.

    Attributes:
        calibration: Of the saved model.
        point: Operating point of the saved model.
        probabilities: For each repeat float64 `(n,)`; each fold calibrated on the others.
        decisions: For each repeat bool `(n,)`; each fold at the threshold of the others.
        note: Why a requested calibration could not be fitted, to all or in a fold; or None.
        of_folds: For each repeat, by number of a fold, the calibration and the threshold from the
            other folds. Defaults to none.
    """

    calibration: LogitCalibration
    point: OperatingPoint
    probabilities: list[np.ndarray]
    decisions: list[np.ndarray]
    note: str | None = None
    of_folds: list[dict[int, tuple[LogitCalibration, float]]] = field(default_factory=list)

    def predict(
        self, repeats: Sequence[np.ndarray], folds: Sequence[np.ndarray]
    ) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """Calibrate and decide others of the same folds, such as slices without a label.

        Args:
            repeats: For each repeat uncalibrated probabilities, `(k,)` in [0, 1].
            folds: For each repeat the fold of each, `(k,)`.

        Returns:
            For each repeat the probabilities, float64 `(k,)`, and the decisions, bool `(k,)`.
        """
        adjusted, decisions = [], []
        for probabilities, fold, of_fold in zip(repeats, folds, self.of_folds, strict=True):
            calibrated = np.array(probabilities, np.float64)
            predicted = np.zeros(len(calibrated), bool)
            for number, (calibration, threshold) in of_fold.items():
                test = fold == number
                calibrated[test] = calibration.apply(calibrated[test])
                predicted[test] = calibrated[test] >= threshold
            adjusted.append(calibrated)
            decisions.append(predicted)
        return adjusted, decisions


def cross_fit(
    predictions: OutOfFold,
    criterion: str,
    calibration: str = "platt",
    uncalibrated_prior: float | None = None,
) -> CrossFit:
    """Fit calibration and operating point on out-of-fold predictions.

    Args:
        predictions: The predictions.
        criterion: See `operating_point.parse_operating_point`.
        calibration: "platt", "temperature" or "none", see `logit_calibration.fit_calibration`.
            Defaults to "platt".
        uncalibrated_prior: Share of hemorrhage that the predictions assume until "platt" calibrates
            them: 0.5 after a training with balanced class weights. None for the share of the
            labels. Defaults to None.

    Raises:
        DataError: A class that the criterion needs is missing.
        OptionError: An invalid criterion.
    """
    fitting = _Fitting(predictions, criterion, calibration, uncalibrated_prior)
    of_folds: list[dict[int, tuple[LogitCalibration, float]]] = []
    notes: list[str] = []
    for probabilities, fold in zip(predictions.repeats, predictions.folds, strict=True):
        of_fold = {}
        for number in np.unique(fold):
            try:
                of_others, point, note = fitting.fit([np.asarray(probabilities)], fold != number)
            except DataError as error:
                raise DataError(f"in one of the folds: {error}") from None
            notes.extend([] if note is None else [f"in one of the folds {note}"])
            of_fold[int(number)] = of_others, point.threshold
        of_folds.append(of_fold)
    everything = np.ones(len(predictions.labels), bool)
    of_all, point, note = fitting.fit(
        [np.asarray(one) for one in predictions.repeats], everything, predictions.groups
    )
    notes = notes if note is None else [note]
    fit = CrossFit(of_all, point, [], [], notes[0] if notes else None, of_folds)
    probabilities_of_folds, decisions = fit.predict(predictions.repeats, predictions.folds)
    return replace(fit, probabilities=probabilities_of_folds, decisions=decisions)


@dataclass(frozen=True)
class _Fitting:
    """What is fitted, on any part of the predictions; see `cross_fit`."""

    predictions: OutOfFold
    criterion: str
    calibration: str
    uncalibrated_prior: float | None

    def fit(
        self, repeats: Sequence[np.ndarray], used: np.ndarray, groups: np.ndarray | None = None
    ) -> tuple[LogitCalibration, OperatingPoint, str | None]:
        """Fit on the slices or scans of a mask `(n,)`; also returns why there is no calibration."""
        labels, unit = np.asarray(self.predictions.labels)[used], self.predictions.unit
        known = [probabilities[used] for probabilities in repeats]
        stacked = np.tile(labels, len(known)), np.concatenate(known), self.calibration
        weights = np.full(len(stacked[0]), 1 / len(known))
        note = None
        if self.calibration != "none":
            note = why_no_calibration(*stacked, weights=weights, unit=unit)
        fitted = fit_calibration(*stacked, weights)
        # Without an offset the probabilities still assume the share that training gave them.
        has_offset = self.calibration == "platt" and note is None
        point = choose(
            labels,
            [fitted.apply(one) for one in known],
            self.criterion,
            groups=groups,
            prior=None if has_offset else self.uncalibrated_prior,
            unit=unit,
        )
        return fitted, point, note
