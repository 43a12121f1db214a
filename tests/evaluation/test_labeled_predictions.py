import math

import numpy as np
import pytest

from hemorrhage_tf.core.errors import DataError
from hemorrhage_tf.evaluation.labeled_predictions import LabeledPredictions, check_predictions


@pytest.mark.parametrize(
    ("labels", "probabilities", "message"),
    [
        ([0, 1], [0.5], "1 predictions for 2 labels: .* Pass arrays of the same length"),
        ([], [], "there are no predictions to evaluate"),
        ([0, 1], [0.5, math.nan], "1 of 2 predictions are not numbers"),
        ([0, 1], [math.inf, -math.inf], "2 of 2 predictions are not numbers"),
        ([0, 1, 0], [0.5, 3.5, -1], r"2 of 3 .* outside \[0, 1\], the first is 3.5.* sigmoid"),
        ([0, 2, 3], [0.5, 0.5, 0.5], r"label 2 and 1 more: labels must be 1 \(hemorrhage\) or 0"),
        ([0, 2], [0.5, 0.5], "label 2: labels must be 1"),
    ],
)
def test_rejects_invalid_predictions(labels, probabilities, message):
    with pytest.raises(DataError, match=message):
        check_predictions(np.array(labels), np.array(probabilities))


def test_returns_arrays_of_fixed_types():
    labels, probabilities = check_predictions(np.array([True, False]), np.float32([0.25, 1]))
    assert (labels.dtype, probabilities.dtype) == (np.int64, np.float64)


class TestLabeledPredictions:
    def test_a_probability_at_the_threshold_is_predicted_hemorrhage(self):
        predictions = LabeledPredictions(np.array([1, 0]), [np.array([0.5, 0.4999])])
        labels, scores, predicted = predictions.check()
        assert predicted.tolist() == [[True, False]]
        assert labels.tolist() == [1, 0] and scores.shape == (1, 2)

    def test_decisions_of_folds_replace_the_threshold(self):
        decisions = [np.array([False, True])]
        scores = [np.array([0.9, 0.1])]
        predictions = LabeledPredictions(np.array([1, 0]), scores, decisions=decisions)
        assert predictions.check()[2].tolist() == [[False, True]]

    @pytest.mark.parametrize(("labels", "repeats"), [([0, 1], []), ([], [[]]), ([], [])])
    def test_rejects_no_predictions(self, labels, repeats):
        with pytest.raises(DataError, match="there are no predictions to evaluate"):
            LabeledPredictions(np.array(labels), [np.array(one) for one in repeats]).check()
