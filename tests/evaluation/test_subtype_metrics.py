from __future__ import annotations

import math

import numpy as np
import pytest

from hemorrhage_tf.core.errors import DataError
from hemorrhage_tf.evaluation.resampling import Bootstrap
from hemorrhage_tf.evaluation.subtype_metrics import (
    SubtypePredictions,
    subtype_metrics,
    weighted_log_loss,
)

NAMES = ("epidural", "subdural")
FEW = Bootstrap(50)


def make(count: int = 60, repeats: int = 1, seed: int = 0, **changed) -> SubtypePredictions:
    """Make predictions of any hemorrhage and two subtypes."""
    rng = np.random.default_rng(seed)
    labels = (rng.random((count, 3)) < 0.4).astype(np.int64)
    labels[:, 0] = labels.max(axis=1)
    scores = [np.clip(0.5 * labels + 0.6 * rng.random((count, 3)), 0, 1) for _ in range(repeats)]
    values = {
        "names": NAMES,
        "labels": labels,
        "repeats": scores,
        "decisions": [score[:, 1:] >= 0.5 for score in scores],
    }
    return SubtypePredictions(**values | changed)


class TestWeightedLogLoss:
    def test_by_hand(self):
        # Any counts twice: (2 ln 2 + ln 4 + ln (4/3)) / 4.
        loss = weighted_log_loss([[1, 1, 0]], [[0.5, 0.25, 0.25]])
        assert loss == pytest.approx([(2 * math.log(2) + math.log(4) + math.log(4 / 3)) / 4])

    def test_mean_is_scikit_learns_log_loss_with_weights(self):
        from sklearn.metrics import log_loss

        rng = np.random.default_rng(0)
        labels, probabilities = rng.integers(0, 2, (40, 6)), rng.random((40, 6))
        weights = np.tile([2, 1, 1, 1, 1, 1], 40)
        expected = log_loss(labels.ravel(), probabilities.ravel(), sample_weight=weights)
        assert weighted_log_loss(labels, probabilities).mean() == pytest.approx(expected)

    def test_a_certain_error_is_clipped(self):
        assert weighted_log_loss([[1, 1]], [[0.0, 0.0]]) == pytest.approx([-math.log(1e-15)])


class TestSubtypeMetrics:
    def test_areas_and_shares_are_those_of_scikit_learn(self):
        from sklearn.metrics import average_precision_score, recall_score, roc_auc_score

        predictions = make(repeats=2)
        metrics = subtype_metrics(predictions, FEW)["subtypes"]
        for column, name in enumerate(NAMES):
            labels = predictions.labels[:, 1 + column]
            scores = [repeat[:, 1 + column] for repeat in predictions.repeats]
            decided = [each[:, column] for each in predictions.decisions]
            for key, function, values, options in (
                ("roc_auc", roc_auc_score, scores, {}),
                ("pr_auc", average_precision_score, scores, {}),
                ("sensitivity", recall_score, decided, {}),
                ("specificity", recall_score, decided, {"pos_label": 0}),
            ):
                metric = metrics[name][key]
                expected = np.mean([function(labels, value, **options) for value in values])
                assert metric["estimate"] == pytest.approx(expected)
                assert metric["low"] <= expected <= metric["high"]
            assert metrics[name]["n_positive"] == labels.sum() and metrics[name]["n"] == 60

    def test_unknown_cells_are_left_out(self):
        predictions = make()
        labels = predictions.labels.copy()
        labels[:20, 2] = -1
        metrics = subtype_metrics(make(labels=labels), FEW)
        assert metrics["subtypes"]["subdural"]["n"] == 40
        unchanged = subtype_metrics(make(), FEW)["subtypes"]["epidural"]
        assert metrics["subtypes"]["epidural"] == unchanged
        losses = weighted_log_loss(labels[20:], predictions.repeats[0][20:])
        loss = metrics["weighted_log_loss"]
        assert loss["estimate"] == pytest.approx(losses.mean()) and loss["n"] == 40
        assert loss["low"] < loss["estimate"] < loss["high"]

    @pytest.mark.parametrize(
        "value, note", [(0, "no slice shows it"), (1, "every slice"), (-1, "it is not known")]
    )
    def test_a_subtype_of_one_class_has_a_note_instead_of_areas(self, value, note):
        labels = make().labels.copy()
        labels[:, 1] = value
        metrics = subtype_metrics(make(labels=labels), FEW)
        epidural = metrics["subtypes"]["epidural"]
        assert epidural["roc_auc"] is None and epidural["pr_auc"] is None
        assert epidural["notes"][0].startswith(note)
        assert (metrics["weighted_log_loss"] is None) == (value == -1)

    def test_few_slices_of_few_patients_have_a_note(self):
        labels = np.zeros((60, 3), np.int64)
        labels[:4, :2] = 1
        groups = np.repeat(np.arange(30), 2)
        metrics = subtype_metrics(make(labels=labels, groups=groups), FEW)
        [note] = metrics["subtypes"]["epidural"]["notes"]
        assert note.startswith("4 slices of 2 patients show it")

    def test_invalid_predictions_are_rejected(self):
        with pytest.raises(DataError, match=r"both must be \(n, 3\)"):
            make(labels=np.zeros((60, 2)))
        with pytest.raises(DataError, match="not a probability"):
            SubtypePredictions(NAMES, make().labels, [np.full((60, 3), 1.5)], [])
