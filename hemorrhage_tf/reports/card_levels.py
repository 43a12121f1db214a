"""What the model card says of scans: metrics of each level, false alarms, sizes and subtypes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hemorrhage_tf.evaluation.scan_metrics import LEVEL_NAMES, SCANS, SLICES, SLICES_IN_SCANS
from hemorrhage_tf.reports.number_formats import NOT_AVAILABLE, format_metric
from hemorrhage_tf.reports.scan_section import describe_size, details_section

SLICES_ONLY = "Whole examinations. The model sees one slice at a time; an examination has many."
SCANS_ONLY = (
    "Examinations as they are read in practice. The model sees one scan; an examination may have "
    "several, prior studies and a history."
)


def has_scan_model(metrics: Mapping[str, Any]) -> bool:
    """Return whether the metrics come from a model that sees whole scans."""
    return metrics.get(SLICES_IN_SCANS) is not None


def describe_counts(metrics: Mapping[str, Any]) -> str:
    """Return what was evaluated: "120 slices", "120 slices and 8 scans" or "8 scans"."""
    scans = metrics.get(SCANS)
    if scans is None:
        return f"{metrics['n']} slices"
    if metrics["level"] == "scan":
        return f"{metrics['n']} scans"
    return f"{metrics['n']} slices and {scans['n']} scans"


def card_levels(metrics: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the levels of a model card, each with its metrics; none for slices alone.

    Args:
        metrics: As metrics.json holds them.

    Returns:
        For each level its name, `n`, `n_positive`, threshold, units of its intervals, metrics
        (from `binary_metrics`) and confusion matrix.
    """
    scans = metrics.get(SCANS)
    if scans is None:
        return []
    levels = {SLICES: metrics if metrics["level"] == "slice" else None}
    levels |= {SLICES_IN_SCANS: metrics.get(SLICES_IN_SCANS), SCANS: scans}
    names = ("n", "n_positive", "threshold", "intervals_of", "n_groups", "confusion")
    return [
        {"name": LEVEL_NAMES[level], **{name: of[name] for name in names}, "metrics": of}
        for level, of in levels.items()
        if of is not None
    ]


def level_rows(levels: list[dict[str, Any]], names: Mapping[str, str]) -> list[list[str]]:
    """Return the name of each metric and its text at each level.

    Args:
        levels: From `card_levels`.
        names: The name of each metric by its key.
    """
    shares = ("accuracy", "sensitivity", "specificity", "ppv", "npv")
    return [
        [name, *(_text(level["metrics"].get(key), key in shares) for level in levels)]
        for key, name in names.items()
    ]


def detail_rows(metrics: Mapping[str, Any]) -> dict[str, list[list[str]]]:
    """Return the rows of false alarms, of sizes and of subtypes; empty without scans.

    Args:
        metrics: As metrics.json holds them.
    """
    section = details_section(metrics.get("scan_details"))
    if section is None:
        return {"alarms": [], "sizes": [], "subtypes": [], "subtype_levels": []}
    return {
        "alarms": [[name, _text(metric, share)] for name, share, metric in section["rows"]],
        "sizes": [
            [
                describe_size(size),
                str(size["n"]),
                *(_text(size[key], True) for key in ("sensitivity", "specificity")),
            ]
            for size in section["sizes"]
        ],
        "subtypes": [
            [name, *(_text_with_n(metric) for metric in each)] for name, each in section["subtypes"]
        ],
        "subtype_levels": section["subtype_levels"],
    }


def _text(metric: Mapping[str, Any] | None, is_share: bool) -> str:
    return NOT_AVAILABLE if metric is None else format_metric(metric, is_share)


def _text_with_n(metric: Mapping[str, Any] | None) -> str:
    return "-" if metric is None else f"{format_metric(metric, True)}, n = {metric['n']:g}"
