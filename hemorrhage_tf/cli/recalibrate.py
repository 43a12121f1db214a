"""`hemorrhage-tf recalibrate`."""

from __future__ import annotations

import json
from typing import Any

import click

from hemorrhage_tf.cli import options
from hemorrhage_tf.cli.commands import COMMANDS
from hemorrhage_tf.cli.options import examples
from hemorrhage_tf.models.pretrained_files import EMBEDDED_MODEL


@click.command(
    short_help=COMMANDS["recalibrate"],
    epilog=examples(
        "hemorrhage-tf recalibrate local --out runs/local",
        "hemorrhage-tf recalibrate local --model runs/first --out local.tflite",
        "hemorrhage-tf recalibrate local --out runs/local \\",
        "    --operating-point sensitivity=0.95",
    ),
)
@click.argument("data", type=click.Path())
@click.option(
    "--model",
    metavar="MODEL",
    default=EMBEDDED_MODEL,
    show_default=True,
    help="Run folder, .keras file, or phantomnet (embedded).",
)
@click.option(
    "--out",
    metavar="TARGET",
    type=click.Path(),
    required=True,
    help="Run folder to write, or a .tflite file.  [required]",
)
@click.option(
    "--operating-point",
    metavar="CRITERION",
    default="balanced",
    show_default=True,
    help="Criterion for the threshold of slices: balanced (the share of hemorrhage in DATA), "
    "youden, sensitivity=0.95, specificity=0.9 or threshold=0.5.",
)
@click.option(
    "--scan-operating-point",
    metavar="CRITERION",
    default="balanced",
    show_default=True,
    help="Criterion for the threshold of scans.",
)
@click.option(
    "--folds", type=int, default=5, show_default=True, help="Folds of whole patients to fit across."
)
@click.option(
    "--repeats", type=int, default=5, show_default=True, help="Repeat that with other folds."
)
@click.option("--seed", type=int, default=0, show_default=True, help="Random seed of the folds.")
@options.positive()
@options.target()
@options.window
@options.skip_invalid()
@click.option("--overwrite", is_flag=True, help="Replace an existing result.")
@options.log_json()
@options.as_json
def recalibrate(data: str, model: str, as_json: bool, **options: Any) -> None:
    """Fit the calibration and thresholds of a model to labeled DATA.

    The network and its head stay as they are: only a temperature, an offset and the thresholds are
    fitted, by cross-fitting over patients. Prints the metrics before and after. Data with too few
    patients of a class is refused. For a quantized file, export the run folder.
    """
    import hemorrhage_tf as htf
    from hemorrhage_tf.cli.recalibration_tables import print_recalibration

    result = htf.recalibrate(data, model=model, **options)
    if as_json:
        values = {
            "path": str(result.path),
            "before": result.before,
            "after": result.after,
            "needed_for_half": result.needed_for_half,
            "recalibration": result.config["recalibration"],
        }
        click.echo(json.dumps(values, indent=2, sort_keys=True))
        return
    print_recalibration(result, model, data)
