"""The command-line options that both kinds of pretraining share."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

Decorator = Callable[[Any], Any]

seed_option: Decorator = click.option(
    "--seed", metavar="N", type=int, default=0, show_default=True, help="Set the random seed."
)
workers_option: Decorator = click.option(
    "--workers",
    metavar="N",
    type=click.IntRange(1),
    default=os.cpu_count() or 1,
    show_default="one per CPU",
    help="Draw in N processes.",
)


def work_option(help: str) -> Decorator:
    """Return the option for the folder that holds finished work."""
    return click.option(
        "--work",
        metavar="DIR",
        type=click.Path(path_type=Path, file_okay=False),
        default=Path("pretraining"),
        show_default=True,
        help=help,
    )


def count_option(settings: type, name: str, help: str, least: int = 1) -> Decorator:
    """Return an option for a count.

    Args:
        settings: The dataclass that holds the default.
        name: Name of the option, without dashes in front.
        help: Its help text.
        least: The lowest accepted count. Defaults to 1.
    """
    return click.option(
        f"--{name}",
        metavar="N",
        type=click.IntRange(least),
        default=getattr(settings, name.replace("-", "_")),
        show_default=True,
        help=help,
    )
