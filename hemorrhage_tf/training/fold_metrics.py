"""The metrics of a fit at each level, over the test parts of its folds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from hemorrhage_tf.core.errors import DataError
from hemorrhage_tf.datasets.slice_index import SliceIndex
from hemorrhage_tf.datasets.subtype_columns import subtype_columns
from hemorrhage_tf.evaluation.cross_fitting import OutOfFold, cross_fit
from hemorrhage_tf.evaluation.labeled_predictions import LabeledPredictions
from hemorrhage_tf.evaluation.logit_calibration import LogitCalibration
from hemorrhage_tf.evaluation.metrics import compute_metrics
from hemorrhage_tf.evaluation.operating_point import OperatingPoint, choose
from hemorrhage_tf.evaluation.resampling import Bootstrap
from hemorrhage_tf.evaluation.scan_metrics import (
    SCANS,
    SLICES,
    SLICES_IN_SCANS,
    ScanSet,
    scan_details,
)
from hemorrhage_tf.models.scan_score import mean_of_highest
from hemorrhage_tf.training.context import FitContext
from hemorrhage_tf.training.folds import FoldResult

_WITHOUT_SCANS = {"level": "slice", SLICES_IN_SCANS: None, SCANS: None, "scan_details": None}


@dataclass(frozen=True, eq=False, kw_only=True)
class LevelResult:
    """Out-of-fold predictions at one level: of scans, or of slices.

    Attributes:
        indices: int64 `(k,)`: the predicted scans in `slices.scans`, or the predicted slices; all
            of a cross-validation, those of the test part of a single split.
        probabilities: For each repeat `(k,)` in [0, 1], calibrated out of fold.
        decisions: For each repeat bool `(k,)`, at thresholds chosen out of fold; None to apply the
            threshold of `point`. Defaults to None.
        point: The operating point of the saved model.
    """

    indices: np.ndarray
    probabilities: Sequence[np.ndarray]
    decisions: Sequence[np.ndarray] | None = None
    point: OperatingPoint

    @property
    def decided(self) -> np.ndarray:
        """The decisions, bool `(repeats, k)`."""
        if self.decisions is None:
            return np.stack(self.probabilities) >= self.point.threshold
        return np.stack(self.decisions).astype(bool)

    def of(self, indices: np.ndarray) -> LevelResult:
        """Return the predictions of some of the indices, all of which must be predicted."""
        at = np.searchsorted(self.indices, indices)
        decisions = None if self.decisions is None else [each[at] for each in self.decisions]
        probabilities = [np.asarray(each)[at] for each in self.probabilities]
        return LevelResult(
            indices=indices, probabilities=probabilities, decisions=decisions, point=self.point
        )


@dataclass(frozen=True, eq=False, kw_only=True)
class ScanResults:
    """Out-of-fold predictions of scans, and of the slices in them.

    Attributes:
        scans: Of the scans.
        slices_in_scans: Of the slices in their scans whose label is known, see `known_labels`;
            sorted by index. None without a scan model. Defaults to None.
    """

    scans: LevelResult
    slices_in_scans: LevelResult | None = None


def fold_metrics(
    context: FitContext,
    results: Sequence[FoldResult],
    *,
    operating_point: OperatingPoint,
    calibration: LogitCalibration,
    prevalence: float | None,
    scan_results: ScanResults | None = None,
) -> dict[str, Any]:
    """Compute the metrics of a fit at each level.

    Args:
        context: The context of the fit.
        results: The result of each fold.
        operating_point: The operating point of the saved model.
        calibration: The calibration of the saved model.
        prevalence: See `evaluation.metrics.compute_metrics`.
        scan_results: Of the scan model. None for data without scans; where the data has scans, the
            result of `scan_results_without_model`. Defaults to None.

    Returns:
        Plain values for `metrics.json`, whose wording is part of its format: the metrics of slices
        alone, or of scans where no slice with hemorrhage has a label of its own (`level`); and
        `slices_in_scans`, `scans` and `scan_details`, None where they do not apply.
    """
    slices = context.slices
    alone = _slices_alone(context, results, operating_point)
    compute = _Levels(context, prevalence)
    if scan_results is None and len(slices.scans):
        scan_results = scan_results_without_model(context, results, operating_point.threshold)
    levels: dict[str, Any] = dict(_WITHOUT_SCANS)
    if scan_results is not None:
        in_scans = scan_results.slices_in_scans
        levels = {
            "level": "slice",
            SLICES_IN_SCANS: in_scans and compute.of_slices(in_scans),
            SCANS: compute.of_scans(scan_results.scans),
            "scan_details": _details(context, alone, scan_results),
        }
    if levels[SCANS] is not None and not has_labeled_hemorrhage(slices, alone.indices):
        levels["level"] = "scan"
        metrics = levels[SCANS]
    else:
        metrics = compute.of_slices(alone.of(known_labels(slices, alone.indices)))
    return {
        **metrics,
        "temperature": calibration.temperature,
        "offset": calibration.offset,
        "leaks": [leak for result in results for leak in result.fold.leaks],
        **levels,
    }


def known_labels(slices: SliceIndex, indices: np.ndarray) -> np.ndarray:
    """Return those of some slices whose label is known.

    Slices without a label of their own are negative in a scan labeled 0, and unknown otherwise.
    """
    return indices[(slices.has_slice_label | (slices.labels == 0))[indices]]


def has_labeled_hemorrhage(slices: SliceIndex, indices: np.ndarray) -> bool:
    """Return whether metrics can count slices: one with hemorrhage, or all, have own labels."""
    has_label = slices.has_slice_label[indices]
    return bool(has_label.all() or (has_label & (slices.labels[indices] == 1)).any())


def scan_results_without_model(
    context: FitContext, results: Sequence[FoldResult], threshold: float
) -> ScanResults | None:
    """Score scans by the mean of their three highest probabilities, without a scan model.

    That score is not a calibrated probability. The criterion "balanced" therefore becomes "youden",
    which maximizes the same sum on the data.

    Args:
        context: The context of the fit.
        results: The result of each fold.
        threshold: The threshold for slices, which applies to scans in a single split.

    Returns:
        The scores of the scans whose slices are tested together, with an operating point that is
        chosen out of fold in a cross-validation. None without such scans.
    """
    slices, settings = context.slices, context.settings
    probabilities, folds = _by_slice(context, results)
    scans = slices.scans
    # Only where a manifest's own split divides a scan are its slices not tested together.
    is_tested = [
        np.isfinite(probabilities[:, members]).all()
        and (folds[:, members] == folds[:, members[:1]]).all()
        for members in scans.members
    ]
    indices = np.flatnonzero(is_tested)
    if not len(indices):
        return None
    labels, first = scans.labels[indices], [scans.members[scan][0] for scan in indices]
    scores = [
        np.array([mean_of_highest(repeat[scans.members[scan]]) for scan in indices])
        for repeat in probabilities
    ]
    groups = None if slices.patient_groups is None else scans.patients[indices]
    if settings.folds:
        criterion = settings.scan_operating_point
        try:
            fit = cross_fit(
                OutOfFold(labels, scores, list(folds[:, first]), groups, "scans"),
                "youden" if criterion == "balanced" else criterion,
                "none",
            )
        except DataError as error:
            context.progress.note(f"The threshold for slices applies to scans, too: {error}")
        else:
            return ScanResults(
                scans=LevelResult(
                    indices=indices, probabilities=scores, decisions=fit.decisions, point=fit.point
                )
            )
    point = choose(labels, scores, f"threshold={threshold!r}", unit="scans")
    # It was not chosen on these scans.
    point = replace(point, n_positive=0, n_negative=0, sensitivity=None, specificity=None)
    return ScanResults(scans=LevelResult(indices=indices, probabilities=scores, point=point))


def _by_slice(context: FitContext, results: Sequence[FoldResult]) -> tuple[np.ndarray, np.ndarray]:
    """Return the probability of each slice `(repeats, n)`, NaN if untested, and its fold."""
    n, repeats = len(context.slices), max(result.fold.repeat for result in results)
    probabilities, folds = np.full((repeats, n), np.nan), np.zeros((repeats, n), np.int64)
    for result in results:
        probabilities[result.fold.repeat - 1, result.fold.test] = result.probabilities
        folds[result.fold.repeat - 1, result.fold.test] = result.fold.number
    return probabilities, folds


class _Levels:
    """Computes the metrics of each level of a fit.

    Args:
        context: The context of the fit.
        prevalence: See `evaluation.metrics.compute_metrics`.
    """

    def __init__(self, context: FitContext, prevalence: float | None) -> None:
        self._slices, self._settings = context.slices, context.settings
        self._prevalence = prevalence

    def of_slices(self, result: LevelResult) -> dict[str, Any]:
        """Compute the metrics of slices, alone or in their scans."""
        slices = self._slices
        return self._compute(result, slices.labels, slices.patient_groups, SLICES)

    def of_scans(self, result: LevelResult) -> dict[str, Any]:
        """Compute the metrics of scans."""
        scans = self._slices.scans
        patients = None if self._slices.patient_groups is None else scans.patients
        return self._compute(result, scans.labels, patients, SCANS)

    def _compute(
        self, result: LevelResult, labels: np.ndarray, groups: np.ndarray | None, unit: str
    ) -> dict[str, Any]:
        indices = result.indices
        predictions = LabeledPredictions(
            labels=labels[indices],
            repeats=result.probabilities,
            threshold=result.point.threshold,
            decisions=result.decisions,
            groups=None if groups is None else groups[indices],
            unit=unit,
        )
        metrics = compute_metrics(
            predictions,
            prevalence=self._prevalence,
            bootstrap=Bootstrap(seed=self._settings.seed),
        )
        return {
            "evaluated_on": self._describe(len(indices), len(labels), unit),
            **metrics.to_dict(),
            "operating_point": result.point.to_dict(),
        }

    def _describe(self, count: int, of: int, unit: str) -> str:
        """Describe what was evaluated; the wording is part of the format of metrics.json."""
        settings = self._settings
        if not settings.folds:
            return f"the test part, {count} of {of} {unit}"
        which = f"all {count} {unit}" if count == of else f"{count} of {of} {unit}"
        times = f", {settings.repeats} times" if settings.repeats > 1 else ""
        return f"{which}, out of fold ({settings.folds} folds{times})"


def _slices_alone(
    context: FitContext, results: Sequence[FoldResult], point: OperatingPoint
) -> LevelResult:
    """Return the predictions of slices alone, whether their labels are known or not."""
    settings, n = context.settings, len(context.slices)
    if not settings.folds:
        [result] = results
        return LevelResult(
            indices=result.fold.test, probabilities=[result.probabilities], point=point
        )
    probabilities = np.full((settings.repeats, n), np.nan)
    decisions = np.zeros((settings.repeats, n), bool)
    for result in results:
        fold = result.fold
        probabilities[fold.repeat - 1, fold.test] = result.probabilities
        decisions[fold.repeat - 1, fold.test] = result.decisions
    return LevelResult(
        indices=np.arange(n),
        probabilities=list(probabilities),
        decisions=list(decisions),
        point=point,
    )


def _details(context: FitContext, alone: LevelResult, results: ScanResults) -> dict[str, Any]:
    """Compute what scans add to the metrics; see `evaluation.scan_metrics.scan_details`."""
    slices, scans = context.slices, context.slices.scans
    groups, indices = slices.patient_groups, results.scans.indices
    n = len(slices)
    decisions = {SLICES: _spread(alone, n)}
    if results.slices_in_scans is not None:
        decisions[SLICES_IN_SCANS] = _spread(results.slices_in_scans, n)
    is_tested = np.zeros(n, bool)
    is_tested[alone.indices] = True
    scan_set = ScanSet(
        scans=LabeledPredictions(
            labels=scans.labels[indices],
            repeats=results.scans.probabilities,
            threshold=results.scans.point.threshold,
            decisions=results.scans.decisions,
            groups=None if groups is None else scans.patients[indices],
            unit=SCANS,
        ),
        members=[scans.members[index] for index in indices],
        decisions=decisions,
        groups=groups,
        subtypes=subtype_columns(slices.manifest),
        labeled=slices.has_slice_label & is_tested,
    )
    return scan_details(scan_set, Bootstrap(seed=context.settings.seed)).to_dict()


def _spread(result: LevelResult, n: int) -> np.ndarray:
    """Return the decisions bool `(repeats, n)`, False for slices without a prediction."""
    decisions = np.zeros((len(result.probabilities), n), bool)
    decisions[:, result.indices] = result.decided
    return decisions
