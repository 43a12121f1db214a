"""The console on standard output that tables are printed on."""

from __future__ import annotations

from rich.console import Console

from hemorrhage_tf.core.terminal import color_system

_UNWRAPPED = 10_000  # columns of piped output: paths are not cut there


def create_console() -> Console:
    """Create a console on standard output that never cuts a line of piped output."""
    console = Console(highlight=False, color_system=color_system())
    if not console.is_terminal:
        console.width = _UNWRAPPED
    return console
