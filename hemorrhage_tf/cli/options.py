"""Options and help texts that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from hemorrhage_tf.imaging.windows import WINDOWS
from hemorrhage_tf.models.pretrained_files import EMBEDDED_MODEL

Decorator = Callable[[Any], Any]

WINDOW_HELP = f"{', '.join(WINDOWS)}, or CENTER/WIDTH; three with commas, one per channel."


class OrderedGroup(click.Group):
    """A group that lists its commands in the order of use, not of the alphabet."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the commands in the order in which they were added."""
        return list(self.commands)


def examples(*lines: str) -> str:
    """Return the block of examples below the options of a command."""
    return "\b\nExamples:\n" + "\n".join(f"  {line}" for line in lines)


def option_group(title: str) -> Decorator:
    """Start a group of options in the help text of a command."""
    from click_option_group import optgroup

    return optgroup.group(title)


model = click.option(
    "--model",
    metavar="MODEL",
    default=EMBEDDED_MODEL,
    show_default=True,
    help="Run folder, SavedModel or hub folder, .keras, .tflite or .onnx file, hf://USER/NAME, or "
    "phantomnet (embedded).",
)
tta = click.option(
    "--tta",
    is_flag=True,
    help="Use test-time augmentation: average over each slice and its flips (4 times slower).",
)
window = click.option(
    "--window",
    metavar="WINDOW",
    help=f"Window for Hounsfield units: {WINDOW_HELP}  [default: the model's]",
)
as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON only.")
cache_folder = click.option(
    "--cache",
    metavar="DIR",
    type=click.Path(file_okay=False),
    help="Folder of the feature cache.  [default: the cache folder of the system]",
)


def positive(option: Callable[..., Decorator] = click.option) -> Decorator:
    """Add --positive."""
    return option(
        "--positive",
        metavar="NAME",
        help="Name of the positive class, if it is not a known name.",
    )


def target(option: Callable[..., Decorator] = click.option) -> Decorator:
    """Add --target."""
    return option(
        "--target",
        metavar="COLUMN",
        help="Label column, for example subdural; all for any hemorrhage and its subtypes.  "
        "[default: any hemorrhage]",
    )


def prevalence(option: Callable[..., Decorator] = click.option) -> Decorator:
    """Add --prevalence."""
    return option(
        "--prevalence",
        metavar="SHARE",
        type=float,
        help="Also compute PPV and NPV for this prevalence, in (0, 1).",
    )


def skip_invalid(option: Callable[..., Decorator] = click.option) -> Decorator:
    """Add --skip-invalid."""
    return option(
        "--skip-invalid",
        is_flag=True,
        help="Continue without files and rows that cannot be used.",
    )


def log_json(option: Callable[..., Decorator] = click.option) -> Decorator:
    """Add --log-json."""
    return option(
        "--log-json",
        metavar="FILE",
        type=click.Path(dir_okay=False),
        help="Append events to FILE as JSON Lines.",
    )
