"""`hemorrhage-tf benchmark`."""

from __future__ import annotations

import json
from typing import Any

import click

from hemorrhage_tf.cli import options
from hemorrhage_tf.cli.commands import COMMANDS
from hemorrhage_tf.cli.options import examples


@click.command(
    short_help=COMMANDS["benchmark"],
    epilog=examples(
        "hemorrhage-tf benchmark runs/first saved_models/first.tflite",
        "hemorrhage-tf benchmark saved_models/*.tflite --threads 2 --json",
        "hemorrhage-tf benchmark phantomnet runs/first",
    ),
)
@click.argument("models", nargs=-1, required=True, type=click.Path(), metavar="MODEL...")
@click.option(
    "--images",
    metavar="PATH",
    multiple=True,
    type=click.Path(),
    help="Slices to measure with; may be repeated.  [default: phantoms]",
)
@click.option(
    "--threads", type=int, default=1, show_default=True, help="Threads that each model runs with."
)
@click.option(
    "--batch-size", type=int, default=32, show_default=True, help="Batch size for the throughput."
)
@click.option(
    "--rounds", type=int, default=30, show_default=True, help="Single slices for the latency."
)
@options.as_json
def benchmark(models: tuple[str, ...], as_json: bool, **options: Any) -> None:
    """Measure each MODEL in its own process, and compare it with the first.

    Measures size, load time, latency, throughput, peak memory, and the largest difference of
    probability.
    """
    import hemorrhage_tf as htf
    from hemorrhage_tf.cli.tables import print_benchmark

    measurements = htf.benchmark(models, **options)
    if as_json:
        click.echo(json.dumps([one.to_dict() for one in measurements], indent=2, sort_keys=True))
    else:
        print_benchmark(measurements)
