import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from sklearn.metrics import log_loss

from hemorrhage_tf.core.errors import DataError
from hemorrhage_tf.evaluation.calibration import calibration_slope_intercept
from hemorrhage_tf.evaluation.temperature import (
    apply_temperature,
    fit_temperature,
    why_no_temperature,
)


def drawn(seed, n=120, boldness=1.0, shift=0.0):
    """Draw labels from known logits, and probabilities of scaled and shifted logits."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 2, n)
    labels = (rng.random(n) < 1 / (1 + np.exp(-logits))).astype(int)
    return labels, 1 / (1 + np.exp(-(boldness * logits + shift)))


class TestTemperature:
    @pytest.mark.parametrize("boldness", [0.4, 1.0, 2.0])
    def test_agrees_with_a_search_over_scikit_learns_log_loss(self, boldness):
        labels, probabilities = drawn(5, 300, boldness)
        logits = np.log(probabilities / (1 - probabilities))

        def loss(logarithm):
            return log_loss(labels, 1 / (1 + np.exp(-logits / np.exp(logarithm))))

        expected = minimize_scalar(loss, bounds=(-2, 2), method="bounded", options={"xatol": 1e-9})
        temperature = fit_temperature(labels, probabilities)
        assert temperature == pytest.approx(np.exp(expected.x), rel=1e-5)
        assert temperature == pytest.approx(boldness, rel=0.3)

    def test_recovers_a_slope_of_one_through_the_origin(self):
        labels, probabilities = drawn(6, 3000, boldness=1.5)
        tempered = apply_temperature(probabilities, fit_temperature(labels, probabilities))
        assert fit_temperature(labels, tempered) == pytest.approx(1.0, abs=1e-6)
        slope = calibration_slope_intercept(labels, tempered).slope
        assert slope.low < 1 < slope.high

    @pytest.mark.parametrize(
        ("labels", "probabilities", "expected"),
        [
            ([0, 1] * 10, [0.9, 0.1] * 10, 20.0),
            ([0, 1] * 5000, [0.499, *[0.501, 0.499] * 4999, 0.4999], 0.05),
        ],
    )
    def test_stays_within_its_bounds(self, labels, probabilities, expected):
        assert fit_temperature(np.array(labels), np.array(probabilities)) == expected

    @pytest.mark.parametrize(
        ("labels", "probabilities", "reason"),
        [
            ([0, 1] * 4, [0.4, 0.3] * 4, "8 slices are too few to fit a temperature (at least 10)"),
            ([1] * 12, [0.4] * 12, "a temperature needs slices with and without hemorrhage"),
            ([0, 1] * 6, [0.4, 0.6] * 6, "every slice is on the right side of 0.5"),
            ([0, 1] * 6, [0.5, 0.5] * 6, "every probability is 0.5"),
        ],
    )
    def test_is_one_if_none_can_be_fitted(self, labels, probabilities, reason):
        labels, probabilities = np.array(labels), np.array(probabilities)
        assert fit_temperature(labels, probabilities) == 1.0
        assert reason in why_no_temperature(labels, probabilities)

    def test_no_reason_if_one_can_be_fitted(self):
        assert why_no_temperature(*drawn(7)) is None

    @settings(max_examples=40, deadline=None)
    @given(
        probabilities=st.lists(st.floats(0, 1), min_size=1, max_size=20),
        temperature=st.floats(0.05, 20),
    )
    def test_keeps_order_and_side_of_one_half(self, probabilities, temperature):
        before = np.array(probabilities)
        with np.errstate(all="raise"):
            after = apply_temperature(before, temperature)
        order = np.argsort(before, kind="stable")
        assert np.all(np.diff(after[order]) >= 0)
        assert np.all((after >= 0.5) == (before >= 0.5))
        assert np.all((after >= 0) & (after <= 1))
        assert np.array_equal(before, probabilities)

    def test_one_changes_nothing_and_two_halves_the_logit(self):
        assert apply_temperature(np.array([0.1, 0.9]), 1.0) == pytest.approx([0.1, 0.9])
        # Odds of 9 become odds of 3.
        assert apply_temperature(np.array([[0.9]]), 2.0) == pytest.approx(np.array([[0.75]]))

    @pytest.mark.parametrize("temperature", [0, -1, math.nan, math.inf])
    def test_rejects_an_invalid_temperature(self, temperature):
        with pytest.raises(
            DataError, match="a temperature must be a finite number above 0. Pass 1"
        ):
            apply_temperature(np.array([0.3]), temperature)
