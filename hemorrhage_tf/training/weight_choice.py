"""The choice of the weight of phantoms, by out-of-fold loss and the one-standard-error rule."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

# Of these the weight of phantoms is chosen, and the middle one is used where there are too few
# slices to choose. See docs/decisions.md.
PHANTOM_WEIGHTS = (0.25, 1.0, 4.0)
DEFAULT_PHANTOM_WEIGHT = 1.0


def choose_weight(
    weights: Sequence[float], losses: np.ndarray, slice_weights: np.ndarray, groups: np.ndarray
) -> float:
    """Choose the largest weight whose loss is within one standard error of the lowest.

    Args:
        weights: In ascending order.
        losses: `(n, k)`, the out-of-fold loss of each slice with each weight.
        slice_weights: `(n,)`, of the slices in the mean loss.
        groups: `(n,)`; slices of one group are not independent of each other.

    Returns:
        The weight. With one group there is no standard error, and the lowest loss decides.

    Reference:
        L. Breiman et al., Classification and regression trees, Wadsworth 1984, section 3.4.3. The
        standard error is that of a ratio over groups.
    """
    means = slice_weights @ losses / slice_weights.sum()
    best = int(np.argmin(means))
    _, group_of = np.unique(groups, return_inverse=True)
    sums = np.bincount(group_of, slice_weights * (losses[:, best] - means[best]))
    count, error = len(sums), 0.0
    if count > 1:
        variance = count / (count - 1) * float(np.square(sums).sum())
        error = float(np.sqrt(variance) / slice_weights.sum())
    chosen = int(np.flatnonzero(means <= means[best] + error)[-1])
    return float(weights[chosen])
