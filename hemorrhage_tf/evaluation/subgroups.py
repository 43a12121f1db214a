"""Metrics of subgroups: the slices or scans that share a value, such as a scanner."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from hemorrhage_tf.core.errors import DataError
from hemorrhage_tf.evaluation.labeled_predictions import LabeledPredictions
from hemorrhage_tf.evaluation.metrics import compute_metrics

MAX_SUBGROUPS = 12  # a column with more values does not define subgroups


@dataclass(frozen=True)
class Subgroup:
    """The metrics of one subgroup.

    Attributes:
        name: Column and value, such as "scanner: A".
        n: Number of slices or scans.
        metrics: See `metrics.binary_metrics`.
    """

    name: str
    n: int
    metrics: dict[str, Any]


def subgroup_metrics(
    predictions: LabeledPredictions, columns: Mapping[str, np.ndarray]
) -> tuple[Subgroup, ...]:
    """Compute the metrics of each value of each column that has 2 to `MAX_SUBGROUPS` values.

    Args:
        predictions: Of all slices or scans.
        columns: By name one value for each slice or scan, `(n,)`.

    Raises:
        DataError: A column of another length, or invalid predictions.
    """
    n = len(predictions.labels)
    rows = []
    for column, cells in columns.items():
        values = np.asarray(cells).astype(str)
        if values.shape != (n,):
            raise DataError(
                f"column {column}: has {len(values)} values for {n} {predictions.unit}. Pass one "
                "value for each."
            )
        distinct = np.unique(values)
        if not 2 <= len(distinct) <= MAX_SUBGROUPS:
            continue
        for value in distinct:
            members = values == value
            metrics = compute_metrics(predictions.select(members)).to_dict()
            rows.append(Subgroup(f"{column}: {value or 'blank'}", int(members.sum()), metrics))
    return tuple(rows)
