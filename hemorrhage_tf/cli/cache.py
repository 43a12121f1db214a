"""`hemorrhage-tf cache`."""

from __future__ import annotations

import json
from typing import Any

import click

from hemorrhage_tf.cli import options
from hemorrhage_tf.cli.commands import COMMANDS
from hemorrhage_tf.cli.options import OrderedGroup, examples
from hemorrhage_tf.training.features.cache_location import DEFAULT_LIMIT, LIMIT_VARIABLE


@click.group(
    cls=OrderedGroup,
    short_help=COMMANDS["cache"],
    epilog=examples(
        "hemorrhage-tf cache info",
        "hemorrhage-tf cache prune --limit 10GB --older-than 30",
        "hemorrhage-tf cache clear --yes",
    ),
)
def cache() -> None:
    """Show and prune the feature cache.

    Backbone features are computed once and stored in it. Features that were removed are computed
    again by the next fit that needs them. Features in use are never removed.
    """


@cache.command(short_help="Print a summary of the feature cache.")
@options.cache_folder
@options.as_json
def info(cache: str | None, as_json: bool) -> None:
    """Print a summary of the feature cache."""
    import hemorrhage_tf as htf
    from hemorrhage_tf.cli.tables import print_cache

    summary = htf.cache_info(cache)
    if as_json:
        click.echo(json.dumps(summary.to_dict(), indent=2, sort_keys=True))
    else:
        print_cache(summary)


@cache.command(short_help="Remove the least recently used features.")
@options.cache_folder
@click.option(
    "--limit",
    metavar="SIZE",
    help=f"Size to prune to, such as 10GB, or none.  [default: ${LIMIT_VARIABLE}, or "
    f"{DEFAULT_LIMIT}]",
)
@click.option(
    "--older-than",
    "older_than_days",
    type=click.FloatRange(0),
    metavar="DAYS",
    help="Also remove features that were not used for so many days.",
)
def prune(**options: Any) -> None:
    """Remove the least recently used features, and leftovers of killed processes."""
    import hemorrhage_tf as htf
    from hemorrhage_tf.cli.tables import print_pruned

    print_pruned(htf.cache_prune(**options))


@cache.command(short_help="Remove all features, phantoms, models and slice indices.")
@options.cache_folder
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
def clear(cache: str | None, yes: bool) -> None:
    """Remove all features, and the phantoms, models and slice indices that are kept."""
    import hemorrhage_tf as htf
    from hemorrhage_tf.cli.tables import print_pruned

    if not yes:
        click.confirm(f"Remove all features in {htf.cache_info(cache).folder}?", abort=True)
    print_pruned(htf.cache_clear(cache))
