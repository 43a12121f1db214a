from __future__ import annotations

import numpy as np
import pytest
from report_examples import draw_predictions
from sklearn.metrics import auc, precision_recall_curve, roc_auc_score

from hemorrhage_tf.evaluation.resampling import Resamples
from hemorrhage_tf.reports.curves import curves


@pytest.mark.parametrize("seed", range(3))
def test_agrees_with_scikit_learn(seed):
    labels, repeats = draw_predictions(n=200, repeats=2, seed=seed)
    roc, pr = curves(labels, repeats, Resamples.make(200, None, 20))
    mean_area = np.mean([roc_auc_score(labels, scores) for scores in repeats])
    assert auc(roc.x, roc.y) == pytest.approx(mean_area, abs=0.005)
    expected = []
    for scores in repeats:
        precision, recall, _ = precision_recall_curve(labels, scores)
        # The precision where a recall is first reached.
        first = [np.flatnonzero(recall >= level - 1e-9)[-1] for level in pr.x[1:]]
        expected.append(precision[first])
    assert pr.y[1:] == pytest.approx(np.mean(expected, axis=0))


def test_bands_contain_the_curve_and_follow_the_seed():
    labels, repeats = draw_predictions(n=80)
    first, again, other = (
        curves(labels, repeats, Resamples.make(80, None, 100, seed)) for seed in (0, 0, 1)
    )
    for curve, same in zip(first, again, strict=True):
        assert np.all((curve.low <= curve.y) & (curve.y <= curve.high))
        assert np.array_equal(curve.low, same.low)
    assert not np.array_equal(first[0].low, other[0].low)


def test_correlated_slices_of_few_patients_widen_the_band():
    labels, scores = draw_predictions(n=40)
    labels, scores = np.tile(labels, 4), np.tile(scores, 4)
    patients = np.tile(np.arange(40), 4)
    wide, narrow = (
        curves(labels, scores, Resamples.make(160, groups, 200))[0] for groups in (patients, None)
    )
    assert np.mean(wide.high - wide.low) > 1.3 * np.mean(narrow.high - narrow.low)


def test_accepts_one_slice_of_each_class():
    roc, pr = curves(np.array([0, 1]), np.array([[0.2, 0.7]]), Resamples.make(2, None, 20))
    assert roc.y[-1] == 1 and pr.y[-1] == 1
