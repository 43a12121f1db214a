"""What a fit keeps on disk while it works, so that a killed one is gone on with.

Beside the run folder to be, `runs/first`, lies `runs/first.checkpoint` until the run is written:
`fit.json` says what was asked for and of which slices, `trainings/` holds what each finished
training gave, and `epochs/` the state after a training's last whole epoch. Everything is written
beside and renamed; what is damaged all the same is left out and done again. Computed features lie
in the feature cache.
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
from pathlib import Path
from typing import Any

import numpy as np

from hemorrhage_tf.core.atomic_files import write_atomically
from hemorrhage_tf.core.errors import HemorrhageError, OptionError, OutputError
from hemorrhage_tf.core.progress import Progress

SUFFIX = ".checkpoint"
_FIT = "fit.json"
_LOCK = ".lock"
_KEEP_SECONDS = 5.0  # between two states of a training that are kept


def folder_of(run: Path) -> Path:
    """Gives the folder of what is checkpoint of a run."""
    return run if run.name.endswith(SUFFIX) else run.with_name(run.name + SUFFIX)


def run_of(named: Path) -> Path:
    """Gives the run folder to be, also where its checkpoint folder is named."""
    return named.with_name(named.name.removesuffix(SUFFIX))


def read_request(run: Path) -> dict[str, Any] | None:
    """Reads what the checkpoint fit of a run was asked for, or None where there is none.

    Raises:
        OutputError: there is one that cannot be read.
    """
    path = folder_of(run) / _FIT
    if not path.is_file():
        return None
    try:
        request = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(request, dict) or not {"id", "asked", "identity"} <= request.keys():
            raise ValueError("it lacks entries")
    except (OSError, ValueError) as error:
        raise OutputError(
            f"{path}: cannot be read ({error}), so the fit cannot be gone on with. Remove "
            f"{path.parent} and start it anew; features in the cache are used again"
        ) from None
    return request


class Checkpoint:
    """The folder of an checkpoint fit, held by this process alone.

    Args:
        run: the run folder to be.
        progress: where a full disk is told.
    """

    def __init__(self, run: Path, progress: Progress) -> None:
        self.run = run
        self.folder = folder_of(run)
        self._progress = progress
        self._held = ExitStack()
        self._is_told = False
        self._is_held = False
        self._writes = True
        self.id = uuid.uuid4().hex

    def begin(
        self,
        asked: Mapping[str, Any],
        identity: Mapping[str, Any],
        writes: bool = True,
        anew: bool = False,
    ) -> None:
        """Begins, or goes on with what is there.

        Args:
            asked: the arguments of the fit, plain values.
            identity: what has to be the same for the result to be the same: settings, slices,
                versions.
            writes: whether this process writes here; of several workers only the chief does.
                Default True.
            anew: leave out what is there. Default False.

        Raises:
            OptionError: it was begun with something else; the message says what differs.
            OutputError: it cannot be written, or another process works on it.
        """
        self._writes = writes
        request = None if anew else read_request(self.run)
        if request is not None:
            self._check(request["identity"], json.loads(json.dumps(identity)))
            self.id = request["id"]
        if not writes:
            return
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._hold()
            if anew:
                for name in ("trainings", "epochs"):
                    shutil.rmtree(self.folder / name, ignore_errors=True)
            for name in ("trainings", "epochs"):
                (self.folder / name).mkdir(exist_ok=True)
            for leftover in list(self.folder.rglob("*.part")):
                with suppress(OSError):
                    shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink()
            if request is None:
                value = {"id": self.id, "asked": dict(asked), "identity": dict(identity)}
                content = json.dumps(value, indent=2, sort_keys=True).encode()
                write_atomically(self.folder / _FIT, lambda file: file.write(content))
        except OSError as error:
            raise OutputError(
                f"{self.folder}: cannot be written ({error.strerror or error}). Make room, or "
                "name another run folder with --out"
            ) from None

    def _hold(self) -> None:
        import portalocker

        lock = os.open(self.folder / _LOCK, os.O_RDWR | os.O_CREAT, 0o666)
        self._held.callback(os.close, lock)
        try:
            portalocker.lock(lock, portalocker.LOCK_EX | portalocker.LOCK_NB)
        except portalocker.exceptions.LockException:
            raise OutputError(
                f"{self.folder}: another process works on this run. Wait for it, or name another "
                "folder with --out"
            ) from None
        self._is_held = True

    def _check(self, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
        differing = [
            f"  {name}: {_short(before.get(name))} before, {_short(now.get(name))} now"
            for name in sorted({*before, *now})
            if before.get(name) != now.get(name)
        ]
        if differing:
            raise OptionError(
                f"{self.folder}: was begun with something else, and would not end as it would "
                "have:\n"
                + "\n".join(differing)
                + "\nBring that back, or begin anew with --overwrite or another --out"
            )

    def done(self, training: str) -> dict[str, Any] | None:
        """Gives what a finished training gave, see `finish`; or None."""
        return self._read(self.folder / "trainings" / f"{training}.npz")

    def finish(self, training: str, values: Mapping[str, Any]) -> None:
        """Keeps what a training gave, arrays and plain values."""
        if self._writes:
            self._keep(self.folder / "trainings" / f"{training}.npz", values)
            for path in (self.folder / "epochs").glob(f"{training}.*"):
                with suppress(OSError):
                    path.unlink()

    def epoch_checkpoint(self, training: str, stage: str) -> EpochCheckpoint:
        """Makes what keeps the epochs of a training's stage."""
        return EpochCheckpoint(self, self.folder / "epochs" / f"{training}.{stage}.npz")

    def remove(self) -> None:
        """Removes the folder, once the run is written."""
        if self._writes:
            shutil.rmtree(self.folder, ignore_errors=True)
        self.close()

    def close(self) -> None:
        """Lets another process go on."""
        self._held.close()

    def __enter__(self) -> Checkpoint:
        return self

    def __exit__(self, kind: type | None, *_: object) -> None:
        """Lets another process go on; where a mistake ended the fit at once, nothing is left."""
        if kind is not None and issubclass(kind, HemorrhageError) and self._is_held:
            kept = [*self.folder.glob("trainings/*"), *self.folder.glob("epochs/*")]
            if not kept:
                shutil.rmtree(self.folder, ignore_errors=True)
        self.close()

    def _keep(self, path: Path, values: Mapping[str, Any]) -> None:
        try:
            write_atomically(path, lambda file: file.write(_packed(values)))
        except OSError as error:
            if not self._is_told:
                self._is_told = True
                self._progress.warn(
                    f"{self.folder} cannot be written ({error.strerror or error}); the fit goes "
                    "on, and where it is stopped it can only be gone on with from what is there"
                )

    def _read(self, path: Path) -> dict[str, Any] | None:
        try:
            return _unpacked(path.read_bytes())
        except FileNotFoundError:
            return None
        except Exception:  # what a flipped bit makes zipfile raise is anybody's guess
            self._progress.warn(f"{path} is damaged; what it held is done again")
            return None


class EpochCheckpoint:
    """Keeps the state after a stage's last whole epoch; see `loop.EpochStore`."""

    def __init__(self, checkpoint: Checkpoint, path: Path) -> None:
        self._unfinished = checkpoint
        self._path = path
        self._kept_at = time.monotonic()

    def restore(self) -> dict[str, Any] | None:
        """Gives the state that was kept last, or None."""
        return self._unfinished._read(self._path)

    def keep(self, state: Callable[[], dict[str, Any]], last: bool) -> None:
        """Keeps a state, every few seconds and after the last epoch."""
        due = last or time.monotonic() - self._kept_at > _KEEP_SECONDS
        if due and self._unfinished._writes:
            self._unfinished._keep(self._path, state())
            self._kept_at = time.monotonic()


def _packed(values: Mapping[str, Any]) -> bytes:
    """Packs arrays, lists of arrays and plain values into the bytes of an NPZ file."""
    arrays: dict[str, np.ndarray] = {}
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


def _unpacked(content: bytes) -> dict[str, Any]:
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


def _short(value: Any) -> str:
    text = "nothing" if value is None else str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
