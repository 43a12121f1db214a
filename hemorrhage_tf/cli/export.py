"""`hemorrhage-tf export`."""

from __future__ import annotations

from typing import Any

import click

from hemorrhage_tf.cli.commands import COMMANDS
from hemorrhage_tf.cli.options import examples
from hemorrhage_tf.exporters.settings import (
    BATCHES,
    DEFAULT_CALIBRATION_SLICES,
    FORMATS,
    INPUT_TYPES,
    QUANTIZATIONS,
)
from hemorrhage_tf.models.pretrained_files import EMBEDDED_MODEL


@click.command(
    short_help=COMMANDS["export"],
    epilog=examples(
        "hemorrhage-tf export runs/first first.tflite --quantize int8",
        "hemorrhage-tf export runs/first saved_models/hemorrhage/1",
        "hemorrhage-tf export runs/first first.onnx --cam",
        "hemorrhage-tf export phantomnet phantomnet.tflite --quantize int8 --cam",
        "hemorrhage-tf export phantomnet site --format web",
        "hemorrhage-tf export runs/first first-hub --format hub",
    ),
)
@click.argument("model", type=click.Path())
@click.argument("target", type=click.Path())
@click.option(
    "--format",
    type=click.Choice(FORMATS),
    help="Write a folder: a page that predicts in the browser (web), or all files for the Hugging "
    "Face Hub (hub).  [default: the form that the ending of TARGET says]",
)
@click.option(
    "--web-page",
    metavar="DIR",
    type=click.Path(),
    help="Use this build of the page (--format web).  [default: the one in the package]",
)
@click.option(
    "--quantize",
    type=click.Choice(QUANTIZATIONS),
    default="none",
    show_default=True,
    help="Quantization of a file. float16, dynamic: weights only (TFLite); int8: activations, too; "
    "full-int8: all, for accelerators without floating point (TFLite).",
)
@click.option(
    "--input-type",
    type=click.Choice(INPUT_TYPES),
    default="float32",
    show_default=True,
    help="Type of the input pixels in [0, 255].",
)
@click.option(
    "--cam", is_flag=True, help="Add the class activation map as an output (TFLite, ONNX)."
)
@click.option(
    "--batch",
    type=click.Choice(BATCHES),
    default="static",
    show_default=True,
    help="Accept single slices (static) or batches of any size (dynamic; TFLite).",
)
@click.option(
    "--verify",
    metavar="DATA",
    type=click.Path(),
    help=f"Verify on these slices.  [default: the run's test slices; phantoms for "
    f"{EMBEDDED_MODEL}]",
)
@click.option(
    "--representative",
    metavar="DATA",
    type=click.Path(),
    help="Calibrate int8 on these slices.  [default: the run's training slices; phantoms for "
    f"{EMBEDDED_MODEL}]",
)
@click.option(
    "--calibration-slices",
    metavar="COUNT",
    type=int,
    default=DEFAULT_CALIBRATION_SLICES,
    show_default=True,
    help="Calibrate int8 on at most so many slices.",
)
def export(model: str, target: str, **options: Any) -> None:
    """Export MODEL to TARGET, and verify it before it is written.

    MODEL is a run folder, its .keras file, or phantomnet (the embedded model); for a web page also
    a .tflite file. TARGET is a .tflite or .onnx file, or a name without an ending for a SavedModel
    folder.
    """
    import hemorrhage_tf as htf
    from hemorrhage_tf.cli.tables import print_export

    print_export(htf.export(model, target, **options))
