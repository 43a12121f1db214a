from dataclasses import replace

import numpy as np
import pytest
from scan_features import made_up_scans
from scipy.special import expit
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.preprocessing import StandardScaler

from hemorrhage_tf.training.pretraining.slice_head import (
    cross_fitted_logits,
    folds_of_scans,
    solve_slice_head,
)

L2 = 1 / 32


@pytest.fixture(scope="module")
def scans():
    return made_up_scans(8)


def test_both_scans_of_a_head_are_in_one_fold(scans):
    folds = folds_of_scans(scans, 4, 0)
    assert (folds[::2] == folds[1::2]).all()
    assert sorted(folds[::2].tolist()) == [0, 0, 1, 1, 2, 2, 3, 3]


def test_the_head_is_the_one_of_scikit_learn(scans):
    head = solve_slice_head(scans.features, scans.labels, L2)
    scaler = StandardScaler().fit(scans.features.astype(np.float64))
    expected = LogisticRegression(C=1 / (L2 * len(scans)), tol=1e-10, max_iter=1000)
    expected.fit(scaler.transform(scans.features), scans.labels)
    np.testing.assert_allclose(head.kernel[:, 0], expected.coef_[0], atol=1e-4)
    np.testing.assert_allclose(head.bias, expected.intercept_, atol=1e-4)


def test_a_phantom_head_s_labels_do_not_change_its_own_logits(scans):
    logits = cross_fitted_logits(scans, L2, 4, 0)
    assert roc_auc_score(scans.labels, logits) > 0.9
    # Calibrated: the mean probability is the share of slices with a hemorrhage.
    assert expit(logits).mean() == pytest.approx(scans.labels.mean(), abs=0.02)
    own = scans.scans // 2 == 3
    other = replace(scans, labels=np.where(own, 1 - scans.labels, scans.labels))
    changed = cross_fitted_logits(other, L2, 4, 0)
    np.testing.assert_array_equal(changed[own], logits[own])
    assert not np.allclose(changed, logits, atol=1e-3)
