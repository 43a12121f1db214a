"""The names of the files in a run folder, and functions that read them.

Writing a run folder is the business of `training.run_folder`.
"""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

MODEL_FILE = "model.keras"
CONFIG_FILE = "config.json"
METRICS_FILE = "metrics.json"
SPLIT_FILE = "split.csv"
HISTORY_FILE = "history.csv"
PREDICTIONS_FILE = "predictions.csv"
AUDIT_FILE = "audit.json"  # only of a run with an audit
SCAN_MODEL_FILE = "scan_model.keras"  # only of a run with a scan model
SCANS_FILE = "scans.csv"  # only of a run with a scan model
ORIGIN_FILE = "trained_on.csv"  # only of a recalibrated model: what the original was trained on

RUN_FILES = (MODEL_FILE, CONFIG_FILE, METRICS_FILE, SPLIT_FILE, HISTORY_FILE, PREDICTIONS_FILE)


def is_run_folder(path: Path) -> bool:
    """Return whether a folder holds every file of a run."""
    return all((path / name).is_file() for name in RUN_FILES)


def read_history(path: Path) -> list[dict[str, str]]:
    """Read the rows of a run's `history.csv`, one for each epoch of each training."""
    with open(path / HISTORY_FILE, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def training_hashes(path: Path) -> set[str]:
    """Read the content hashes of the slices that a run was trained on from its `split.csv`.

    Those of a recalibrated model are the local slices and those that the original was trained on.
    """
    with open(path / SPLIT_FILE, newline="", encoding="utf-8") as file:
        hashes = {row["content_hash"] for row in csv.DictReader(file) if row["part"] == "train"}
    origin = path / ORIGIN_FILE
    if origin.is_file():
        with open(origin, newline="", encoding="utf-8") as file:
            hashes |= {row["content_hash"] for row in csv.DictReader(file)}
    return hashes


def training_profile(path: Path) -> dict[str, Any] | None:
    """Read the profile of a run's training slices from its `config.json`.

    Args:
        path: The run folder.

    Returns:
        The profile, see `evaluation.dataset_shift`; None if the run has none.
    """
    config = json.loads((path / CONFIG_FILE).read_text(encoding="utf-8"))
    # Runs of earlier releases name it `training_look`.
    return config.get("training_profile", config.get("training_look"))
