"""The `hemorrhage-tf` command: its group, its exit codes, and where errors become messages."""

from __future__ import annotations

import errno
import os
from importlib import import_module
from typing import Any

import click

from hemorrhage_tf.cli.commands import COMMANDS
from hemorrhage_tf.core.errors import HemorrhageError
from hemorrhage_tf.core.signals import STOPPED, exit_now, handle_signals
from hemorrhage_tf.version import __version__

# The exit codes that a shell reports after Ctrl-C and SIGTERM.
INTERRUPTED, TERMINATED = 130, 143

# TensorFlow's own log lines would hide the command's output.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


class CommandGroup(click.Group):
    """Imports only the command that runs; turns errors into messages, and stops into exit codes."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the commands in the order of use."""
        return [*COMMANDS, *super().list_commands(ctx)]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command, or return one that was added; None if there is none of that name."""
        if cmd_name not in COMMANDS:
            return super().get_command(ctx, cmd_name)
        command: click.Command = getattr(import_module(f"hemorrhage_tf.cli.{cmd_name}"), cmd_name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write what each command does, without importing it."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def __call__(self, *args: Any, **kwargs: Any) -> Any:  # noqa: D102
        try:
            return super().__call__(*args, **kwargs)
        except SystemExit as ending:
            if ending.code in (INTERRUPTED, TERMINATED):
                exit_now(ending.code)
            raise

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command; print errors without a traceback, and exit with their code."""
        try:
            with handle_signals():
                return super().invoke(ctx)
        except HemorrhageError as error:
            click.echo(f"Error: {error}", err=True)
            ctx.exit(error.exit_code)
        except OSError as error:
            if error.errno == errno.EPIPE:  # the reader of a pipe left, which is not an error
                raise
            click.echo(f"Error: {error.filename or 'a file'}: {error.strerror or error}", err=True)
            ctx.exit(1)
        except KeyboardInterrupt as stop:
            click.echo(getattr(stop, "message", STOPPED), err=True)
            ctx.exit(getattr(stop, "exit_code", INTERRUPTED))


@click.group(
    cls=CommandGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, prog_name="hemorrhage-tf")
def main() -> None:
    """Find intracranial hemorrhage in head CT.

    Research software, not a medical device: its output is not a diagnosis.
    """
