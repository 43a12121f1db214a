"""The event log of a verb (`--log-json`): one JSON object per line (JSON Lines).

The terminal is for the person in front of it; the event log is for programs that watch many jobs.
It contains no slice names, patients, data paths or host names.

Every line has `time` (ISO 8601 with time zone), `elapsed` (seconds since the log was opened, from a
monotonic clock) and `event`. The events are:

| event | when | further keys |
|---|---|---|
| `start` | first | `verb`, `settings`, `process`, and versions by package |
| `note` | a note was printed | `text` |
| `warning` | a warning was printed | `text`, without the names of slices |
| `stage_begin` | a stage of the work starts | `stage`, `total` (steps) where it is known |
| `progress` | at most every ten seconds | `stage`, `count` (steps done), `total`, `seconds` |
| `stage_end` | a stage ends or fails | `stage`, `seconds`; `count` and `total` where known |
| `scan` | a scan was predicted | what was found by which model, see `dicom_results.audit_trail` |
| `result` | the verb succeeded | `summary`, `metrics`; `path` for fit, `level` for evaluate |
| `error` | the verb failed | `error` (class), `message` (null if it may name a slice), `where` |
| `stopped` | a signal ended the verb | `signal`, such as "SIGTERM" |
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

from hemorrhage_tf.core.atomic_files import describe_os_error
from hemorrhage_tf.core.errors import DataError, HemorrhageError, OutputError
from hemorrhage_tf.version import __version__

_PACKAGE = Path(__file__).resolve().parents[1]


class EventLog:
    """A file to which events are appended, each with a single write of a complete line.

    A killed process leaves at most one incomplete line, the last one. The next log that appends to
    the file starts on a new line.

    Args:
        path: The file to append to. Missing folders above it are created.
        verb: The verb that runs, such as "fit".
        settings: Its arguments, without data, data paths or names.

    Raises:
        OutputError: The file cannot be written.
    """

    def __init__(self, path: str | Path, verb: str, settings: Mapping[str, Any]) -> None:
        self.path = Path(path)
        self._started_at = monotonic()
        self._has_failed = False
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            # Unbuffered: lines in a buffer would be lost with the process.
            self._file = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
        except OSError as error:
            raise self._cannot_write(error) from None
        self._ends_incomplete = self._has_incomplete_last_line()
        tensorflow = sys.modules.get("tensorflow")
        try:
            self._append(
                "start",
                verb=verb,
                hemorrhage_tf=__version__,
                python=python_version(),
                tensorflow=getattr(tensorflow, "__version__", None)
                or _installed_version("tensorflow"),
                process=os.getpid(),
                settings=settings,
            )
        except OSError as error:
            os.close(self._file)
            raise self._cannot_write(error) from None

    def write(self, event: str, **values: Any) -> str | None:
        """Append one event.

        Args:
            event: Its name; see the table in this module's docstring.
            **values: Numbers (NaN and infinity become null), text, or mappings and sequences of
                them.

        Returns:
            A warning the first time that a write fails, otherwise None. A failed write raises no
            error, because the work matters more than its log.
        """
        try:
            self._append(event, **values)
        except OSError as error:
            if not self._has_failed:
                self._has_failed = True
                return (
                    f"--log-json {self.path}: cannot be written ({describe_os_error(error)}). The "
                    "work continues; events are missing from the log until it can be written "
                    "again."
                )
        return None

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)

    def _append(self, event: str, **values: Any) -> None:
        line = {
            "time": datetime.now().astimezone().isoformat(timespec="milliseconds"),
            "elapsed": round(monotonic() - self._started_at, 3),
            "event": event,
            **{name: _to_json(value) for name, value in values.items()},
        }
        # json escapes everything but ASCII, so no character in a text can end the line.
        text = "\n" * self._ends_incomplete + json.dumps(line, allow_nan=False) + "\n"
        data = text.encode("ascii")
        written = os.write(self._file, data)
        self._ends_incomplete = written < len(data)
        if self._ends_incomplete:  # the disk is almost full; a second write raises the reason
            os.write(self._file, data[written:])
            self._ends_incomplete = False

    def _has_incomplete_last_line(self) -> bool:
        """Return whether an earlier process was killed while it wrote its last line."""
        try:
            with open(self.path, "rb") as file:
                file.seek(-1, os.SEEK_END)
                return file.read(1) != b"\n"
        except OSError:  # the file is empty, or a device without seeking or reading
            return False

    def _cannot_write(self, error: OSError) -> OutputError:
        return OutputError(
            f"--log-json {self.path}: cannot be written ({describe_os_error(error)}). Name a file "
            "that can be appended to, or omit --log-json."
        )


def describe_failure(error: BaseException) -> dict[str, Any]:
    """Return the values of an `error` event.

    Messages about data name files, which may be named after patients, so they are not logged.

    Args:
        error: The exception that ended the verb.

    Returns:
        `error`, the name of its class; `message`, or None if it may name a slice; and `where`, the
        last line of this package in the traceback, or None.
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


def _installed_version(name: str) -> str | None:
    from importlib.metadata import PackageNotFoundError, version  # slow to import

    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _to_json(value: Any) -> Any:
    """Convert a value, which may hold NumPy numbers and arrays, to JSON types."""
    if isinstance(value, Mapping):
        return {str(name): _to_json(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_to_json(each) for each in value]
    if hasattr(value, "tolist"):
        return _to_json(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if isinstance(value, str | int | float | None) else str(value)
