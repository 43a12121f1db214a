"""The rows of the sets that a fit only evaluates: another set of slices, and phantoms."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hemorrhage_tf.reports.number_formats import NOT_AVAILABLE, format_metric

_NAMES = {"external": "another set", "phantoms": "phantoms"}


def set_rows(metrics: Mapping[str, Any]) -> list[dict[str, str]]:
    """Return a row for each set that was only evaluated, as text.

    Args:
        metrics: Of a run, as in metrics.json.

    Returns:
        `name`, `slices`, `roc_auc`, `sensitivity` and `specificity`; and in `known_head` the ROC
        AUC of the embedded model's own head on the same slices.
    """
    return [
        {
            "name": name,
            "slices": str(metrics[key]["n"]),
            "roc_auc": _format(metrics[key]["roc_auc"]),
            "sensitivity": _format(metrics[key]["sensitivity"], percent=True),
            "specificity": _format(metrics[key]["specificity"], percent=True),
            "known_head": _format(metrics[key].get("known_head", {}).get("roc_auc")),
        }
        for key, name in _NAMES.items()
        if key in metrics
    ]


def _format(metric: Mapping[str, Any] | None, percent: bool = False) -> str:
    return NOT_AVAILABLE if metric is None else format_metric(metric, percent)
