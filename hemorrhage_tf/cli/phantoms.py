"""`hemorrhage-tf phantoms`."""

from __future__ import annotations

import os
from typing import Any

import click

from hemorrhage_tf.cli.commands import COMMANDS
from hemorrhage_tf.cli.options import examples
from hemorrhage_tf.synthesis.draw import DEFAULT_SIZE
from hemorrhage_tf.synthesis.phantom_sets import FORMATS, STUDY


@click.command(
    short_help=COMMANDS["phantoms"],
    epilog=examples(
        "hemorrhage-tf phantoms synthetic --count 1000",
        "hemorrhage-tf phantoms synthetic --count 20 --seed 7 --format dicom",
        "hemorrhage-tf phantoms archive --count 2 --format study",
    ),
)
@click.argument("folder", metavar="DIR", type=click.Path())
@click.option(
    "--count", type=int, help="Number of slices or studies.  [default: 100 slices, or 1 study]"
)
@click.option("--seed", type=int, default=0, show_default=True, help="Random seed.")
@click.option(
    "--format",
    "form",
    type=click.Choice((*FORMATS, STUDY)),
    default="png",
    show_default=True,
    help="png: display images; dicom, nifti: HU; study: whole DICOM studies.",
)
@click.option(
    "--size",
    type=int,
    default=DEFAULT_SIZE,
    show_default=True,
    help="Side of a slice in pixels, 64 to 512.",
)
def phantoms(folder: str, **options: Any) -> None:
    """Draw synthetic head CT into DIR, with masks and a manifest for fit.

    No patient data is used. Every second slice has a hemorrhage of one or two of the five subtypes.
    All have bright structures that are not hemorrhages, and artifacts of scanners and screens.

    A study is one head with localizers, slices of two thicknesses, a bone kernel and an
    angiography, to test archives with. Every second study has a hemorrhage.
    """
    import hemorrhage_tf as htf

    click.echo(f"Phantoms: {htf.phantoms(folder, workers=os.cpu_count() or 1, **options)}")
