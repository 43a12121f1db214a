"""The out-of-fold predictions of a run by level, read from the tables of its folder."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from hemorrhage_tf.evaluation.labeled_predictions import LabeledPredictions
from hemorrhage_tf.evaluation.scan_metrics import SCANS, SLICES, SLICES_IN_SCANS, metrics_by_level
from hemorrhage_tf.models.run_files import PREDICTIONS_FILE, SCANS_FILE, SPLIT_FILE
from hemorrhage_tf.models.scan_score import mean_of_highest

Row = Mapping[str, str]


def read_levels(path: Path, metrics: Mapping[str, Any]) -> dict[str, LabeledPredictions]:
    """Read what the metrics of a run were computed from.

    Args:
        path: The run folder.
        metrics: Content of its `metrics.json`.

    Returns:
        The predictions by level, for each level whose metrics count what the tables hold. Where
        only scans have labels, some slices have none, and slices are no level.
    """
    tables = _Tables.read(path)
    levels = {SLICES: tables.slices(), SLICES_IN_SCANS: tables.slices_in_scans()}
    levels[SCANS] = tables.scans()
    of_levels, found = metrics_by_level(metrics), {}
    for name, predictions in levels.items():
        of_level = of_levels.get(name)
        if predictions is None or of_level is None or not _agrees(predictions, of_level):
            continue
        found[name] = replace(predictions, threshold=of_level["threshold"])
    return found


def _agrees(predictions: LabeledPredictions, metrics: Mapping[str, Any]) -> bool:
    """Return whether metrics count these predictions."""
    counts = len(predictions.labels), int(predictions.labels.sum())
    return counts == (metrics["n"], metrics["n_positive"])


@dataclass(frozen=True, eq=False)
class _Tables:
    """The rows of a run's tables.

    Attributes:
        predictions: Of slices, one for each repeat.
        scan_rows: Of scans, one for each repeat; none without a scan model.
        patients: By path and frame of a slice its patient; slices without one have their group.
        scan_of: By path and frame of a slice its scan.
        any_patient: Whether a patient is known.
    """

    predictions: list[dict[str, str]]
    scan_rows: list[dict[str, str]]
    patients: dict[tuple[str, str], str]
    scan_of: dict[tuple[str, str], str]
    any_patient: bool

    @classmethod
    def read(cls, path: Path) -> _Tables:
        split = _read_csv(path / SPLIT_FILE)
        has_scans = (path / SCANS_FILE).is_file()
        return cls(
            predictions=_read_csv(path / PREDICTIONS_FILE),
            scan_rows=_read_csv(path / SCANS_FILE) if has_scans else [],
            patients={_key(row): row["patient"] or f"group {row['group']}" for row in split},
            scan_of={_key(row): row["scan"] for row in split if row.get("scan")},
            any_patient=any(row["patient"] for row in split),
        )

    def slices(self) -> LabeledPredictions | None:
        return self._of_slices(self.predictions, "probability", has_decisions=True)

    def slices_in_scans(self) -> LabeledPredictions | None:
        rows = [row for row in self.predictions if row.get("probability_in_scan")]
        return self._of_slices(rows, "probability_in_scan", has_decisions=False)

    def _of_slices(
        self, rows: list[dict[str, str]], column: str, has_decisions: bool
    ) -> LabeledPredictions | None:
        places = {key: index for index, key in enumerate(dict.fromkeys(map(_key, rows)))}
        if not places:
            return None
        at = [places[_key(row)] for row in rows]
        groups = np.array([self.patients[key] for key in places])
        return LabeledPredictions(
            labels=_spread(rows, at, "label", len(places))[0].astype(np.int64),
            repeats=list(_spread(rows, at, column, len(places))),
            decisions=_decisions(rows, at, len(places)) if has_decisions else None,
            groups=groups if self.any_patient else None,
            unit="slices",
        )

    def scans(self) -> LabeledPredictions | None:
        patients = {scan: self.patients[key] for key, scan in self.scan_of.items()}
        if not self.scan_rows:
            return self._scans_without_model(patients)
        places = {
            name: index
            for index, name in enumerate(dict.fromkeys(row["scan"] for row in self.scan_rows))
        }
        at = [places[row["scan"]] for row in self.scan_rows]
        return LabeledPredictions(
            labels=_spread(self.scan_rows, at, "label", len(places))[0].astype(np.int64),
            repeats=list(_spread(self.scan_rows, at, "probability", len(places))),
            decisions=_decisions(self.scan_rows, at, len(places)),
            groups=np.array([patients[name] for name in places]) if self.any_patient else None,
            unit=SCANS,
        )

    def _scans_without_model(self, patients: Mapping[str, str]) -> LabeledPredictions | None:
        """Score scans by their three highest slices, where their slices are tested together."""
        alone = self.slices()
        if alone is None or not patients:
            return None
        keys = list(dict.fromkeys(map(_key, self.predictions)))
        members: dict[str, list[int]] = {}
        for index, key in enumerate(keys):
            if key in self.scan_of:
                members.setdefault(self.scan_of[key], []).append(index)
        sizes = {scan: 0 for scan in members}
        for scan in self.scan_of.values():
            if scan in sizes:
                sizes[scan] += 1
        whole = {scan: index for scan, index in members.items() if len(index) == sizes[scan]}
        if not whole:
            return None
        scores = [[mean_of_highest(repeat[index]) for index in whole.values()]
                  for repeat in alone.repeats]  # fmt: skip
        return LabeledPredictions(
            labels=np.array([alone.labels[index].max() for index in whole.values()]),
            repeats=list(np.array(scores)),
            groups=np.array([patients[scan] for scan in whole]) if self.any_patient else None,
            unit=SCANS,
        )


def _read_csv(path: Path) -> list[dict[str, str]]:
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def _key(row: Row) -> tuple[str, str]:
    return row["path"], row["frame"]


def _spread(rows: list[dict[str, str]], at: list[int], column: str, n: int) -> np.ndarray:
    """Return a column of numbers as `(repeats, n)`."""
    repeats = np.array([int(row["repeat"]) for row in rows]) - 1
    values = np.full((repeats.max() + 1, n), np.nan)
    values[repeats, at] = [float(row[column]) for row in rows]
    return values


def _decisions(rows: list[dict[str, str]], at: list[int], n: int) -> list[np.ndarray]:
    """Return the decisions of each repeat, bool `(n,)`."""
    return list(_spread(rows, at, "hemorrhage", n) > 0)
