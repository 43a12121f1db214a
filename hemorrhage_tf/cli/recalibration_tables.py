"""What a recalibration prints: the metrics of each level before and after."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from rich import box
from rich.markup import escape
from rich.table import Table

from hemorrhage_tf.cli.console import create_console
from hemorrhage_tf.evaluation.scan_metrics import LEVEL_NAMES, SCANS, SLICES, SLICES_IN_SCANS
from hemorrhage_tf.verbs.results import Recalibration


def print_recalibration(result: Recalibration, model: str, data: str) -> None:
    """Print the metrics before and after, what would narrow them, and where the model is."""
    console = create_console()
    console.print(f"{model} on {data}", markup=False, style="bold", soft_wrap=True)
    before, after = _levels(result.before), _levels(result.after)
    for name, metrics in after.items():
        console.print(_table(name, before[name], metrics))
    fitted = result.config["recalibration"]["fitted"]
    for name in after:
        if name in fitted:
            text = f"{_capital(LEVEL_NAMES[name])}: {_describe_fit(fitted[name])}."
        else:
            text = f"{_capital(LEVEL_NAMES[name])}: kept as they were."
        console.print(text, markup=False, soft_wrap=True)
    for line in _describe_needed(result.needed_for_half):
        console.print(line, markup=False, soft_wrap=True)
    folds = result.config["recalibration"]
    times = "once" if folds["repeats"] == 1 else f"{folds['repeats']} times"
    console.print(
        "Before: the model as it was, at its own thresholds. After: out of fold "
        f"({folds['folds']} folds of whole patients, {times}).",
        markup=False,
        soft_wrap=True,
    )
    console.print(f"Recalibrated model: {result.path}", markup=False, soft_wrap=True)


def _levels(metrics: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    main = SLICES if metrics["level"] == "slice" else SCANS
    levels = {main: metrics, SLICES_IN_SCANS: metrics[SLICES_IN_SCANS], SCANS: metrics[SCANS]}
    return {name: one for name, one in levels.items() if one is not None}


def _table(name: str, before: Mapping[str, Any], after: Mapping[str, Any]) -> Table:
    title = f"{_capital(LEVEL_NAMES[name])}: {after['n']}, {after['n_positive']} with hemorrhage"
    table = Table(box=box.SIMPLE, title=escape(title), title_justify="left", pad_edge=False)
    table.add_column("metric", style="bold")
    table.add_column("before", justify="right")
    table.add_column("after", justify="right")
    table.min_width = len(title)  # else a short table breaks its title
    table.add_row("threshold", f"{before['threshold']:.3g}", f"{after['threshold']:.3g}")
    rows = [(key, key, True) for key in ("sensitivity", "specificity")]
    rows += [("ROC AUC", "roc_auc", False), ("Brier score", "brier", False)]
    for label, key, is_share in rows:
        table.add_row(label, *(_cell(one[key], is_share) for one in (before, after)))
    for key in ("slope", "intercept"):
        cells = (_cell(one["calibration"][key], False) for one in (before, after))
        table.add_row(f"calibration {key}", *cells)
    return table


def _cell(metric: Mapping[str, Any] | None, is_share: bool) -> str:
    if metric is None:
        return "-"
    if is_share:
        return f"{metric['estimate']:.1%} ({100 * metric['low']:.1f} to {100 * metric['high']:.1f})"
    return f"{metric['estimate']:.3f} ({metric['low']:.3f} to {metric['high']:.3f})"


def _describe_fit(fitted: Mapping[str, Any]) -> str:
    text = f"threshold {fitted['threshold']:.3g} ({fitted['criterion']})"
    if fitted["temperature"] == 1 and fitted["offset"] == 0:
        return text
    return f"temperature {fitted['temperature']:.3g}, offset {fitted['offset']:.3g}, {text}"


def _describe_needed(needed: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """Yield a sentence for each different answer; levels of one set of patients share it."""
    answers: dict[str, list[str]] = {}
    for name, one in needed.items():
        text = "; ".join(
            f"{one[key]['needed']} {one['counted']} {which} for the {key} "
            f"(now {one[key]['received']})"
            for key, which in (
                ("sensitivity", "with hemorrhage"),
                ("specificity", _without(name, one["counted"])),
            )
        )
        answers.setdefault(text, []).append(LEVEL_NAMES[name])
    for text, names in answers.items():
        yield f"Intervals half as wide, {' and '.join(names)}: {text}."


def _without(level: str, counted: str) -> str:
    """Describe what the specificity counts: most patients with hemorrhage have slices without."""
    if counted == "patients":
        return "with scans without" if level == SCANS else "with slices without"
    return "without"


def _capital(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}"
