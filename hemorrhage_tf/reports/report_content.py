"""The content of an HTML report as plain values; `html_report` turns it into a page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from hemorrhage_tf.core.errors import DataError
from hemorrhage_tf.evaluation.labeled_predictions import LabeledPredictions, check_predictions
from hemorrhage_tf.reports.gallery import GalleryItem


@dataclass(frozen=True, eq=False)
class LevelContent:
    """A further level of an evaluation, beside the main one.

    Attributes:
        name: `scan_metrics.SLICES_IN_SCANS` or `SCANS`.
        metrics: From `metrics.binary_metrics`.
        predictions: Labels and probabilities.
    """

    name: str
    metrics: Mapping[str, Any]
    predictions: LabeledPredictions


@dataclass(frozen=True, eq=False)
class ReportContent:
    """The content of an HTML report.

    Attributes:
        title: Heading of the page.
        metrics: From `metrics.binary_metrics`; further keys such as `evaluated_on` are accepted.
        labels: `(n,)`, 0 or 1.
        probabilities: `(n,)`, or `(repeats, n)` for repeated out-of-fold predictions; in [0, 1].
        threshold: Probabilities at or above it are predicted hemorrhage.
        unit: What the metrics count, "slices" or "scans". Defaults to "slices".
        names: Of the n slices, or empty.
        groups: `(n,)`, equal for slices of one patient; None if slices are independent.
        levels: The further levels: slices in their scans, and scans. Defaults to none.
        scan_details: `ScanDetails.to_dict()`, or None for data without scans. Defaults to None.
        scan_rows: Name, label, probability, decision, and number of slices and of flagged slices
            of each scan; empty for data without scans. Defaults to none.
        model_rows: Name and value of each property of the model.
        data_rows: Name and value of each property of the data.
        operating_point: `OperatingPoint.to_dict()`, or None.
        history: One row per epoch, as in `history.csv`; may be empty.
        audit: `Audit.to_dict()`, or None.
        gallery: Every wrong slice, and some correct ones.
        robustness: From `robustness.robustness`, or None.
        subgroups: Rows with the same keys, the name of the subgroup first; values are strings,
            numbers, None or metrics (`estimate`, `low`, `high`, `n`). None without subgroups.
        comparisons: From `comparison.compare`, by level as `scan_metrics` names it. Defaults to
            none.
        model_names: Names of the two models of the comparison.
        against: The predictions of the second model by level. Defaults to none.
        warnings: What a reader must not miss, such as slices that the model was trained on.
        not_tested: Sentences on what the metrics do not show.
        versions: Of the package and its main dependencies.
    """

    title: str
    metrics: Mapping[str, Any]
    labels: np.ndarray
    probabilities: np.ndarray
    threshold: float
    unit: str = "slices"
    names: Sequence[str] = ()
    groups: np.ndarray | None = None
    levels: Sequence[LevelContent] = ()
    scan_details: Mapping[str, Any] | None = None
    scan_rows: Sequence[tuple[str, int, float, bool, int, int]] = ()
    model_rows: Sequence[tuple[str, str]] = ()
    data_rows: Sequence[tuple[str, str]] = ()
    operating_point: Mapping[str, Any] | None = None
    history: Sequence[Mapping[str, Any]] = ()
    audit: Mapping[str, Any] | None = None
    gallery: Sequence[GalleryItem] = ()
    robustness: Sequence[Mapping[str, Any]] | None = None
    subgroups: Sequence[Mapping[str, Any]] | None = None
    comparisons: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    model_names: tuple[str, str] = ("this model", "the other model")
    against: Mapping[str, LabeledPredictions] = field(default_factory=dict)
    warnings: Sequence[str] = ()
    not_tested: Sequence[str] = ()
    versions: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for probabilities in np.atleast_2d(self.probabilities):
            check_predictions(self.labels, probabilities)
        if len(self.names) not in (0, len(self.labels)):
            raise DataError(
                f"{len(self.names)} names for {len(self.labels)} labels: there must be one name "
                "per label, or none. Pass as many names as labels."
            )
