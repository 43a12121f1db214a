"""`hemorrhage-tf predict`."""

from __future__ import annotations

import csv
import json
import sys
from typing import Any

import click

from hemorrhage_tf.cli import options
from hemorrhage_tf.cli.commands import COMMANDS
from hemorrhage_tf.cli.options import examples


@click.command(
    short_help=COMMANDS["predict"],
    epilog=examples(
        "hemorrhage-tf predict slice.png",
        "hemorrhage-tf predict series/ volume.nii.gz --cam overlays",
        "hemorrhage-tf predict slices/ '*.jpg' --model runs/first --csv > out.csv",
        "hemorrhage-tf predict study/ --series 3 --tta",
    ),
)
@click.argument("images", nargs=-1, required=True, type=click.Path(), metavar="IMAGES...")
@options.model
@click.option(
    "--cam",
    metavar="DIR",
    type=click.Path(file_okay=False),
    help="Write overlays of the class activation map to this folder.",
)
@click.option(
    "--series",
    metavar="SERIES",
    multiple=True,
    help="Use this DICOM series: its number, or its UID or the end of it. Repeatable.",
)
@options.tta
@options.window
@options.skip_invalid()
@options.as_json
@click.option("--csv", "as_csv", is_flag=True, help="Print CSV only: a row for each slice.")
def predict(images: tuple[str, ...], as_json: bool, as_csv: bool, **options: Any) -> None:
    """Predict IMAGES: PNG, JPEG, DICOM or NIfTI files, folders or globs.

    The slices of a scan are sorted from the neck to the vertex. The scan comes first, with the
    three slices to look at. A slice that does not look like a head CT gets a warning.

    Of a study with several series, the plain axial one of the head with a soft kernel is used; what
    was left out is listed on standard error.
    """
    import hemorrhage_tf as htf

    if as_json and as_csv:
        raise click.UsageError("--json and --csv exclude each other. Pass one of them.")
    prediction = htf.predict(images, **options)
    if as_json:
        click.echo(json.dumps(prediction.to_dict(), indent=2))
    elif as_csv:
        rows = prediction.to_rows()
        writer = csv.DictWriter(sys.stdout, rows[0], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    else:
        from hemorrhage_tf.cli.prediction_tables import print_prediction

        print_prediction(prediction)
