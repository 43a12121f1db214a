"""The values of one level of a report: its metrics, decisions and curves."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from hemorrhage_tf.evaluation.plots.models import PlottedModel
from hemorrhage_tf.reports.number_formats import format_count, format_quantity
from hemorrhage_tf.reports.report_charts import Chart, curve_charts, forest_chart

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

# The five numbers at the top of a report: key, name, a sentence (a format string of the number, of
# `rest` to a hundred and of `unit`), and whether the large number is a percentage.
FIVE = (
    (
        "sensitivity",
        "Sensitivity",
        "Of 100 {unit} with hemorrhage, {value} are found and {rest} are missed.",
        True,
    ),
    (
        "specificity",
        "Specificity",
        "Of 100 {unit} without hemorrhage, {value} are predicted normal and {rest} are false "
        "alarms.",
        True,
    ),
    (
        "ppv",
        "PPV",
        "Of 100 {unit} predicted hemorrhage here, {value} have one.",
        True,
    ),
    ("npv", "NPV", "Of 100 {unit} predicted normal here, {value} are normal.", True),
    (
        "roc_auc",
        "ROC AUC",
        "In {value} of 100 pairs, the one with hemorrhage gets the higher probability.",
        False,
    ),
)


def level_section(models: Sequence[PlottedModel], prefix: str = "") -> dict[str, Any]:
    """Compute what a report says of one level.

    Args:
        models: The evaluated model with its metrics; and a second one that the curves compare it
            with, or none.
        prefix: Put before the ids of the charts, which must be unique on the page. Defaults to "".
    """
    model = models[0]
    metrics, unit = model.known or {}, model.unit
    rows = list(_metric_rows(metrics, unit))
    return {
        "unit": unit,
        "metrics": metrics,
        "summary": summary_sentence(metrics, unit),
        "resampled": "patients" if metrics["intervals_of"] == "patients" else unit,
        "five": five_numbers(metrics, unit),
        "metric_rows": rows,
        "metrics_chart": _metrics_chart(rows, prefix),
        "confusion": metrics["confusion"],
        "row_fractions": _row_fractions(metrics["confusion"]),
        "curves": curve_charts(models, prefix),
        "band_resamples": model.band_resamples.bootstraps,
        "operating_point": metrics.get("operating_point"),
        "repeats": len(model.scores),
    }


def five_numbers(metrics: Mapping[str, Any], unit: str) -> list[dict[str, Any]]:
    """Return the five numbers that matter, each with a sentence that says what it means.

    Args:
        metrics: From `metrics.binary_metrics`.
        unit: What the metrics count, "slices" or "scans".
    """
    rows = []
    for key, name, sentence, percent in FIVE:
        metric = metrics.get(key)
        text = "Not available: it needs both classes."
        if metric is not None:
            value = round(100 * metric["estimate"])
            text = sentence.format(value=value, rest=100 - value, unit=unit)
        elif key in ("ppv", "npv"):
            decision = "hemorrhage" if key == "ppv" else "normal"
            text = f"Not available: nothing is predicted {decision}."
        rows.append({"name": name, "metric": metric, "percent": percent, "sentence": text})
    return rows


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


def _metrics_chart(rows: Sequence[Mapping[str, Any]], prefix: str) -> Chart | None:
    keys = {key for key, *_ in METRICS}
    return forest_chart(
        f"{prefix}metrics",
        "Metrics with 95% confidence intervals",
        [
            (row["name"], row["metric"], row["percent"])
            for row in rows
            if row["key"] in keys and row["metric"]
        ],
    )


def _row_fractions(counts: Mapping[str, float]) -> dict[str, float | None]:
    """Return each outcome as a fraction of its row of the confusion matrix."""
    fractions: dict[str, float | None] = {}
    for names in (("true_positive", "false_negative"), ("false_positive", "true_negative")):
        total = sum(counts[name] for name in names)
        fractions.update({name: counts[name] / total if total else None for name in names})
    return fractions
