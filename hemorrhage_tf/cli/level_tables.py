"""The tables of an evaluation with scans on standard output: one for each level, and details."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from rich import box
from rich.markup import escape
from rich.table import Table

from hemorrhage_tf.evaluation.scan_metrics import (
    LEVEL_NAMES,
    SCANS,
    SLICES,
    SLICES_IN_SCANS,
    metrics_by_level,
)
from hemorrhage_tf.reports.scan_section import describe_size

_PROPORTIONS = {
    "sensitivity": "sensitivity",
    "specificity": "specificity",
    "ppv": "PPV",
    "npv": "NPV",
}
_SHORT_LEVEL_NAMES = {SLICES: "slice alone", SLICES_IN_SCANS: "slice in scan", SCANS: "scan"}


def has_levels(metrics: Mapping[str, Any]) -> bool:
    """Return whether metrics are of slices and of scans."""
    return metrics.get(SCANS) is not None and metrics["level"] == "slice"


def split_levels(metrics: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Return the metrics of each level that applies, by its name in words."""
    return {LEVEL_NAMES[name]: each for name, each in metrics_by_level(metrics).items()}


def level_tables(metrics: Mapping[str, Any]) -> Iterator[Table]:
    """Yield a short table for each level that applies.

    Args:
        metrics: As `Evaluation.metrics` holds them.
    """
    for name, of_level in split_levels(metrics).items():
        yield _level_table(of_level, name)


def detail_tables(details: Mapping[str, Any] | None) -> Iterator[Table]:
    """Yield what scans add: false alarms, sensitivity by subtype, and decisions by size.

    Args:
        details: `ScanDetails.to_dict()`, or None for data without scans.
    """
    if details is None:
        return
    yield _alarm_table(details)
    if details["by_subtype"]:
        yield _subtype_table(details["by_subtype"])
    if len(details["by_size"]) > 1:
        yield _size_table(details["by_size"])


def _create_table(title: str, first: str, *others: str) -> Table:
    table = Table(box=box.SIMPLE, title=escape(title), title_justify="left", pad_edge=False)
    table.add_column(first, style="bold")
    for name in others:
        table.add_column(name, justify="right")
    table.min_width = len(title)  # else a short table breaks its title
    return table


def _level_table(metrics: Mapping[str, Any], name: str) -> Table:
    title = (
        f"{name.capitalize()}: {metrics['n']}, {metrics['n_positive']} with hemorrhage; "
        f"threshold {metrics['threshold']:.3g}"
    )
    unit = "scans" if name == LEVEL_NAMES[SCANS] else "slices"
    table = _create_table(title, "metric", "estimate", "95 % interval", "n")
    add_roc_auc(table, metrics)
    for key, label in _PROPORTIONS.items():
        metric = metrics[key]
        if metric is None:
            table.add_row(label, "-", f"no such {unit}", "0")
        else:
            table.add_row(label, *percent_cells(metric), f"{metric['n']:.4g}")
    add_predictive_values(table, metrics)
    calibration = metrics["calibration"]
    for label, metric in (
        ("calibration slope", calibration["slope"]),
        ("calibration intercept", calibration["intercept"]),
    ):
        if metric is not None:
            table.add_row(label, *decimal_cells(metric), str(metric["n"]))
    return table


def _alarm_table(details: Mapping[str, Any]) -> Table:
    alarms = details["false_alarms"]
    normal = alarms["n_normal_scans"]
    title = f"False alarms in {normal} normal {'scan' if normal == 1 else 'scans'}"
    table = _create_table(title, "metric", "estimate", "95 % interval")
    rows = [("normal scans flagged", alarms["scans_flagged"], True)]
    for level, mean in alarms["flagged_slices"].items():
        rows.append((f"flagged slices per scan, {_SHORT_LEVEL_NAMES[level]}", mean, False))
    for row in details["at_sensitivity"]:
        label = f"specificity at {row['sensitivity']:.0%} sensitivity, scan"
        rows.append((label, row["specificity"], True))
    for label, metric, is_share in rows:
        if metric is not None:
            table.add_row(label, *(percent_cells if is_share else decimal_cells)(metric))
    return table


def _subtype_table(by_subtype: Mapping[str, Mapping[str, Any]]) -> Table:
    title = "Sensitivity by subtype of the probability of any hemorrhage (with n)"
    table = _create_table(title, "subtype", *(_SHORT_LEVEL_NAMES[level] for level in by_subtype))
    for name in next(iter(by_subtype.values())):
        # Slices in their scans are as many as slices alone.
        cells = [
            _short_cell(of_level[name], with_n=level != SLICES_IN_SCANS)
            for level, of_level in by_subtype.items()
        ]
        if any(of_level[name] for of_level in by_subtype.values()):
            table.add_row(name, *cells)
    return table


def _size_table(sizes: list[Mapping[str, Any]]) -> Table:
    title = "By number of slices in the scan (with n)"
    table = _create_table(title, "slices", "scans", "sensitivity", "specificity")
    for row in sizes:
        shares = [_short_cell(row[key]) for key in ("sensitivity", "specificity")]
        table.add_row(describe_size(row), str(row["n"]), *shares)
    return table


def _short_cell(metric: Mapping[str, Any] | None, with_n: bool = True) -> str:
    """Return a share without decimals, so that three of them fit into a line."""
    if metric is None:
        return "-"
    estimate, low, high = (100 * metric[key] for key in ("estimate", "low", "high"))
    n = f", {metric['n']:.4g}" if with_n else ""
    return f"{estimate:.0f}% ({low:.0f} to {high:.0f}{n})"


def add_roc_auc(table: Table, metrics: Mapping[str, Any]) -> None:
    """Add the ROC AUC to a table of metrics."""
    area = metrics["roc_auc"]
    cells = ("-", "needs both classes") if area is None else decimal_cells(area)
    table.add_row("ROC AUC", *cells, str(metrics["n"] if area is None else area["n"]))


def add_predictive_values(table: Table, metrics: Mapping[str, Any]) -> None:
    """Add PPV and NPV at the prevalence that was asked for, if any, to a table of metrics."""
    at_prevalence = metrics.get("at_prevalence") or {}
    for key in ("ppv", "npv"):
        if at_prevalence.get(key) is not None:
            label = f"{key.upper()} at a prevalence of {at_prevalence['prevalence']:g}"
            table.add_row(label, *percent_cells(at_prevalence[key]), "")


def percent_cells(metric: Mapping[str, Any]) -> tuple[str, str]:
    """Return estimate and interval in percent, as two cells."""
    return f"{metric['estimate']:.1%}", f"{metric['low']:.1%} to {metric['high']:.1%}"


def decimal_cells(metric: Mapping[str, Any]) -> tuple[str, str]:
    """Return estimate and interval with three decimals, as two cells."""
    return f"{metric['estimate']:.3f}", f"{metric['low']:.3f} to {metric['high']:.3f}"
