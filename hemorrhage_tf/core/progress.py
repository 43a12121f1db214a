"""What the verbs tell while they work: notes and progress, on standard error and in the event log.

Standard output belongs to results.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from time import monotonic
from typing import Any

from hemorrhage_tf.core.event_log import EventLog, failure
from hemorrhage_tf.core.formatting import format_duration
from hemorrhage_tf.core.signals import call_on_stop, raise_if_stopped, stopped_by

SHOW_AFTER_SECONDS = 1.0


LINE_EVERY_SECONDS = 30.0  # where there is no terminal to draw a bar on


EVENT_EVERY_SECONDS = 10.0


@contextmanager
def verb_progress(
    verb: str,
    settings: Mapping[str, Any],
    log_json: str | Path | None = None,
    quiet: bool = False,
) -> Iterator[Progress]:
    """Gives a verb its progress, and writes into the event log how the verb began and ended.

    Args:
        verb: what runs, say "fit".
        settings: its arguments, without data, paths of data or names.
        log_json: the file of the event log, see `event_log.EventLog`; None for none.
        quiet: print nothing; what happens is logged all the same. Default False.

    Raises:
        OutputError: the event log cannot be written.
    """
    if log_json is None:
        yield Progress(quiet)
        return
    log = EventLog(log_json, verb, settings)

    def stopped(signum: int) -> None:
        log.write("stopped", signal=signal.Signals(signum).name)

    try:
        with call_on_stop(stopped):
            yield Progress(quiet, log)
    except (Exception, KeyboardInterrupt) as error:
        signum = stopped_by()
        if signum is None and isinstance(error, KeyboardInterrupt):
            signum = signal.SIGINT
        if signum is None:
            log.write("error", **failure(error))
        else:
            stopped(signum)
        raise
    finally:
        log.close()


class Progress:
    """Tells of notes and progress on standard error, and in an event log where there is one.

    Args:
        quiet: print nothing at all. Default False.
        log: where all of it is logged too, quiet or not; None for nowhere.

    Attributes:
        seconds: how long each stage took, by its description; of one that ran several times the
            sum.
    """

    def __init__(self, quiet: bool = False, log: EventLog | None = None) -> None:
        from rich.console import Console

        self.console = Console(stderr=True, quiet=quiet, highlight=False)
        self.seconds: dict[str, float] = {}
        self._log = log

    def note(self, text: str) -> None:
        """Prints one line."""
        self._print(text)
        self.event("note", text=text)

    def warn(self, text: str, names: str = "") -> None:
        """Prints one line that should not be missed.

        Args:
            text: the line.
            names: what ends it and names slices. As slices may be named after patients, that is not
                logged.
        """
        self._print(f"Warning: {text}{names}", style="yellow")
        self.event("warning", text=text)

    def event(self, name: str, /, **values: Any) -> None:
        """Writes something into the event log alone, see `event_log.EventLog.write`.

        Args:
            name: the event's, say "features".
            **values: what belongs to it, without names of slices or patients.
        """
        if self._log is None:
            return
        failed = self._log.write(name, **values)
        if failed:
            self._print(f"Warning: {failed}", style="yellow")

    @contextmanager
    def track(self, description: str, total: int) -> Iterator[Callable[[int], None]]:
        """Shows how far the work is and the time left, once it has lasted.

        On a terminal a bar, after a second; elsewhere a line now and then.

        Args:
            description: what is being done.
            total: how many steps it takes.

        Yields:
            A function that is called with the number of steps just done.
        """
        done = 0
        begin = logged_at = monotonic()

        def advance(steps: int) -> None:
            nonlocal done, logged_at
            raise_if_stopped()
            done += steps
            show(done)
            now = monotonic()
            if now - logged_at >= EVENT_EVERY_SECONDS:
                logged_at = now
                seconds = round(now - begin, 3)
                self.event("progress", stage=description, count=done, total=total, seconds=seconds)

        self.event("stage_begin", stage=description, total=total)
        try:
            with self._shown(description, total) as show:
                yield advance
        finally:
            self._end(description, begin, count=done, total=total)

    @contextmanager
    def stage(self, description: str) -> Iterator[None]:
        """Shows a spinner, on a terminal, while something of unknown length runs."""
        begin = monotonic()
        self.event("stage_begin", stage=description)
        try:
            with self.console.status(description):
                yield
            seconds = monotonic() - begin
            if not self._is_drawn_on and seconds >= LINE_EVERY_SECONDS:
                self._print(f"{description}: took {format_duration(seconds)}")
        finally:
            self._end(description, begin)

    @property
    def _is_drawn_on(self) -> bool:
        return self.console.is_terminal or self.console.is_jupyter

    def _print(self, text: str, style: str | None = None) -> None:
        self.console.print(text, markup=False, soft_wrap=True, style=style)

    def _end(self, description: str, begin: float, **counts: int) -> None:
        seconds = monotonic() - begin
        self.seconds[description] = self.seconds.get(description, 0.0) + seconds
        self.event("stage_end", stage=description, seconds=round(seconds, 3), **counts)

    def _shown(self, description: str, total: int):
        show = self._bar if self._is_drawn_on else self._lines
        return show(description, total)

    @contextmanager
    def _bar(self, description: str, total: int) -> Iterator[Callable[[int], None]]:
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            TextColumn,
            TimeElapsedColumn,
            TimeRemainingColumn,
        )
        from rich.progress import (
            Progress as RichProgress,
        )

        bar = RichProgress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=self.console,
        )
        task = bar.add_task(description, total=total)
        begin = monotonic()
        is_shown = False

        def show(done: int) -> None:
            nonlocal is_shown
            bar.update(task, completed=done)
            if not is_shown and monotonic() - begin > SHOW_AFTER_SECONDS:
                is_shown = True
                bar.start()

        try:
            yield show
        finally:
            if is_shown:
                bar.stop()

    @contextmanager
    def _lines(self, description: str, total: int) -> Iterator[Callable[[int], None]]:
        """Tells in plain lines, for the log files of batch systems."""
        begin = said_at = monotonic()
        said = done = 0

        def show(count: int) -> None:
            nonlocal said_at, said, done
            done = count
            now = monotonic()
            if now - said_at < LINE_EVERY_SECONDS or done >= total:
                return
            line = f"{description}: {done:,} of {total:,}"
            if done > said:
                # By the pace of late: what was found in a cache went by at another.
                left = (total - done) * (now - said_at) / (done - said)
                line += f", {format_duration(left)} left"
            self._print(line)
            said_at, said = now, done

        yield show
        if monotonic() - begin >= LINE_EVERY_SECONDS:
            took = format_duration(monotonic() - begin)
            self._print(f"{description}: {done:,} of {total:,}, took {took}")
