"""Likeness: whether slices look like those that a model was trained on.

A figure on foreign slices is what a model is worth elsewhere, and a figure on slices like its own
is not; a reader must know which of the two he sees.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from hemorrhage_tf.datasets.image_statistics import ImageStatisticsTable
from hemorrhage_tf.datasets.slice_index import SliceIndex

QUANTILES = (0.05, 0.5, 0.95)
FEATURE_DISTANCE = "feature distance"


def profile(properties: Mapping[str, np.ndarray], hounsfield: float) -> dict[str, Any]:
    """Sums up how slices look.

    Args:
        properties: by name an array of one number a slice.
        hounsfield: share of the slices in Hounsfield units, in [0, 1].

    Returns:
        Plain values for JSON: `hounsfield`, and by name the 5 %, 50 % and 95 % quantiles.
    """
    return {
        "hounsfield": float(hounsfield),
        "quantiles": {
            name: [float(value) for value in np.quantile(values, QUANTILES)]
            for name, values in properties.items()
        },
    }


def differences(training: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    """Says in what slices look unlike those of a training.

    A property differs where its median lies outside the middle 90 % of the training's.

    Args:
        training: from `look`, of what was trained on.
        other: from `look`, of what is evaluated.

    Returns:
        A clause for each difference.
    """
    found = []
    if (training["hounsfield"] > 0.5) != (other["hounsfield"] > 0.5):
        names = ("Hounsfield units", "pictures")
        trained, given = names if training["hounsfield"] > 0.5 else names[::-1]
        found.append(f"they are {given}, and it was trained on {trained}")
    for name, (low, _, high) in training["quantiles"].items():
        if name not in other["quantiles"]:
            continue
        median = other["quantiles"][name][1]
        if not low <= median <= high:
            found.append(
                f"their {name} is {median:.3g}, where training had {low:.3g} to {high:.3g}"
            )
    return found


def root_mean_square(standardized: np.ndarray) -> np.ndarray:
    """Measures how far features lie from those of the training, in its standard deviations.

    Args:
        standardized: `(n, width)` features, standardized by the training's mean and variance.

    Returns:
        float64 `(n,)`: about 1 for slices like those of the training, more for others.
    """
    return np.sqrt(np.mean(np.square(standardized, dtype=np.float64), axis=1))


def properties_of(statistics: Sequence[Any], head_shares: Sequence[float]) -> dict[str, np.ndarray]:
    """Takes the properties that are compared from what a scan found.

    Args:
        statistics: of each slice, see `data.statistics.ImageStatistics`.
        head_shares: side of the head's square over the longer side of the slice, of each.
    """
    gray = np.arange(256)
    table = ImageStatisticsTable.of(statistics)
    means = []
    for levels, _ in table.blocks():
        lit = np.where(gray > 24, levels, 0)
        means += [float(share @ gray / max(share.sum(), 1e-9)) for share in lit]
    return {
        "width": table.numbers["width"].astype(float),
        "height": table.numbers["height"].astype(float),
        "mean gray level": np.array(means),
        "head's share of the frame": np.asarray(head_shares, float),
    }


def profile_slices(slices: SliceIndex, indices: np.ndarray) -> dict[str, Any]:
    """Summarize the appearance of some slices of an index; see `profile`."""
    statistics = ImageStatisticsTable.of(slices.statistics).take(indices)
    properties = properties_of(statistics, np.asarray(slices.head_shares)[indices])
    return profile(properties, float(slices.is_hounsfield[indices].mean()))
