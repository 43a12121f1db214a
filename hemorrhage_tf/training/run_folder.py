"""Writing a run folder: checks before the fit, and an atomic folder with JSON and CSV files.

`models.run_files` has the file names, and reads a run folder.
"""

from __future__ import annotations

import csv
import json
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from hemorrhage_tf.core.atomic_files import atomic_folder, describe_os_error
from hemorrhage_tf.core.errors import OutputError
from hemorrhage_tf.datasets.layouts.base import SUBTYPES
from hemorrhage_tf.datasets.slice_index import SliceIndex
from hemorrhage_tf.models.run_files import (
    HISTORY_FILE,
    PREDICTIONS_FILE,
    SCANS_FILE,
    SPLIT_FILE,
    is_run_folder,
)
from hemorrhage_tf.training.folds import FoldResult
from hemorrhage_tf.training.loop import PHANTOM_WEIGHT, Epoch
from hemorrhage_tf.training.scan_folds import ScanTables

SPLIT_COLUMNS = ("path", "frame", "content_hash", "label", "patient", "group", "part")
SCAN_COLUMNS = ("scan", "order", "position")  # further columns of the split, of data with scans
PREDICTION_COLUMNS = ("repeat", "fold", "path", "frame", "label", "probability", "hemorrhage")
IN_SCAN_COLUMN = "probability_in_scan"  # further column of the predictions, with a scan model
SCAN_PREDICTION_COLUMNS = (
    "repeat",
    "fold",
    "scan",
    "slices",
    "label",
    "probability",
    "hemorrhage",
)
HISTORY_COLUMNS = (
    "repeat",
    "fold",
    "stage",
    "epoch",
    "loss",
    "accuracy",
    "validation_loss",
    "validation_accuracy",
)


def check_output(path: Path, overwrite: bool) -> None:
    """Check before a fit that its run folder can be written.

    Args:
        path: The run folder to create.
        overwrite: Whether an existing run may be replaced.

    Raises:
        OutputError: The path exists and may not be replaced, or its parent cannot be written.
    """
    if path.exists() or path.is_symlink():
        is_replaceable = path.is_dir() and (is_run_folder(path) or not any(path.iterdir()))
        if not is_replaceable:
            raise OutputError(
                f"--out {path}: exists and is not a run folder, so --overwrite does not replace "
                "it. Name another folder."
            )
        if not overwrite:
            raise OutputError(
                f"--out {path}: exists. Name another folder, or replace it with --overwrite."
            )
    parent = path.parent
    while not parent.exists() and parent != parent.parent:
        parent = parent.parent  # a fit that fails later must not leave empty folders
    try:
        with tempfile.TemporaryDirectory(prefix=f".{path.name}.", dir=parent):
            pass
    except OSError as error:
        raise OutputError(
            f"--out {path}: cannot be written ({describe_os_error(error)}). Make room, or name "
            "another folder."
        ) from None


