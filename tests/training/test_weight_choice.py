from __future__ import annotations

import numpy as np
import pytest

from hemorrhage_tf.training.weight_choice import choose_weight

WEIGHTS = (0.25, 1.0, 4.0)


def losses_with_means(means, spread: float, count: int = 50) -> np.ndarray:
    """Losses of slices with these means and, for each weight, the same standard deviation."""
    noise = np.random.default_rng(0).normal(size=count)
    noise = (noise - noise.mean()) / noise.std(ddof=1)
    return np.array(means) + spread * noise[:, np.newaxis]


@pytest.mark.parametrize(
    "means, chosen",
    [
        ((0.10, 0.10, 0.10), 4.0),
        ((0.10, 0.129, 0.20), 1.0),
        ((0.10, 0.131, 0.129), 4.0),
        ((0.10, 0.131, 0.20), 0.25),
        ((0.30, 0.20, 0.10), 4.0),
    ],
)
def test_is_the_largest_within_one_standard_error_of_the_lowest_loss(means, chosen):
    # The standard error of a mean of 50 is 0.03.
    losses = losses_with_means(means, spread=0.03 * np.sqrt(50))
    assert choose_weight(WEIGHTS, losses, np.ones(50), np.arange(50)) == chosen


def test_slices_of_a_group_count_as_one():
    losses = losses_with_means((0.10, 0.15, 0.20), spread=0.03 * np.sqrt(50))
    alone = choose_weight(WEIGHTS, losses, np.ones(50), np.arange(50))
    # Nine copies of each slice tell nothing new, unless they pass for slices of others.
    copies, groups = np.repeat(losses, 9, axis=0), np.repeat(np.arange(50), 9)
    assert choose_weight(WEIGHTS, copies, np.ones(450), groups) == alone == 0.25
    closer = losses_with_means((0.10, 0.125, 0.20), spread=0.03 * np.sqrt(50))
    copies = np.repeat(closer, 9, axis=0)
    assert choose_weight(WEIGHTS, copies, np.ones(450), groups) == 1.0
    assert choose_weight(WEIGHTS, copies, np.ones(450), np.arange(450)) == 0.25


def test_a_slice_of_weight_two_is_two_of_its_group():
    rng = np.random.default_rng(1)
    losses, times = rng.exponential(size=(40, 3)) * 0.1, rng.integers(1, 4, 40)
    weighted = choose_weight(WEIGHTS, losses, times.astype(float), np.arange(40))
    copies, groups = np.repeat(losses, times, axis=0), np.repeat(np.arange(40), times)
    assert weighted == choose_weight(WEIGHTS, copies, np.ones(len(copies)), groups)


def test_one_group_has_no_standard_error():
    losses = losses_with_means((0.2, 0.1, 0.11), spread=1.0)
    assert choose_weight(WEIGHTS, losses, np.ones(50), np.zeros(50)) == 1.0
