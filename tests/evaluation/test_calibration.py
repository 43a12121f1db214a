import math

import numpy as np
import pytest
import statsmodels.api as sm
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from scipy.stats import chi2, t
from sklearn.calibration import calibration_curve
from sklearn.metrics import log_loss

from hemorrhage_tf.core.errors import DataError
from hemorrhage_tf.evaluation.calibration import (
    apply_temperature,
    calibration_slope_intercept,
    fit_temperature,
    log_odds,
    reliability_curve,
    why_no_temperature,
)
from hemorrhage_tf.evaluation.intervals import Resamples, wilson


def drawn(seed, n=120, boldness=1.0, shift=0.0):
    """Draws labels from known logits, and probabilities that are bolder and shifted."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 2, n)
    labels = (rng.random(n) < 1 / (1 + np.exp(-logits))).astype(int)
    return labels, 1 / (1 + np.exp(-(boldness * logits + shift)))


def deviance(labels, probabilities, offset=None, columns=None):
    logits = log_odds(probabilities)
    return sm.GLM(
        labels,
        columns if columns is not None else np.ones(len(labels)),
        family=sm.families.Binomial(),
        offset=logits if offset is None else offset,
    ).fit(tol=1e-12)


class TestSlopeAndIntercept:
    @pytest.mark.parametrize("seed", range(5))
    def test_agree_with_statsmodels(self, seed):
        labels, probabilities = drawn(seed, boldness=1.7, shift=0.4)
        found = calibration_slope_intercept(labels, probabilities)
        model = sm.Logit(labels, sm.add_constant(log_odds(probabilities))).fit(disp=0, tol=1e-12)
        assert found.intercept.estimate == pytest.approx(model.params[0], abs=1e-6)
        assert found.slope.estimate == pytest.approx(model.params[1], abs=1e-6)
        alone = deviance(labels, probabilities).params[0]
        assert found.in_the_large.estimate == pytest.approx(alone, abs=1e-6)
        assert found.note is None

    @pytest.mark.parametrize("seed", range(3))
    def test_at_their_ends_the_likelihood_ratio_is_students(self, seed):
        labels, probabilities = drawn(seed)
        logits = log_odds(probabilities)
        found = calibration_slope_intercept(labels, probabilities)
        best = sm.Logit(labels, sm.add_constant(logits)).fit(disp=0, tol=1e-12).llf
        expected = t.ppf(0.975, len(labels) - 2) ** 2
        assert expected == pytest.approx(chi2.ppf(0.95, 1), rel=0.05)
        for end in (found.slope.low, found.slope.high):
            there = deviance(labels, probabilities, offset=end * logits).llf
            assert 2 * (best - there) == pytest.approx(expected, abs=1e-5)
        for end in (found.intercept.low, found.intercept.high):
            offset = np.full(len(labels), end)
            there = deviance(labels, probabilities, offset, logits[:, None]).llf
            assert 2 * (best - there) == pytest.approx(expected, abs=1e-5)

    def test_too_bold_is_below_one_and_too_low_is_above_zero(self):
        labels, probabilities = drawn(0, 5000, boldness=2.0, shift=-1.0)
        found = calibration_slope_intercept(labels, probabilities)
        assert found.slope.low < 0.5 < found.slope.high
        # The logits were doubled and one taken off, so that half a logit comes back.
        assert found.intercept.low < 0.5 < found.intercept.high
        assert found.in_the_large.low > 0

    @pytest.mark.parametrize("repeats", [2, 5])
    def test_repeats_of_the_same_predictions_change_nothing(self, repeats):
        labels, probabilities = drawn(1)
        once = calibration_slope_intercept(labels, probabilities)
        more = calibration_slope_intercept(
            np.tile(labels, repeats),
            np.tile(probabilities, repeats),
            weights=np.full(repeats * len(labels), 1 / repeats),
            groups=np.tile(np.arange(len(labels)), repeats),
        )
        for name in ("slope", "intercept", "in_the_large"):
            assert getattr(more, name).to_dict() == pytest.approx(
                getattr(once, name).to_dict(), abs=1e-7
            )

    def test_copies_in_one_patient_add_nothing(self):
        labels, probabilities = drawn(2, 60)
        once = calibration_slope_intercept(labels, probabilities)
        copied = calibration_slope_intercept(
            np.tile(labels, 6), np.tile(probabilities, 6), groups=np.tile(np.arange(60), 6)
        )
        alone = calibration_slope_intercept(np.tile(labels, 6), np.tile(probabilities, 6))
        width = {
            key: one.slope.high - one.slope.low
            for key, one in (("once", once), ("copied", copied), ("alone", alone))
        }
        assert copied.slope.estimate == pytest.approx(once.slope.estimate)
        assert width["alone"] < 0.5 * width["once"]
        assert width["copied"] == pytest.approx(width["once"], rel=0.3)

    def test_of_patients_agrees_with_the_jackknife_by_hand(self):
        labels, probabilities = drawn(3, 200)
        groups = np.arange(200) // 4
        logits = log_odds(probabilities)
        columns = sm.add_constant(logits)
        model = sm.Logit(labels, columns).fit(disp=0, tol=1e-12)
        share = model.predict(columns)
        bread = np.linalg.inv((columns * (share * (1 - share))[:, None]).T @ columns)
        parts = []
        for group in range(50):
            inside = groups == group
            x, spread = columns[inside], (share * (1 - share))[inside]
            hat = np.diag(spread) @ x @ bread @ x.T
            score = x.T @ np.linalg.solve(np.eye(4) - hat, (labels - share)[inside])
            parts.append((bread @ score)[1] ** 2)
        effect = max(1.0, sum(parts) / bread[1, 1])
        degrees = min(48, 3 * sum(parts) ** 2 / np.square(parts).sum())
        found = calibration_slope_intercept(labels, probabilities, groups=groups).slope
        there = deviance(labels, probabilities, offset=found.high * logits).llf
        expected = effect * t.ppf(0.975, degrees) ** 2
        assert 2 * (model.llf - there) == pytest.approx(expected, rel=1e-5)

    @pytest.mark.parametrize(
        ("probabilities", "reason"),
        [
            (np.repeat([0.2, 0.9], 10), "the probabilities separate the classes"),
            (np.repeat([0.9, 0.2], 10), "the probabilities separate the classes"),
            # Touching is enough: both classes at 0.5, no one beyond.
            (np.repeat([0.2, 0.5, 0.9], [7, 6, 7]), "the probabilities separate the classes"),
            (np.full(20, 0.3), "every probability is the same"),
        ],
    )
    def test_no_finite_slope(self, probabilities, reason):
        found = calibration_slope_intercept(np.repeat([0, 1], 10), probabilities)
        assert found.slope is None and found.intercept is None
        assert reason in found.note
        assert math.isfinite(found.in_the_large.low) and math.isfinite(found.in_the_large.high)

    def test_nearly_separated_classes_have_a_finite_slope(self):
        labels, probabilities = np.repeat([0, 1], 20), np.linspace(0.01, 0.99, 40)
        probabilities[[19, 20]] = probabilities[[20, 19]]
        slope = calibration_slope_intercept(labels, probabilities).slope
        assert 1 < slope.low < slope.estimate < slope.high < math.inf

    @pytest.mark.parametrize(
        ("labels", "reason"),
        [
            ([0, 1] * 4, "8 slices are too few for a calibration slope (10)"),
            ([1] * 12, "a calibration slope needs slices with and without hemorrhage"),
        ],
    )
    def test_nothing_to_fit(self, labels, reason):
        found = calibration_slope_intercept(labels, np.linspace(0.1, 0.9, len(labels)))
        assert (found.slope, found.intercept, found.in_the_large) == (None, None, None)
        assert found.note == reason

    def test_probabilities_of_0_and_1_are_finite(self):
        labels, probabilities = drawn(4)
        probabilities[:4] = [0, 1, 0, 1]
        assert math.isfinite(calibration_slope_intercept(labels, probabilities).slope.estimate)

    def test_patients_that_cancel_out(self):
        labels, groups = np.arange(80) % 2, np.arange(80) // 2
        found = calibration_slope_intercept(labels, np.full(80, 0.5), groups=groups)
        alone = calibration_slope_intercept(labels, np.full(80, 0.5))
        assert found.in_the_large.high == pytest.approx(alone.in_the_large.high, rel=0.02)

    def test_too_few_patients(self):
        labels, probabilities = drawn(4)
        found = calibration_slope_intercept(labels, probabilities, groups=np.arange(120) % 9)
        assert found.slope is None and found.in_the_large is None
        assert found.note == "9 patients are too few for a calibration slope (10)"

    def test_one_patient_that_decides_alone(self):
        labels, probabilities = np.arange(100) % 2, np.full(100, 0.5)
        # Nearly all are of one patient, and only theirs differ in probability.
        probabilities[:88] = np.linspace(0.1, 0.9, 88)
        groups = np.maximum(np.arange(100) - 87, 0)
        found = calibration_slope_intercept(labels, probabilities, groups=groups)
        assert found.slope is None
        assert found.note.startswith("one patient decides the calibration slope nearly alone")

    @settings(max_examples=40, deadline=None)
    @given(
        labels=st.lists(st.integers(0, 1), min_size=10, max_size=30),
        seed=st.integers(0, 1000),
        levels=st.integers(2, 20),
        patients=st.integers(2, 40),
    )
    def test_whatever_comes_is_finite_and_in_order_or_none(self, labels, seed, levels, patients):
        rng = np.random.default_rng(seed)
        probabilities = rng.integers(0, levels, len(labels)) / (levels - 1)
        groups = rng.integers(0, patients, len(labels))
        found = calibration_slope_intercept(np.array(labels), probabilities, groups=groups)
        for figure in (found.slope, found.intercept, found.in_the_large):
            if figure is not None:
                assert -math.inf < figure.low <= figure.estimate <= figure.high < math.inf


class TestTemperature:
    @pytest.mark.parametrize("boldness", [0.4, 1.0, 2.0])
    def test_agrees_with_a_search_over_scikit_learns_log_loss(self, boldness):
        labels, probabilities = drawn(5, 300, boldness)
        logits = np.log(probabilities / (1 - probabilities))

        def loss(logarithm):
            return log_loss(labels, 1 / (1 + np.exp(-logits / np.exp(logarithm))))

        expected = minimize_scalar(loss, bounds=(-2, 2), method="bounded", options={"xatol": 1e-9})
        found = fit_temperature(labels, probabilities)
        assert found == pytest.approx(np.exp(expected.x), rel=1e-5)
        assert found == pytest.approx(boldness, rel=0.3)

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
            ([0, 1] * 4, [0.4, 0.3] * 4, "8 slices are too few to fit a temperature on (10 at"),
            ([1] * 12, [0.4] * 12, "a temperature needs slices with and without hemorrhage"),
            ([0, 1] * 6, [0.4, 0.6] * 6, "every slice is on the right side of 0.5"),
            ([0, 1] * 6, [0.5, 0.5] * 6, "every probability is 0.5"),
        ],
    )
    def test_is_one_where_none_can_be_fitted(self, labels, probabilities, reason):
        labels, probabilities = np.array(labels), np.array(probabilities)
        assert fit_temperature(labels, probabilities) == 1.0
        assert reason in why_no_temperature(labels, probabilities)

    def test_no_reason_where_one_can(self):
        assert why_no_temperature(*drawn(7)) is None

    @settings(max_examples=60, deadline=None)
    @given(
        probabilities=st.lists(st.floats(0, 1), min_size=1, max_size=20),
        temperature=st.floats(0.05, 20),
    )
    def test_keeps_order_sides_and_range(self, probabilities, temperature):
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
    def test_refuses_what_is_no_temperature(self, temperature):
        with pytest.raises(DataError, match="a temperature must be a number above 0. Received: "):
            apply_temperature(np.array([0.3]), temperature)


class TestReliability:
    def test_agrees_with_scikit_learn(self):
        labels, probabilities = drawn(8, 400)
        found = reliability_curve(labels, probabilities)
        observed, predicted = calibration_curve(labels, probabilities, n_bins=10)
        assert [one["predicted"] for one in found] == pytest.approx(predicted)
        assert [one["observed"]["estimate"] for one in found] == pytest.approx(observed)
        assert sum(one["n"] for one in found) == 400

    def test_worked_by_hand(self):
        found = reliability_curve(np.array([0, 1, 1, 1]), np.array([0.0, 0.05, 0.3, 1.0]))
        assert [(one["from"], one["to"], one["n"]) for one in found] == [
            (0.0, 0.1, 2),
            (0.3, 0.4, 1),
            (0.9, 1.0, 1),
        ]
        assert found[0]["predicted"] == pytest.approx(0.025)
        assert found[0]["observed"] == wilson(1, 2).to_dict()

    def test_repeats_count_as_means(self):
        labels, probabilities = drawn(9)
        once = reliability_curve(labels, probabilities)
        assert reliability_curve(labels, [probabilities] * 3) == [
            {key: pytest.approx(value) for key, value in one.items()} for one in once
        ]
        shifted = reliability_curve(np.array([1, 0]), np.array([[0.05, 0.05], [0.05, 0.95]]))
        assert [one["n"] for one in shifted] == [1.5, 0.5]

    def test_intervals_of_patients_are_wider(self):
        labels, probabilities = drawn(10, 30)
        labels, probabilities = np.repeat(labels, 10), np.repeat(probabilities, 10)
        groups = np.repeat(np.arange(30), 10)
        resamples = Resamples.make(300, groups, bootstraps=300)
        pairs = zip(
            reliability_curve(labels, probabilities),
            reliability_curve(labels, probabilities, resamples),
            strict=True,
        )
        for slices, patients in pairs:
            assert slices["observed"]["estimate"] == patients["observed"]["estimate"]
            assert patients["observed"]["low"] < slices["observed"]["low"] or (
                patients["observed"]["low"] == 0
            )


class TestErrors:
    @pytest.mark.parametrize("function", [calibration_slope_intercept, fit_temperature])
    @pytest.mark.parametrize(
        ("labels", "probabilities", "message"),
        [
            ([0, 1], [0.5], "1 predictions for 2 labels"),
            ([], [], "there are no predictions to evaluate"),
            ([0, 1], [0.5, math.nan], "1 of 2 predictions are not numbers"),
            (
                [0, 1, 0],
                [0.5, 3.5, -1],
                r"2 of 3 .* lie in \[0, 1\]. Received: 3.5. Of logits take",
            ),
            (
                [0, 2, 3],
                [0.5, 0.5, 0.5],
                r"must be 1 \(hemorrhage\) or 0 .* Received: 2 and 1 more",
            ),
        ],
    )
    def test_predictions_that_cannot_be_used(self, function, labels, probabilities, message):
        with pytest.raises(DataError, match=message):
            function(np.array(labels), np.array(probabilities))
