from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import expit
from sklearn.linear_model import LogisticRegression

from hemorrhage_tf.core.errors import DataError, OptionError
from hemorrhage_tf.evaluation.labeled_predictions import LabeledPredictions
from hemorrhage_tf.evaluation.logit_calibration import LogitCalibration
from hemorrhage_tf.evaluation.recalibration import (
    RecalibrationSettings,
    compose,
    fold_numbers,
    needed_for_half,
    recalibrate_level,
    why_not,
)

PATIENTS, SLICES = 60, 6


@pytest.fixture(scope="module")
def local():
    """Predictions of a model whose logits are too large by a factor, and too high."""
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(PATIENTS), SLICES)
    labels = (rng.random(len(groups)) < 0.3).astype(int)
    logits = 2.5 * (rng.normal(0, 1, len(groups)) + 1.4 * labels - 0.7) + 1.5
    return LabeledPredictions(labels, [expit(logits)], 0.5, groups=groups)


@pytest.fixture(scope="module")
def folds(local):
    return fold_numbers(local.labels, local.groups, RecalibrationSettings(repeats=2))


@pytest.fixture(scope="module")
def recalibrated(local, folds):
    return recalibrate_level(local, list(folds), "balanced")


class TestRecalibrateLevel:
    def test_the_calibration_is_that_of_a_logistic_regression(self, local, recalibrated):
        logits = np.log(local.repeats[0] / (1 - local.repeats[0]))
        oracle = LogisticRegression(C=np.inf).fit(logits[:, None], local.labels)
        calibration = recalibrated.fit.calibration
        assert 1 / calibration.temperature == pytest.approx(oracle.coef_[0, 0], rel=0.02)
        assert calibration.offset == pytest.approx(oracle.intercept_[0], abs=0.04)

    def test_each_fold_is_predicted_by_the_others_alone(self, local, folds, recalibrated):
        test = folds[1] == 3
        changed = LabeledPredictions(
            np.where(test, 1 - local.labels, local.labels), local.repeats, groups=local.groups
        )
        again = recalibrate_level(changed, list(folds), "balanced")
        for one, other in zip(
            (recalibrated.after.repeats[1], recalibrated.after.decisions[1]),
            (again.after.repeats[1], again.after.decisions[1]),
            strict=True,
        ):
            assert (one[test] == other[test]).all()
            assert (one[~test] != other[~test]).any()

    def test_the_default_threshold_is_the_local_share(self, local, recalibrated):
        assert recalibrated.after.threshold == pytest.approx(local.labels.mean())

    def test_scores_get_a_threshold_alone(self, local, folds):
        result = recalibrate_level(local, list(folds), "youden", [local.repeats[0]] * 2)
        assert result.fit.calibration.is_identity
        assert result.after.repeats[0] == pytest.approx(local.repeats[0], rel=1e-12)

    def test_slices_without_a_label_are_predicted_as_those_of_their_fold(
        self, local, folds, recalibrated
    ):
        probabilities, decisions = recalibrated.fit.predict([local.repeats[0]] * 2, list(folds))
        assert (np.array(probabilities) == np.array(recalibrated.after.repeats)).all()
        assert (np.array(decisions) == np.array(recalibrated.after.decisions)).all()

    def test_too_few_slices_to_calibrate_are_an_error(self):
        few = LabeledPredictions(np.array([0, 1] * 4), [np.linspace(0.1, 0.9, 8)])
        with pytest.raises(DataError, match=r"too few to calibrate on .* Add labeled slices"):
            recalibrate_level(few, [np.arange(8) // 2 % 2], "balanced")


class TestFoldNumbers:
    def test_patients_stay_whole_and_repeats_differ(self, local, folds):
        assert folds.shape == (2, len(local.labels))
        assert set(folds.ravel()) == {1, 2, 3, 4, 5}
        for numbers in folds:
            assert all(len(set(numbers[local.groups == patient])) == 1 for patient in range(60))
        assert (folds[0] != folds[1]).any()

    def test_the_seed_decides(self, local, folds):
        same = fold_numbers(local.labels, local.groups, RecalibrationSettings(repeats=2))
        other = fold_numbers(local.labels, local.groups, RecalibrationSettings(repeats=2, seed=1))
        assert (same == folds).all() and (other != folds).any()


class TestWhyNot:
    @pytest.mark.parametrize(("positives", "folds", "enough"), [(8, 5, True), (7, 5, False)])
    def test_patients_of_each_class_count(self, positives, folds, enough):
        labels = np.repeat([1, 0], [3 * positives, 30])
        groups = np.repeat(np.arange(positives + 10), 3)
        reason = why_not(labels, groups, folds, "slices")
        assert (reason is None) == enough
        if not enough:
            assert "at least 8 patients" in reason and "Received: 7 and 10" in reason

    def test_more_folds_need_more_patients(self):
        labels, groups = np.repeat([1, 0], 8), np.arange(16)
        assert why_not(labels, groups, 8, "scans") is None
        assert "at least 9 patients" in why_not(labels, groups, 9, "scans")


# No logit in between reaches the edge where probabilities are clipped.
TEMPERATURES, OFFSETS = st.floats(0.5, 10), st.floats(-5, 5)


@given(TEMPERATURES, OFFSETS, TEMPERATURES, OFFSETS, st.floats(0.01, 0.99))
def test_composed_calibrations_apply_one_after_the_other(t1, o1, t2, o2, probability):
    first, second = LogitCalibration(t1, o1), LogitCalibration(t2, o2)
    once = compose(first, second).apply(np.array(probability))
    assert once == pytest.approx(second.apply(first.apply(np.array(probability))), abs=1e-9)


class TestNeededForHalf:
    def test_patients_are_counted_where_slices_share_one(self):
        labels, groups = np.array([1, 0, 0, 0, 1, 1]), np.array([0, 0, 1, 1, 2, 2])
        needed = needed_for_half(LabeledPredictions(labels, [np.full(6, 0.5)], groups=groups))
        assert needed == {
            "counted": "patients",
            "sensitivity": {"received": 2, "needed": 8},
            "specificity": {"received": 2, "needed": 8},
        }

    def test_the_interval_of_four_times_as_many_is_half_as_wide(self):
        from hemorrhage_tf.evaluation.metrics import compute_metrics

        labels = np.repeat([1, 0], 40)
        probabilities = np.tile(np.repeat([0.9, 0.1], [32, 8]), 2)
        widths = []
        for times in (1, 4):
            one = LabeledPredictions(np.tile(labels, times), [np.tile(probabilities, times)])
            interval = compute_metrics(one).sensitivity
            widths.append(interval.high - interval.low)
        assert widths[0] / widths[1] == pytest.approx(2, rel=0.05)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"folds": 1}, "--folds 1: must be a whole number of at least 2"),
        ({"repeats": 0}, "--repeats 0: must be a whole number of at least 1"),
        ({"seed": -1}, "--seed -1: must be a whole number of at least 0"),
        ({"operating_point": "best"}, "--operating-point best: must be balanced"),
        ({"scan_operating_point": "threshold=2"}, "--scan-operating-point threshold=2"),
    ],
)
def test_settings_are_checked(changes, message):
    with pytest.raises(OptionError, match=message):
        RecalibrationSettings(**changes)
