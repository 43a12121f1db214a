"""The machine-readable log of a verb: JSON Lines, an object for each thing that happened.

What is on the screen is for who sits before it; this is for what watches a hundred jobs. It names
no slice, no patient, no place of data and no host.
"""

from __future__ import annotations

import json
import math
import os
import sys
import traceback
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from platform import python_version
from time import monotonic
from typing import Any

from hemorrhage_tf.core.errors import DataError, HemorrhageError, OutputError
from hemorrhage_tf.version import __version__

_PACKAGE = Path(__file__).resolve().parent


class EventLog:
    """Appends events to a file, each with one write of a whole line.

    A process that is killed leaves whole lines and at most a torn last one, and the next log that
    is appended to the file begins on a line of its own. Every line has `time` (ISO 8601 with the
    zone), `elapsed` (seconds since the log was opened, by a clock that is never set) and `event`.
    The first is "start", with `verb`, `settings`, `process` and the versions of the package,
    Python and TensorFlow.

    Args:
        path: the file, which is appended to; folders above it are made.
        verb: what runs, say "fit".
        settings: its arguments, without data, paths of data or names.

    Raises:
        OutputError: the file cannot be written.
    """

    def __init__(self, path: str | Path, verb: str, settings: Mapping[str, Any]) -> None:
        self.path = Path(path)
        self._begin = monotonic()
        self._failed = False
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            # Not Python's own buffered file: what a buffer holds is lost with the process.
            self._file = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
        except OSError as error:
            raise self._refused(error) from None
        self._is_torn = self._ends_torn()
        tensorflow = sys.modules.get("tensorflow")
        try:
            self._append(
                "start",
                verb=verb,
                hemorrhage_tf=__version__,
                python=python_version(),
                tensorflow=getattr(tensorflow, "__version__", None) or _installed("tensorflow"),
                process=os.getpid(),
                settings=settings,
            )
        except OSError as error:
            os.close(self._file)
            raise self._refused(error) from None

    def write(self, event: str, **values: Any) -> str | None:
        """Appends one event.

        Args:
            event: its name, say "note".
            **values: what belongs to it: numbers (NaN and infinity become null), text, or
                mappings and sequences of them.

        Returns:
            The first time that the file takes no more, a clause that says so; else None. The work
            is worth more than its log, so nothing is raised.
        """
        try:
            self._append(event, **values)
        except OSError as error:
            if not self._failed:
                self._failed = True
                return (
                    f"--log-json {self.path}: cannot be written ({error.strerror or error}); the "
                    "work goes on, and the log lacks what cannot be written"
                )
        return None

    def close(self) -> None:
        """Closes the file."""
        os.close(self._file)

    def _append(self, event: str, **values: Any) -> None:
        line = {
            "time": datetime.now().astimezone().isoformat(timespec="milliseconds"),
            "elapsed": round(monotonic() - self._begin, 3),
            "event": event,
            **{name: _plain(value) for name, value in values.items()},
        }
        # In ASCII, as json writes it, nothing in a text is taken for the end of a line.
        text = "\n" * self._is_torn + json.dumps(line, allow_nan=False) + "\n"
        data = text.encode("ascii")
        written = os.write(self._file, data)
        self._is_torn = written < len(data)
        if self._is_torn:  # a disk that is about to be full takes a part; a second write says why
            os.write(self._file, data[written:])
            self._is_torn = False

    def _ends_torn(self) -> bool:
        """Says whether an earlier process was killed in the middle of its last line."""
        try:
            with open(self.path, "rb") as file:
                file.seek(-1, os.SEEK_END)
                return file.read(1) != b"\n"
        except OSError:  # empty, or a device that cannot be sought in or read
            return False

    def _refused(self, error: OSError) -> OutputError:
        return OutputError(
            f"--log-json {self.path}: cannot be written ({error.strerror or error}). Name a file "
            "that can be appended to, or leave --log-json out"
        )


def failure(error: BaseException) -> dict[str, Any]:
    """Says of an error what its event holds.

    Messages about data name files, and those may name patients, so they are for the screen alone.

    Args:
        error: what was raised.

    Returns:
        `error`, the name of its class; `message`, or None where it may name a slice; and `where`,
        the last line of this package that it passed through, or None.
    """
    is_safe = isinstance(error, HemorrhageError) and not isinstance(error, DataError)
    where = None
    for frame, line in traceback.walk_tb(error.__traceback__):
        path = Path(frame.f_code.co_filename)
        if path.is_relative_to(_PACKAGE):
            where = f"{path.relative_to(_PACKAGE).as_posix()}:{line}"
    return {
        "error": type(error).__name__,
        "message": str(error) if is_safe else None,
        "where": where,
    }


def _installed(name: str) -> str | None:
    from importlib.metadata import PackageNotFoundError, version  # slow to import

    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _plain(value: Any) -> Any:
    """Makes of a value what JSON has: NumPy's numbers among what may come."""
    if isinstance(value, Mapping):
        return {str(name): _plain(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    if hasattr(value, "tolist"):
        return _plain(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if isinstance(value, str | int | float | None) else str(value)
