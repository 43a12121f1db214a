"""`hemorrhage-tf audit`."""

from __future__ import annotations

import json
from typing import Any

import click

from hemorrhage_tf.cli import options
from hemorrhage_tf.cli.commands import COMMANDS
from hemorrhage_tf.cli.options import examples


@click.command(
    short_help=COMMANDS["audit"],
    epilog=examples(
        "hemorrhage-tf audit head_ct",
        "hemorrhage-tf audit slices --positive bleed --strict --json",
        "hemorrhage-tf audit head_ct --html audit.html",
    ),
)
@click.argument("data", type=click.Path())
@click.option(
    "--strict",
    is_flag=True,
    help="Exit with 1 if size, mode and format, or the border, predict the label.",
)
@click.option(
    "--html",
    metavar="FILE",
    type=click.Path(dir_okay=False),
    help="Also write the audit to this HTML file.",
)
@options.positive()
@options.target()
@options.as_json
@click.pass_context
def audit(ctx: click.Context, data: str, strict: bool, as_json: bool, **options: Any) -> None:
    """Check labeled DATA for errors, duplicates and shortcut features.

    Lists unreadable files, duplicates and contradicting labels; differences between the classes
    that are not anatomy; and how well simple models predict the label from these alone.
    """
    import hemorrhage_tf as htf
    from hemorrhage_tf.cli.tables import print_audit

    result = htf.audit(data, **options)
    if as_json:
        click.echo(json.dumps(result.to_dict(), indent=2, sort_keys=True, allow_nan=False))
    else:
        print_audit(result)
        if options["html"]:
            click.echo(f"Page: {options['html']}")
    if strict and result.leaks:
        ctx.exit(1)
