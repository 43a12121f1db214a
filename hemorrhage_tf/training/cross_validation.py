"""Train every fold, choose temperature and operating point out of fold, and compute the metrics."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from hemorrhage_tf.core.errors import DataError, OptionError
from hemorrhage_tf.core.progress import Progress
from hemorrhage_tf.datasets import splits
from hemorrhage_tf.datasets.slice_index import SliceIndex
from hemorrhage_tf.evaluation import dataset_shift
from hemorrhage_tf.evaluation.calibration import apply_temperature
from hemorrhage_tf.evaluation.cross_fitting import CrossFit, cross_fit
from hemorrhage_tf.evaluation.dataset_shift import FEATURE_DISTANCE
from hemorrhage_tf.evaluation.metrics import binary_metrics
from hemorrhage_tf.evaluation.operating_point import OperatingPoint, choose, parse_operating_point
from hemorrhage_tf.pipeline.datasets import explained_read_errors
from hemorrhage_tf.training import checkpoint
from hemorrhage_tf.training.folds import Fold
from hemorrhage_tf.training.head_solver import HeadWeights
from hemorrhage_tf.training.loop import Epoch
from hemorrhage_tf.training.settings import FitSettings
from hemorrhage_tf.training.tensorboard import TrainingWatch
from hemorrhage_tf.training.trainer import Trainer, make_part

INNER_FOLDS = 5  # of the training part of a single split, for temperature and operating point


@dataclass(frozen=True)
class _Result:
    """What the trainings of a plan gave, fold by fold."""

    probabilities: list[np.ndarray]
    decisions: list[np.ndarray]
    histories: list[list[Epoch]]
    point: OperatingPoint
    temperature: float


def _train(
    trainer: Trainer,
    slices: SliceIndex,
    plan: list[Fold],
    settings: FitSettings,
    progress: Progress,
    state: checkpoint.Checkpoint,
    watch: TrainingWatch,
) -> _Result:
    """Trains every fold, and on all slices last where there are several.

    What an earlier process has finished is taken from it.

    Temperature and operating point come from out-of-fold predictions: of a cross-validation those
    of the other folds, of a single split those of a cross-validation of its training part.
    """
    raw: list[np.ndarray] = []
    histories: list[list[Epoch]] = []
    inner = _inner_folds(slices, plan, settings, progress)
    trainings = len(plan) + (len(plan) > 1) + len(inner)
    advancing = progress.track("Training", trainings * trainer.epochs)
    with explained_read_errors(), advancing as advance:
        held_out = np.zeros(len(slices))

        def train(
            name: str, title: str, chosen: np.ndarray, test: np.ndarray, number: int = 0
        ) -> tuple[np.ndarray, list[Epoch]]:
            return _train_once(
                *(trainer, slices, settings, state, watch, advance),
                *(name, title, chosen, test, number),
            )

        for number, (chosen, test) in enumerate(inner):
            title = f"calibration {number + 1}"
            held_out[test] = train(f"inner-{number + 1}", title, chosen, test, number)[0]
        for number, fold in enumerate(plan):
            name = f"repeat-{fold.repeat}-fold-{fold.number}"
            title = _training_name(fold, plan)
            found, history = train(name, title, fold.train, fold.test, number)
            raw.append(found)
            histories.append(history)
        if len(plan) > 1:
            nothing = np.array([], np.int64)
            _, history = train("all", "all slices", np.arange(len(slices)), nothing)
            histories.append(history)

    fit = _cross_fit(slices, plan, raw, inner, held_out, settings)
    if fit.temperature != 1:
        trainer.temper(fit.temperature)
    if fit.point.note:
        progress.warn(f"--operating-point {settings.operating_point}: {fit.point.note}")
    if len(plan) > 1:
        probabilities = [fit.probabilities[fold.repeat - 1][fold.test] for fold in plan]
        decisions = [fit.decisions[fold.repeat - 1][fold.test] for fold in plan]
    else:
        probabilities = [apply_temperature(raw[0], fit.temperature)]
        decisions = [probabilities[0] >= fit.point.threshold]
    return _Result(probabilities, decisions, histories, fit.point, fit.temperature)


def _train_once(
    trainer: Trainer,
    slices: SliceIndex,
    settings: FitSettings,
    state: checkpoint.Checkpoint,
    watch: TrainingWatch,
    advance: Callable[[int], None],
    name: str,
    title: str,
    chosen: np.ndarray,
    test: np.ndarray,
    number: int,
) -> tuple[np.ndarray, list[Epoch]]:
    """Trains one head, or takes what it gave from an earlier process that finished it."""
    before = state.done(name)
    if before is not None:
        trainer.head = HeadWeights(
            *(before[each] for each in ("mean", "variance", "kernel", "bias"))
        )
        advance(trainer.epochs)
        return before["probabilities"], before["history"]
    part = make_part(slices, chosen, settings, settings.seed + number)
    on_epoch = watch.training(title)
    keep = partial(state.epoch_checkpoint, name)
    found, history = trainer.train(part, test, advance, keep, on_epoch)
    # Fine-tuned weights lie in the state after the last epoch, and are brought back from there.
    if not settings.fine_tune_epochs or name.startswith(("inner", "repeat")):
        head = trainer.head
        state.finish(
            name,
            {
                **{"mean": head.mean, "variance": head.variance},
                **{"kernel": head.kernel, "bias": head.bias},
                **{"probabilities": found, "history": history},
            },
        )
    return found, history


def _training_name(fold: Fold, plan: list[Fold]) -> str:
    if len(plan) == 1:
        return "training part"
    repeats = max(each.repeat for each in plan)
    return f"repeat {fold.repeat} fold {fold.number}" if repeats > 1 else f"fold {fold.number}"


def _inner_folds(
    slices: SliceIndex, plan: list[Fold], settings: FitSettings, progress: Progress
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Deals the training part of a single split into folds, where that is wanted and quick."""
    kind, _ = parse_operating_point(settings.operating_point)
    wanted = settings.calibration != "none" or kind != "threshold"
    if len(plan) > 1 or not wanted or not settings.trains_quickly:
        return []
    train = plan[0].train
    try:
        dealt = splits.folds(slices.labels[train], slices.groups[train], INNER_FOLDS, settings.seed)
    except DataError as error:
        if kind != "threshold":
            raise
        progress.note(f"Probabilities are not calibrated: {error}")
        return []
    return [(train[inner], train[test]) for inner, test in dealt]


