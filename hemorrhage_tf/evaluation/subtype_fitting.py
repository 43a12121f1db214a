"""Calibration and thresholds of subtypes, cross-fitted like those of any hemorrhage."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hemorrhage_tf.evaluation.logit_calibration import (
    LogitCalibration,
    fit_calibration,
    why_no_calibration,
)
from hemorrhage_tf.evaluation.operating_point import (
    WITHOUT_PREDICTIONS,
    choose,
    parse_operating_point,
)

# A slope needs slices of both kinds. With fewer only the effect of class weights is corrected.
LEAST_OF_EACH = 10


@dataclass(frozen=True)
class SubtypeOutOfFold:
    """Predictions of a cross-validation for subtypes.

    Attributes:
        labels: `(n, subtypes)`: 0, 1, or -1 where it is unknown.
        repeats: For each repeat `(n, subtypes)` in [0, 1], neither calibrated nor capped. Equal for
            all slices of a fold where a subtype could not be trained.
        any_hemorrhage: For each repeat the calibrated probability of any hemorrhage, `(n,)`.
        folds: For each repeat the fold that each slice was tested in, `(n,)`.
    """

    labels: np.ndarray
    repeats: Sequence[np.ndarray]
    any_hemorrhage: Sequence[np.ndarray]
    folds: Sequence[np.ndarray]


@dataclass(frozen=True)
class SubtypeRule:
    """How one subtype is decided from its uncalibrated probability.

    Attributes:
        calibration: Of its logit.
        threshold: Probabilities at or above it count as this subtype.
        notes: What limits both; may be empty.
    """

    calibration: LogitCalibration
    threshold: float
    notes: tuple[str, ...] = ()

    def apply(self, probabilities: np.ndarray, any_hemorrhage: np.ndarray) -> np.ndarray:
        """Calibrate probabilities `(n,)` and cap them at those of any hemorrhage."""
        return np.minimum(self.calibration.apply(probabilities), any_hemorrhage)


@dataclass(frozen=True)
class SubtypeFit:
    """The rules of the saved model, and the predictions of each fold after cross-fitting.

    Attributes:
        rules: One for each subtype.
        probabilities: For each repeat float64 `(n, subtypes)`, calibrated on the other folds and
            capped at any hemorrhage.
        decisions: For each repeat bool `(n, subtypes)`; each fold at the thresholds of the others.
    """

    rules: tuple[SubtypeRule, ...]
    probabilities: list[np.ndarray]
    decisions: list[np.ndarray]


@dataclass(frozen=True)
class SubtypeFitting:
    """What is fitted for each subtype.

    Attributes:
        criterion: See `operating_point.parse_operating_point`.
        calibration: "platt", "temperature" or "none".
        is_balanced: Whether training gave both classes of a subtype the same weight.
    """

    criterion: str
    calibration: str
    is_balanced: bool

    def cross_fit(self, predictions: SubtypeOutOfFold) -> SubtypeFit:
        """Fit on out-of-fold predictions.

        A subtype with fewer than `LEAST_OF_EACH` slices of either kind gets no slope. After
        balanced class weights its logits are shifted to its share of the slices instead, and its
        threshold is that share. A note says so.

        Args:
            predictions: The predictions.

        Returns:
            The rules, and the predictions under the rules of the other folds.
        """
        shape = np.shape(predictions.labels)
        probabilities = [np.zeros(shape) for _ in predictions.repeats]
        decisions = [np.zeros(shape, bool) for _ in predictions.repeats]
        rules = []
        for subtype in range(shape[1]):
            columns = [np.asarray(repeat, np.float64)[:, subtype] for repeat in predictions.repeats]
            is_trained = [
                _varies_in_fold(column, fold)
                for column, fold in zip(columns, predictions.folds, strict=True)
            ]
            labels = predictions.labels[:, subtype]
            one = _OneSubtype(self, labels, columns, predictions.any_hemorrhage, is_trained)
            for repeat, fold in enumerate(predictions.folds):
                for number in np.unique(fold):
                    test = fold == number
                    rule = one.fit([repeat], ~test)
                    # A fold that could not train the subtype predicts its share already.
                    if not is_trained[repeat][test].any():
                        rule = SubtypeRule(LogitCalibration(), rule.threshold)
                    capped = rule.apply(
                        columns[repeat][test], predictions.any_hemorrhage[repeat][test]
                    )
                    probabilities[repeat][test, subtype] = capped
                    decisions[repeat][test, subtype] = capped >= rule.threshold
            rules.append(one.fit(list(range(len(columns))), np.ones(shape[0], bool)))
        return SubtypeFit(tuple(rules), probabilities, decisions)

    def without_predictions(self, labels: np.ndarray) -> tuple[SubtypeRule, ...]:
        """Return the rules where there are no out-of-fold predictions.

        Args:
            labels: `(n, subtypes)`, of the training slices: 0, 1, or -1 where it is unknown.
        """
        kind, value = parse_operating_point(self.criterion)
        rules = []
        for column in np.transpose(labels):
            threshold = 0.5 if self.is_balanced else _share(column[column >= 0])
            if kind == "threshold" and value is not None:
                threshold = value
            note = "not calibrated: there are no out-of-fold predictions"
            rules.append(SubtypeRule(LogitCalibration(), threshold, (note,)))
        return tuple(rules)


@dataclass(frozen=True)
class _OneSubtype:
    """The out-of-fold predictions of one subtype; see `SubtypeFitting.cross_fit`."""

    fitting: SubtypeFitting
    labels: np.ndarray
    columns: Sequence[np.ndarray]
    any_hemorrhage: Sequence[np.ndarray]
    is_trained: Sequence[np.ndarray]

    def fit(self, repeats: Sequence[int], used: np.ndarray) -> SubtypeRule:
        """Fit a rule on some slices, a mask `(n,)`, of some repeats."""
        known = used & (self.labels >= 0)
        masks = [known & self.is_trained[repeat] for repeat in repeats]
        labels = np.concatenate([self.labels[mask] for mask in masks])
        probabilities = np.concatenate(
            [self.columns[repeat][mask] for repeat, mask in zip(repeats, masks, strict=True)]
        )
        share = _share(self.labels[known])
        occurs = bool((self.labels[known] == 1).any())
        calibration, reason = self._calibrate(
            labels, probabilities, len(repeats), share if occurs else None
        )
        caps = np.concatenate(
            [self.any_hemorrhage[repeat][mask] for repeat, mask in zip(repeats, masks, strict=True)]
        )
        capped = np.minimum(calibration.apply(probabilities), caps)
        threshold, note = self._choose(labels, capped, share, reason is None)
        return SubtypeRule(calibration, threshold, tuple(filter(None, (reason, note))))

    def _calibrate(
        self, labels: np.ndarray, probabilities: np.ndarray, repeats: int, share: float | None
    ) -> tuple[LogitCalibration, str | None]:
        """Fit a calibration; return also why it is not the requested one.

        `share` is the share of slices with the subtype; None where it does not occur.
        """
        kind = self.fitting.calibration
        if kind == "none":
            return LogitCalibration(), None
        with_it, without = (int((labels == value).sum()) // repeats for value in (1, 0))
        if min(with_it, without) >= LEAST_OF_EACH:
            weights = np.full(len(labels), 1 / repeats)
            reason = why_no_calibration(labels, probabilities, kind, weights=weights)
            if reason is None:
                return fit_calibration(labels, probabilities, kind, weights), None
        else:
            reason = (
                f"the folds that were trained on it predicted {with_it} slices with it and "
                f"{without} without; a calibration needs at least {LEAST_OF_EACH} of each"
            )
        if share is None or not self.fitting.is_balanced:
            return LogitCalibration(), f"not calibrated: {reason}"
        shift = float(np.log(share / (1 - share)))
        return LogitCalibration(1.0, shift), f"only shifted to its share of the slices: {reason}"

    def _choose(
        self, labels: np.ndarray, capped: np.ndarray, share: float, is_calibrated: bool
    ) -> tuple[float, str | None]:
        """Choose a threshold; return also why it does not follow the criterion."""
        criterion, kind = self.fitting.criterion, self.fitting.calibration
        if parse_operating_point(criterion)[0] in WITHOUT_PREDICTIONS or (
            is_calibrated and 0 < labels.sum() < len(labels)
        ):
            keeps_weights = self.fitting.is_balanced and kind != "platt"
            prior = 0.5 if keeps_weights and is_calibrated else share
            if not len(labels):
                labels, capped = np.zeros(1, np.int64), np.zeros(1)
            point = choose(labels, capped, criterion, prior=prior)
            return point.threshold, point.note
        return share, f"the threshold is its share of the slices: too few slices for {criterion}"


def _share(labels: np.ndarray) -> float:
    """Return the share of ones, with half a slice added to both kinds."""
    return float((labels.sum() + 0.5) / (len(labels) + 1))


def _varies_in_fold(column: np.ndarray, folds: np.ndarray) -> np.ndarray:
    """Return for each slice whether predictions vary within its fold, bool `(n,)`."""
    varies = np.zeros(len(column), bool)
    for number in np.unique(folds):
        inside = folds == number
        varies[inside] = np.ptp(column[inside]) > 0
    return varies
