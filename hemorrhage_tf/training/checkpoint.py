"""The checkpoint of a fit on disk, from which a stopped fit is resumed.

While `runs/first` is being computed, `runs/first.checkpoint` holds `fit.json`, the options of the
fit and what must not change; `trainings/`, the results of finished trainings; and `epochs/`, the
state after the last whole epoch of the others. Files are written atomically, and a damaged one is
computed again. Features are in the feature cache instead.
"""

from __future__ import annotations

import io
import json
import os
import shutil
import time
import uuid
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hemorrhage_tf.core.atomic_files import describe_os_error, write_atomically
from hemorrhage_tf.core.errors import HemorrhageError, OptionError, OutputError
from hemorrhage_tf.core.progress import Progress

SUFFIX = ".checkpoint"
SAVE_SECONDS = 5.0  # least time between two saved states of a stage

_HEADER = "fit.json"
_LOCK = ".lock"
_FOLDERS = ("trainings", "epochs")


def checkpoint_folder(run: Path) -> Path:
    """Return the checkpoint folder of a run folder; a checkpoint folder is returned as it is."""
    return run if run.name.endswith(SUFFIX) else run.with_name(run.name + SUFFIX)


def run_folder_of(path: Path) -> Path:
    """Return the run folder of a checkpoint folder; a run folder is returned as it is."""
    return path.with_name(path.name.removesuffix(SUFFIX))


@dataclass(frozen=True)
class CheckpointHeader:
    """The content of `fit.json`.

    Attributes:
        id: Random identifier of the fit, which is also in the `config.json` of its run.
        options: The options of the fit, plain values.
        identity: Values that determine the result: settings, slices, versions.
    """

    id: str
    options: dict[str, Any]
    identity: dict[str, Any]


