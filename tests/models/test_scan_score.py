import numpy as np
import pytest

from hemorrhage_tf.models.scan_score import mean_of_highest


@pytest.mark.parametrize(
    ("values", "expected"),
    [([0.2], 0.2), ([0.1, 0.5], 0.3), ([0.9, 0.1, 0.6, 0.0, 0.3], 0.6)],
)
def test_score_is_the_mean_of_the_three_highest_or_of_all(values, expected):
    assert mean_of_highest(np.array(values)) == pytest.approx(expected)
