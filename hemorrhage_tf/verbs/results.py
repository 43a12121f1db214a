"""The results of `fit`, `evaluate` and `recalibrate`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hemorrhage_tf.evaluation.labeled_predictions import LabeledPredictions
from hemorrhage_tf.inference.model import Model
from hemorrhage_tf.inference.predictions import ScanPrediction, SlicePrediction

if TYPE_CHECKING:
    from hemorrhage_tf.verbs.error_previews import ErrorPreviews


@dataclass(frozen=True)
class Run:
    """A finished fit.

    Attributes:
        path: The run folder.
        config: Content of its `config.json`: settings, data, versions, times.
        metrics: Content of its `metrics.json`: the levels are those of `Evaluation.metrics`.
        worker: Number of this worker among several; worker 0 writes the run folder.
        previews: Draws the worst errors in a notebook, where `fit` has just read the slices; else
            None. It is no part of the result, is not compared, and is not pickled.

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
    previews: ErrorPreviews | None = field(default=None, compare=False, repr=False)

    @property
    def summary(self) -> str:
        """The main metrics in one line, with their intervals."""
        return _summary(self.metrics)

    def _repr_html_(self) -> str:
        from hemorrhage_tf.verbs.result_html import metrics_html

        return metrics_html(f"Run {self.path.name}", self.metrics, self.previews)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "previews": None}

    @cached_property
    def levels(self) -> Mapping[str, LabeledPredictions]:
        """The out-of-fold predictions by level, read from the tables of the run folder."""
        from hemorrhage_tf.verbs.run_levels import read_levels

        return read_levels(self.path, self.metrics)

    @property
    def history(self) -> list[dict[str, str]]:
        """The rows of `history.csv`, one for each epoch of each training."""
        from hemorrhage_tf.models.run_files import read_history

        return read_history(self.path)

    def model(self) -> Model:
        """Load the trained model."""
        from hemorrhage_tf.inference.loading import load

        return load(self.path)


@dataclass(frozen=True)
class Evaluation:
    """A model's metrics on labeled slices and scans.

    There are three levels: slices alone; slices in their scans, which a scan model sees together;
    and scans. `metrics` has all of them, and the properties name the last two.

    Attributes:
        metrics: The main metrics, see `evaluation.metrics.binary_metrics`: of slices alone, or of
            scans where labels belong to scans only. Beside them `level`, and `slices_in_scans`,
            `scans` and `scan_details`, which are None where they do not apply.
        predictions: One for each slice, in the order of the manifest.
        labels: int64 `(n,)` of the slices, 0 or 1; that of its scan for a slice without its own.
        level: What the main metrics count: "slice", or "scan" where labels belong to scans only.
        seen_in_training: Number of these slices that the model was trained on.
        comparison: Comparison with a second model at the level of the main metrics, see
            `evaluation.comparison.compare`; or None.
        scans: One for each scan; empty where the data has no scans.
        scan_labels: int64 `(m,)` of the scans, 0 or 1.
        in_scan_comparison: The same as `comparison` for slices in their scans, or None.
        scan_comparison: The same for scans, or None.
        levels: The labeled predictions by level, "slices", "slices_in_scans" and "scans": what the
            metrics were computed from.
        columns: The further columns of the manifest by name, one value for each slice of the main
            metrics; empty where these count scans.
        previews: Draws the worst errors in a notebook; None if that is not possible. It is no part
            of the result, is not compared, and is not pickled.

    Example:
        >>> import hemorrhage_tf as htf
        >>> evaluation = htf.evaluate("head_ct", model="runs/first", quiet=True)
        >>> evaluation.level, len(evaluation.predictions)
        ('slice', 24)
        >>> evaluation.scan_metrics is None  # these slices belong to no scan
        True
    """

    metrics: dict[str, Any]
    predictions: tuple[SlicePrediction, ...]
    labels: np.ndarray
    level: str
    seen_in_training: int
    comparison: dict[str, Any] | None = None
    scans: tuple[ScanPrediction, ...] = ()
    scan_labels: np.ndarray = field(default_factory=lambda: np.empty(0, np.int64))
    in_scan_comparison: dict[str, Any] | None = None
    scan_comparison: dict[str, Any] | None = None
    levels: Mapping[str, LabeledPredictions] = field(default_factory=dict)
    columns: Mapping[str, np.ndarray] = field(default_factory=dict)
    previews: ErrorPreviews | None = field(default=None, compare=False, repr=False)

    @property
    def in_scan_metrics(self) -> dict[str, Any] | None:
        """The metrics of slices in their scans; None without scans or a scan model."""
        return self.metrics["slices_in_scans"]

    @property
    def scan_metrics(self) -> dict[str, Any] | None:
        """The metrics of scans; None where the data has no scans."""
        return self.metrics["scans"]

    @property
    def scan_details(self) -> dict[str, Any] | None:
        """False alarms, sizes and subtypes, see `evaluation.scan_metrics`; None without scans."""
        return self.metrics["scan_details"]

    @property
    def summary(self) -> str:
        """The main metrics in one line, with their intervals; those of scans follow."""
        return _summary(self.metrics)

    def _repr_html_(self) -> str:
        from hemorrhage_tf.verbs.result_html import metrics_html

        return metrics_html("Evaluation", self.metrics, self.previews)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "previews": None}


@dataclass(frozen=True)
class Recalibration:
    """A model recalibrated on local data.

    Attributes:
        path: The run folder, or the `.tflite` file.
        before: Metrics of the model as it was, at its own thresholds: the levels are those of
            `Evaluation.metrics`.
        after: The same after the recalibration, out of fold.
        config: Content of `config.json`; under `recalibration` what was fitted at each level, and
            which levels keep what the model had.
        needed_for_half: By level, how many patients would make the intervals half as wide, see
            `evaluation.recalibration.needed_for_half`.
        warnings: What limits the result.

    Example:
        >>> import hemorrhage_tf as htf
        >>> result = htf.recalibrate("head_ct", model="runs/first", out="runs/here", quiet=True)
        >>> sorted(result.config["recalibration"]["fitted"]["slices"])
        ['criterion', 'offset', 'temperature', 'threshold']
        >>> result.needed_for_half["slices"]["sensitivity"]
        {'received': 12, 'needed': 48}
    """

    path: Path
    before: dict[str, Any]
    after: dict[str, Any]
    config: dict[str, Any]
    needed_for_half: dict[str, dict[str, Any]]
    warnings: tuple[str, ...] = ()

    @property
    def summary(self) -> str:
        """The main metrics after the recalibration in one line, with their intervals."""
        return _summary(self.after)

    def model(self) -> Model:
        """Load the recalibrated model."""
        from hemorrhage_tf.inference.loading import load

        return load(self.path)


def _summary(metrics: dict[str, Any]) -> str:
    from hemorrhage_tf.evaluation.metrics import summary  # late, since `predict` needs no metrics

    scans = metrics.get("scans")
    if scans is None or metrics["level"] == "scan":
        return summary(metrics)
    return f"{summary(metrics)}; by scan: {summary(scans)}"
