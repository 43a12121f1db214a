"""TODO docstring."""

from __future__ import annotations

from typing import Any

import numpy as np

from hemorrhage_tf.datasets.image_statistics import ImageStatisticsTable
from hemorrhage_tf.datasets.slice_index import SliceIndex
from hemorrhage_tf.evaluation import dataset_shift

FEATURE_DISTANCE = "feature distance"


def _look(slices: SliceIndex, indices: np.ndarray) -> dict[str, Any]:
    statistics = ImageStatisticsTable.of(slices.statistics).take(indices)
    properties = dataset_shift.properties_of(statistics, np.asarray(slices.head_shares)[indices])
    return dataset_shift.look(properties, float(slices.is_hounsfield[indices].mean()))


def _patients(slices: SliceIndex) -> np.ndarray | None:
    """Gives the groups where slices have patients: intervals are then over patients."""
    known = any(record.patient for record in slices.manifest.records)
    return slices.groups if known else None
