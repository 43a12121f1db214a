"""The values of each section of a report, computed from its content for the template."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from hemorrhage_tf.evaluation.resampling import Resamples
from hemorrhage_tf.reports.chart_geometry import Chart
from hemorrhage_tf.reports.charts import (
    bar_chart,
    group_trainings,
    histogram_chart,
    history_chart,
    interval_chart,
    precision_recall_chart,
    reliability_chart,
    roc_chart,
)
from hemorrhage_tf.reports.curves import curves
from hemorrhage_tf.reports.gallery import group_gallery
from hemorrhage_tf.reports.number_formats import (
    flatten,
    format_count,
    format_metric,
    format_number,
    format_quantity,
)
from hemorrhage_tf.reports.report_content import ReportContent

BAND_RESAMPLES = 500  # bootstrap resamples of each band
UNFOLDED_ITEMS = 12  # slices of a kind, and rows of a table, that are visible without a click
MAX_LISTED_SLICES = 2000  # above it, the page does not list every slice

# Key in metrics.json, name, explanation (a format string of `unit`), and whether it is a
# percentage.
_METRICS = (
    ("accuracy", "Accuracy", "{unit} classified correctly", True),
    ("sensitivity", "Sensitivity", "{unit} with hemorrhage that were detected", True),
    ("specificity", "Specificity", "{unit} without hemorrhage that were predicted normal", True),
    ("ppv", "PPV", "predicted hemorrhages that are correct, at this prevalence", True),
    ("npv", "NPV", "predicted normal {unit} that are correct, at this prevalence", True),
    ("roc_auc", "ROC AUC", "chance that a hemorrhage scores higher than a normal", False),
    ("pr_auc", "PR AUC", "average precision over all thresholds", False),
    ("brier", "Brier score", "mean squared error of the probability; 0 is best", False),
)

_CALIBRATION = (
    ("slope", "Calibration slope", "1 is best; below 1, probabilities are too extreme"),
    ("intercept", "Calibration intercept", "0 is best; fitted together with the slope"),
    ("in_the_large", "Calibration-in-the-large", "0 is best; above 0, probabilities are too low"),
)

_TILES = ("sensitivity", "specificity", "roc_auc", "accuracy")

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
    labels = np.asarray(content.labels).astype(np.int64)
    repeats = np.atleast_2d(np.asarray(content.probabilities, np.float64))
    resamples = Resamples.make(len(labels), content.groups, BAND_RESAMPLES, content.seed)
    rows = list(_metric_rows(metrics, content.unit))
    trainings = group_trainings(content.history)
    history = [
        history_chart(column, title, trainings)
        for column, title in (("loss", "Loss"), ("accuracy", "Accuracy"))
    ]
    return {
        "content": content,
        "summary": summary_sentence(metrics, content.unit),
        "resampled": content.unit if metrics["intervals_of"] == "slices" else "patients",
        "tiles": [row for name in _TILES for row in rows if row["key"] == name],
        "metric_rows": rows,
        "metrics_chart": _metrics_chart(rows),
        "confusion": metrics["confusion"],
        "row_fractions": _row_fractions(metrics["confusion"]),
        "curves": _curve_charts(metrics, labels, repeats, resamples),
        "reliability": reliability_chart(metrics["calibration"]["reliability"], content.unit),
        "bins": metrics["calibration"]["reliability"],
        "histogram": histogram_chart(labels, repeats, content.threshold, content.unit),
        "history": [chart for chart in history if chart is not None],
        "trainings": len(trainings),
        "audit": audit_section(content.audit, metrics.get("roc_auc")),
        "comparison": _comparison_section(content.comparison),
        "gallery": group_gallery(content.gallery),
        "has_overlays": any(item.overlay is not None for item in content.gallery),
        "robustness": _robustness_section(content.robustness),
        "subgroups": _subgroups_section(content.subgroups),
        "slice_rows": _slice_rows(content, labels, repeats),
        "flat": list(flatten(metrics)),
        "as_json": json.dumps(metrics, indent=2, sort_keys=True, allow_nan=False),
        "repeats": len(repeats),
        "band_resamples": BAND_RESAMPLES,
        "unfolded": UNFOLDED_ITEMS,
        "max_listed": MAX_LISTED_SLICES,
    }


def summary_sentence(metrics: Mapping[str, Any], unit: str = "slices") -> str:
    """Return the main result in words: detected, missed, false alarms, accuracy.

    Args:
        metrics: From `metrics.binary_metrics`.
        unit: What the metrics count, "slices" or "scans". Defaults to "slices".
    """
    counts = metrics["confusion"]
    detected, missed = counts["true_positive"], counts["false_negative"]
    positives, negatives = metrics["n_positive"], metrics["n_negative"]
    parts = []
    if positives:
        parts.append(
            f"of {format_quantity(positives, unit)} with hemorrhage, the model detected "
            f"{format_count(detected)} and missed {format_count(missed)}"
        )
    if negatives:
        parts.append(
            f"of {format_quantity(negatives, unit)} without hemorrhage, it predicted hemorrhage in "
            f"{format_count(counts['false_positive'])}"
        )
    outcome = "; ".join(parts)
    repeat_count = len(metrics["repeats"]["accuracy"])
    mean = f" (means over {repeat_count} repeats)" if repeat_count > 1 else ""
    accuracy = metrics["accuracy"]
    return (
        f"{outcome[0].upper()}{outcome[1:]}{mean}. Accuracy at the threshold of "
        f"{metrics['threshold']:.3g}: {accuracy['estimate']:.1%} (95% confidence interval "
        f"{accuracy['low']:.1%} to {accuracy['high']:.1%})."
    )


def _metric_rows(metrics: Mapping[str, Any], unit: str) -> Iterator[dict[str, Any]]:
    def row(key: str, name: str, meaning: str, percent: bool, metric: Any) -> dict[str, Any]:
        names = ("key", "name", "meaning", "percent", "metric")
        return dict(zip(names, (key, name, meaning, percent, metric), strict=True))

    for key, name, meaning, percent in _METRICS:
        if key in metrics:
            yield row(key, name, meaning.format(unit=unit), percent, metrics[key])
    for key, name, meaning in _CALIBRATION:
        yield row(f"calibration {key}", name, meaning, False, metrics["calibration"].get(key))
    at_prevalence = metrics.get("at_prevalence")
    if at_prevalence is not None:
        prevalence = at_prevalence["prevalence"]
        for key in ("ppv", "npv"):
            name = f"{key.upper()} at a prevalence of {prevalence:.3g}"
            meaning = f"if {prevalence:.1%} of the {unit} show hemorrhage"
            yield row(f"prevalence {key}", name, meaning, True, at_prevalence[key])


def _metrics_chart(rows: Sequence[Mapping[str, Any]]) -> Chart:
    keys = {key for key, *_ in _METRICS}
    return interval_chart(
        "metrics",
        "Metrics with 95% confidence intervals",
        [
            (row["name"], row["metric"], row["percent"])
            for row in rows
            if row["key"] in keys and row["metric"]
        ],
        span=(0.0, 1.0),
    )


def _row_fractions(counts: Mapping[str, float]) -> dict[str, float | None]:
    """Return each outcome as a fraction of its row of the confusion matrix."""
    fractions: dict[str, float | None] = {}
    for names in (("true_positive", "false_negative"), ("false_positive", "true_negative")):
        total = sum(counts[name] for name in names)
        fractions.update({name: counts[name] / total if total else None for name in names})
    return fractions


def _curve_charts(
    metrics: Mapping[str, Any], labels: np.ndarray, repeats: np.ndarray, resamples: Resamples
) -> list[Chart]:
    if labels.min() == labels.max():
        return []
    roc, pr = curves(labels, repeats, resamples)
    sensitivity = metrics["sensitivity"]["estimate"]
    false_positive_rate = 1 - metrics["specificity"]["estimate"]
    ppv = metrics["ppv"]
    return [
        roc_chart(roc, metrics["roc_auc"], (false_positive_rate, sensitivity)),
        precision_recall_chart(
            pr,
            metrics["pr_auc"],
            (sensitivity, ppv["estimate"]) if ppv else None,
            float(labels.mean()),
        ),
    ]


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
    chart = interval_chart(
        "shortcuts",
        title if area is not None else "ROC AUC of shortcut baselines",
        rows,
        span=(0.0, 1.0),
        reference=(0.5, "chance"),
        highlighted=1 if area is not None else 0,
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


def _comparison_section(comparison: Mapping[str, Any] | None) -> dict[str, Any] | None:
    if comparison is None:
        return None
    rows = [
        {"name": name, "percent": percent, **comparison[key]}
        for key, name, percent in _COMPARED
        if comparison.get(key) is not None
    ]
    ends = [abs(row["difference"][end]) for row in rows for end in ("low", "high")]
    reach = max([0.1, *ends]) * 1.05
    return {
        "rows": rows,
        "chart": interval_chart(
            "comparison",
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
        "chart": bar_chart(
            "robustness",
            "Predictions that change when the slice is altered",
            [
                (row["name"], row["changed_decisions"] / row["n"], f"{row['changed_decisions']}")
                for row in rows
                if row["n"]
            ],
        ),
    }


def _subgroups_section(rows: Sequence[Mapping[str, Any]] | None) -> dict[str, Any] | None:
    if rows is None:
        return None
    columns = list(dict.fromkeys(name for row in rows for name in row))
    known = {key: (name, percent) for key, name, _, percent in _METRICS}
    headings = [known.get(column, (column.replace("_", " "), False)) for column in columns]
    charts: list[Chart] = []
    for column, (title, percent) in zip(columns, headings, strict=True):
        metrics = [
            (str(next(iter(row.values()))), row[column], percent)
            for row in rows
            if _is_metric(row.get(column))
        ]
        if metrics:
            charts.append(interval_chart(f"subgroup-{len(charts)}", f"{title} by group", metrics))
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
