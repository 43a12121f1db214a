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
        "hemorrhage-tf predict study/ --dicom-out results",
        "hemorrhage-tf predict --dicomweb URL --study UID --dicom-out results",
    ),
)
@click.argument("images", nargs=-1, type=click.Path(), metavar="[IMAGES]...")
@options.model
@click.option(
    "--cam",
    metavar="DIR",
    type=click.Path(file_okay=False),
    help="Write overlays of the class activation map to this folder.",
)
@click.option(
    "--contours",
    is_flag=True,
    help="Draw contours in the overlays instead of colors (--cam).",
)
@click.option(
    "--dicom-out",
    metavar="DIR",
    type=click.Path(file_okay=False),
    help="Write DICOM results of each scan to this folder, with its identity.",
)
@click.option(
    "--anonymize",
    is_flag=True,
    help="De-identify the DICOM results (PS3.15, basic profile).",
)
@click.option(
    "--dicomweb",
    metavar="URL",
    help="Predict a study of this archive, and store the results there.",
)
@click.option("--study", metavar="UID", help="Study Instance UID of the study.")
@click.option("--watch", is_flag=True, help="Predict every CT study that the archive gets.")
@click.option(
    "--token",
    metavar="FILE",
    type=click.Path(dir_okay=False),
    help="File with a bearer token for the archive.",
)
@click.option(
    "--ca",
    metavar="FILE",
    type=click.Path(dir_okay=False),
    help="File with the certificates to trust, PEM.  [default: the usual authorities]",
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
@options.log_json()
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
