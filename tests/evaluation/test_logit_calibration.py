import math

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize, minimize_scalar
from scipy.special import expit, logit
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss

from hemorrhage_tf.core.errors import DataError
from hemorrhage_tf.evaluation.calibration import calibration_slope_intercept
from hemorrhage_tf.evaluation.logit_calibration import (
    LogitCalibration,
    fit_calibration,
    why_no_calibration,
)


def drawn(seed, n=120, boldness=1.0, shift=0.0):
    """Draw labels from known logits, and probabilities of scaled and shifted logits."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 2, n)
    labels = (rng.random(n) < expit(logits)).astype(int)
    return labels, expit(boldness * logits + shift)


@st.composite
def predictions(draw):
    """Draw labels of both classes with probabilities that are not all the same."""
    n = draw(st.integers(10, 40))
    labels = [0, 1, *draw(st.lists(st.integers(0, 1), min_size=n - 2, max_size=n - 2))]
    levels = draw(st.lists(st.integers(1, 19), min_size=n, max_size=n))
    assume(len(set(levels)) > 1)
    return np.array(labels), np.array(levels) / 20


def is_within_bounds(calibration):
    return 0.0501 < calibration.temperature < 19.99


class TestPlatt:
    @pytest.mark.parametrize(("boldness", "shift"), [(0.4, 0.0), (1.0, -1.5), (2.0, 2.5)])
    def test_agrees_with_scikit_learn_on_many_slices(self, boldness, shift):
        labels, probabilities = drawn(5, 4000, boldness, shift)
        expected = LogisticRegression(C=math.inf, tol=1e-10)
        expected.fit(logit(probabilities)[:, None], labels)
        calibration = fit_calibration(labels, probabilities)
        # Firth's penalty is about as much as one slice.
        assert 1 / calibration.temperature == pytest.approx(expected.coef_[0, 0], rel=2e-3)
        assert calibration.offset == pytest.approx(expected.intercept_[0], abs=5e-3)
        assert calibration.temperature == pytest.approx(boldness, rel=0.15)

    @pytest.mark.parametrize("separates", [False, True])
    def test_maximizes_the_likelihood_times_jeffreys_prior(self, separates):
        labels, probabilities = drawn(7, 30, 1.5, 1.0)
        if separates:
            labels = (probabilities > 0.6).astype(int)
        logits = logit(probabilities)

        def loss(values):
            slope, offset = values
            share = expit(slope * logits + offset)
            spread = share * (1 - share)
            determinant = spread.sum() * (spread * logits**2).sum() - (spread * logits).sum() ** 2
            return log_loss(labels, share, normalize=False) - np.log(determinant) / 2

        expected = minimize(loss, [0.5, 0.0], method="Nelder-Mead", options={"xatol": 1e-9})
        calibration = fit_calibration(labels, probabilities)
        assert [1 / calibration.temperature, calibration.offset] == pytest.approx(
            expected.x, abs=1e-4
        )

    @settings(max_examples=12, deadline=None)
    @given(data=predictions())
    def test_is_scikit_learns_fit_with_the_penalty_as_further_slices(self, data):
        labels, probabilities = data
        calibration = fit_calibration(labels, probabilities)
        assume(is_within_bounds(calibration))
        # At the optimum Firth's penalty is half a slice of each class for each leverage.
        calibrated, logits = calibration.apply(probabilities), logit(probabilities)
        design = np.sqrt(calibrated * (1 - calibrated))[:, None] * np.stack(
            [np.ones_like(logits), logits], axis=1
        )
        leverage = np.diag(design @ np.linalg.pinv(design))
        model = LogisticRegression(C=math.inf, tol=1e-10, max_iter=1000)
        model.fit(
            np.tile(logits, 3)[:, None],
            np.concatenate([labels, np.ones_like(labels), np.zeros_like(labels)]),
            np.concatenate([np.ones(len(labels)), leverage / 2, leverage / 2]),
        )
        assert model.coef_[0, 0] == pytest.approx(1 / calibration.temperature, abs=1e-4)
        assert model.intercept_[0] == pytest.approx(calibration.offset, abs=1e-4)

    @settings(max_examples=12, deadline=None)
    @given(data=predictions())
    def test_calibrated_probabilities_need_no_further_calibration(self, data):
        labels, probabilities = data
        calibration = fit_calibration(labels, probabilities)
        assume(is_within_bounds(calibration))
        again = fit_calibration(labels, calibration.apply(probabilities))
        assert again.temperature == pytest.approx(1.0, abs=1e-6)
        assert again.offset == pytest.approx(0.0, abs=1e-6)

    @settings(max_examples=10, deadline=None)
    @given(data=predictions(), slope=st.floats(0.5, 2), shift=st.floats(-3, 3))
    def test_scaled_and_shifted_logits_give_the_same_probabilities(self, data, slope, shift):
        labels, probabilities = data
        other = LogitCalibration(1 / slope, shift).apply(probabilities)
        one, two = fit_calibration(labels, probabilities), fit_calibration(labels, other)
        assume(is_within_bounds(one) and is_within_bounds(two))
        np.testing.assert_allclose(two.apply(other), one.apply(probabilities), atol=1e-6)

    @settings(max_examples=10, deadline=None)
    @given(data=predictions(), seed=st.integers(0, 99))
    def test_neither_order_nor_exchanged_classes_matter(self, data, seed):
        labels, probabilities = data
        calibration = fit_calibration(labels, probabilities)
        order = np.random.default_rng(seed).permutation(len(labels))
        shuffled = fit_calibration(labels[order], probabilities[order])
        exchanged = fit_calibration(1 - labels, 1 - probabilities)
        for other, sign in ((shuffled, 1), (exchanged, -1)):
            assert other.temperature == pytest.approx(calibration.temperature, rel=1e-6)
            assert sign * other.offset == pytest.approx(calibration.offset, abs=1e-6)

    def test_repeats_count_once(self):
        labels, probabilities = drawn(3, 40, 2.0, 1.0)
        once = fit_calibration(labels, probabilities)
        twice = fit_calibration(
            np.tile(labels, 2), np.tile(probabilities, 2), weights=np.full(80, 0.5)
        )
        assert twice.temperature == pytest.approx(once.temperature)
        assert twice.offset == pytest.approx(once.offset)

    def test_moves_probabilities_to_the_prevalence_of_the_data(self):
        # The logits of balanced class weights, on data with one hemorrhage in eight slices.
        labels, probabilities = drawn(11, 3000)
        rare = (labels == 0) | (np.arange(3000) % 7 == 0)
        labels, probabilities = labels[rare], probabilities[rare]
        assert probabilities.mean() > labels.mean() + 0.1
        calibrated = fit_calibration(labels, probabilities).apply(probabilities)
        assert calibrated.mean() == pytest.approx(labels.mean(), abs=1e-3)
        fit = calibration_slope_intercept(labels, calibrated)
        assert fit.slope.low < 1 < fit.slope.high
        assert fit.intercept.low < 0 < fit.intercept.high

    @pytest.mark.parametrize("level", [0.3, 0.0, 1.0])
    def test_of_equal_probabilities_the_offset_alone_is_fitted(self, level):
        labels = np.repeat([0, 1], [15, 5])
        calibration = fit_calibration(labels, np.full(20, level))
        assert calibration.temperature == 1
        clipped = np.clip(level, 1e-7, 1 - 1e-7)
        # Firth's penalty adds half a slice to each class.
        assert calibration.apply(clipped) == pytest.approx(5.5 / 21)

    @pytest.mark.parametrize(
        ("labels", "probabilities", "temperature"),
        [
            ([0, 1] * 10, [0.9, 0.1] * 10, 20.0),  # the wrong way round
            ([0] * 5000 + [1] * 5000, [0.4999] * 5000 + [0.5001] * 5000, 0.05),
        ],
    )
    def test_the_temperature_stays_within_its_bounds(self, labels, probabilities, temperature):
        labels, probabilities = np.array(labels), np.array(probabilities)
        calibration = fit_calibration(labels, probabilities)
        assert calibration.temperature == temperature
        assert calibration.apply(probabilities).mean() == pytest.approx(0.5, abs=0.01)

    @pytest.mark.parametrize(
        ("labels", "reason"),
        [
            ([0, 1] * 4, "8 scans are too few to calibrate on (at least 10)"),
            ([1] * 12, "a calibration needs scans with and without hemorrhage"),
        ],
    )
    def test_changes_nothing_if_it_cannot_be_fitted(self, labels, reason):
        labels, probabilities = np.array(labels), np.linspace(0.2, 0.9, len(labels))
        assert fit_calibration(labels, probabilities).is_identity
        assert why_no_calibration(labels, probabilities, unit="scans") == reason

    def test_repeats_of_few_slices_are_few_slices(self):
        labels, probabilities = np.array([0, 1] * 8), np.linspace(0.2, 0.9, 16)
        reason = why_no_calibration(labels, probabilities, weights=np.full(16, 0.5))
        assert reason.startswith("8 slices are too few")
        assert why_no_calibration(labels, probabilities) is None

    def test_rejects_invalid_predictions(self):
        with pytest.raises(DataError, match=r"outside \[0, 1\]"):
            fit_calibration(np.array([0, 1]), np.array([0.5, 1.5]))


class TestTemperature:
    @pytest.mark.parametrize("boldness", [0.4, 1.0, 2.0])
    def test_agrees_with_a_search_over_scikit_learns_log_loss(self, boldness):
        labels, probabilities = drawn(5, 300, boldness)
        logits = logit(probabilities)

        def loss(logarithm):
            return log_loss(labels, expit(logits / np.exp(logarithm)))

        expected = minimize_scalar(loss, bounds=(-2, 2), method="bounded", options={"xatol": 1e-9})
        calibration = fit_calibration(labels, probabilities, "temperature")
        assert calibration.temperature == pytest.approx(np.exp(expected.x), rel=1e-5)
        assert calibration.temperature == pytest.approx(boldness, rel=0.3)
        assert calibration.offset == 0

    @pytest.mark.parametrize(
        ("labels", "probabilities", "expected"),
        [
            ([0, 1] * 10, [0.9, 0.1] * 10, 20.0),
            ([0, 1] * 5000, [0.499, *[0.501, 0.499] * 4999, 0.4999], 0.05),
        ],
    )
    def test_stays_within_its_bounds(self, labels, probabilities, expected):
        labels, probabilities = np.array(labels), np.array(probabilities)
        assert fit_calibration(labels, probabilities, "temperature").temperature == expected

    @pytest.mark.parametrize(
        ("levels", "reason"),
        [
            ([0.4, 0.6], "all slices are on the right side of 0.5"),
            ([0.5, 0.5], "every probability is 0.5"),
        ],
    )
    def test_changes_nothing_if_it_cannot_be_fitted(self, levels, reason):
        labels, probabilities = np.array([0, 1] * 6), np.array(levels * 6)
        assert fit_calibration(labels, probabilities, "temperature").is_identity
        assert reason in why_no_calibration(labels, probabilities, "temperature")
        assert why_no_calibration(labels, probabilities) is None


def test_none_changes_nothing():
    assert fit_calibration(*drawn(1, 50, 2.0, 1.0), kind="none").is_identity


class TestApply:
    @settings(max_examples=40, deadline=None)
    @given(
        probabilities=st.lists(st.floats(0, 1), min_size=1, max_size=20),
        temperature=st.floats(0.05, 20),
        offset=st.floats(-30, 30),
    )
    def test_keeps_the_order(self, probabilities, temperature, offset):
        before = np.array(probabilities)
        after = LogitCalibration(temperature, offset).apply(before)
        order = np.argsort(before, kind="stable")
        assert np.all(np.diff(after[order]) >= 0)
        assert np.all((after >= 0) & (after <= 1))
        assert np.all(after[before == 0] == 0) and np.all(after[before == 1] == 1)
        assert np.array_equal(before, probabilities)

    def test_worked_by_hand(self):
        assert LogitCalibration().apply(np.array([0.1, 0.9])) == pytest.approx([0.1, 0.9])
        # Odds of 9 become odds of 3 with a temperature of 2, and then of 1 with an offset.
        assert LogitCalibration(2.0).apply(np.array([[0.9]])) == pytest.approx(np.array([[0.75]]))
        halved = LogitCalibration(2.0, -math.log(3))
        assert halved.apply(0.9) == pytest.approx(0.5)
        assert not halved.is_identity and LogitCalibration().is_identity

    @pytest.mark.parametrize("temperature", [0, -1, math.nan, math.inf])
    def test_rejects_an_invalid_temperature(self, temperature):
        with pytest.raises(
            DataError, match="a temperature must be a finite number above 0. Pass 1"
        ):
            LogitCalibration(temperature)

    @pytest.mark.parametrize("offset", [math.nan, -math.inf])
    def test_rejects_an_invalid_offset(self, offset):
        with pytest.raises(DataError, match="an offset must be a finite number. Pass 0"):
            LogitCalibration(1.0, offset)
