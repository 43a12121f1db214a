"""`hemorrhage-tf explain`."""

from __future__ import annotations

import shutil
import textwrap

import click

from hemorrhage_tf.cli.commands import COMMANDS
from hemorrhage_tf.cli.options import examples
from hemorrhage_tf.evaluation.explanations import EXPLANATIONS, Explanation, find_explanation

_WIDEST = 80  # columns


@click.command(
    short_help=COMMANDS["explain"],
    epilog=examples(
        "hemorrhage-tf explain",
        "hemorrhage-tf explain roc_auc",
        "hemorrhage-tf explain calibration slope",
    ),
)
@click.argument("metric", nargs=-1)
def explain(metric: tuple[str, ...]) -> None:
    """Explain METRIC: what it is, its formula and source, and what it does not say.

    METRIC is a name as metrics.json, tables or the report have it. Without METRIC, list all.
    """
    if metric:
        _print_explanation(find_explanation(" ".join(metric)))
        return
    width = max(len(one.key) for one in EXPLANATIONS)
    for one in EXPLANATIONS:
        click.echo(f"{one.key:<{width}}  {one.title}")


def _print_explanation(one: Explanation) -> None:
    click.echo(f"{one.title} ({one.key})")
    parts = (
        ("", one.meaning),
        ("Formula: ", one.formula),
        ("Source: ", one.source),
        ("Does not say: ", one.limits),
    )
    columns = min(_WIDEST, shutil.get_terminal_size().columns)
    for name, text in parts:
        if text:
            click.echo()
            click.echo(textwrap.fill(name + text, columns, break_on_hyphens=False))
