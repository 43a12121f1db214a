"""TODO docstring."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hemorrhage_tf.evaluation.metrics import summary
from hemorrhage_tf.inference.loading import load
from hemorrhage_tf.inference.model import Model
from hemorrhage_tf.inference.predictions import SlicePrediction


@dataclass(frozen=True)
class Run:
    """A finished fit.

    Attributes:
        path: the run folder.
        config: what is in its `config.json`: settings, data, versions, times.
        metrics: what is in its `metrics.json`, see `evaluation.metrics.binary_metrics`.
        worker: which of several workers this is; the run folder is written by worker 0, the chief.
    """

    path: Path
    config: dict[str, Any]
    metrics: dict[str, Any]
    worker: int = 0

    @property
    def report(self) -> str:
        """The main figures in one line, with their intervals."""
        return summary(self.metrics)

    def model(self) -> Model:
        """Loads the trained model."""
        return load(self.path)


@dataclass(frozen=True)
class Evaluation:
    """A model's figures on labeled slices.

    Attributes:
        metrics: see `evaluation.metrics.binary_metrics`.
        findings: one for each slice, in the manifest's order.
        labels: `(n,)`, 0 or 1.
        level: what the figures count: "slice", or "scan" where the labels are of whole scans.
        seen_in_training: how many of the slices the run trained on, by their pixels.
        comparison: with a second model, see `evaluation.comparison.compare`; or None.
    """

    metrics: dict[str, Any]
    findings: tuple[SlicePrediction, ...]
    labels: np.ndarray
    level: str
    seen_in_training: int
    comparison: dict[str, Any] | None = None

    @property
    def report(self) -> str:
        """The main figures in one line, with their intervals."""
        return summary(self.metrics)
