"""The subtypes of an evaluation: labels of the data, and metrics of a model that predicts them."""

from __future__ import annotations

from typing import Any

import numpy as np

from hemorrhage_tf.datasets.layouts.base import DEFAULT_TARGET, SUBTYPES
from hemorrhage_tf.datasets.slice_index import SliceIndex
from hemorrhage_tf.datasets.subtype_columns import asks_for_subtypes, subtype_labels
from hemorrhage_tf.evaluation.subtype_metrics import SubtypePredictions, subtype_metrics
from hemorrhage_tf.inference.model import Model


def evaluated_subtypes(slices: SliceIndex, target: str | None) -> np.ndarray | None:
    """Return the labels of subtypes that a model can be evaluated on.

    Args:
        slices: The slices.
        target: The value of `--target`.

    Returns:
        int8 `(n, 5)`, see `subtype_columns.subtype_labels`; None where the data has no such
        columns, or where the target is another finding than any hemorrhage.

    Raises:
        DataError: Cells that cannot be used; all are listed.
        OptionError: The target is "all", and a column is missing.
    """
    is_any = target is None or target.strip().lower() == DEFAULT_TARGET
    has_columns = set(SUBTYPES) <= set(slices.manifest.columns)
    if not asks_for_subtypes(target) and not (is_any and has_columns):
        return None
    labels = subtype_labels(slices.manifest)
    labels[_is_unknown(slices)] = -1
    return labels


def _is_unknown(slices: SliceIndex) -> np.ndarray:
    """Return which slices may have no hemorrhage although their scan has one, bool `(n,)`."""
    return ~slices.has_slice_label & (slices.labels == 1)


def metrics_of_subtypes(
    slices: SliceIndex, model: Model, labels: np.ndarray | None, probabilities: Any
) -> dict[str, Any]:
    """Compute the metrics of subtypes, for a model and data that have them.

    Args:
        slices: The slices.
        model: The model.
        labels: From `evaluated_subtypes`.
        probabilities: The `ScanProbabilities` of the slices.

    Returns:
        `subtypes` and `weighted_log_loss`, see `subtype_metrics.subtype_metrics`; empty where the
        model or the data has no subtypes.
    """
    if labels is None or probabilities.subtypes is None:
        return {}
    any_hemorrhage = np.where(_is_unknown(slices), -1, slices.labels)
    thresholds = np.array(model.metadata.subtype_thresholds)
    values = subtype_metrics(
        SubtypePredictions(
            names=model.subtypes,
            labels=np.concatenate([any_hemorrhage[:, np.newaxis], labels], axis=1),
            repeats=[
                np.concatenate(
                    [probabilities.slices[:, np.newaxis], probabilities.subtypes], axis=1
                )
            ],
            decisions=[probabilities.subtypes >= thresholds],
            groups=slices.patient_groups,
        )
    )
    for name, threshold in zip(model.subtypes, thresholds.tolist(), strict=True):
        values["subtypes"][name]["threshold"] = threshold
    return values
