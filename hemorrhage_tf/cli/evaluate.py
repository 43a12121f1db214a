"""`hemorrhage-tf evaluate`."""

from __future__ import annotations

import json
from typing import Any

import click

from hemorrhage_tf.cli import options
from hemorrhage_tf.cli.commands import COMMANDS
from hemorrhage_tf.cli.options import examples


@click.command(
    short_help=COMMANDS["evaluate"],
    epilog=examples(
        "hemorrhage-tf evaluate head_ct --tta",
        "hemorrhage-tf evaluate other_site --model runs/first --report report.html",
        "hemorrhage-tf evaluate head_ct --model runs/first --json",
        "hemorrhage-tf evaluate head_ct --model runs/first --against runs/second",
        "hemorrhage-tf evaluate head_ct --against runs/first --prevalence 0.1",
        "hemorrhage-tf evaluate head_ct --figures figures --format pdf",
    ),
)
@click.argument("data", type=click.Path())
@options.model
@click.option("--against", metavar="MODEL", help="Compare with this second model on the same data.")
@click.option(
    "--report",
    metavar="FILE",
    type=click.Path(dir_okay=False),
    help="Write a report with images and curves to this HTML file.",
)
@click.option(
    "--figures",
    metavar="DIR",
    type=click.Path(file_okay=False),
    help="Write curves, calibration, errors and scans as figures to this folder.",
)
@click.option(
    "--format",
    "figure_format",
    type=click.Choice(["png", "pdf", "svg"]),
    default="png",
    show_default=True,
    help="Format of the figures.",
)
@options.tta
@options.prevalence()
@options.positive()
@options.target()
@options.window
@options.skip_invalid()
@options.log_json()
@options.as_json
def evaluate(data: str, model: str, as_json: bool, **options: Any) -> None:
    """Compute the metrics of a model on labeled DATA, each with its interval.

    DATA is any data that fit accepts. The metrics are those of slices alone and, where the data has
    scans, of scans. A model with a scan model also has those of slices in their scans; without one,
    the probability of a scan is the mean of its three highest slices. Where labels belong to whole
    scans only, only scans are counted.
    """
    import hemorrhage_tf as htf
    from hemorrhage_tf.cli.tables import print_comparison, print_metrics

    evaluation = htf.evaluate(data, model=model, **options)
    comparisons = {
        "comparison": evaluation.comparison,
        "in_scan_comparison": evaluation.in_scan_comparison,
        "scan_comparison": evaluation.scan_comparison,
    }
    if as_json:
        click.echo(json.dumps({**evaluation.metrics, **comparisons}, indent=2, sort_keys=True))
        return
    print_metrics(evaluation.metrics, f"{model} on {data}")
    if options["report"]:
        click.echo(f"Report: {options['report']}")
    if options["figures"]:
        click.echo(f"Figures: {options['figures']}")
    of_levels = {
        "slices" if evaluation.level == "slice" else "scans": evaluation.comparison,
        "slices in their scans": evaluation.in_scan_comparison,
        "scans": evaluation.scan_comparison,
    }
    for level, comparison in of_levels.items():
        if comparison is not None:
            print_comparison(comparison, model, options["against"], level)
