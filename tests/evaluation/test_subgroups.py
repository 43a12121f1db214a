from __future__ import annotations

import numpy as np
import pytest
from report_examples import draw_predictions

from hemorrhage_tf.core.errors import DataError
from hemorrhage_tf.evaluation.labeled_predictions import LabeledPredictions
from hemorrhage_tf.evaluation.metrics import binary_metrics
from hemorrhage_tf.evaluation.subgroups import subgroup_metrics


@pytest.fixture
def predictions():
    labels, repeats = draw_predictions(n=40)
    return LabeledPredictions(labels, list(repeats), 0.4, groups=np.arange(40) // 2)


def test_metrics_are_those_of_the_members_over_patients(predictions):
    scanner = np.where(np.arange(40) < 12, "A", "")
    first, second = subgroup_metrics(predictions, {"scanner": scanner})
    assert [(one.name, one.n) for one in (first, second)] == [
        ("scanner: blank", 28),
        ("scanner: A", 12),
    ]
    members = scanner == "A"
    expected = binary_metrics(
        predictions.labels[members],
        [predictions.repeats[0][members]],
        0.4,
        groups=predictions.groups[members],
    )
    assert second.metrics == expected
    assert expected["intervals_of"] == "patients"


def test_columns_of_one_value_or_many_form_no_subgroups(predictions):
    columns = {"same": np.zeros(40), "all": np.arange(40)}
    assert subgroup_metrics(predictions, columns) == ()


def test_a_column_of_another_length_is_rejected(predictions):
    with pytest.raises(DataError, match="column sex: has 3 values for 40 slices. Pass one value"):
        subgroup_metrics(predictions, {"sex": ["F", "M", "F"]})
