"""Notes, warnings and progress of the verbs, on standard error and in the event log.

Standard output is for results only.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from time import monotonic
from typing import Any

from hemorrhage_tf.core.event_log import EventLog, describe_failure
from hemorrhage_tf.core.formatting import format_duration, format_rate
from hemorrhage_tf.core.signals import call_on_stop, raise_if_stopped, stopping_signal
from hemorrhage_tf.core.terminal import color_system

# Short work shows no progress bar.
BAR_AFTER_SECONDS = 1.0

# Without a terminal, progress is a line now and then.
LINE_EVERY_SECONDS = 30.0

EVENT_EVERY_SECONDS = 10.0


@contextmanager
def verb_progress(
    verb: str,
    settings: Mapping[str, Any],
    log_json: str | Path | None = None,
    quiet: bool = False,
) -> Iterator[Progress]:
    """Yield the progress of a verb, and log how the verb starts and ends.

    Args:
        verb: The verb that runs, such as "fit".
        settings: Its arguments, without data, data paths or names.
        log_json: The file of the event log, see `event_log`. None for no log. Defaults to None.
        quiet: Print nothing; events are logged in any case. Defaults to False.

    Raises:
        OutputError: The event log cannot be written.
    """
    if log_json is None:
        yield Progress(quiet)
        return
    log = EventLog(log_json, verb, settings)

    def log_stop(signum: int) -> None:
        log.write("stopped", signal=signal.Signals(signum).name)

    try:
        with call_on_stop(log_stop):
            yield Progress(quiet, log)
    except (Exception, KeyboardInterrupt) as error:
        signum = stopping_signal()
        if signum is None and isinstance(error, KeyboardInterrupt):
            signum = signal.SIGINT
        if signum is None:
            log.write("error", **describe_failure(error))
        else:
            log_stop(signum)
        raise
    finally:
        log.close()


class Progress:
    """Notes, warnings and progress on standard error, and in the event log if there is one.

    Args:
        quiet: Print nothing. Defaults to False.
        log: The event log; it receives every event, quiet or not. None for no log. Defaults to
            None.

    Attributes:
        seconds: Total duration of each stage in seconds, by its description.
    """

    def __init__(self, quiet: bool = False, log: EventLog | None = None) -> None:
        from rich.console import Console

        self.console = Console(
            stderr=True, quiet=quiet, highlight=False, color_system=color_system()
        )
        self.seconds: dict[str, float] = {}
        self._log = log

    def note(self, text: str, names: str = "") -> None:
        """Print a note.

        Args:
            text: The note.
            names: The end of the note, which names slices. It is printed but not logged, because
                slices may be named after patients. Defaults to "".
        """
        self._print(f"{text}{names}")
        self.event("note", text=text)

    def warn(self, text: str, names: str = "") -> None:
        """Print a warning.

        Args:
            text: The warning.
            names: The end of the line, which names slices. It is printed but not logged, because
                slices may be named after patients. Defaults to "".
        """
        self._print(f"Warning: {text}{names}", style="yellow")
        self.event("warning", text=text)

    def event(self, name: str, /, **values: Any) -> None:
        """Write an event to the event log only, see `event_log.EventLog.write`.

        Args:
            name: The name of the event, such as "result".
            **values: Its values, without names of slices or patients.
        """
        if self._log is None:
            return
        warning = self._log.write(name, **values)
        if warning:
            self._print(f"Warning: {warning}", style="yellow")

    @contextmanager
    def track(self, description: str, total: int) -> Iterator[Callable[[int], None]]:
        """Show the progress of a stage, its rate and the time left.

        A terminal shows a bar after one second; elsewhere, and on a dumb terminal, a line is
        printed every half minute.

        Args:
            description: What is being done, such as "Reading slices".
            total: Number of steps.

        Yields:
            A function to call with the number of steps just done. It raises `signals.Stop` if a
            signal came.
        """
        done = 0
        start = logged_at = monotonic()

        def advance(steps: int) -> None:
            nonlocal done, logged_at
            raise_if_stopped()
            done += steps
            show(done)
            now = monotonic()
            if now - logged_at >= EVENT_EVERY_SECONDS:
                logged_at = now
                seconds = round(now - start, 3)
                self.event("progress", stage=description, count=done, total=total, seconds=seconds)

        self.event("stage_begin", stage=description, total=total)
        try:
            with self._display(description, total) as show:
                yield advance
        finally:
            self._end_stage(description, start, count=done, total=total)

    @contextmanager
    def stage(self, description: str) -> Iterator[None]:
        """Show a spinner on a terminal during a stage of unknown length.

        Args:
            description: What is being done, such as "Importing TensorFlow".
        """
        start = monotonic()
        self.event("stage_begin", stage=description)
        try:
            with self.console.status(description) if self._is_interactive else nullcontext():
                yield
            seconds = monotonic() - start
            if not self._is_interactive and seconds >= LINE_EVERY_SECONDS:
                self._print(f"{description}: took {format_duration(seconds)}")
        finally:
            self._end_stage(description, start)

    @property
    def _is_interactive(self) -> bool:
        is_terminal = self.console.is_terminal and not self.console.is_dumb_terminal
        return is_terminal or self.console.is_jupyter

    def _print(self, text: str, style: str | None = None) -> None:
        self.console.print(text, markup=False, soft_wrap=True, style=style)

    def _end_stage(self, description: str, start: float, **counts: int) -> None:
        seconds = monotonic() - start
        self.seconds[description] = self.seconds.get(description, 0.0) + seconds
        self.event("stage_end", stage=description, seconds=round(seconds, 3), **counts)

    def _display(
        self, description: str, total: int
    ) -> AbstractContextManager[Callable[[int], None]]:
        display = self._bar if self._is_interactive else self._lines
        return display(description, total)

    @contextmanager
    def _bar(self, description: str, total: int) -> Iterator[Callable[[int], None]]:
        from rich import progress as rich_progress

        bar = rich_progress.Progress(
            rich_progress.TextColumn("{task.description}"),
            rich_progress.BarColumn(24),
            rich_progress.MofNCompleteColumn(),
            rich_progress.TimeElapsedColumn(),
            rich_progress.TextColumn("left"),
            rich_progress.TimeRemainingColumn(),
            rich_progress.TextColumn("{task.fields[rate]}"),
            console=self.console,
        )
        task = bar.add_task(description, total=total, rate="")
        start = monotonic()
        is_visible = False

        def show(done: int) -> None:
            nonlocal is_visible
            seconds = monotonic() - start
            # The recent rate, or before there is one that from the start.
            rate = bar.tasks[0].speed or (done / seconds if seconds else None)
            bar.update(task, completed=done, rate=format_rate(rate))
            if not is_visible and seconds > BAR_AFTER_SECONDS:
                is_visible = True
                bar.start()

        try:
            yield show
        finally:
            if is_visible:
                bar.stop()

    @contextmanager
    def _lines(self, description: str, total: int) -> Iterator[Callable[[int], None]]:
        """Print plain lines, for the log files of batch systems."""
        start = printed_at = monotonic()
        printed = done = 0

        def show(count: int) -> None:
            nonlocal printed_at, printed, done
            done = count
            now = monotonic()
            if now - printed_at < LINE_EVERY_SECONDS or done >= total:
                return
            line = f"{description}: {done:,} of {total:,}"
            if done > printed:
                # The recent rate: steps that were answered from a cache were much faster.
                rate = (done - printed) / (now - printed_at)
                left = format_duration((total - done) / rate)
                line += f", {format_rate(rate)}, {left} left"
            self._print(line)
            printed_at, printed = now, done

        yield show
        if monotonic() - start >= LINE_EVERY_SECONDS:
            duration = format_duration(monotonic() - start)
            self._print(f"{description}: {done:,} of {total:,}, took {duration}")
