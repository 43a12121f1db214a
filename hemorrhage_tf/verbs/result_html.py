"""What the results of verbs show of themselves in a notebook."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from hemorrhage_tf.core.notebook_html import html_table, join_html, paragraph
from hemorrhage_tf.evaluation.scan_metrics import LEVEL_NAMES, metrics_by_level
from hemorrhage_tf.reports.number_formats import format_count, format_metric

if TYPE_CHECKING:
    from markupsafe import Markup

    from hemorrhage_tf.verbs.error_previews import ErrorPreviews

# What matters first; the third value says whether it is shown in percent.
_ROWS = (
    ("roc_auc", "ROC AUC", False),
    ("sensitivity", "sensitivity", True),
    ("specificity", "specificity", True),
    ("accuracy", "accuracy", True),
    ("ppv", "PPV", True),
    ("npv", "NPV", True),
    ("pr_auc", "PR AUC", False),
    ("brier", "Brier score", False),
)


def metrics_html(
    title: str, metrics: Mapping[str, Any], previews: ErrorPreviews | None = None
) -> str:
    """Return the HTML of metrics: a table with intervals, and the confusion matrix of each level.

    Args:
        title: Heading.
        metrics: As `Evaluation.metrics`, or `metrics.json` of a run.
        previews: Draws the worst errors. Defaults to None, for none.
    """
    levels = metrics_by_level(metrics)
    rows = [
        (label, *(format_metric(of[key], percent) for of in levels.values()))
        for key, label, percent in _ROWS
    ]
    rows.append(("threshold", *(f"{of['threshold']:.4g}" for of in levels.values())))
    headings = ["metric", *(_describe(name, of) for name, of in levels.items())]
    table = html_table(headings, rows, "Estimates with 95 % intervals")
    matrices = [_confusion(name, of["confusion"]) for name, of in levels.items()]
    notes = [f"{note[:1].upper()}{note[1:]}." for of in levels.values() for note in of["notes"]]
    images = [] if previews is None else previews.html()
    return join_html(title, table, *matrices, *map(paragraph, dict.fromkeys(notes)), *images)


def _describe(name: str, metrics: Mapping[str, Any]) -> str:
    return f"{LEVEL_NAMES[name]}: {metrics['n']}, {metrics['n_positive']} with hemorrhage"


def _confusion(name: str, counts: Mapping[str, float]) -> Markup:
    rows = [
        ("hemorrhage", *(format_count(counts[key]) for key in ("true_positive", "false_negative"))),
        ("normal", *(format_count(counts[key]) for key in ("false_positive", "true_negative"))),
    ]
    headings = ("label", "predicted hemorrhage", "predicted normal")
    return html_table(headings, rows, f"Confusion matrix of {LEVEL_NAMES[name]}")
