"""The recalibration of a model at each level: slices alone, slices in their scans, and scans."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from hemorrhage_tf.core.errors import DataError
from hemorrhage_tf.datasets.slice_index import SliceIndex
from hemorrhage_tf.datasets.subtype_columns import subtype_columns
from hemorrhage_tf.evaluation.labeled_predictions import LabeledPredictions
from hemorrhage_tf.evaluation.logit_calibration import LogitCalibration
from hemorrhage_tf.evaluation.metrics import compute_metrics
from hemorrhage_tf.evaluation.recalibration import (
    LevelRecalibration,
    RecalibrationSettings,
    compose,
    fold_numbers,
    recalibrate_level,
    why_not,
)
from hemorrhage_tf.evaluation.scan_metrics import (
    LEVEL_NAMES,
    SCANS,
    SLICES,
    SLICES_IN_SCANS,
    ScanSet,
    scan_details,
)
from hemorrhage_tf.models.metadata import ModelMetadata, versions
from hemorrhage_tf.models.scan_score import mean_of_highest
from hemorrhage_tf.verbs.evaluation_levels import ModelLevels


@dataclass(frozen=True, eq=False)
class RecalibratedLevels:
    """A model recalibrated on local slices and scans.

    Attributes:
        before: The predictions of the model as it is.
        settings: The settings.
        folds: int64 `(repeats, n)`: the fold of each slice.
        fitted: By level what was fitted.
        kept: By level why the data cannot support a recalibration of it; the model's own
            calibration and threshold stay.
    """

    before: ModelLevels
    settings: RecalibrationSettings
    folds: np.ndarray
    fitted: dict[str, LevelRecalibration]
    kept: dict[str, str]

    def calibration(self, level: str) -> LogitCalibration:
        """Return the calibration of a level on top of the model's own; neutral without a fit."""
        fitted = self.fitted.get(level)
        return LogitCalibration() if fitted is None else fitted.fit.calibration

    @property
    def thresholds(self) -> dict[str, float]:
        """The threshold of each level after the recalibration."""
        model = self.before.model
        thresholds = {
            SLICES: model.threshold,
            SLICES_IN_SCANS: model.slice_in_scan_threshold,
            SCANS: model.scan_threshold,
        }
        thresholds |= {name: each.fit.point.threshold for name, each in self.fitted.items()}
        if SCANS not in self.fitted and not model.has_scan_model:
            # The score of a scan is made of probabilities of slices, whose scale has changed.
            own = model.metadata.scan_threshold
            if own is None:
                thresholds[SCANS] = thresholds[SLICES]
            else:
                thresholds[SCANS] = float(self.calibration(SLICES).apply(np.array(own)))
        return thresholds

    @property
    def levels(self) -> dict[str, LabeledPredictions]:
        """The labeled predictions of each level, out of fold where something was fitted."""
        levels = self.before.levels
        after = {name: each.after for name, each in self.fitted.items()}
        if SCANS in levels and SCANS not in self.fitted:
            after[SCANS] = replace(levels[SCANS], threshold=self.thresholds[SCANS])
            if not self.before.model.has_scan_model:
                after[SCANS] = replace(after[SCANS], repeats=[self.scan_scores()])
        return {name: after.get(name, one) for name, one in levels.items()}

    def scan_scores(self) -> np.ndarray:
        """Score scans by the mean of their three highest probabilities after the calibration.

        The calibration is that of the saved model. One for each fold would put the scores of the
        folds on different scales, which the saved model does not do; and as it leaves the order of
        the slices as it is, it tells little of a scan's own label.
        """
        calibrated = self.calibration(SLICES).apply(self.before.probabilities.slices)
        members = self.before.units.scans.members
        return np.array([mean_of_highest(calibrated[each]) for each in members])

    def slices(self, level: str) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """Predict all slices out of fold, whether their label is known or not.

        Args:
            level: `SLICES`, or `SLICES_IN_SCANS` (NaN and False outside of scans).

        Returns:
            For each repeat the probabilities and the decisions, `(n,)`.
        """
        probabilities = self.before.probabilities
        before = probabilities.slices if level == SLICES else probabilities.in_scans
        repeats = [before.astype(np.float64)] * len(self.folds)
        if level in self.fitted:
            return self.fitted[level].fit.predict(repeats, list(self.folds))
        return repeats, [one >= self.thresholds[level] for one in repeats]

    def metadata(self, before: ModelMetadata) -> ModelMetadata:
        """Return the metadata of the recalibrated model."""
        thresholds, fitted = self.thresholds, self.fitted
        composed = compose(
            LogitCalibration(before.temperature, before.offset), self.calibration(SLICES)
        )
        changed: dict[str, Any] = {
            "threshold": thresholds[SLICES],
            "temperature": composed.temperature,
            "offset": composed.offset,
            "recalibrated_on": self.before.units.slices.data_hash,
            "versions": versions(),
        }
        if SLICES in fitted:
            changed["operating_point"] = fitted[SLICES].fit.point.criterion
        if before.scan_model is not None:
            changed["slice_in_scan_threshold"] = thresholds[SLICES_IN_SCANS]
        if SCANS in fitted:
            changed["scan_operating_point"] = fitted[SCANS].fit.point.criterion
        if SCANS in fitted or before.scan_model is not None or before.scan_threshold is not None:
            changed["scan_threshold"] = thresholds[SCANS]
        return replace(before, **changed)

    def metrics(self) -> dict[str, Any]:
        """Compute the metrics of all levels, as `metrics.json` of a fit holds them."""
        levels, units = self.levels, self.before.units
        of_level = {name: self._metrics(name, one) for name, one in levels.items()}
        composed = self.metadata(self.before.model.metadata)
        return {
            **of_level[units.main_level],
            "level": units.level,
            SLICES_IN_SCANS: of_level.get(SLICES_IN_SCANS),
            SCANS: of_level.get(SCANS),
            "scan_details": self._details(levels),
            "temperature": composed.temperature,
            "offset": composed.offset,
            "leaks": [],
        }

    def _metrics(self, name: str, predictions: LabeledPredictions) -> dict[str, Any]:
        settings, fitted = self.settings, self.fitted.get(name)
        times = f", {settings.repeats} times" if settings.repeats > 1 else ""
        how = f", out of fold ({settings.folds} folds{times})"
        metrics: dict[str, Any] = {
            **compute_metrics(predictions).to_dict(),
            "evaluated_on": f"all {len(predictions.labels)} {predictions.unit}"
            f"{how if fitted is not None else ''}",
        }
        if fitted is not None:
            metrics["operating_point"] = fitted.fit.point.to_dict()
        return metrics

    def _details(self, levels: dict[str, LabeledPredictions]) -> dict[str, Any] | None:
        if SCANS not in levels:
            return None
        units = self.before.units
        decisions = {SLICES: np.stack(self.slices(SLICES)[1])}
        if self.before.model.has_scan_model:
            decisions[SLICES_IN_SCANS] = np.stack(self.slices(SLICES_IN_SCANS)[1])
        scan_set = ScanSet(
            scans=levels[SCANS],
            members=units.scans.members,
            decisions=decisions,
            groups=units.slices.patient_groups,
            subtypes=subtype_columns(units.slices.manifest),
            labeled=units.slices.has_slice_label,
        )
        return scan_details(scan_set).to_dict()


