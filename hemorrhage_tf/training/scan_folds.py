"""The scan models of a fit: one for each fold, their calibration, and the one to save."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from hemorrhage_tf.core.errors import DataError
from hemorrhage_tf.core.progress import Progress
from hemorrhage_tf.datasets.slice_index import SliceIndex
from hemorrhage_tf.evaluation.cross_fitting import CrossFit, OutOfFold, cross_fit
from hemorrhage_tf.evaluation.logit_calibration import LogitCalibration
from hemorrhage_tf.evaluation.operating_point import OperatingPoint, choose
from hemorrhage_tf.models.scan_model import set_scan_calibration
from hemorrhage_tf.training.checkpoint import FitCheckpoint
from hemorrhage_tf.training.context import FitContext
from hemorrhage_tf.training.features.table import FeatureTable
from hemorrhage_tf.training.fold_metrics import (
    LevelResult,
    ScanResults,
    has_labeled_hemorrhage,
    known_labels,
)
from hemorrhage_tf.training.folds import Fold
from hemorrhage_tf.training.head_groups import HeadGroups
from hemorrhage_tf.training.head_solver import HeadWeights
from hemorrhage_tf.training.scan_trainer import ScanTrainer, ScanTraining, SliceHeads
from hemorrhage_tf.training.settings import FitSettings

# With "auto" a scan model is trained from this many scans of each class on, in the training part.
# See docs/decisions.md.
AUTO_KIND = "pooling"
FEWEST_SCANS = 10

# A kind that the user names needs this many scans of each class.
_FEWEST_NAMED = 4


@dataclass(frozen=True, eq=False, kw_only=True)
class ScanTables:
    """The out-of-fold predictions of a scan model, as the tables of a run show them.

    Attributes:
        scans: int64 `(k,)`: the predicted scans in `slices.scans`.
        probabilities: float64 `(repeats, k)`, of the scans.
        decisions: bool `(repeats, k)`, whether a scan is predicted hemorrhage.
        slices: int64 `(n,)`: the slices predicted in their scans.
        in_scans: float64 `(repeats, n)`, their probabilities.
    """

    scans: np.ndarray
    probabilities: np.ndarray
    decisions: np.ndarray
    slices: np.ndarray
    in_scans: np.ndarray


@dataclass(frozen=True, eq=False, kw_only=True)
class FittedScanModel:
    """The scan model of a fit, before it is written.

    Attributes:
        kind: "pooling", "attention" or "gru".
        scans: Predictions of the scans, calibrated out of fold; and their operating point.
        slices_in_scans: Predictions of the slices in their scans, likewise.
        build: Returns the Keras model to save, calibrated.
    """

    kind: str
    scans: LevelResult
    slices_in_scans: LevelResult
    build: Callable[[], Any]

    @property
    def tables(self) -> ScanTables:
        """All predictions, those of slices without a known label included."""
        return ScanTables(
            scans=self.scans.indices,
            probabilities=np.stack(self.scans.probabilities),
            decisions=self.scans.decided,
            slices=self.slices_in_scans.indices,
            in_scans=np.stack(self.slices_in_scans.probabilities),
        )

    def results(self, slices: SliceIndex) -> ScanResults:
        """Return the predictions that the metrics are computed from.

        Slices count only where their label is known; without a known hemorrhage among them there
        are no metrics of slices.
        """
        inside = self.slices_in_scans
        if not has_labeled_hemorrhage(slices, inside.indices):
            return ScanResults(scans=self.scans)
        known = inside.of(known_labels(slices, inside.indices))
        return ScanResults(scans=self.scans, slices_in_scans=known)


def choose_scan_model(
    slices: SliceIndex, settings: FitSettings, folds: Sequence[Fold], progress: Progress
) -> str | None:
    """Choose the kind of scan model by the settings and the data.

    Args:
        slices: All slices.
        settings: The settings of the fit.
        folds: One for a single split, or those of a cross-validation.
        progress: Receives a note if there are too few scans.

    Returns:
        The kind, or None for no scan model; a note says why if the data has scans.

    Raises:
        DataError: A kind was named, and the data has too few scans.
    """
    if settings.scan_model == "none":
        return None
    scans = slices.scans
    trained_on = np.arange(len(slices)) if len(folds) > 1 else folds[0].train
    labels = scans.labels[whole_scans(slices, trained_on)]
    counts = np.bincount(labels, minlength=2)
    received = f"{counts[1]} scans with hemorrhage and {counts[0]} without for training"
    if settings.scan_model != "auto":
        if counts.min() < _FEWEST_NAMED:
            raise DataError(
                f"--scan-model {settings.scan_model}: needs at least {_FEWEST_NAMED} scans of each "
                f"class. Received: {received}. Add scans, name them in the manifest's column "
                "`scan`, or pass --scan-model none."
            )
        return settings.scan_model
    if not len(scans):
        return None
    why_not = None
    if not settings.trains_quickly:
        why_not = "it needs cached features and no fine-tuning"
    elif counts.min() < FEWEST_SCANS:
        why_not = f"{received}; it takes {FEWEST_SCANS} of each to help"
    if why_not:
        progress.note(f"No scan model is trained: {why_not}.")
        return None
    return AUTO_KIND


def whole_scans(slices: SliceIndex, indices: np.ndarray) -> np.ndarray:
    """Return the scans all slices of which are among some slices, int64."""
    is_inside = np.zeros(len(slices), bool)
    is_inside[indices] = True
    members = slices.scans.members
    return np.array([scan for scan, of in enumerate(members) if is_inside[of].all()], np.int64)


class ScanTrainings:
    """The trainings of the scan models of a fit, one for each head.

    Args:
        context: The context of the fit.
        features: The features of all slices.
        heads: Solves the heads of the slices.
        kind: The kind of scan model.
        checkpoint: Stores finished trainings.
    """

    def __init__(
        self,
        context: FitContext,
        features: FeatureTable,
        heads: HeadGroups,
        kind: str,
        checkpoint: FitCheckpoint,
    ) -> None:
        self._context = context
        self._trainer = ScanTrainer(context, features, kind)
        self._heads = heads
        self._checkpoint = checkpoint
        self._trainings: dict[str, ScanTraining] = {}

    def train(self, name: str, fold: Fold, head: HeadWeights) -> None:
        """Train the scan model of a fold, or take the result of an earlier process.

        Args:
            name: The name of the head's training.
            fold: The slices that the head was trained and tested on.
            head: The head, without calibration.
        """
        stored = self._checkpoint.finished_training(f"scans-{name}")
        if stored is not None:
            self._trainings[name] = ScanTraining(**stored)
            return
        slices = self._context.slices
        train, test = whole_scans(slices, fold.train), whole_scans(slices, fold.test)
        heads = SliceHeads(fold.train, head, self._heads.solve_parts(fold.train))
        self._trainings[name] = self._trainer.train(heads, train, test)
        self._checkpoint.save_training(f"scans-{name}", self._trainings[name].to_dict())

    def finish(
        self, tested: dict[str, Fold], calibrated_on: dict[str, Fold], saved: str
    ) -> FittedScanModel:
        """Calibrate, choose operating points, and gather the predictions.

        Args:
            tested: The folds to evaluate, by the name of their training.
            calibrated_on: The folds whose predictions decide calibration and operating points:
                `tested` in a cross-validation, those of the training part for a single split; or
                none.
            saved: Name of the training of the saved model.
        """
        scans, inside = self._gather(tested)
        if tested is calibrated_on:
            scan_fit, slice_fit = self._fit(scans, inside)
            predicted = [
                LevelResult(
                    indices=level.indices,
                    probabilities=fit.probabilities,
                    decisions=fit.decisions,
                    point=fit.point,
                )
                for level, fit in ((scans, scan_fit), (inside, slice_fit))
            ]
        else:
            if calibrated_on:
                scan_fit, slice_fit = self._fit(*self._gather(calibrated_on))
            else:
                scan_fit, slice_fit = self._fit_without_predictions(scans, inside)
            predicted = [
                LevelResult(
                    indices=level.indices,
                    probabilities=[fit.calibration.apply(each) for each in level.repeats],
                    point=fit.point,
                )
                for level, fit in ((scans, scan_fit), (inside, slice_fit))
            ]
        self._report(scan_fit.point, scan_fit.note)
        training, kind = self._trainings[saved], self._trainer.kind
        calibrations = scan_fit.calibration, slice_fit.calibration
        return FittedScanModel(
            kind=kind,
            scans=predicted[0],
            slices_in_scans=predicted[1],
            build=lambda: _build(self._trainer, training, *calibrations),
        )

    def _gather(self, folds: dict[str, Fold]) -> tuple[_Level, _Level]:
        """Gather the predictions of folds: of the scans, and of the slices in them."""
        slices = self._context.slices
        scans, inside = (
            _Level.empty(count, max(fold.repeat for fold in folds.values()))
            for count in (len(slices.scans), len(slices))
        )
        for name, fold in folds.items():
            training, tested = self._trainings[name], whole_scans(slices, fold.test)
            if len(tested):
                scans.add(fold, tested, training.scan_probabilities)
                members = np.concatenate([slices.scans.members[scan] for scan in tested])
                inside.add(fold, members, training.slice_probabilities)
        return scans.whole(), inside.whole()

    def _fit(self, scans: _Level, inside: _Level) -> tuple[CrossFit, CrossFit]:
        """Fit calibrations and operating points for scans and slices on out-of-fold predictions."""
        slices, settings = self._context.slices, self._context.settings
        scan_groups = None if slices.patient_groups is None else slices.scans.patients
        scan_fit = cross_fit(
            scans.out_of_fold(slices.scans.labels, scan_groups, "scans"),
            settings.scan_operating_point,
            settings.calibration,
            _uncalibrated_prior(settings),
        )
        slice_fit = cross_fit(
            inside.out_of_fold(slices.labels, slices.patient_groups, "slices"),
            settings.operating_point,
            settings.calibration,
            _uncalibrated_prior(settings),
        )
        return scan_fit, slice_fit

    def _fit_without_predictions(self, scans: _Level, inside: _Level) -> tuple[CrossFit, CrossFit]:
        """Choose operating points that depend on no predictions, without calibration."""
        slices, settings = self._context.slices, self._context.settings
        fits = []
        for level, labels, criterion, unit in (
            (scans, slices.scans.labels, settings.scan_operating_point, "scans"),
            (inside, slices.labels, settings.operating_point, "slices"),
        ):
            prior = _uncalibrated_prior(settings) or float(labels.mean())
            point = choose(labels[level.indices], level.repeats, criterion, prior=prior, unit=unit)
            # The point was chosen on no predictions.
            point = replace(point, n_positive=0, n_negative=0, sensitivity=None, specificity=None)
            fits.append(CrossFit(LogitCalibration(), point, [], []))
        return fits[0], fits[1]

    def _report(self, point: OperatingPoint, note: str | None) -> None:
        progress = self._context.progress
        if note:
            progress.note(f"Probabilities of scans are not calibrated: {note}.")
        if point.note:
            criterion = self._context.settings.scan_operating_point
            progress.warn(f"--scan-operating-point {criterion}: {point.note}.")


@dataclass(frozen=True, eq=False)
class _Level:
    """Uncalibrated predictions of scans, or of the slices in them.

    Attributes:
        indices: The predicted scans or slices.
        values: float64 `(repeats, k)`, in [0, 1]; NaN where there is none yet.
        numbers: int64 `(repeats, k)`, the number of the fold.
    """

    indices: np.ndarray
    values: np.ndarray
    numbers: np.ndarray

    @classmethod
    def empty(cls, count: int, repeats: int) -> _Level:
        shape = repeats, count
        return cls(np.arange(count), np.full(shape, np.nan), np.zeros(shape, np.int64))

    def add(self, fold: Fold, indices: np.ndarray, probabilities: np.ndarray) -> None:
        self.values[fold.repeat - 1, indices] = probabilities
        self.numbers[fold.repeat - 1, indices] = fold.number

    def whole(self) -> _Level:
        """Return those with a prediction in each repeat."""
        at = np.flatnonzero(np.isfinite(self.values).all(axis=0))
        return _Level(at, self.values[:, at], self.numbers[:, at])

    @property
    def repeats(self) -> list[np.ndarray]:
        return list(self.values)

    def out_of_fold(self, labels: np.ndarray, groups: np.ndarray | None, unit: str) -> OutOfFold:
        return OutOfFold(
            labels=labels[self.indices],
            repeats=self.repeats,
            folds=list(self.numbers),
            groups=None if groups is None else groups[self.indices],
            unit=unit,
        )


def _uncalibrated_prior(settings: FitSettings) -> float | None:
    """Return the share of hemorrhage that probabilities assume by training, or None for its own."""
    return 0.5 if settings.class_weights == "balanced" else None


def _build(
    trainer: ScanTrainer,
    training: ScanTraining,
    scans: LogitCalibration,
    slices: LogitCalibration,
) -> Any:
    model = trainer.build(training)
    set_scan_calibration(
        model, (scans.temperature, scans.offset), (slices.temperature, slices.offset)
    )
    return model
