"""The values of one level of a report: its metrics, decisions and curves."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from hemorrhage_tf.evaluation.resampling import Resamples
from hemorrhage_tf.reports.chart_geometry import Chart
from hemorrhage_tf.reports.charts import interval_chart, precision_recall_chart, roc_chart
from hemorrhage_tf.reports.curves import curves
from hemorrhage_tf.reports.number_formats import format_count, format_quantity

BAND_RESAMPLES = 500  # bootstrap resamples of each band

# Key in metrics.json, name, explanation (a format string of `unit`), and whether it is a
# percentage.
METRICS = (
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


def level_section(
    metrics: Mapping[str, Any],
    labels: np.ndarray,
    repeats: np.ndarray,
    resamples: Resamples,
    prefix: str = "",
) -> dict[str, Any]:
    """Compute what a report says of one level.

    Args:
        metrics: From `metrics.binary_metrics`.
        labels: int64 `(n,)`, 0 or 1.
        repeats: float64 `(repeats, n)`, probabilities.
        resamples: Of patients, or of slices (scans); `BAND_RESAMPLES` of them.
        prefix: Put before the ids of the charts, which must be unique on the page. Defaults to "".
    """
    unit = resamples.unit
    rows = list(_metric_rows(metrics, unit))
    charts = _curve_charts(metrics, labels, repeats, resamples)
    return {
        "unit": unit,
        "metrics": metrics,
        "summary": summary_sentence(metrics, unit),
        "resampled": "patients" if metrics["intervals_of"] == "patients" else unit,
        "tiles": [row for name in _TILES for row in rows if row["key"] == name],
        "metric_rows": rows,
        "metrics_chart": _named(_metrics_chart(rows), prefix),
        "confusion": metrics["confusion"],
        "row_fractions": _row_fractions(metrics["confusion"]),
        "curves": [_named(chart, prefix) for chart in charts],
        "operating_point": metrics.get("operating_point"),
        "repeats": len(repeats),
    }


def _named(chart: Chart, prefix: str) -> Chart:
    return replace(chart, key=f"{prefix}{chart.key}")


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

    for key, name, meaning, percent in METRICS:
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
    keys = {key for key, *_ in METRICS}
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