@contextmanager
def atomic_run_folder(path: Path, overwrite: bool, within: Path | None = None) -> Iterator[Path]:
    """Yield a temporary folder that becomes the run folder when the block succeeds.

    Args:
        path: The run folder to create.
        overwrite: Replace an existing folder.
        within: A folder on the same disk for the temporary folder, see `atomic_folder`. Default
            None.

    Yields:
        The temporary folder.

    Raises:
        OutputError: A file cannot be written. Nothing is left behind, and an earlier run is kept.
    """
    try:
        with atomic_folder(path, overwrite, within) as folder:
            yield folder
    except FileExistsError:
        raise OutputError(
            f"--out {path}: was created by another process in the meantime. Move that folder away, "
            f"and resume with --resume {path}."
        ) from None
    except OSError as error:
        raise OutputError(
            f"--out {path}: cannot be written ({describe_os_error(error)}). No run was left "
            f"behind. Make room, and resume with --resume {path}: finished trainings are kept."
        ) from None


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write sorted, indented JSON.

    Raises:
        ValueError: The value holds NaN or infinity.
    """
    text = json.dumps(value, indent=2, sort_keys=True, allow_nan=False)
    path.write_text(text + "\n", encoding="utf-8")


def write_csv(path: Path, rows: Iterable[Mapping[str, Any]], columns: Sequence[str]) -> None:
    """Write rows below a header; cells that a row lacks are empty."""
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def write_tables(
    folder: Path,
    slices: SliceIndex,
    results: Sequence[FoldResult],
    final_history: Sequence[Epoch] = (),
    scan_tables: ScanTables | None = None,
) -> None:
    """Write `split.csv`, `predictions.csv`, `history.csv`, and with a scan model `scans.csv`.

    Args:
        folder: The folder to write to.
        slices: All slices. Patients are written as hashes, unless the manifest names them.
        results: The result of each fold.
        final_history: History of the training on all slices after a cross-validation. Defaults to
            none.
        scan_tables: The predictions of the scan model. Defaults to None, without one.
    """
    repeats = max(result.fold.repeat for result in results)
    repeat_columns: list[str] = []
    if len(results) > 1:
        repeat_columns = [f"repeat_{number + 1}" for number in range(repeats)]
    write_csv(
        folder / SPLIT_FILE,
        _split_rows(slices, results, repeat_columns),
        [*SPLIT_COLUMNS, *(SCAN_COLUMNS if len(slices.scans) else ()), *repeat_columns],
    )
    columns = list(PREDICTION_COLUMNS)
    if results[0].subtypes is not None:
        columns += probability_columns()
    if scan_tables is not None:
        columns.append(IN_SCAN_COLUMN)
        rows = _scan_rows(slices, results, scan_tables)
        write_csv(folder / SCANS_FILE, rows, SCAN_PREDICTION_COLUMNS)
    write_csv(folder / PREDICTIONS_FILE, _prediction_rows(slices, results, scan_tables), columns)
    history = list(_history_rows(results, final_history))
    columns = list(HISTORY_COLUMNS)
    if any(PHANTOM_WEIGHT in row for row in history):
        columns.append(PHANTOM_WEIGHT)
    write_csv(folder / HISTORY_FILE, history, columns)


def probability_columns() -> list[str]:
    """Return the names of the columns with probabilities of subtypes."""
    return [f"probability_{name}" for name in SUBTYPES]


def _split_rows(
    slices: SliceIndex, results: Sequence[FoldResult], repeat_columns: Sequence[str]
) -> Iterator[dict[str, Any]]:
    """Yield the part of each slice, and in a cross-validation its fold in each repeat."""
    labels = slices.labels
    tested_in = np.zeros((len(slices), max(result.fold.repeat for result in results)), np.int32)
    for result in results:
        tested_in[result.fold.test, result.fold.repeat - 1] = result.fold.number
    in_scans = _scan_cells(slices)
    keys = zip(slices.hashes, slices.iter_patients(), slices.groups, strict=True)
    for index, (content_hash, patient, group) in enumerate(keys):
        # After a cross-validation the saved model is trained on all slices.
        is_test = tested_in[index, 0] and not repeat_columns
        row = {
            **slices.place(index),
            "content_hash": content_hash,
            "label": labels[index],
            "patient": patient,
            "group": group,
            "part": "test" if is_test else "train",
            **in_scans.get(index, {}),
        }
        if repeat_columns:
            row |= dict(zip(repeat_columns, tested_in[index], strict=True))
        yield row


def _scan_cells(slices: SliceIndex) -> dict[int, dict[str, Any]]:
    """Return the scan of each slice that has one, its order in it, and its position in mm."""
    scans = slices.scans
    return {
        int(index): {
            "scan": name,
            "order": order,
            "position": "" if np.isnan(scans.positions[index]) else f"{scans.positions[index]:.7g}",
        }
        for name, members in zip(scans.names, scans.members, strict=True)
        for order, index in enumerate(members)
    }


def _prediction_rows(
    slices: SliceIndex, results: Sequence[FoldResult], scan_tables: ScanTables | None
) -> Iterator[dict[str, Any]]:
    labels = slices.labels
    in_scan = np.full((max(result.fold.repeat for result in results), len(slices)), np.nan)
    if scan_tables is not None:
        in_scan[:, scan_tables.slices] = scan_tables.in_scans
    for result in results:
        predictions = zip(result.fold.test, result.probabilities, result.decisions, strict=True)
        for place, (index, probability, is_hemorrhage) in enumerate(predictions):
            subtypes = {}
            if result.subtypes is not None:
                texts = (f"{value:.7g}" for value in result.subtypes[place])
                subtypes = dict(zip(probability_columns(), texts, strict=True))
            further = {}
            if np.isfinite(in_scan[result.fold.repeat - 1, index]):
                further[IN_SCAN_COLUMN] = f"{in_scan[result.fold.repeat - 1, index]:.7g}"
            yield {
                "repeat": result.fold.repeat,
                "fold": result.fold.number,
                **slices.place(index),
                "label": labels[index],
                "probability": f"{probability:.7g}",
                "hemorrhage": int(is_hemorrhage),
                **subtypes,
                **further,
            }


def _scan_rows(
    slices: SliceIndex, results: Sequence[FoldResult], tables: ScanTables
) -> Iterator[dict[str, Any]]:
    """Yield the out-of-fold prediction of each scan, fold after fold."""
    scans = slices.scans
    first = np.array([scans.members[scan][0] for scan in tables.scans], np.int64)
    for result in results:
        fold = result.fold
        for at in np.flatnonzero(np.isin(first, fold.test)):
            scan = tables.scans[at]
            yield {
                "repeat": fold.repeat,
                "fold": fold.number,
                "scan": scans.names[scan],
                "slices": len(scans.members[scan]),
                "label": scans.labels[scan],
                "probability": f"{tables.probabilities[fold.repeat - 1, at]:.7g}",
                "hemorrhage": int(tables.decisions[fold.repeat - 1, at]),
            }


def _history_rows(
    results: Sequence[FoldResult], final_history: Sequence[Epoch]
) -> Iterator[dict[str, Any]]:
    for result in results:
        for epoch in result.history:
            yield {"repeat": result.fold.repeat, "fold": result.fold.number, **epoch}
    for epoch in final_history:
        yield {"fold": "all", **epoch}
