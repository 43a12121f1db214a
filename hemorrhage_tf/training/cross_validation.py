"""All trainings of a fit: the folds, their calibration, and the model to save."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from hemorrhage_tf.datasets.slice_index import SliceIndex
from hemorrhage_tf.evaluation import dataset_shift
from hemorrhage_tf.evaluation.cross_fitting import CrossFit, OutOfFold, cross_fit
from hemorrhage_tf.evaluation.logit_calibration import LogitCalibration
from hemorrhage_tf.evaluation.operating_point import (
    OperatingPoint,
    choose,
)
from hemorrhage_tf.evaluation.subtype_fitting import SubtypeFit, SubtypeRule
from hemorrhage_tf.pipeline.datasets import translate_read_errors
from hemorrhage_tf.training.checkpoint import FitCheckpoint
from hemorrhage_tf.training.context import FitContext
from hemorrhage_tf.training.evaluated_sets import metrics_of_sets
from hemorrhage_tf.training.feature_sources import build_feature_sources
from hemorrhage_tf.training.fold_metrics import fold_metrics
from hemorrhage_tf.training.folds import Fold, FoldResult, make_inner_folds
from hemorrhage_tf.training.head_solver import HeadWeights
from hemorrhage_tf.training.loop import Epoch, TrainingHooks
from hemorrhage_tf.training.scan_folds import FittedScanModel, ScanTrainings
from hemorrhage_tf.training.settings import FitSettings
from hemorrhage_tf.training.subtype_folds import (
    add_cross_fitted,
    add_predicted,
    fit_subtypes,
    subtype_fold_metrics,
)
from hemorrhage_tf.training.tensorboard import TensorBoardLog
from hemorrhage_tf.training.trainer import Trainer, hold_out_validation

_NO_SLICES = np.array([], np.int64)
_EVERYTHING = "all"  # the training on all slices after a cross-validation


@dataclass(frozen=True)
class FitResult:
    """The result of a fit, before it is written.

    Attributes:
        folds: The result of each fold.
        final_history: History of the training on all slices that follows a cross-validation; empty
            for a single split.
        operating_point: The operating point of the saved model.
        calibration: The calibration of the saved model, already part of its weights.
        metrics: The metrics of the folds, for `metrics.json`.
        training_profile: Properties of the training slices, see `evaluation.dataset_shift`.
        precision: The Keras dtype policies of features used only in training.
        weights_hash: Hash of the backbones' initial weights.
        write_classifier: Writes the model to a `.keras` file.
        subtype_rules: Calibration and threshold of each subtype, the calibration already part of
            the weights; empty without subtypes.
        scan_model: The scan model; None without one.
        phantom_weight: The weight of phantoms in the training of the saved model; 0 without any.
    """

    folds: list[FoldResult]
    final_history: list[Epoch]
    operating_point: OperatingPoint
    calibration: LogitCalibration
    metrics: dict[str, Any]
    training_profile: dict[str, Any]
    precision: str
    weights_hash: str
    write_classifier: Callable[[Path], None]
    subtype_rules: tuple[SubtypeRule, ...] = ()
    scan_model: FittedScanModel | None = None
    phantom_weight: float = 0.0


def train_folds(
    context: FitContext,
    folds: Sequence[Fold],
    checkpoint: FitCheckpoint,
    tensorboard: TensorBoardLog,
    prevalence: float | None = None,
) -> FitResult:
    """Train every fold, and then on all slices if there are several folds.

    Calibration and operating point come from out-of-fold predictions: in a cross-validation those
    of the other folds, for a single split those of a cross-validation of its training part.

    Args:
        context: The context of the fit.
        folds: One for a single split, or those of a cross-validation.
        checkpoint: Stores finished trainings, and provides those that an earlier process finished.
        tensorboard: Receives the settings and each epoch.
        prevalence: Share of slices with hemorrhage, in (0, 1), for further predictive values.
            Defaults to None.

    Returns:
        The result.

    Raises:
        HemorrhageError: A backbone is not available, a slice cannot be read, the data do not
            suffice for the operating point, or workers differ.
    """
    slices = context.slices
    tensorboard.write_settings(context.settings.to_dict())
    feature_sources = build_feature_sources(context)
    trainer = Trainer(context, feature_sources)
    is_cross_validation = len(folds) > 1
    trained_on = np.arange(len(slices)) if is_cross_validation else folds[0].train
    trainer.prepare(trained_on, np.concatenate([fold.test for fold in folds]))

    trainings = _Trainings(context, trainer, checkpoint, tensorboard)
    if context.scan_model is not None:
        trainings.scans = ScanTrainings(
            context, trainer.features, trainer.heads, context.scan_model, checkpoint
        )
    trainings.run(folds)
    fit = trainings.cross_fit(folds)
    subtypes = None if context.subtypes is None else trainings.fit_subtypes(folds, fit)
    rules = () if subtypes is None else subtypes.rules
    calibrations = [fit.calibration, *(rule.calibration for rule in rules)]
    if not all(calibration.is_identity for calibration in calibrations):
        trainer.apply_calibrations(calibrations)
    _report(context, fit)
    results = trainings.results(folds, fit, subtypes)
    scan_model = trainings.finish_scans(folds)
    metrics = fold_metrics(
        context,
        results,
        operating_point=fit.point,
        calibration=fit.calibration,
        prevalence=prevalence,
        scan_results=None if scan_model is None else scan_model.results(slices),
    )
    if subtypes is not None:
        metrics |= subtype_fold_metrics(context, results, rules)
    metrics |= metrics_of_sets(context, trainer, fit.point.threshold, prevalence)
    return FitResult(
        folds=results,
        final_history=trainings.final_history,
        operating_point=fit.point,
        calibration=fit.calibration,
        metrics=metrics,
        training_profile=_training_profile(slices, trained_on, trainer, context.settings),
        precision=feature_sources.precision,
        weights_hash=feature_sources.weights_hash,
        write_classifier=trainer.write_classifier,
        subtype_rules=rules,
        scan_model=scan_model,
        phantom_weight=trainer.head.phantom_weight,
    )


def _report(context: FitContext, fit: CrossFit) -> None:
    """Say why probabilities are not calibrated, and what the operating point cannot show."""
    settings = context.settings
    why_not = fit.note
    if settings.calibration != "none" and not settings.trains_quickly:
        why_not = "only a head on cached features, without fine-tuning, is calibrated"
    if why_not:
        context.progress.note(f"Probabilities are not calibrated: {why_not}.")
    if fit.point.note:
        context.progress.warn(f"--operating-point {settings.operating_point}: {fit.point.note}.")


class _Trainings:
    """The trainings of a fit, one after another.

    Args:
        context: The context of the fit.
        trainer: Trains one head.
        checkpoint: Stores finished trainings.
        tensorboard: Receives each epoch.

    Attributes:
        probabilities: Uncalibrated probabilities of each fold's test slices.
        subtypes: Uncalibrated probabilities of their subtypes, `(n, 5)` for each fold.
        histories: The history of each fold.
        final_history: The history of the training on all slices, or empty.
        scans: Trains a scan model after each head; None for no scan models.
    """

    def __init__(
        self,
        context: FitContext,
        trainer: Trainer,
        checkpoint: FitCheckpoint,
        tensorboard: TensorBoardLog,
    ) -> None:
        self._context = context
        self._trainer = trainer
        self._checkpoint = checkpoint
        self._tensorboard = tensorboard
        self._advance: Callable[[int], None] = lambda epochs: None
        self._inner_folds: list[Fold] = []
        self._inner_probabilities: list[np.ndarray] = []
        self._inner_subtypes: list[np.ndarray] = []
        self.probabilities: list[np.ndarray] = []
        self.subtypes: list[np.ndarray] = []
        self.histories: list[list[Epoch]] = []
        self.scans: ScanTrainings | None = None
        self.final_history: list[Epoch] = []

    def run(self, folds: Sequence[Fold]) -> None:
        """Train inner folds, folds, and at last the model to save."""
        is_cross_validation = len(folds) > 1
        if not is_cross_validation:
            self._inner_folds = make_inner_folds(self._context, folds[0], self.scans is not None)
        everything = Fold(0, 0, np.arange(len(self._context.slices)), _NO_SLICES)
        trainings = [*self._inner_folds, *folds, *([everything] if is_cross_validation else [])]
        self._trainer.plan([fold.train for fold in trainings])
        count = len(trainings)
        track = self._context.progress.track("Training", count * self._trainer.epochs)
        with translate_read_errors(), track as self._advance:
            for index, fold in enumerate(self._inner_folds):
                probabilities, _ = self._train(
                    _inner_name(fold), f"calibration {fold.number}", fold, index
                )
                self._inner_probabilities.append(probabilities)
                self._inner_subtypes.append(self._trainer.subtypes)
            for index, fold in enumerate(folds):
                probabilities, history = self._train(
                    _training_name(fold),
                    _fold_title(fold, folds),
                    fold,
                    index,
                    is_saved=not is_cross_validation,
                )
                self.probabilities.append(probabilities)
                self.subtypes.append(self._trainer.subtypes)
                self.histories.append(history)
            if is_cross_validation:
                _, self.final_history = self._train(
                    _EVERYTHING, "all slices", everything, is_saved=True
                )

    def results(
        self, folds: Sequence[Fold], fit: CrossFit, subtypes: SubtypeFit | None
    ) -> list[FoldResult]:
        """Return the result of each fold, calibrated and decided by `cross_fit`."""
        if len(folds) == 1:
            probabilities = fit.calibration.apply(self.probabilities[0])
            decisions = probabilities >= fit.point.threshold
            result = FoldResult(folds[0], probabilities, decisions, self.histories[0])
            if subtypes is not None:
                result = add_predicted(result, self.subtypes[0], subtypes.rules)
            return [result]
        results = [
            FoldResult(
                fold=fold,
                probabilities=fit.probabilities[fold.repeat - 1][fold.test],
                decisions=fit.decisions[fold.repeat - 1][fold.test],
                history=history,
            )
            for fold, history in zip(folds, self.histories, strict=True)
        ]
        return results if subtypes is None else add_cross_fitted(results, subtypes)

    def finish_scans(self, folds: Sequence[Fold]) -> FittedScanModel | None:
        """Calibrate the scan model, and gather its predictions."""
        if self.scans is None:
            return None
        tested = {_training_name(fold): fold for fold in folds}
        if len(folds) > 1:
            return self.scans.finish(tested, tested, _EVERYTHING)
        inner = {_inner_name(fold): fold for fold in self._inner_folds}
        return self.scans.finish(tested, inner, *tested)

    def _train(
        self, name: str, title: str, fold: Fold, index: int = 0, is_saved: bool = False
    ) -> tuple[np.ndarray, list[Epoch]]:
        """Train one head and its scan model, or take the results of an earlier process."""
        result = self._train_head(name, title, fold, index, is_saved)
        if self.scans is not None:
            self.scans.train(name, fold, self._trainer.head)
        return result

    def _train_head(
        self, name: str, title: str, fold: Fold, index: int, is_saved: bool
    ) -> tuple[np.ndarray, list[Epoch]]:
        """Train one head, or take the result of an earlier process.

        Args:
            name: The training's name in the checkpoint.
            title: Its name in TensorBoard.
            fold: The slices.
            index: Added to the seed.
            is_saved: Whether the saved model comes from this training.

        Returns:
            Probabilities of the test slices, and the history.
        """
        settings = self._context.settings
        finished = self._checkpoint.finished_training(name)
        if finished is not None:
            self._trainer.head = HeadWeights(
                mean=finished["mean"],
                variance=finished["variance"],
                kernel=finished["kernel"],
                bias=finished["bias"],
                phantom_weight=finished["phantom_weight"],
            )
            self._trainer.subtypes = finished["subtypes"]
            self._advance(self._trainer.epochs)
            return finished["probabilities"], finished["history"]
        task = replace(
            hold_out_validation(self._context.slices, fold.train, settings, settings.seed + index),
            test=fold.test,
            hooks=TrainingHooks(
                advance=self._advance,
                epoch_store=lambda stage: self._checkpoint.epoch_checkpoint(name, stage),
                on_epoch=self._tensorboard.start_training(title),
            ),
        )
        probabilities, history = self._trainer.train(task)
        # Fine-tuned weights of the saved model are restored from its last epoch instead.
        if not (is_saved and settings.fine_tune_epochs):
            head = self._trainer.head
            self._checkpoint.save_training(
                name,
                {
                    **{"mean": head.mean, "variance": head.variance},
                    **{"kernel": head.kernel, "bias": head.bias},
                    **{"probabilities": probabilities, "history": history},
                    "subtypes": self._trainer.subtypes,
                    "phantom_weight": head.phantom_weight,
                },
            )
        return probabilities, history

    def cross_fit(self, folds: Sequence[Fold]) -> CrossFit:
        """Fit calibration and operating point on out-of-fold predictions."""
        slices, settings = self._context.slices, self._context.settings
        if len(folds) > 1:
            return _cross_fit_folds(
                self._context, folds, self.probabilities, np.arange(len(slices))
            )
        if self._inner_folds:
            return _cross_fit_folds(
                self._context, self._inner_folds, self._inner_probabilities, folds[0].train
            )
        # Such a threshold needs no predictions; the point was chosen on none.
        labels = slices.labels[folds[0].test]
        prior = _uncalibrated_prior(settings) or float(slices.labels[folds[0].train].mean())
        point = choose(labels, self.probabilities[0], settings.operating_point, prior=prior)
        point = replace(point, n_positive=0, n_negative=0, sensitivity=None, specificity=None)
        return CrossFit(LogitCalibration(), point, [], [])

    def fit_subtypes(self, folds: Sequence[Fold], any_hemorrhage: CrossFit) -> SubtypeFit:
        """Fit calibration and thresholds of subtypes on out-of-fold predictions."""
        if len(folds) > 1:
            tested, predicted = np.arange(len(self._context.slices)), self.subtypes
        else:
            folds, tested, predicted = self._inner_folds, folds[0].train, self._inner_subtypes
        return fit_subtypes(self._context, folds, predicted, any_hemorrhage, tested)


def _cross_fit_folds(
    context: FitContext,
    folds: Sequence[Fold],
    probabilities: Sequence[np.ndarray],
    tested: np.ndarray,
) -> CrossFit:
    """Fit calibration and operating point on the folds' predictions.

    Args:
        context: The context of the fit.
        folds: The folds of a cross-validation.
        probabilities: Of each fold's test slices.
        tested: Indices of the slices that the folds test, once a repeat.
    """
    slices, settings = context.slices, context.settings
    repeats = max(fold.repeat for fold in folds)
    out_of_fold = np.zeros((repeats, len(slices)))
    numbers = np.zeros((repeats, len(slices)), np.int64)
    for fold, of_fold in zip(folds, probabilities, strict=True):
        out_of_fold[fold.repeat - 1, fold.test] = of_fold
        numbers[fold.repeat - 1, fold.test] = fold.number
    patients = slices.patient_groups
    predictions = OutOfFold(
        labels=slices.labels[tested],
        repeats=list(out_of_fold[:, tested]),
        folds=list(numbers[:, tested]),
        groups=None if patients is None else patients[tested],
    )
    return cross_fit(
        predictions,
        settings.operating_point,
        settings.calibration if settings.trains_quickly else "none",
        _uncalibrated_prior(settings),
    )


def _uncalibrated_prior(settings: FitSettings) -> float | None:
    """Return the share of hemorrhage that probabilities assume by training, or None for its own."""
    return 0.5 if settings.class_weights == "balanced" else None


def _training_name(fold: Fold) -> str:
    return f"repeat-{fold.repeat}-fold-{fold.number}"


def _inner_name(fold: Fold) -> str:
    return f"inner-{fold.number}"


def _fold_title(fold: Fold, folds: Sequence[Fold]) -> str:
    if len(folds) == 1:
        return "training part"
    repeats = max(each.repeat for each in folds)
    return f"repeat {fold.repeat} fold {fold.number}" if repeats > 1 else f"fold {fold.number}"


def _training_profile(
    slices: SliceIndex, trained_on: np.ndarray, trainer: Trainer, settings: FitSettings
) -> dict[str, Any]:
    """Summarize the slices that the saved model was trained on, for `evaluate` to compare with."""
    profile = dataset_shift.profile_slices(slices, trained_on)
    if not settings.fine_tune_epochs:
        profile = dataset_shift.add_feature_distance(profile, trainer.standardized(trained_on))
    return profile
