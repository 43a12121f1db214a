"""The tables of an audit on standard output."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from rich import box
from rich.markup import escape
from rich.table import Table

from hemorrhage_tf.auditing.audit_result import Audit, Pair


def tables_of(audit: Audit) -> Iterator[Table]:
    """Return the tables of an audit, without empty ones."""
    if audit.problems:
        yield _problems_table(audit)
    if audit.pairs:
        yield _pairs_table(audit.pairs)
    yield _storage_table(audit)
    if audit.patients.count:
        yield _patients_table(audit)
    if audit.differences:
        yield _differences_table(audit)
    if audit.shortcuts:
        yield _shortcuts_table(audit)


def _problems_table(audit: Audit) -> Table:
    table = Table(box=box.SIMPLE, title="Files and rows that cannot be used")
    table.add_column("path", overflow="fold")
    table.add_column("reason", overflow="fold")
    for problem in audit.problems:
        table.add_row(escape(problem.path), escape(problem.reason))
    return table


def _pairs_table(pairs: Iterable[Pair]) -> Table:
    table = Table(box=box.SIMPLE, title="Duplicates and near-duplicates")
    table.add_column("first", overflow="fold")
    table.add_column("second", overflow="fold")
    table.add_column("relation")
    for name in ("correlation", "sizes", "labels"):
        table.add_column(name, justify="right")
    for pair in pairs:
        sizes = [f"{width} x {height}" for width, height in (pair.first_size, pair.second_size)]
        labels = f"{pair.first_label}, {pair.second_label}"
        table.add_row(
            escape(pair.first),
            escape(pair.second),
            pair.relation,
            f"{pair.correlation:.3f}",
            ", ".join(dict.fromkeys(sizes)),
            f"{labels} contradicting" if pair.contradicting else labels,
        )
    return table


def _storage_table(audit: Audit) -> Table:
    table = Table(box=box.SIMPLE, title="File formats")
    table.add_column("format", style="bold")
    table.add_column("mode")
    for name in ("bits", "hemorrhage", "normal"):
        table.add_column(name, justify="right")
    for one in audit.storage:
        table.add_row(
            one.file_format, one.mode, str(one.bits), str(one.hemorrhage), str(one.normal)
        )
    return table


def _patients_table(audit: Audit) -> Table:
    patients = audit.patients
    table = Table(box=box.SIMPLE, title="Patients", show_header=False)
    table.add_column(style="bold")
    table.add_column(justify="right")
    table.add_row("patients", str(patients.count))
    table.add_row("with hemorrhage only", str(patients.with_hemorrhage))
    table.add_row("without hemorrhage only", str(patients.without))
    table.add_row("with both", str(patients.with_both))
    table.add_row("slices per patient, median", f"{patients.median_slices:g}")
    table.add_row("slices per patient, maximum", str(patients.most_slices))
    table.add_row("slices without a patient", str(patients.unnamed))
    return table


def _differences_table(audit: Audit) -> Table:
    table = Table(box=box.SIMPLE, title="Differences between the classes that are not anatomy")
    table.add_column("property", style="bold")
    table.add_column("hemorrhage", overflow="fold")
    table.add_column("normal", overflow="fold")
    table.add_column("effect", justify="right")
    table.add_column("p (Holm)", justify="right")
    for one in audit.differences:
        p = "< 0.001" if one.p_adjusted < 0.001 else f"{one.p_adjusted:.3f}"
        effect = f"{one.measure} {one.effect:.2f}"
        style = "yellow" if one.significant else None
        table.add_row(one.name, one.hemorrhage, one.normal, effect, p, style=style)
    return table


def _shortcuts_table(audit: Audit) -> Table:
    table = Table(box=box.SIMPLE, title="Shortcut features: simple models without the brain")
    table.add_column("features", style="bold")
    table.add_column("model")
    table.add_column("ROC AUC", justify="right")
    table.add_column("95 % interval")
    table.add_column("above chance")
    for one in audit.shortcuts:
        area = one.roc_auc
        if area is None:
            table.add_row(one.name, one.model, "-", one.reason or "-", "-")
        else:
            interval = f"{area.low:.3f} to {area.high:.3f}"
            above = "yes" if one.above_chance else "no"
            table.add_row(one.name, one.model, f"{area.estimate:.3f}", interval, above)
    return table
