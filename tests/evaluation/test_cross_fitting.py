from __future__ import annotations

import numpy as np
import pytest

from hemorrhage_tf.core.errors import DataError
from hemorrhage_tf.evaluation.cross_fitting import OutOfFold, cross_fit
from hemorrhage_tf.evaluation.logit_calibration import fit_calibration
from hemorrhage_tf.evaluation.operating_point import choose

COUNT = 60
LABELS = np.arange(COUNT) % 2
FOLDS = np.arange(COUNT) // 2 % 5
RARE = (np.arange(COUNT) % 7 == 0).astype(int)


def scores(seed: int, labels: np.ndarray = LABELS) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(size=COUNT)
    return 1 / (1 + np.exp(-(3 * (2 * labels - 1) + 4 * noise)))


def out_of_fold(*seeds: int, labels: np.ndarray = LABELS, **values) -> OutOfFold:
    repeats = [scores(seed, labels) for seed in seeds]
    return OutOfFold(labels, repeats, [FOLDS] * len(seeds), **values)


@pytest.mark.parametrize("calibration", ["platt", "temperature"])
def test_the_saved_model_is_fitted_on_all_slices(calibration):
    fit = cross_fit(out_of_fold(0, 1), "sensitivity=0.9", calibration)
    repeats = [scores(0), scores(1)]
    expected = fit_calibration(
        np.tile(LABELS, 2), np.concatenate(repeats), calibration, np.full(2 * COUNT, 0.5)
    )
    assert fit.calibration == expected and not expected.is_identity
    calibrated = [expected.apply(each) for each in repeats]
    assert fit.point == choose(LABELS, calibrated, "sensitivity=0.9")
    assert fit.note is None


@pytest.mark.parametrize("criterion", ["balanced", "youden", "sensitivity=0.9", "specificity=0.8"])
def test_a_fold_does_not_depend_on_its_own_labels(criterion):
    predictions, own = out_of_fold(0), FOLDS == 2
    before = cross_fit(predictions, criterion)
    turned = OutOfFold(np.where(own, 1 - LABELS, LABELS), predictions.repeats, [FOLDS])
    after = cross_fit(turned, criterion)
    np.testing.assert_array_equal(before.decisions[0][own], after.decisions[0][own])
    np.testing.assert_array_equal(before.probabilities[0][own], after.probabilities[0][own])
    assert not np.array_equal(before.probabilities[0][~own], after.probabilities[0][~own])


def test_each_fold_gets_calibration_and_threshold_of_the_others():
    fit = cross_fit(out_of_fold(3, labels=RARE), "balanced")
    [probabilities], [decisions] = fit.probabilities, fit.decisions
    uncalibrated, shares = scores(3, RARE), set()
    for number in range(5):
        test = FOLDS == number
        expected = fit_calibration(RARE[~test], uncalibrated[~test]).apply(uncalibrated[test])
        np.testing.assert_allclose(probabilities[test], expected)
        share = RARE[~test].mean()
        np.testing.assert_array_equal(decisions[test], expected >= share)
        shares.add(share)
    assert len(shares) > 1 and fit.point.threshold == RARE.mean()


def test_without_calibration_probabilities_stay_unchanged():
    fit = cross_fit(out_of_fold(0), "threshold=0.4", "none")
    assert fit.calibration.is_identity and fit.point.threshold == 0.4 and fit.note is None
    np.testing.assert_allclose(fit.probabilities[0], scores(0))
    np.testing.assert_array_equal(fit.decisions[0], scores(0) >= 0.4)


def test_a_temperature_changes_no_decision_at_one_half():
    fit = cross_fit(out_of_fold(0), "threshold=0.5", "temperature")
    assert fit.calibration.temperature != 1
    np.testing.assert_array_equal(fit.decisions[0], scores(0) >= 0.5)


class TestBalanced:
    @pytest.mark.parametrize(
        ("calibration", "prior", "expected"),
        [
            ("platt", None, RARE.mean()),
            ("platt", 0.5, RARE.mean()),
            ("temperature", 0.5, 0.5),
            ("none", 0.5, 0.5),
            ("none", None, RARE.mean()),
        ],
    )
    def test_is_the_share_that_the_probabilities_assume(self, calibration, prior, expected):
        fit = cross_fit(out_of_fold(0, labels=RARE), "balanced", calibration, prior)
        assert fit.point.threshold == pytest.approx(expected)
        assert fit.point.criterion == "balanced"

    def test_without_enough_slices_to_calibrate_it_stays_at_that_of_the_training(self):
        few = OutOfFold(RARE[:9], [scores(0)[:9]], [np.arange(9) % 2])
        fit = cross_fit(few, "balanced", uncalibrated_prior=0.5)
        assert fit.calibration.is_identity and fit.point.threshold == 0.5
        assert fit.note == "9 slices are too few to calibrate on (at least 10)"

    def test_says_if_a_fold_is_not_calibrated(self):
        labels, folds = np.arange(12) % 2, np.repeat([0, 1], 6)
        fit = cross_fit(OutOfFold(labels, [scores(0)[:12]], [folds], unit="scans"), "balanced")
        assert not fit.calibration.is_identity
        assert fit.note.startswith("in one of the folds 6 scans are too few to calibrate on")


def test_scans_have_messages_of_their_own():
    labels = np.array([1, 1, 1, 0, 0, 0])
    folds = np.array([0, 0, 0, 1, 1, 1])
    predictions = OutOfFold(labels, [np.linspace(0.1, 0.9, 6)], [folds], unit="scans")
    message = "in one of the folds: none of 3 scans is with.*: --scan-operating-point youden needs"
    with pytest.raises(DataError, match=message):
        cross_fit(predictions, "youden")


def test_intervals_of_the_point_are_over_patients():
    fit = cross_fit(out_of_fold(0, groups=np.arange(COUNT) // 4), "youden")
    assert fit.point.intervals_of == "patients"
