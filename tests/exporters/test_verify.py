from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from hemorrhage_tf.core.errors import ModelError
from hemorrhage_tf.exporters.verify import Tolerance, check, compare

LABELS = np.array([0, 0, 1, 1, 1])
BEFORE = np.array([0.1, 0.6, 0.4, 0.8, 0.9])
AFTER = np.array([0.1, 0.4, 0.45, 0.8, 0.9])


def test_compare_computes_every_metric():
    verification = compare(BEFORE, AFTER, LABELS, 0.5)
    assert verification.slices == 5
    assert verification.largest_difference == pytest.approx(0.2)
    assert verification.mean_difference == pytest.approx(0.05)
    assert verification.changed == 1
    assert verification.roc_auc == pytest.approx(roc_auc_score(LABELS, AFTER))
    assert verification.roc_auc_before == pytest.approx(roc_auc_score(LABELS, BEFORE))


def test_one_class_has_no_roc_auc():
    assert compare(BEFORE, AFTER, np.ones(5, int), 0.5).roc_auc is None


@pytest.mark.parametrize(
    ("tolerance", "message"),
    [
        (Tolerance(0.1, changed=1), "a probability differs by 0.2, more than 0.1"),
        (Tolerance(None), "1 decisions change, more than 0"),
    ],
)
def test_rejects_a_model_that_differs_too_much(tolerance, message):
    with pytest.raises(ModelError, match=message):
        check(compare(BEFORE, AFTER, LABELS, 0.5), "int8", tolerance)


def ranked(swapped):
    """Compare two perfectly ranked classes of 100 slices with a ranking where some are swapped."""
    labels = np.repeat([0, 1], 100)
    scores = np.linspace(0, 1, 200)
    order = np.arange(200)
    order[100 - swapped : 100], order[100 : 100 + swapped] = (
        np.arange(100, 100 + swapped),
        np.arange(100 - swapped, 100),
    )
    return compare(scores, scores[order], labels, 0.5)


def test_rejects_a_changed_roc_auc_but_accepts_a_few_pairs():
    tolerance = Tolerance(None, changed=1, roc_auc=0.005)
    check(ranked(5), "int8", tolerance)  # 25 of 10,000 pairs: 0.0025
    with pytest.raises(ModelError, match="the ROC AUC changes by 0.0100, more than 0.0050"):
        check(ranked(10), "int8", tolerance)
    labels = np.array([0, 0, 1, 1])
    few = compare(np.array([0.1, 0.4, 0.6, 0.9]), np.array([0.1, 0.6, 0.4, 0.9]), labels, 0.5)
    check(few, "int8", tolerance)


def test_accepts_differences_within_tolerance_and_one_changed_decision_of_few_slices():
    check(compare(BEFORE, AFTER, LABELS, 0.5), "int8", Tolerance(0.3, changed=0.01))


def test_rejects_a_probability_that_is_not_a_number():
    after = AFTER.copy()
    after[0] = np.nan
    with pytest.raises(ModelError, match="not a number"):
        check(compare(BEFORE, after, LABELS, 0.5), "int8", Tolerance(None, changed=1))
