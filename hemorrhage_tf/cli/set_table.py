"""The table of the sets that a fit only evaluates, on standard output."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich import box
from rich.table import Table

from hemorrhage_tf.reports.number_formats import NOT_AVAILABLE
from hemorrhage_tf.reports.set_rows import set_rows


def set_table(metrics: Mapping[str, Any]) -> Table | None:
    """Return one line for each set; None for metrics without any."""
    rows = set_rows(metrics)
    if not rows:
        return None
    title = "Slices of other sets, only evaluated"
    table = Table(box=box.SIMPLE, title=title, title_justify="left")
    table.min_width = len(title)
    table.add_column("set", style="bold")
    columns = {"slices": "slices", "roc_auc": "ROC AUC"}
    columns |= {"sensitivity": "sensitivity", "specificity": "specificity"}
    if any(row["known_head"] != NOT_AVAILABLE for row in rows):
        columns["known_head"] = "PhantomNet itself"
    for name in columns.values():
        table.add_column(name, justify="right")
    for row in rows:
        table.add_row(row["name"], *(row[key] for key in columns))
    return table
