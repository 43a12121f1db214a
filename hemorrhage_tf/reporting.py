"""What the verbs tell while they work: notes and progress bars, on standard error only.

Standard output belongs to results.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from hemorrhage_tf.stopping import raise_if_stopped

SHOW_AFTER_SECONDS = 1.0


def duration(seconds: float) -> str:
    """Says how long something takes, in two units at most: "48 s", "12 min", "3 h 10 min"."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 90:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes} min"
    return f"{round(hours / 24)} days"


def size_text(size: int) -> str:
    """Says a number of bytes in the unit that suits it, powers of ten: "3.8 MB"."""
    for unit in ("B", "KB", "MB", "GB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.3g} TB"


@contextmanager
def quietly(*descriptors: int) -> Iterator[None]:
    """Keeps off the terminal what native code writes past Python; shows it where the block fails.

    Args:
        *descriptors: the file descriptors, 1 for standard output and 2 for standard error.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    saved: dict[int, int] = {}
    with tempfile.TemporaryFile() as log:
        try:
            for descriptor in descriptors:
                # A process may have been started without one; then there is nothing to keep clean.
                with suppress(OSError):
                    saved[descriptor] = os.dup(descriptor)
                    os.dup2(log.fileno(), descriptor)
            yield
        except BaseException:
            _restore(saved)
            log.seek(0)
            sys.stderr.write(log.read().decode(errors="replace"))
            raise
        finally:
            _restore(saved)


def _restore(saved: dict[int, int]) -> None:
    while saved:
        descriptor, original = saved.popitem()
        os.dup2(original, descriptor)
        os.close(original)


def import_tensorflow() -> None:
    """Imports TensorFlow without the log lines that it writes before it can be configured.

    They say on every start that there is no CUDA driver.
    """
    with quietly(2):
        import tensorflow  # noqa: F401


class Reporter:
    """Prints notes and progress on standard error, or nothing when quiet.

    Args:
        quiet: print nothing at all. Default False.
    """

    def __init__(self, quiet: bool = False) -> None:
        from rich.console import Console

        self.console = Console(stderr=True, quiet=quiet, highlight=False)

    def note(self, text: str) -> None:
        """Prints one line."""
        self.console.print(text, markup=False, soft_wrap=True)

    def warn(self, text: str) -> None:
        """Prints one line that should not be missed."""
        self.console.print(f"Warning: {text}", markup=False, soft_wrap=True, style="yellow")

    @contextmanager
    def progress(self, description: str, total: int) -> Iterator[Callable[[int], None]]:
        """Shows a bar with the time left once the work has lasted a second.

        Args:
            description: what is being done.
            total: how many steps it takes.

        Yields:
            A function that is called with the number of steps just done.
        """
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeElapsedColumn,
            TimeRemainingColumn,
        )

        bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=self.console,
        )
        task = bar.add_task(description, total=total)
        begin = time.monotonic()
        shown = False

        def advance(steps: int) -> None:
            nonlocal shown
            raise_if_stopped()
            bar.update(task, advance=steps)
            if not shown and time.monotonic() - begin > SHOW_AFTER_SECONDS:
                shown = True
                bar.start()

        try:
            yield advance
        finally:
            if shown:
                bar.stop()

    @contextmanager
    def stage(self, description: str) -> Iterator[None]:
        """Shows a spinner, on a terminal, while something of unknown length runs."""
        with self.console.status(description):
            yield
