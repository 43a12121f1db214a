"""Dataset shift: how slices differ from those that a model was trained on.

The metrics of a model on similar slices do not carry over to different ones, so an evaluation
reports how far its slices differ from the training set.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from hemorrhage_tf.datasets.image_statistics import ImageStatisticsTable
from hemorrhage_tf.datasets.slice_index import SliceIndex

QUANTILES = (0.05, 0.5, 0.95)
FEATURE_DISTANCE = "feature distance"
_DARK = 24  # gray levels up to it count as background


def profile(properties: Mapping[str, np.ndarray], hounsfield: float) -> dict[str, Any]:
    """Summarize the properties of slices.

    Args:
        properties: By name, one number for each slice, `(n,)`.
        hounsfield: Share of the slices in Hounsfield units, in [0, 1].

    Returns:
        Plain values for JSON: `hounsfield`, and `quantiles`, by name the 5 %, 50 % and 95 %
        quantiles.
    """
    return {"hounsfield": float(hounsfield), "quantiles": _quantiles(properties)}


def profile_slices(slices: SliceIndex, indices: np.ndarray) -> dict[str, Any]:
    """Summarize the appearance of some slices of an index; see `profile`."""
    statistics = slices.statistics.take(indices)
    properties = appearance(statistics, np.asarray(slices.head_shares)[indices])
    return profile(properties, float(slices.is_hounsfield[indices].mean()))


def add_feature_distance(
    slice_profile: Mapping[str, Any], standardized: Iterable[np.ndarray]
) -> dict[str, Any]:
    """Return a profile with the feature distance as one more property.

    Args:
        slice_profile: From `profile`.
        standardized: Blocks of features `(b, width)`, standardized by the mean and variance of the
            training set.
    """
    distances = np.concatenate([root_mean_square(block) for block in standardized])
    quantiles = {**slice_profile["quantiles"], **_quantiles({FEATURE_DISTANCE: distances})}
    return {**slice_profile, "quantiles": quantiles}


def describe_differences(training: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    """Describe how slices differ from the training set.

    A property differs where its median lies outside the middle 90 % of the training set.

    Args:
        training: Profile of the training set.
        other: Profile of the slices to evaluate.

    Returns:
        A clause for each difference.
    """
    clauses = []
    if (training["hounsfield"] > 0.5) != (other["hounsfield"] > 0.5):
        names = ("Hounsfield units", "display images")
        trained, given = names if training["hounsfield"] > 0.5 else names[::-1]
        clauses.append(f"they are {given}, and the model was trained on {trained}")
    for name, (low, _, high) in training["quantiles"].items():
        if name not in other["quantiles"]:
            continue
        median = other["quantiles"][name][1]
        if not low <= median <= high:
            clauses.append(
                f"their {name} is {median:.3g} (median), in training {low:.3g} to {high:.3g}"
            )
    return clauses


def root_mean_square(standardized: np.ndarray) -> np.ndarray:
    """Compute the distance of features from the training set, in its standard deviations.

    Args:
        standardized: `(n, width)` features, standardized by the mean and variance of the training
            set.

    Returns:
        float64 `(n,)`: about 1 for slices like those of the training set, larger for others.
    """
    return np.sqrt(np.mean(np.square(standardized, dtype=np.float64), axis=1))


def appearance(
    statistics: ImageStatisticsTable, head_shares: Sequence[float] | np.ndarray
) -> dict[str, np.ndarray]:
    """Return the properties of slices that profiles are made of.

    Args:
        statistics: Of each slice.
        head_shares: Side of the head crop over the longer side of the slice, of each slice.

    Returns:
        By name, one number for each slice, `(n,)`.
    """
    gray = np.arange(256)
    means = []
    for levels, _ in statistics.blocks():
        lit = np.where(gray > _DARK, levels, 0)
        means += [float(share @ gray / max(share.sum(), 1e-9)) for share in lit]
    return {
        "width": statistics.numbers["width"].astype(float),
        "height": statistics.numbers["height"].astype(float),
        "mean gray level": np.array(means),
        "head's share of the frame": np.asarray(head_shares, float),
    }


def _quantiles(properties: Mapping[str, np.ndarray]) -> dict[str, list[float]]:
    return {
        name: [float(value) for value in np.quantile(values, QUANTILES)]
        for name, values in properties.items()
    }
