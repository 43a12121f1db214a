"""The folds of a fit: which slices each training uses, and which slices test it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hemorrhage_tf.core.errors import DataError, OptionError, Problem
from hemorrhage_tf.core.progress import Progress
from hemorrhage_tf.datasets import splits
from hemorrhage_tf.datasets.slice_index import SliceIndex
from hemorrhage_tf.evaluation.operating_point import WITHOUT_PREDICTIONS, parse_operating_point
from hemorrhage_tf.training.context import FitContext
from hemorrhage_tf.training.loop import Epoch
from hemorrhage_tf.training.settings import FitSettings

INNER_FOLDS = 5  # of the training part of a single split, for calibration and operating point


@dataclass(frozen=True)
class Fold:
    """A training part and its test part.

    Attributes:
        repeat: Number of the repeat, from 1.
        number: Number of the fold within the repeat, from 1.
        train: Sorted indices of the training slices.
        test: Sorted indices of the test slices.
        leaks: Descriptions of slices on both sides of a split column, with `--allow-leak`.
    """

    repeat: int
    number: int
    train: np.ndarray
    test: np.ndarray
    leaks: tuple[str, ...] = ()


@dataclass(frozen=True)
class FoldResult:
    """The result of one fold.

    Attributes:
        fold: The fold.
        probabilities: `(n,)` in [0, 1], of the fold's test slices, calibrated out of fold.
        decisions: bool `(n,)`, whether a test slice is predicted hemorrhage at a threshold chosen
            out of fold.
        history: Rows of the training history, see `loop.Loop.train`.
        subtypes: `(n, 5)` in [0, 1], of subtypes, calibrated out of fold and capped at any
            hemorrhage; None of a model without subtypes. Defaults to None.
        subtype_decisions: bool `(n, 5)`, at thresholds chosen out of fold. Defaults to None.
    """

    fold: Fold
    probabilities: np.ndarray
    decisions: np.ndarray
    history: list[Epoch]
    subtypes: np.ndarray | None = None
    subtype_decisions: np.ndarray | None = None


def make_folds(slices: SliceIndex, settings: FitSettings, progress: Progress) -> list[Fold]:
    """Split the slices by the settings or the split column of the manifest.

    Args:
        slices: The slices.
        settings: The settings of the fit.
        progress: Receives a warning if near-duplicates are on both sides of a split column.

    Returns:
        One fold for a single split, or repeats * folds of them.

    Raises:
        DataError: Only one class, too few groups, or a split column that leaks.
        OptionError: Folds together with a split column.
    """
    labels, groups = slices.labels, slices.groups
    splits.check_classes(labels)
    column = np.array([record.split or "" for record in slices.manifest.records])
    if column[0]:
        if settings.folds:
            raise OptionError(
                f"--folds {settings.folds}: the manifest has a split column of its own. "
                "Leave out one of them."
            )
        return [_fold_of_column(slices, column, progress, settings.allow_leak)]
    if not settings.folds:
        train, test = splits.holdout(labels, groups, settings.test_fraction, settings.seed)
        return [Fold(1, 1, train, test)]
    return [
        Fold(repeat + 1, number + 1, train, test)
        for repeat in range(settings.repeats)
        for number, (train, test) in enumerate(
            splits.folds(labels, groups, settings.folds, splits.repeat_seed(settings.seed, repeat))
        )
    ]


def make_inner_folds(context: FitContext, fold: Fold, has_scan_model: bool) -> list[Fold]:
    """Split a training part into folds, if they are needed and quick to train.

    Args:
        context: The context of the fit.
        fold: The training part.
        has_scan_model: Whether the fit trains a scan model.

    Returns:
        The folds, or none.

    Raises:
        DataError: There are too few groups, and the operating point needs predictions.
    """
    slices, settings = context.slices, context.settings
    kinds = [parse_operating_point(settings.operating_point)[0]]
    if has_scan_model:
        kinds.append(parse_operating_point(settings.scan_operating_point, "scans")[0])
    needs_predictions = not all(kind in WITHOUT_PREDICTIONS for kind in kinds)
    is_needed = settings.calibration != "none" or needs_predictions
    if not is_needed or not settings.trains_quickly:
        return []
    labels, groups = slices.labels[fold.train], slices.groups[fold.train]
    try:
        inner = splits.folds(labels, groups, INNER_FOLDS, settings.seed)
    except DataError as error:
        if needs_predictions:
            raise
        context.progress.note(f"Probabilities are not calibrated: {error}")
        return []
    return [
        Fold(1, number + 1, fold.train[train], fold.train[test])
        for number, (train, test) in enumerate(inner)
    ]


def _fold_of_column(
    slices: SliceIndex, column: np.ndarray, progress: Progress, allow_leak: bool
) -> Fold:
    train, test = np.flatnonzero(column == "train"), np.flatnonzero(column == "test")
    for part, name in ((train, "train"), (test, "test")):
        if len(np.unique(slices.labels[part])) < 2:
            raise DataError(
                "the split column must have slices of both classes in both parts. Received: "
                f"{len(part)} slices for {name}, {int(slices.labels[part].sum())} of them with "
                "hemorrhage. Change the column, or remove it."
            )
    leaks = _find_leaks(slices, column)
    if leaks and not allow_leak:
        raise DataError.of_problems(
            "the split column puts related slices on both sides:",
            leaks,
            "Move each to one side, or remove the split column. Pass --allow-leak to continue "
            "anyway; the reports then mention it.",
        )
    if leaks:
        progress.warn(
            f"{len(leaks)} slices are on one side of the split column while their patient or "
            "duplicate is on the other (--allow-leak): the metrics are optimistic"
        )
    names = slices.names
    near = [f"{names[i]} and {names[j]}" for i, j, _ in slices.near_pairs if column[i] != column[j]]
    if near:
        progress.warn(
            f"{len(near)} pairs of near-duplicates are on both sides of the split column, so the "
            "metrics may be optimistic",
            f": {', '.join(near[:5])}",
        )
    return Fold(1, 1, train, test, tuple(f"{leak.path}: {leak.reason}" for leak in leaks))


def _find_leaks(slices: SliceIndex, column: np.ndarray) -> list[Problem]:
    """Find exact duplicates and patients on both sides of the split column.

    The reasons are also written to `metrics.json`, so their wording is part of its format.
    """
    names = slices.names
    leaks = [
        Problem(names[j], f"the same picture as {names[i]}, which is on the other side")
        for i, j in slices.exact_pairs
        if column[i] != column[j]
    ]
    first_of_patient: dict[str, tuple[str, str]] = {}
    for record, name, part in zip(slices.manifest.records, names, column, strict=True):
        if record.patient is not None:
            first_part, first_name = first_of_patient.setdefault(record.patient, (part, name))
            if first_part != part:
                leaks.append(
                    Problem(name, f"of the same patient as {first_name}, on the other side")
                )
    return leaks
