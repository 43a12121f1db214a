"""The subtypes of a model, as the report and the model card show them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hemorrhage_tf.reports.number_formats import NOT_AVAILABLE, format_metric
from hemorrhage_tf.reports.report_charts import forest_chart

_COLUMNS = (
    ("roc_auc", "ROC AUC", False),
    ("pr_auc", "PR AUC", False),
    ("sensitivity", "sensitivity", True),
    ("specificity", "specificity", True),
)


def subtype_rows(metrics: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return name, counts, metrics as text and notes of each subtype; none without subtypes.

    Args:
        metrics: With `subtypes` from `subtype_metrics.subtype_metrics`, or without.
    """
    rows = []
    for name, values in (metrics.get("subtypes") or {}).items():
        cells = {
            key: NOT_AVAILABLE if values[key] is None else format_metric(values[key], percent)
            for key, _, percent in _COLUMNS
        }
        notes = "; ".join(values["notes"])
        counts = {"n": values["n"], "n_positive": values["n_positive"]}
        threshold = values.get("threshold")
        rows.append({"name": name, **counts, **cells, "threshold": threshold, "notes": notes})
    return rows


def weighted_log_loss_text(metrics: Mapping[str, Any]) -> str | None:
    """Return the weighted log loss of RSNA 2019 as text; None where there is none."""
    loss = metrics.get("weighted_log_loss")
    return None if loss is None else format_metric(loss, False)


def subtype_section(metrics: Mapping[str, Any]) -> dict[str, Any] | None:
    """Compute the values of the report's section on subtypes.

    Args:
        metrics: As for `subtype_rows`.

    Returns:
        Values for the template, or None without subtypes.
    """
    rows = subtype_rows(metrics)
    if not rows:
        return None
    areas = [
        (name, values["roc_auc"], False)
        for name, values in metrics["subtypes"].items()
        if values["roc_auc"] is not None
    ]
    return {
        "headings": [title for _, title, _ in _COLUMNS],
        "keys": [key for key, _, _ in _COLUMNS],
        "rows": rows,
        "chart": forest_chart(
            "subtypes", "ROC AUC of each subtype", areas, reference=(0.5, "chance")
        ),
        "weighted_log_loss": weighted_log_loss_text(metrics),
    }
