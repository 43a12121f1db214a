"""The content of an HTML report as plain values; `html_report` turns it into a page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from hemorrhage_tf.core.errors import DataError
from hemorrhage_tf.evaluation.labeled_predictions import check_predictions
from hemorrhage_tf.reports.gallery import GalleryItem


@dataclass(frozen=True, eq=False)
class ReportContent:
    """The content of an HTML report.

    Attributes:
        title: heading of the page.
        metrics: from `metrics.binary_metrics`; further keys such as `evaluated_on` are accepted.
        labels: `(n,)`, 0 or 1.
        probabilities: `(n,)`, or `(repeats, n)` for repeated out-of-fold predictions; in [0, 1].
        threshold: probabilities at or above it are predicted hemorrhage.
        unit: what the metrics count, "slices" or "scans". Default "slices".
        names: of the n slices, or empty.
        groups: `(n,)`, equal for slices of one patient; None if slices are independent.
        seed: random seed of the bootstrap bands. Default 0.
        model_rows: name and value of each property of the model.
        data_rows: name and value of each property of the data.
        operating_point: `OperatingPoint.to_dict()`, or None.
        history: one row per epoch, as in `history.csv`; may be empty.
        audit: `Audit.to_dict()`, or None.
        gallery: every wrong slice, and some correct ones.
        robustness: from `robustness.robustness`, or None.
        subgroups: rows with the same keys, the name of the subgroup first; values are strings,
            numbers, None or metrics (`estimate`, `low`, `high`, `n`). None without subgroups.
        comparison: from `comparison.compare`, or None.
        model_names: names of the two models of the comparison.
        warnings: what a reader must not miss, such as slices that the model was trained on.
        not_tested: sentences on what the metrics do not show.
        versions: of the package and its main dependencies.
    """

    title: str
    metrics: Mapping[str, Any]
    labels: np.ndarray
    probabilities: np.ndarray
    threshold: float
    unit: str = "slices"
    names: Sequence[str] = ()
    groups: np.ndarray | None = None
    seed: int = 0
    model_rows: Sequence[tuple[str, str]] = ()
    data_rows: Sequence[tuple[str, str]] = ()
    operating_point: Mapping[str, Any] | None = None
    history: Sequence[Mapping[str, Any]] = ()
    audit: Mapping[str, Any] | None = None
    gallery: Sequence[GalleryItem] = ()
    robustness: Sequence[Mapping[str, Any]] | None = None
    subgroups: Sequence[Mapping[str, Any]] | None = None
    comparison: Mapping[str, Any] | None = None
    model_names: tuple[str, str] = ("this model", "the other model")
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
