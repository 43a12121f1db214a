"""The score of a scan, computed from the probabilities of its slices."""

from __future__ import annotations

import numpy as np

TOP_SLICES = 3  # the score is the mean over this many slices


def mean_of_highest(probabilities: np.ndarray) -> float:
    """Compute the score of a scan: the mean of its `TOP_SLICES` highest probabilities.

    Args:
        probabilities: `(n,)` in [0, 1], one for each slice; all are averaged if there are fewer
            than `TOP_SLICES`.

    Returns:
        The score, in [0, 1].
    """
    return float(np.sort(probabilities)[-TOP_SLICES:].mean())