def read_checkpoint_header(run: Path) -> CheckpointHeader | None:
    """Read the header of a run's checkpoint, or return None if there is no checkpoint.

    Args:
        run: The run folder, or its checkpoint folder.

    Raises:
        OutputError: The header cannot be read.
    """
    path = checkpoint_folder(run) / _HEADER
    if not path.is_file():
        return None
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        return CheckpointHeader(values["id"], values["options"], values["identity"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise OutputError(
            f"{path}: cannot be read ({error}), so the fit cannot be resumed. Remove "
            f"{path.parent} and start the fit again. It will use the cached features."
        ) from None


class FitCheckpoint:
    """The checkpoint folder of one fit, locked by this process. A context manager.

    Args:
        run: The run folder to create.
        progress: Receives warnings.

    Attributes:
        run: The run folder to create.
        folder: The checkpoint folder.
        id: Random identifier of the fit.
    """

    def __init__(self, run: Path, progress: Progress) -> None:
        self.run = run
        self.folder = checkpoint_folder(run)
        self.id = uuid.uuid4().hex
        self._progress = progress
        self._lock = ExitStack()
        self._is_locked = False
        self._writes = True
        self._has_warned = False

    def open(
        self,
        options: Mapping[str, Any],
        identity: Mapping[str, Any],
        writes: bool = True,
        restart: bool = False,
    ) -> None:
        """Create the checkpoint, or continue from an existing one.

        Args:
            options: The options of the fit, plain values.
            identity: Values that must not change between start and resumption.
            writes: Whether this process writes the checkpoint; with several workers only the chief
                does. Defaults to True.
            restart: Discard an existing checkpoint. Defaults to False.

        Raises:
            OptionError: The fit was started with a different identity; the message lists the
                differences.
            OutputError: The folder cannot be written, or another process uses it.
        """
        self._writes = writes
        header = None if restart else read_checkpoint_header(self.run)
        if header is not None:
            self._check_identity(header.identity, json.loads(json.dumps(identity)))
            self.id = header.id
        if not writes:
            return
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._acquire_lock()
            for name in _FOLDERS:
                if restart:
                    shutil.rmtree(self.folder / name, ignore_errors=True)
                (self.folder / name).mkdir(exist_ok=True)
            for leftover in list(self.folder.rglob("*.part")):
                with suppress(OSError):
                    shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink()
            if header is None:
                values = {"id": self.id, "options": dict(options), "identity": dict(identity)}
                content = json.dumps(values, indent=2, sort_keys=True).encode()
                write_atomically(self.folder / _HEADER, lambda file: file.write(content))
        except OSError as error:
            raise OutputError(
                f"{self.folder}: cannot be written ({describe_os_error(error)}). Make room, or "
                "name another run folder with --out."
            ) from None

    def finished_training(self, training: str) -> dict[str, Any] | None:
        """Return the result of a finished training, see `save_training`; or None."""
        return self._read(self.folder / "trainings" / f"{training}.npz")

    def save_training(self, training: str, values: Mapping[str, Any]) -> None:
        """Save the result of a training, arrays and plain values, and remove its epochs."""
        if self._writes:
            self._write(self.folder / "trainings" / f"{training}.npz", values)
            for path in (self.folder / "epochs").glob(f"{training}.*"):
                with suppress(OSError):
                    path.unlink()

    def epoch_checkpoint(self, training: str, stage: str) -> EpochCheckpoint:
        """Return the storage for the epochs of a training's stage."""
        path = self.folder / "epochs" / f"{training}.{stage}.npz"
        return EpochCheckpoint(
            read=lambda: self._read(path),
            write=(lambda values: self._write(path, values)) if self._writes else None,
        )

    def remove(self) -> None:
        """Remove the folder, after the run folder is written."""
        if self._writes:
            shutil.rmtree(self.folder, ignore_errors=True)
        self.close()

    def close(self) -> None:
        """Release the lock, so that another process can resume the fit."""
        self._lock.close()

    def __enter__(self) -> FitCheckpoint:
        """Return the checkpoint itself."""
        return self

    def __exit__(self, kind: type | None, *_: object) -> None:
        """Release the lock, and remove an empty checkpoint if a user's mistake ended the fit."""
        if kind is not None and issubclass(kind, HemorrhageError) and self._is_locked:
            if not any(any((self.folder / name).glob("*")) for name in _FOLDERS):
                shutil.rmtree(self.folder, ignore_errors=True)
        self.close()

    def _acquire_lock(self) -> None:
        import portalocker

        lock = os.open(self.folder / _LOCK, os.O_RDWR | os.O_CREAT, 0o666)
        self._lock.callback(os.close, lock)
        try:
            portalocker.lock(lock, portalocker.LOCK_EX | portalocker.LOCK_NB)
        except portalocker.exceptions.LockException:
            raise OutputError(
                f"{self.folder}: another process is working on this run. Wait for it, or name "
                "another folder with --out."
            ) from None
        self._is_locked = True

    def _check_identity(self, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
        differences = [
            f"  {name}: {_shorten(before.get(name))} before, {_shorten(now.get(name))} now"
            for name in sorted({*before, *now})
            if before.get(name) != now.get(name)
        ]
        if differences:
            raise OptionError(
                f"{self.folder}: this fit was started with different settings; the result would "
                "differ:\n"
                + "\n".join(differences)
                + "\nRestore them, or start again with --overwrite or another --out."
            )

    def _write(self, path: Path, values: Mapping[str, Any]) -> None:
        try:
            write_atomically(path, lambda file: file.write(pack(values)))
        except OSError as error:
            if not self._has_warned:
                self._has_warned = True
                self._progress.warn(
                    f"{self.folder} cannot be written ({describe_os_error(error)}). The fit "
                    "continues, but --resume can only start from the last saved state."
                )

    def _read(self, path: Path) -> dict[str, Any] | None:
        try:
            return unpack(path.read_bytes())
        except FileNotFoundError:
            return None
        except Exception:  # a flipped bit can make zipfile raise almost anything
            self._progress.warn(f"{path} is damaged; its content is computed again.")
            return None


class EpochCheckpoint:
    """Storage for the state after a stage's last whole epoch; see `loop.EpochStore`.

    Args:
        read: Reads the stored state, or returns None.
        write: Writes a state; None on workers that write nothing.
    """

    def __init__(
        self,
        read: Callable[[], dict[str, Any] | None],
        write: Callable[[Mapping[str, Any]], None] | None,
    ) -> None:
        self._read = read
        self._write = write
        self._saved_at = time.monotonic()

    def restore(self) -> dict[str, Any] | None:
        """Return the state saved last, or None."""
        return self._read()

    def save(self, state: Callable[[], dict[str, Any]], last: bool) -> None:
        """Save a state, at most every few seconds and after the last epoch."""
        is_due = last or time.monotonic() - self._saved_at > SAVE_SECONDS
        if is_due and self._write is not None:
            self._write(state())
            self._saved_at = time.monotonic()


def pack(values: Mapping[str, Any]) -> bytes:
    """Pack arrays, lists of arrays and plain values into the bytes of an NPZ file."""
    arrays: dict[str, Any] = {}
    plain: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, np.ndarray):
            arrays[f"{name}/array"] = value
        elif isinstance(value, list) and value and isinstance(value[0], np.ndarray | np.generic):
            plain[f"{name}/count"] = len(value)
            arrays |= {f"{name}/{number}": each for number, each in enumerate(value)}
        else:
            plain[name] = value
    arrays["plain"] = np.frombuffer(json.dumps(plain).encode(), np.uint8)
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


def unpack(content: bytes) -> dict[str, Any]:
    """Unpack the bytes of `pack`."""
    with np.load(io.BytesIO(content), allow_pickle=False) as packed:
        plain = json.loads(packed["plain"].tobytes())
        values: dict[str, Any] = {}
        for name in packed.files:
            if name.endswith("/array"):
                values[name.removesuffix("/array")] = packed[name]
        for name, value in plain.items():
            if name.endswith("/count"):
                of = name.removesuffix("/count")
                values[of] = [packed[f"{of}/{number}"] for number in range(value)]
            else:
                values[name] = value
    return values


def _shorten(value: Any) -> str:
    text = "nothing" if value is None else str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
