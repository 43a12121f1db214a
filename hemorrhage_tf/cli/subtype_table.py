"""The table of subtypes on standard output."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich import box
from rich.table import Table

from hemorrhage_tf.reports.subtype_section import subtype_rows, weighted_log_loss_text


def subtype_table(metrics: Mapping[str, Any]) -> Table | None:
    """Return one line for each subtype; None for metrics without subtypes."""
    rows = subtype_rows(metrics)
    if not rows:
        return None
    loss = weighted_log_loss_text(metrics)
    caption = None if loss is None else f"Weighted log loss of RSNA 2019: {loss}"
    table = Table(
        box=box.SIMPLE,
        title="Subtypes",
        title_justify="left",
        caption=caption,
        caption_justify="left",
    )
    table.add_column("subtype", style="bold")
    for name in ("slices", "ROC AUC", "PR AUC", "sensitivity", "specificity"):
        table.add_column(name, justify="right")
    table.add_column("note", overflow="fold")
    for row in rows:
        table.add_row(
            row["name"],
            f"{row['n_positive']} of {row['n']}",
            row["roc_auc"],
            row["pr_auc"],
            row["sensitivity"],
            row["specificity"],
            row["notes"],
        )
    return table
