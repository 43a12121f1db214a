"""The values of a report that compare its levels, and what scans add to them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hemorrhage_tf.evaluation.scan_metrics import LEVEL_NAMES, SLICES
from hemorrhage_tf.reports.report_charts import Chart, forest_chart
from hemorrhage_tf.reports.report_content import ReportContent

# Key, name, meaning, and whether it is a percentage.
_OVERVIEW = (
    ("sensitivity", "Sensitivity", "share of the hemorrhages that are found", True),
    ("specificity", "Specificity", "share of the others that are predicted normal", True),
    ("ppv", "PPV", "share of the predicted hemorrhages that are right, here", True),
    ("npv", "NPV", "share of the predicted normals that are right, here", True),
    ("roc_auc", "ROC AUC", "chance that a hemorrhage scores higher than a normal", False),
)


def overview(content: ReportContent) -> dict[str, Any] | None:
    """Compute the table that compares the levels, or return None for a single level.

    Args:
        content: Of the report.

    Returns:
        The names of the levels, their numbers, and a row for each metric.
    """
    if not content.levels:
        return None
    levels = [(LEVEL_NAMES[SLICES], content.metrics)]
    levels += [(LEVEL_NAMES[level.name], level.metrics) for level in content.levels]
    return {
        "names": [name for name, _ in levels],
        "counts": [f"{of['n']}, {of['n_positive']} with hemorrhage" for _, of in levels],
        "rows": [
            (title, meaning, percent, [of.get(key) for _, of in levels])
            for key, title, meaning, percent in _OVERVIEW
        ],
    }


def details_section(details: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Compute the values of the section on scans.

    Args:
        details: `ScanDetails.to_dict()`, or None.

    Returns:
        Values for the template, or None for data without scans.
    """
    if details is None:
        return None
    alarms = details["false_alarms"]
    rows = [("Normal scans flagged", True, alarms["scans_flagged"])]
    for level, mean in alarms["flagged_slices"].items():
        rows.append((f"Flagged slices per normal scan, {LEVEL_NAMES[level]}", False, mean))
    for row in details["at_sensitivity"]:
        title = f"Specificity at a sensitivity of {row['sensitivity']:.0%}"
        rows.append((title, True, row["specificity"]))
    return {
        "n_normal_scans": alarms["n_normal_scans"],
        "rows": rows,
        "sizes": [{"name": describe_size(row), **row} for row in details["by_size"]],
        "subtypes": _subtype_rows(details["by_subtype"]),
        "subtype_levels": [LEVEL_NAMES[level] for level in details["by_subtype"]],
        "notes": details["notes"],
    }


def describe_size(size: Mapping[str, Any]) -> str:
    """Describe the number of slices of a row of `by_size`: "20 to 44", "180 or more"."""
    if size["most"] is None:
        return f"{size['least']} or more"
    return f"{size['least']} to {size['most']}"


def _subtype_rows(
    by_subtype: Mapping[str, Mapping[str, Any]],
) -> list[tuple[str, list[Mapping[str, Any] | None]]]:
    """Return the sensitivities of each subtype, one for each level."""
    names = next(iter(by_subtype.values()), {})
    return [(name, [of_level[name] for of_level in by_subtype.values()]) for name in names]


def sensitivity_charts(details: Mapping[str, Any] | None) -> list[Chart]:
    """Draw the sensitivity by subtype, one chart for each level.

    Args:
        details: `ScanDetails.to_dict()`, or None.
    """
    charts = []
    for level, of_level in ({} if details is None else details["by_subtype"]).items():
        rows = [(name, metric, True) for name, metric in of_level.items() if metric is not None]
        title = f"Sensitivity by subtype, {LEVEL_NAMES[level]}"
        chart = forest_chart(f"subtypes-{level.replace('_', '-')}", title, rows)
        if chart is not None:
            charts.append(chart)
    return charts
