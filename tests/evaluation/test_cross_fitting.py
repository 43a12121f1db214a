from __future__ import annotations

import numpy as np
import pytest

from hemorrhage_tf.core.errors import DataError
from hemorrhage_tf.evaluation.cross_fitting import cross_fit
from hemorrhage_tf.evaluation.operating_point import choose
from hemorrhage_tf.evaluation.temperature import apply_temperature, fit_temperature

COUNT = 60
LABELS = np.arange(COUNT) % 2
FOLDS = np.arange(COUNT) // 2 % 5


def scores(seed: int) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(size=COUNT)
    return 1 / (1 + np.exp(-(3 * (2 * LABELS - 1) + 4 * noise)))


def test_the_saved_model_is_fitted_on_all_slices():
    repeats = [scores(0), scores(1)]
    fit = cross_fit(LABELS, repeats, [FOLDS, FOLDS], "sensitivity=0.9")
    expected = fit_temperature(np.tile(LABELS, 2), np.concatenate(repeats))
    assert fit.temperature == pytest.approx(expected)
    tempered = [apply_temperature(each, expected) for each in repeats]
    assert fit.point == choose(LABELS, tempered, "sensitivity=0.9")


@pytest.mark.parametrize("criterion", ["youden", "sensitivity=0.9", "specificity=0.8"])
def test_a_fold_does_not_depend_on_its_own_labels(criterion):
    repeats, own = [scores(0)], FOLDS == 2
    before = cross_fit(LABELS, repeats, [FOLDS], criterion)
    turned = np.where(own, 1 - LABELS, LABELS)
    after = cross_fit(turned, repeats, [FOLDS], criterion)
    np.testing.assert_array_equal(before.decisions[0][own], after.decisions[0][own])
    np.testing.assert_array_equal(before.probabilities[0][own], after.probabilities[0][own])
    assert not np.array_equal(before.probabilities[0][~own], after.probabilities[0][~own])


def test_each_fold_gets_the_temperature_of_the_others():
    [probabilities] = cross_fit(LABELS, [scores(3)], [FOLDS], "youden").probabilities
    for number in range(5):
        test = FOLDS == number
        temperature = fit_temperature(LABELS[~test], scores(3)[~test])
        np.testing.assert_allclose(
            probabilities[test], apply_temperature(scores(3)[test], temperature)
        )


def test_without_calibration_probabilities_stay_unchanged():
    fit = cross_fit(LABELS, [scores(0)], [FOLDS], "threshold=0.4", calibrate=False)
    assert (fit.temperature, fit.point.threshold) == (1.0, 0.4)
    np.testing.assert_allclose(fit.probabilities[0], scores(0))
    np.testing.assert_array_equal(fit.decisions[0], scores(0) >= 0.4)


def test_a_temperature_changes_no_decision_at_one_half():
    fit = cross_fit(LABELS, [scores(0)], [FOLDS], "threshold=0.5")
    assert fit.temperature != 1
    np.testing.assert_array_equal(fit.decisions[0], scores(0) >= 0.5)


def test_rejects_a_fold_whose_others_lack_a_class():
    labels = np.array([1, 1, 1, 0, 0, 0])
    folds = np.array([0, 0, 0, 1, 1, 1])
    with pytest.raises(DataError, match="in one of the folds: none of 3 slices is with"):
        cross_fit(labels, [np.linspace(0.1, 0.9, 6)], [folds], "youden")
