"""The record of a watched archive: which studies are done, and which failed how often.

Each line of the file is a JSON object that is flushed to the disk before the next study begins. So
a process that is killed loses nothing, and the next one continues. Studies are named by the UIDs
that `--anonymize` writes in place of theirs.
"""

from __future__ import annotations

import json
import os
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from hemorrhage_tf.core.atomic_files import describe_os_error
from hemorrhage_tf.core.errors import OutputError

RECORD_FILE = "watched.jsonl"
DONE, FAILED, UNUSABLE = "done", "failed", "unusable"

_FIRST_WAIT, _LONGEST_WAIT = 30.0, 3600.0  # seconds until a failed study is tried again


@dataclass(frozen=True)
class Attempt:
    """What became of a study.

    Attributes:
        study: The study, see above.
        state: "done"; "failed", to be tried again; or "unusable", which waits for further images.
        instances: Number of instances in the study when it was left.
        tries: How often it failed in a row.
        at: When, in seconds since 1970.
    """

    study: str
    state: str
    instances: int
    tries: int
    at: float


class WatchRecord:
    """The attempts so far, the last one of each study.

    Args:
        folder: The folder of the file; created if missing.

    Raises:
        OutputError: The file cannot be read or written.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / RECORD_FILE
        self._last: dict[str, Attempt] = {}
        try:
            folder.mkdir(parents=True, exist_ok=True)
            if self._path.exists():
                self._read()
        except OSError as error:
            raise self._error(error) from None

    def is_due(self, study: str, instances: int) -> bool:
        """Return whether a study is to be predicted now.

        Args:
            study: The study.
            instances: The number of its instances.
        """
        last = self._last.get(study)
        if last is None or instances > last.instances:
            return True
        if last.state != FAILED:
            return False
        wait = min(_FIRST_WAIT * 2 ** (last.tries - 1), _LONGEST_WAIT)
        return time.time() >= last.at + wait

    def add(self, study: str, state: str, instances: int) -> Attempt:
        """Write an attempt, and return it.

        Raises:
            OutputError: The file cannot be written.
        """
        last = self._last.get(study)
        earlier = 0 if last is None or last.state != FAILED else last.tries
        tries = earlier + 1 if state == FAILED else 0
        attempt = Attempt(study, state, instances, tries, time.time())
        try:
            with open(self._path, "a", encoding="ascii") as file:
                # A line that a killed process left incomplete must not swallow this one.
                file.write(f"\n{json.dumps(asdict(attempt))}\n")
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise self._error(error) from None
        self._last[study] = attempt
        return attempt

    def _read(self) -> None:
        for line in self._path.read_text(encoding="ascii", errors="replace").splitlines():
            try:
                attempt = Attempt(**json.loads(line))
            except (ValueError, TypeError):  # empty, or left incomplete
                continue
            self._last[attempt.study] = attempt

    def _error(self, error: OSError) -> OutputError:
        return OutputError(
            f"--dicom-out: {RECORD_FILE} cannot be read or written ({describe_os_error(error)}). "
            "Make room or name another folder."
        )