def recalibrate_levels(before: ModelLevels, settings: RecalibrationSettings) -> RecalibratedLevels:
    """Recalibrate a model at each level that the data has.

    Without a scan model the score of a scan, the mean of its three highest probabilities, gets a
    threshold only. It is not a calibrated probability, so that the criterion "balanced" becomes
    "youden" for it.

    Args:
        before: The predictions of the model.
        settings: The settings.

    Raises:
        DataError: The data cannot support a recalibration at the main level. Other levels keep
            what the model has.
    """
    units, levels = before.units, before.levels
    slices, first = units.slices, [members[0] for members in units.scans.members]
    groups = slices.groups
    in_scans = units.labeled[units.scans.scan_of_slice[units.labeled] >= 0]
    indices = {SLICES: units.labeled, SLICES_IN_SCANS: in_scans, SCANS: np.array(first, np.int64)}
    kept = {}
    for name, one in levels.items():
        reason = why_not(one.labels, groups[indices[name]], settings.folds, one.unit)
        if reason is not None:
            kept[name] = reason
    if units.main_level in kept:
        raise DataError(_refusal(slices, kept[units.main_level]))
    folds = fold_numbers(slices.labels, groups, settings)
    result = RecalibratedLevels(before, settings, folds, {}, kept)
    for name, one in levels.items():  # slices first: scores of scans are made of them
        if name in kept:
            continue
        scores = None
        criterion = settings.operating_point if name != SCANS else settings.scan_operating_point
        if name == SCANS and not before.model.has_scan_model:
            criterion = "youden" if criterion == "balanced" else criterion
            scores = [result.scan_scores()] * len(folds)
        try:
            result.fitted[name] = recalibrate_level(
                one, list(folds[:, indices[name]]), criterion, scores
            )
        except DataError as error:
            if name == units.main_level:
                raise DataError(_refusal(slices, str(error).rstrip("."))) from None
            kept[name] = str(error).rstrip(".")
    return result


def describe_kept(levels: RecalibratedLevels) -> list[str]:
    """Describe the levels that keep what the model has, and why."""
    model = levels.before.model
    reasons = dict(levels.kept)
    if SCANS not in levels.before.levels:
        absent = "the data has no scans"
        if model.has_scan_model:
            reasons[SLICES_IN_SCANS] = reasons[SCANS] = absent
        elif model.metadata.scan_threshold is not None:
            reasons[SCANS] = absent
    texts = {
        name: f"{LEVEL_NAMES[name]} keep their calibration and threshold: {reason}"
        for name, reason in reasons.items()
    }
    if SCANS in texts and not model.has_scan_model:
        moved = f"{levels.thresholds[SCANS]:.3g}"
        texts[SCANS] = (
            f"the threshold for scans follows the calibration of slices to {moved}: "
            f"{reasons[SCANS]}"
        )
    return list(texts.values())


def _refusal(slices: SliceIndex, reason: str) -> str:
    return (
        f"{slices.manifest.root}: too few to recalibrate on. {reason}. Add labeled patients, or "
        "use the model as it is."
    )
