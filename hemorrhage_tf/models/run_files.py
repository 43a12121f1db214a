"""The names of the files in a run folder, and how to read them back."""

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


AUDIT_FILE = "audit.json"


RUN_FILES = (MODEL_FILE, CONFIG_FILE, METRICS_FILE, SPLIT_FILE, HISTORY_FILE, PREDICTIONS_FILE)


def is_run_folder(path: Path) -> bool:
    """Says whether a folder holds every file of a run."""
    return all((path / name).is_file() for name in RUN_FILES)


def training_hashes(path: Path) -> set[str]:
    """Reads from a run's `split.csv` the content hashes of what its model was trained on."""
    with open(path / SPLIT_FILE, newline="", encoding="utf-8") as file:
        return {row["content_hash"] for row in csv.DictReader(file) if row["part"] == "train"}


def training_profile(path: Path) -> dict[str, Any] | None:
    """Reads from a run's `config.json` how the slices that were trained on look, if it says so."""
    return json.loads((path / CONFIG_FILE).read_text(encoding="utf-8")).get("training_profile")
