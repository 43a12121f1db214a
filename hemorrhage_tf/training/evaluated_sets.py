"""The metrics of a fit's model on sets that it was not trained on: another set, and phantoms."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from hemorrhage_tf.evaluation.labeled_predictions import LabeledPredictions
from hemorrhage_tf.evaluation.metrics import compute_metrics
from hemorrhage_tf.evaluation.resampling import Bootstrap
from hemorrhage_tf.training.context import FitContext
from hemorrhage_tf.training.features.table import FeatureChunks
from hemorrhage_tf.training.fold_metrics import known_labels
from hemorrhage_tf.training.trainer import Trainer

# Names of the sets, also in `metrics.json`.
EXTERNAL, PHANTOMS = "external", "phantoms"
_DESCRIPTIONS = {
    EXTERNAL: "slices of another set, each alone",
    PHANTOMS: "phantoms that were not trained on",
}


def metrics_of_sets(
    context: FitContext, trainer: Trainer, threshold: float, prevalence: float | None
) -> dict[str, Any]:
    """Compute the metrics of slices alone on each of the sets that are only evaluated.

    Args:
        context: The context of the fit.
        trainer: With the head to save, calibrated.
        threshold: That of the saved model.
        prevalence: See `evaluation.metrics.compute_metrics`.

    Returns:
        Plain values for `metrics.json`, by the name of the set. Where the fit has a known head as
        its prior, `known_head` holds the ROC AUC of that head on the same slices.
    """
    metrics = {}
    for name, slices in context.evaluated.items():
        indices = known_labels(slices, np.arange(len(slices)))
        features = trainer.features_of(slices)
        chunks = FeatureChunks(features, features.first_rows(indices))
        parts = [trainer.head.probabilities(chunk) for chunk in chunks]
        predictions = LabeledPredictions(
            labels=slices.labels[indices],
            repeats=[np.concatenate([np.empty(0, np.float32), *parts])],
            threshold=threshold,
            groups=None if slices.patient_groups is None else slices.patient_groups[indices],
        )
        bootstrap = Bootstrap(seed=context.settings.seed)
        of_set = compute_metrics(predictions, prevalence=prevalence, bootstrap=bootstrap).to_dict()
        if trainer.anchors.known is not None:
            known = replace(predictions, repeats=[trainer.anchors.known.probabilities(chunks)])
            of_known = compute_metrics(known, bootstrap=bootstrap).to_dict()
            of_set["known_head"] = {"roc_auc": of_known["roc_auc"]}
        of_set["evaluated_on"] = f"{len(indices)} {_DESCRIPTIONS[name]}"
        metrics[name] = of_set
    return metrics
