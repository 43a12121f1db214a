"""What the probabilities of its slices add up to for a whole scan."""

from __future__ import annotations

import numpy as np

TOP = 3  # slices of a scan whose mean is the scan's figure


def mean_of_highest(probabilities: np.ndarray) -> float:
    """Gives a scan's figure: the mean of its `TOP` highest probabilities, or of all it has.

    Args:
        probabilities: `(n,)`, of each slice.

    Returns:
        The figure, in [0, 1].
    """
    return float(np.sort(probabilities)[-TOP:].mean())
