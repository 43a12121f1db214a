"""The subtypes of a fit: their rules, and the predictions of its folds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from hemorrhage_tf.datasets.layouts.base import SUBTYPES
from hemorrhage_tf.evaluation.cross_fitting import CrossFit
from hemorrhage_tf.evaluation.resampling import Bootstrap
from hemorrhage_tf.evaluation.subtype_fitting import (
    SubtypeFit,
    SubtypeFitting,
    SubtypeOutOfFold,
    SubtypeRule,
)
from hemorrhage_tf.evaluation.subtype_metrics import SubtypePredictions, subtype_metrics
from hemorrhage_tf.training.context import FitContext
from hemorrhage_tf.training.folds import Fold, FoldResult


def fit_subtypes(
    context: FitContext,
    folds: Sequence[Fold],
    predicted: Sequence[np.ndarray],
    any_hemorrhage: CrossFit,
    trained_on: np.ndarray,
) -> SubtypeFit:
    """Fit the rules of subtypes on out-of-fold predictions.

    Args:
        context: The context of the fit, with subtypes.
        folds: The folds of a cross-validation; none if there are no out-of-fold predictions.
        predicted: `(n, 5)` uncalibrated probabilities of each fold's test slices.
        any_hemorrhage: The result for any hemorrhage on the same folds.
        trained_on: Indices of the slices that the folds test, once a repeat.

    Returns:
        The rules, and the predictions for all slices.
    """
    settings, subtypes = context.settings, context.subtypes
    assert subtypes is not None
    fitting = SubtypeFitting(
        criterion=settings.operating_point,
        calibration=settings.calibration if settings.trains_quickly else "none",
        is_balanced=settings.class_weights == "balanced",
    )
    if not folds:
        return SubtypeFit(fitting.without_predictions(subtypes[trained_on]), [], [])
    repeats = max(fold.repeat for fold in folds)
    out_of_fold = np.zeros((repeats, *subtypes.shape))
    numbers = np.zeros((repeats, len(subtypes)), np.int64)
    for fold, of_fold in zip(folds, predicted, strict=True):
        out_of_fold[fold.repeat - 1, fold.test] = of_fold
        numbers[fold.repeat - 1, fold.test] = fold.number
    return fitting.cross_fit(
        SubtypeOutOfFold(
            labels=subtypes[trained_on],
            repeats=list(out_of_fold[:, trained_on]),
            any_hemorrhage=any_hemorrhage.probabilities,
            folds=list(numbers[:, trained_on]),
        )
    )


def add_cross_fitted(results: Sequence[FoldResult], fit: SubtypeFit) -> list[FoldResult]:
    """Add the predictions of subtypes to the results of a cross-validation."""
    return [
        replace(
            result,
            subtypes=fit.probabilities[result.fold.repeat - 1][result.fold.test],
            subtype_decisions=fit.decisions[result.fold.repeat - 1][result.fold.test],
        )
        for result in results
    ]


def add_predicted(
    result: FoldResult, predicted: np.ndarray, rules: Sequence[SubtypeRule]
) -> FoldResult:
    """Add the predictions of subtypes to the result of a single split.

    Args:
        result: The result, with calibrated probabilities of any hemorrhage.
        predicted: `(n, 5)` uncalibrated probabilities of its test slices.
        rules: One for each subtype.
    """
    columns = [
        rule.apply(column, result.probabilities)
        for rule, column in zip(rules, predicted.T, strict=True)
    ]
    probabilities = np.stack(columns, axis=1)
    decisions = probabilities >= np.array([rule.threshold for rule in rules])
    return replace(result, subtypes=probabilities, subtype_decisions=decisions)


def subtype_fold_metrics(
    context: FitContext, results: Sequence[FoldResult], rules: Sequence[SubtypeRule]
) -> dict[str, Any]:
    """Compute the metrics of subtypes over the test parts of the folds.

    Args:
        context: The context of the fit, with subtypes.
        results: The result of each fold.
        rules: Of the saved model, one for each subtype.

    Returns:
        `subtypes` and `weighted_log_loss` for `metrics.json`, see
        `evaluation.subtype_metrics.subtype_metrics`.
    """
    slices, settings = context.slices, context.settings
    assert context.subtypes is not None
    repeats = max(result.fold.repeat for result in results)
    count = context.subtypes.shape[1]
    probabilities = np.zeros((repeats, len(slices), 1 + count))
    decisions = np.zeros((repeats, len(slices), count), bool)
    for result in results:
        place = result.fold.repeat - 1, result.fold.test
        probabilities[*place, 0] = result.probabilities
        probabilities[*place, 1:] = result.subtypes
        decisions[place] = result.subtype_decisions
    tested = np.unique(np.concatenate([result.fold.test for result in results]))
    targets = context.targets.copy()
    targets[~slices.has_slice_label & (slices.labels == 1)] = -1  # known of the scan only
    patients = slices.patient_groups
    values = subtype_metrics(
        SubtypePredictions(
            names=SUBTYPES,
            labels=targets[tested],
            repeats=list(probabilities[:, tested]),
            decisions=list(decisions[:, tested]),
            groups=None if patients is None else patients[tested],
        ),
        bootstrap=Bootstrap(seed=settings.seed),
    )
    for name, rule in zip(SUBTYPES, rules, strict=True):
        values["subtypes"][name] |= {
            "threshold": rule.threshold,
            "temperature": rule.calibration.temperature,
            "offset": rule.calibration.offset,
        }
        values["subtypes"][name]["notes"] += rule.notes
    return values
