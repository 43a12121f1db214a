"""The metrics of a fit, over the test parts of its folds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from hemorrhage_tf.evaluation.labeled_predictions import LabeledPredictions
from hemorrhage_tf.evaluation.logit_calibration import LogitCalibration
from hemorrhage_tf.evaluation.metrics import compute_metrics
from hemorrhage_tf.evaluation.operating_point import OperatingPoint
from hemorrhage_tf.evaluation.resampling import Bootstrap
from hemorrhage_tf.training.context import FitContext
from hemorrhage_tf.training.folds import FoldResult


def fold_metrics(
    context: FitContext,
    results: Sequence[FoldResult],
    *,
    operating_point: OperatingPoint,
    calibration: LogitCalibration,
    prevalence: float | None,
) -> dict[str, Any]:
    """Compute the metrics of a fit.

    Args:
        context: The context of the fit.
        results: The result of each fold.
        operating_point: The operating point of the saved model.
        calibration: The calibration of the saved model.
        prevalence: See `evaluation.metrics.compute_metrics`.

    Returns:
        Plain values for `metrics.json`, whose wording is part of its format.
    """
    slices, settings = context.slices, context.settings
    patients = slices.patient_groups
    decisions: list[np.ndarray] | None
    if settings.folds:
        evaluated = np.arange(len(slices))
        of_repeat = np.full((settings.repeats, len(slices)), np.nan)
        is_predicted = np.zeros((settings.repeats, len(slices)), bool)
        for result in results:
            fold = result.fold
            of_repeat[fold.repeat - 1, fold.test] = result.probabilities
            is_predicted[fold.repeat - 1, fold.test] = result.decisions
        probabilities, decisions = list(of_repeat), list(is_predicted)
        times = f", {settings.repeats} times" if settings.repeats > 1 else ""
        evaluated_on = f"all {len(slices)} slices, out of fold ({settings.folds} folds{times})"
    else:
        evaluated = results[0].fold.test
        probabilities, decisions = [results[0].probabilities], None
        evaluated_on = f"the test part, {len(evaluated)} of {len(slices)} slices"
    predictions = LabeledPredictions(
        labels=slices.labels[evaluated],
        repeats=probabilities,
        threshold=operating_point.threshold,
        decisions=decisions,
        groups=None if patients is None else patients[evaluated],
    )
    metrics = compute_metrics(
        predictions, prevalence=prevalence, bootstrap=Bootstrap(seed=settings.seed)
    )
    return {
        "evaluated_on": evaluated_on,
        **metrics.to_dict(),
        "operating_point": operating_point.to_dict(),
        "temperature": calibration.temperature,
        "offset": calibration.offset,
        "leaks": [leak for result in results for leak in result.fold.leaks],
    }
