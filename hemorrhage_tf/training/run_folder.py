"""The run folder: how a result is written whole or not at all, and read back."""

from __future__ import annotations

import csv
import errno
import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from hemorrhage_tf.core.errors import OutputError
from hemorrhage_tf.datasets.slice_index import SliceIndex
from hemorrhage_tf.models.run_files import HISTORY_FILE, PREDICTIONS_FILE, SPLIT_FILE, is_run_folder
from hemorrhage_tf.training.folds import Fold
from hemorrhage_tf.training.loop import Epoch

SPLIT_COLUMNS = ("path", "frame", "content_hash", "label", "patient", "group", "part")


PREDICTION_COLUMNS = (*("repeat", "fold", "path", "frame", "label", "probability", "hemorrhage"),)


HISTORY_COLUMNS = (
    *("repeat", "fold", "stage", "epoch", "loss", "accuracy"),
    *("validation_loss", "validation_accuracy"),
)


def check_output(path: Path, overwrite: bool) -> None:
    """Checks, before anything long begins, that a run can be written.

    Args:
        path: the run folder to be.
        overwrite: whether an earlier run may be replaced.

    Raises:
        OutputError: the path exists and may not be replaced, or its parent cannot be written.
    """
    if path.exists() or path.is_symlink():
        replaceable = path.is_dir() and (is_run_folder(path) or not any(path.iterdir()))
        if not replaceable:
            raise OutputError(
                f"--out {path}: exists and is no run folder, so it is not replaced even with "
                "--overwrite. Name another folder."
            )
        if not overwrite:
            raise OutputError(
                f"--out {path}: exists. Name another folder, or replace it with --overwrite."
            )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{path.name}.", dir=path.parent):
            pass
    except OSError as error:
        raise OutputError(f"--out {path}: cannot be written ({_reason(error)})") from None


@contextmanager
def writing(path: Path, overwrite: bool, within: Path | None = None) -> Iterator[Path]:
    """Gives a temporary folder that becomes the path when all went well.

    Args:
        path: the folder to be.
        overwrite: whether to replace a folder that is there.
        within: a folder on the same disk for what is temporary; None for beside the path. What a
            killed process leaves there goes with the folder.

    Yields:
        The temporary folder.

    Raises:
        OutputError: the disk is full, or something else kept a file from being written; nothing
            is left behind then, and what stood at the path still stands.
    """
    beside = None
    try:
        place = within or path.parent
        beside = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".part", dir=place))
        # mkdtemp makes a private folder; the run gets what the user's own umask says.
        umask = os.umask(0)
        os.umask(umask)
        beside.chmod(0o777 & ~umask)
        yield beside
        for name in os.listdir(beside):
            _sync(beside / name)
        old = None
        if path.exists():
            if not overwrite:
                raise OutputError(f"--out {path}: was made by another process meanwhile")
            old = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".old", dir=place))
            os.rename(path, old / path.name)
        try:
            os.rename(beside, path)
        except OSError:
            if old is not None:
                os.rename(old / path.name, path)
                old.rmdir()
            raise
        if old is not None:
            shutil.rmtree(old, ignore_errors=True)
    except OSError as error:
        raise OutputError(
            f"--out {path}: cannot be written ({_reason(error)}), and no run was left behind. Make "
            f"room, and go on with --resume {path}: what was computed is kept."
        ) from None
    finally:
        if beside is not None and beside.exists():
            shutil.rmtree(beside, ignore_errors=True)


def _sync(path: Path) -> None:
    with open(path, "rb") as file:
        os.fsync(file.fileno())


def _reason(error: OSError) -> str:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "the disk is full"
    return error.strerror or str(error)


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Writes sorted, indented JSON; NaN and infinity are refused."""
    text = json.dumps(value, indent=2, sort_keys=True, allow_nan=False)
    path.write_text(text + "\n", encoding="utf-8")


def write_csv(path: Path, rows: Iterable[Mapping[str, Any]], columns: Sequence[str]) -> None:
    """Writes rows with a header; a column that a row lacks stays empty."""
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def write_tables(
    folder: Path,
    slices: SliceIndex,
    plan: Sequence[Fold],
    probabilities: Sequence[np.ndarray],
    histories: Sequence[Sequence[Epoch]],
    decisions: Sequence[np.ndarray],
) -> None:
    """Writes `split.csv`, `predictions.csv` and `history.csv`.

    Args:
        folder: where to.
        slices: all of them. Of patients a hash is written, unless the manifest is to name them.
        plan: the folds.
        probabilities: of each fold's test part.
        histories: of each fold, and then of the training on all slices where there is one.
        decisions: bool, of each fold's test part: what is called hemorrhage.
    """
    labels = slices.labels
    repeats = max(fold.repeat for fold in plan)
    trained_on_all = len(plan) > 1
    tested_in = np.zeros((len(slices), repeats), np.int32)
    for fold in plan:
        tested_in[fold.test, fold.repeat - 1] = fold.number
    repeat_columns = [f"repeat_{number + 1}" for number in range(repeats)]

    def split_rows() -> Iterator[dict[str, Any]]:
        of_each = zip(slices.hashes, slices.iter_patients(), slices.groups, strict=True)
        for index, (content_hash, patient, group) in enumerate(of_each):
            yield {
                **slices.place(index),
                "content_hash": content_hash,
                "label": labels[index],
                "patient": patient,
                "group": group,
                "part": "test" if tested_in[index, 0] and not trained_on_all else "train",
                **(
                    dict(zip(repeat_columns, tested_in[index], strict=True))
                    if trained_on_all
                    else {}
                ),
            }

    def prediction_rows() -> Iterator[dict[str, Any]]:
        for fold, found, calls in zip(plan, probabilities, decisions, strict=True):
            for index, probability, called in zip(fold.test, found, calls, strict=True):
                yield {
                    "repeat": fold.repeat,
                    "fold": fold.number,
                    **slices.place(index),
                    "label": labels[index],
                    "probability": f"{probability:.7g}",
                    "hemorrhage": int(called),
                }

    write_csv(
        folder / SPLIT_FILE,
        split_rows(),
        [*SPLIT_COLUMNS, *(repeat_columns if trained_on_all else [])],
    )
    write_csv(folder / PREDICTIONS_FILE, prediction_rows(), PREDICTION_COLUMNS)
    labels_of = [{"repeat": fold.repeat, "fold": fold.number} for fold in plan]
    write_csv(
        folder / HISTORY_FILE,
        [
            {**labels_of[number], **epoch} if number < len(plan) else {"fold": "all", **epoch}
            for number, history in enumerate(histories)
            for epoch in history
        ],
        HISTORY_COLUMNS,
    )
