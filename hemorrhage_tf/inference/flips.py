"""The flips of test-time augmentation, and the mean of the probabilities of flipped slices."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

# The axes to flip, of a batch or of its class activation maps.
AXES: tuple[tuple[int, ...], ...] = ((), (2,), (1,), (1, 2))


def flip(batch: np.ndarray, axes: tuple[int, ...]) -> np.ndarray:
    """Flip a batch along some axes; an array that native runtimes accept."""
    # They do not accept negative strides.
    return np.ascontiguousarray(np.flip(batch, axes)) if axes else batch


def mean_probability(probabilities: Sequence[np.ndarray]) -> np.ndarray:
    """Average finite logits, and return the probability of the mean, float32."""
    from hemorrhage_tf.evaluation.calibration import log_odds

    mean = np.mean([log_odds(one) for one in probabilities], axis=0)
    return (1 / (1 + np.exp(-mean))).astype(np.float32)
