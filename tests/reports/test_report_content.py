from __future__ import annotations

import numpy as np
import pytest
from report_examples import minimal_content

from hemorrhage_tf.core.errors import DataError


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"names": ["a"]}, "1 names for 60 labels"),
        ({"probabilities": np.full(60, np.nan)}, "are not numbers"),
        ({"probabilities": np.zeros(3)}, "3 predictions for 60 labels"),
    ],
)
def test_rejects_values_that_do_not_fit_together(values, message):
    with pytest.raises(DataError, match=message):
        minimal_content(**values)