def _cross_fit(
    slices: SliceIndex,
    plan: list[Fold],
    raw: list[np.ndarray],
    inner: list[tuple[np.ndarray, np.ndarray]],
    held_out: np.ndarray,
    settings: FitSettings,
) -> CrossFit:
    calibrate = settings.calibration == "temperature"
    labels, patients = slices.labels, slices.patient_groups
    if len(plan) > 1:
        repeats = np.zeros((settings.repeats, len(slices)))
        numbers = np.zeros((settings.repeats, len(slices)), np.int64)
        for fold, found in zip(plan, raw, strict=True):
            repeats[fold.repeat - 1, fold.test] = found
            numbers[fold.repeat - 1, fold.test] = fold.number
        calibrate &= settings.trains_quickly
        return cross_fit(
            labels, list(repeats), list(numbers), settings.operating_point, calibrate, patients
        )
    train = plan[0].train
    if not inner:  # only a fixed threshold needs no predictions to be chosen on
        point = choose(labels[plan[0].test], raw[0], settings.operating_point)
        unseen = {"n_positive": 0, "n_negative": 0, "sensitivity": None, "specificity": None}
        return CrossFit(1.0, replace(point, **unseen), [], [])
    numbers = np.zeros(len(slices), np.int64)
    for number, (_, test) in enumerate(inner):
        numbers[test] = number
    return cross_fit(
        labels[train],
        [held_out[train]],
        [numbers[train]],
        settings.operating_point,
        calibrate,
        None if patients is None else patients[train],
    )


def _training_look(
    slices: SliceIndex, plan: list[Fold], trainer: Trainer, settings: FitSettings
) -> dict[str, Any]:
    """Sums up what the saved model was trained on, for `evaluate` to compare with."""
    trained_on = np.arange(len(slices)) if len(plan) > 1 else plan[0].train
    look = dataset_shift.profile_slices(slices, trained_on)
    if not settings.fine_tune_epochs:
        found = [dataset_shift.root_mean_square(rows) for rows in trainer.standardized(trained_on)]
        distances = np.concatenate(found)
        look["quantiles"] |= dataset_shift.profile({FEATURE_DISTANCE: distances}, 0.0)["quantiles"]
    return look


def _check_operating_point(settings: FitSettings) -> None:
    kind, _ = parse_operating_point(settings.operating_point)
    if kind != "threshold" and not settings.folds and not settings.trains_quickly:
        raise OptionError(
            f"--operating-point {settings.operating_point}: is chosen on out-of-fold predictions, "
            "which a single split with fine-tuning or without the feature cache does not have. Add "
            "--folds 5, or give threshold=0.5"
        )


def _metrics(
    slices: SliceIndex,
    plan: list[Fold],
    result: _Result,
    settings: FitSettings,
    prevalence: float | None,
) -> dict[str, Any]:
    patients = slices.patient_groups
    threshold = result.point.threshold
    if not settings.folds:
        test = plan[0].test
        figures = {
            "evaluated_on": f"the test part, {len(test)} of {len(slices)} slices",
            **binary_metrics(
                slices.labels[test],
                result.probabilities,
                threshold,
                groups=None if patients is None else patients[test],
                prevalence=prevalence,
                seed=settings.seed,
            ),
        }
    else:
        repeats = np.full((settings.repeats, len(slices)), np.nan)
        decisions = np.zeros((settings.repeats, len(slices)), bool)
        for fold, found, called in zip(plan, result.probabilities, result.decisions, strict=True):
            repeats[fold.repeat - 1, fold.test] = found
            decisions[fold.repeat - 1, fold.test] = called
        times = f", {settings.repeats} times" if settings.repeats > 1 else ""
        on = f"all {len(slices)} slices, out of fold ({settings.folds} folds{times})"
        figures = {
            "evaluated_on": on,
            **binary_metrics(
                slices.labels,
                list(repeats),
                threshold,
                decisions=list(decisions),
                groups=patients,
                prevalence=prevalence,
                seed=settings.seed,
            ),
        }
    figures["operating_point"] = result.point.to_dict()
    figures["temperature"] = result.temperature
    figures["leaks"] = [leak for fold in plan for leak in fold.leaks]
    return figures
