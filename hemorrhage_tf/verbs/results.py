"""The results of `fit` and `evaluate`."""

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
        path: The run folder.
        config: Content of its `config.json`: settings, data, versions, times.
        metrics: Content of its `metrics.json`; see `evaluation.metrics.binary_metrics`.
        worker: Number of this worker among several; worker 0 writes the run folder.

    Example:
        >>> import hemorrhage_tf as htf
        >>> run = htf.fit(resume="runs/first", quiet=True)  # already complete
        >>> run.path.name, run.metrics["n"]
        ('first', 5)
        >>> run.model().predict("slice.png")[0].path
        'slice.png'
    """

    path: Path
    config: dict[str, Any]
    metrics: dict[str, Any]
    worker: int = 0

    @property
    def summary(self) -> str:
        """The main metrics in one line, with their intervals."""
        return summary(self.metrics)

    def model(self) -> Model:
        """Load the trained model."""
        return load(self.path)


@dataclass(frozen=True)
class Evaluation:
    """A model's metrics on labeled slices.

    Attributes:
        metrics: See `evaluation.metrics.binary_metrics`.
        predictions: One for each slice, in the order of the manifest.
        labels: int64 `(n,)` of the slices, 0 or 1.
        level: What the metrics count: "slice"; or "scan" where labels belong to whole scans.
        seen_in_training: Number of these slices that the model was trained on.
        comparison: Comparison with a second model, see `evaluation.comparison.compare`; or None.

    Example:
        >>> import hemorrhage_tf as htf
        >>> evaluation = htf.evaluate("head_ct", model="runs/first", quiet=True)
        >>> evaluation.level, len(evaluation.predictions)
        ('slice', 24)
    """

    metrics: dict[str, Any]
    predictions: tuple[SlicePrediction, ...]
    labels: np.ndarray
    level: str
    seen_in_training: int
    comparison: dict[str, Any] | None = None

    @property
    def summary(self) -> str:
        """The main metrics in one line, with their intervals."""
        return summary(self.metrics)
