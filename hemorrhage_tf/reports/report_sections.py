"""The values of each section of a report, computed from its content for the template."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from hemorrhage_tf.evaluation.intervals import plain_interval, wilson
from hemorrhage_tf.evaluation.labeled_predictions import LabeledPredictions
from hemorrhage_tf.evaluation.plots.history import group_trainings
from hemorrhage_tf.evaluation.plots.models import PlottedModel
from hemorrhage_tf.evaluation.scan_metrics import LEVEL_NAMES, SCANS, SLICES
from hemorrhage_tf.reports.gallery import group_gallery
from hemorrhage_tf.reports.level_section import METRICS, level_section
from hemorrhage_tf.reports.number_formats import flatten, format_metric, format_number
from hemorrhage_tf.reports.report_charts import (
    Chart,
    calibration_chart,
    decision_chart,
    forest_chart,
    histogram_chart,
    history_charts,
)
from hemorrhage_tf.reports.report_content import LevelContent, ReportContent
from hemorrhage_tf.reports.scan_section import details_section, overview, sensitivity_charts
from hemorrhage_tf.reports.subtype_section import subtype_section

UNFOLDED_ITEMS = 12  # slices of a kind, and rows of a table, that are visible without a click
MAX_LISTED_SLICES = 2000  # above it, the page does not list every slice

_COMPARED = (
    ("roc_auc", "ROC AUC", False),
    ("accuracy", "Accuracy", True),
    ("sensitivity", "Sensitivity", True),
    ("specificity", "Specificity", True),
)


def report_sections(content: ReportContent) -> dict[str, Any]:
    """Compute all values that the report's template prints.

    Args:
        content: Of the report.

    Raises:
        DataError: If an image of the gallery is not a PNG or JPEG.
    """
    metrics = content.metrics
    main_level = SCANS if content.unit == SCANS else SLICES
    predictions = LabeledPredictions(
        labels=np.asarray(content.labels),
        repeats=list(np.atleast_2d(np.asarray(content.probabilities, np.float64))),
        threshold=content.threshold,
        groups=content.groups,
        unit=content.unit,
    )
    models = _models(content, main_level, predictions, metrics)
    return {
        "content": content,
        **level_section(models),
        "operating_point": content.operating_point,
        "main_name": LEVEL_NAMES[main_level],
        "levels": [_further_level(level, content) for level in content.levels],
        "overview": overview(content),
        "details": details_section(content.scan_details),
        "details_charts": sensitivity_charts(content.scan_details),
        "scan_rows": content.scan_rows,
        "calibration": calibration_chart(models[0]),
        "bins": metrics["calibration"]["reliability"],
        "histogram": histogram_chart(models[0]),
        "decision": decision_chart(models),
        "history": history_charts(content.history),
        "trainings": len(group_trainings(content.history)),
        "audit": audit_section(content.audit, metrics.get("roc_auc")),
        "comparisons": [
            _comparison_section(name, comparison)
            for name, comparison in content.comparisons.items()
        ],
        "gallery": group_gallery(content.gallery),
        "has_overlays": any(item.overlay is not None for item in content.gallery),
        "robustness": _robustness_section(content.robustness),
        "subtypes": subtype_section(metrics),
        "subgroups": _subgroups_section(content.subgroups),
        "slice_rows": _slice_rows(content, models[0].labels, models[0].scores),
        "flat": list(flatten(metrics)),
        "as_json": json.dumps(metrics, indent=2, sort_keys=True, allow_nan=False),
        "unfolded": UNFOLDED_ITEMS,
        "max_listed": MAX_LISTED_SLICES,
    }


def _models(
    content: ReportContent,
    level: str,
    predictions: LabeledPredictions,
    metrics: Mapping[str, Any],
) -> list[PlottedModel]:
    """Return the evaluated model, and the one to compare it with where it has that level."""
    against = content.against.get(level)
    if against is None:
        return [PlottedModel("", predictions, metrics)]
    first, second = content.model_names
    second = second if second != first else f"{second} (second)"
    return [PlottedModel(first, predictions, metrics), PlottedModel(second, against)]


def audit_section(
    audit: Mapping[str, Any] | None, area: Mapping[str, Any] | None
) -> dict[str, Any] | None:
    """Compute the values of the audit section.

    Args:
        audit: `Audit.to_dict()`, or None.
        area: The ROC AUC of the evaluated model, or None without a model.

    Returns:
        Values for the template, or None without an audit.
    """
    if audit is None:
        return None
    shortcuts = [each for each in audit["shortcuts"] if each["roc_auc"] is not None]
    rows = [("this model", area, False)] if area is not None else []
    rows += [(each["name"], each["roc_auc"], False) for each in shortcuts]
    best = max(shortcuts, key=lambda each: each["roc_auc"]["estimate"], default=None)
    title = "ROC AUC of this model and of shortcut baselines"
    chart = forest_chart(
        "shortcuts",
        title if area is not None else "ROC AUC of shortcut baselines",
        rows,
        reference=(0.5, "chance"),
    )
    # An audit of an earlier version may lack some of these.
    names = ("conclusions", "problems", "pairs", "differences")
    return {
        **{name: audit.get(name) or [] for name in names},
        "shortcuts": audit["shortcuts"],
        "best": best,
        "chart": chart if shortcuts else None,
        "has_model": area is not None,
    }


def _further_level(level: LevelContent, content: ReportContent) -> dict[str, Any]:
    """Compute the values of a level beside the main one."""
    models = _models(content, level.name, level.predictions, level.metrics)
    return {
        **level_section(models, f"{level.name.replace('_', '-')}-"),
        "name": level.name,
        "title": LEVEL_NAMES[level.name],
    }


def _comparison_section(level: str, comparison: Mapping[str, Any]) -> dict[str, Any]:
    rows = [
        {"name": name, "percent": percent, **comparison[key]}
        for key, name, percent in _COMPARED
        if comparison.get(key) is not None
    ]
    ends = [abs(row["difference"][end]) for row in rows for end in ("low", "high")]
    reach = max([0.1, *ends]) * 1.05
    return {
        "title": LEVEL_NAMES[level],
        "rows": rows,
        "chart": forest_chart(
            f"comparison-{level.replace('_', '-')}",
            "Differences with 95% confidence intervals",
            [(row["name"], row["difference"], row["percent"]) for row in rows],
            span=(-reach, reach),
            reference=(0.0, "no difference"),
        ),
    }


def _robustness_section(rows: Sequence[Mapping[str, Any]] | None) -> dict[str, Any] | None:
    if rows is None:
        return None
    return {
        "rows": rows,
        "chart": forest_chart(
            "robustness",
            "Predictions that change when the slice is altered",
            [
                (row["name"], changed, True)
                for row in rows
                if row["n"]
                and (changed := plain_interval(wilson(row["changed_decisions"], row["n"])))
            ],
        ),
    }


def _subgroups_section(rows: Sequence[Mapping[str, Any]] | None) -> dict[str, Any] | None:
    if rows is None:
        return None
    columns = list(dict.fromkeys(name for row in rows for name in row))
    known = {key: (name, percent) for key, name, _, percent in METRICS}
    headings = [known.get(column, (column.replace("_", " "), False)) for column in columns]
    charts: list[Chart] = []
    for column, (title, percent) in zip(columns, headings, strict=True):
        metrics = [
            (str(next(iter(row.values()))), row[column], percent)
            for row in rows
            if _is_metric(row.get(column))
        ]
        if metrics:
            chart = forest_chart(f"subgroup-{len(charts)}", f"{title} by group", metrics)
            if chart is not None:
                charts.append(chart)
    return {
        "columns": [title for title, _ in headings],
        "rows": [
            [
                _format_cell(row.get(column), percent)
                for column, (_, percent) in zip(columns, headings, strict=True)
            ]
            for row in rows
        ],
        "charts": charts,
    }


def _is_metric(value: Any) -> bool:
    return isinstance(value, Mapping) and {"estimate", "low", "high"} <= value.keys()


def _format_cell(value: Any, percent: bool) -> str:
    if value is None:
        return "-"
    if _is_metric(value):
        return format_metric(value, percent)
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return format_number(value)
    return str(value)


def _slice_rows(
    content: ReportContent, labels: np.ndarray, repeats: np.ndarray
) -> list[tuple[str, int, float, bool]]:
    """Return name, label, mean probability and decision of every slice, if they are few enough."""
    if not content.names or len(labels) > MAX_LISTED_SLICES:
        return []
    means = repeats.mean(0)
    return [
        (str(name), int(label), float(mean), bool(mean >= content.threshold))
        for name, label, mean in zip(content.names, labels, means, strict=True)
    ]
