from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit, logit

from hemorrhage_tf.evaluation.logit_calibration import fit_calibration
from hemorrhage_tf.evaluation.subtype_fitting import (
    LEAST_OF_EACH,
    SubtypeFitting,
    SubtypeOutOfFold,
)

COUNT = 400
FOLDS = np.arange(COUNT) % 4
PLATT = SubtypeFitting("balanced", "platt", is_balanced=True)


def make(shares=(0.2, 0.1), seed: int = 0) -> SubtypeOutOfFold:
    """Make predictions as after balanced class weights, with labels that follow calibrated ones."""
    rng = np.random.default_rng(seed)
    columns, labels = [], []
    for share in shares:
        logits = rng.normal(0, 2, COUNT)
        probability = expit(logits + logit(share))
        labels.append((rng.random(COUNT) < probability).astype(np.int64))
        columns.append(expit(logits))
    return SubtypeOutOfFold(
        labels=np.stack(labels, axis=1),
        repeats=[np.stack(columns, axis=1)],
        any_hemorrhage=[np.full(COUNT, 0.9)],
        folds=[FOLDS],
    )


def with_few(positives: int = 5) -> SubtypeOutOfFold:
    """Make predictions whose second subtype has few slices."""
    predictions = make()
    highest = np.argsort(predictions.repeats[0][:, 1])[-positives:]
    predictions.labels[:, 1] = np.isin(np.arange(COUNT), highest)
    return predictions


def test_each_subtype_has_a_slope_and_an_offset_of_its_own():
    predictions = make()
    fit = PLATT.cross_fit(predictions)
    for column, rule in enumerate(fit.rules):
        labels, values = predictions.labels[:, column], predictions.repeats[0][:, column]
        assert rule.calibration == fit_calibration(labels, values)
        assert rule.threshold == pytest.approx((labels.sum() + 0.5) / (COUNT + 1))
        assert rule.notes == ()
    assert fit.rules[0].calibration.offset > fit.rules[1].calibration.offset


def test_a_fold_is_calibrated_on_the_others_and_capped_at_any_hemorrhage():
    predictions = make()
    fit = PLATT.cross_fit(predictions)
    test, others = FOLDS == 2, FOLDS != 2
    labels, values = predictions.labels[:, 0], predictions.repeats[0][:, 0]
    calibration = fit_calibration(labels[others], values[others])
    expected = np.minimum(calibration.apply(values[test]), 0.9)
    np.testing.assert_allclose(fit.probabilities[0][test, 0], expected)
    threshold = (labels[others].sum() + 0.5) / (others.sum() + 1)
    np.testing.assert_array_equal(fit.decisions[0][test, 0], expected >= threshold)
    assert fit.probabilities[0].max() <= 0.9


def test_few_slices_shift_the_logits_to_their_share_and_say_so():
    positives = LEAST_OF_EACH - 1
    rule = PLATT.cross_fit(with_few(positives)).rules[1]
    share = (positives + 0.5) / (COUNT + 1)
    assert rule.calibration.temperature == 1
    assert rule.calibration.offset == pytest.approx(logit(share))
    assert rule.threshold == pytest.approx(share)
    assert rule.notes[0].startswith("only shifted to its share of the slices: the folds")
    assert f"predicted {positives} slices with it" in rule.notes[0]


def test_criteria_that_need_predictions_fall_back_to_the_share():
    rule = SubtypeFitting("youden", "platt", True).cross_fit(with_few()).rules[1]
    assert rule.threshold < 0.05 and "too few slices for youden" in rule.notes[1]
    rule = SubtypeFitting("threshold=0.3", "platt", True).cross_fit(make()).rules[0]
    assert rule.threshold == 0.3


@pytest.mark.parametrize("is_balanced", [True, False])
def test_without_calibration_balanced_weights_assume_one_half(is_balanced):
    predictions = make()
    rule = SubtypeFitting("balanced", "none", is_balanced).cross_fit(predictions).rules[0]
    share = predictions.labels[:, 0].mean()
    assert rule.calibration.is_identity
    assert rule.threshold == pytest.approx(0.5 if is_balanced else share, abs=0.01)


def test_a_subtype_that_does_not_occur_is_left_as_it_is():
    predictions = make()
    predictions.labels[:, 1] = 0
    predictions.repeats[0][:, 1] = 0.001  # constant, as it cannot be trained
    fit = PLATT.cross_fit(predictions)
    assert fit.rules[1].calibration.is_identity
    assert fit.rules[1].notes[0].startswith("not calibrated: the folds")
    assert "predicted 0 slices with it" in fit.rules[1].notes[0]
    np.testing.assert_allclose(fit.probabilities[0][:, 1], 0.001)


def test_a_fold_that_could_not_train_a_subtype_does_not_take_part():
    predictions = make()
    predictions.repeats[0][FOLDS == 1, 0] = 0.004
    rule = PLATT.cross_fit(predictions).rules[0]
    used = FOLDS != 1
    labels, values = predictions.labels[used, 0], predictions.repeats[0][used, 0]
    assert rule.calibration == fit_calibration(labels, values)


def test_unknown_labels_do_not_take_part():
    predictions = make()
    predictions.labels[::2, 0] = -1
    rule = PLATT.cross_fit(predictions).rules[0]
    known = predictions.labels[:, 0] >= 0
    labels, values = predictions.labels[known, 0], predictions.repeats[0][known, 0]
    assert rule.calibration == fit_calibration(labels, values)


def test_without_predictions_nothing_is_calibrated():
    labels = make().labels
    rules = PLATT.without_predictions(labels)
    assert [rule.threshold for rule in rules] == [0.5, 0.5]
    assert all(rule.calibration.is_identity and rule.notes for rule in rules)
    [rule, _] = SubtypeFitting("balanced", "none", False).without_predictions(labels)
    assert rule.threshold == pytest.approx(labels[:, 0].mean(), abs=0.01)
