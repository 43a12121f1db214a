import math

import numpy as np
import pytest
import statsmodels.api as sm
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chi2, t
from sklearn.calibration import calibration_curve

from hemorrhage_tf.evaluation.calibration import (
    calibration_slope_intercept,
    log_odds,
    reliability_curve,
)
from hemorrhage_tf.evaluation.intervals import wilson
from hemorrhage_tf.evaluation.resampling import Resamples


def drawn(seed, n=120, boldness=1.0, shift=0.0):
    """Draw labels from known logits, and probabilities of scaled and shifted logits."""
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
    @pytest.mark.parametrize("seed", range(2))
    def test_agree_with_statsmodels(self, seed):
        labels, probabilities = drawn(seed, boldness=1.7, shift=0.4)
        fit = calibration_slope_intercept(labels, probabilities)
        model = sm.Logit(labels, sm.add_constant(log_odds(probabilities))).fit(disp=0, tol=1e-12)
        assert fit.intercept.estimate == pytest.approx(model.params[0], abs=1e-6)
        assert fit.slope.estimate == pytest.approx(model.params[1], abs=1e-6)
        alone = deviance(labels, probabilities).params[0]
        assert fit.in_the_large.estimate == pytest.approx(alone, abs=1e-6)
        assert fit.note is None

    @pytest.mark.parametrize("seed", range(2))
    def test_the_likelihood_ratio_at_the_ends_is_students(self, seed):
        labels, probabilities = drawn(seed)
        logits = log_odds(probabilities)
        fit = calibration_slope_intercept(labels, probabilities)
        best = sm.Logit(labels, sm.add_constant(logits)).fit(disp=0, tol=1e-12).llf
        expected = t.ppf(0.975, len(labels) - 2) ** 2
        assert expected == pytest.approx(chi2.ppf(0.95, 1), rel=0.05)
        for end in (fit.slope.low, fit.slope.high):
            there = deviance(labels, probabilities, offset=end * logits).llf
            assert 2 * (best - there) == pytest.approx(expected, abs=1e-5)
        for end in (fit.intercept.low, fit.intercept.high):
            offset = np.full(len(labels), end)
            there = deviance(labels, probabilities, offset, logits[:, None]).llf
            assert 2 * (best - there) == pytest.approx(expected, abs=1e-5)

    def test_slope_of_extreme_and_intercept_of_low_probabilities(self):
        labels, probabilities = drawn(0, 5000, boldness=2.0, shift=-1.0)
        fit = calibration_slope_intercept(labels, probabilities)
        assert fit.slope.low < 0.5 < fit.slope.high
        # The logits were doubled and lowered by one, so the intercept is half a logit.
        assert fit.intercept.low < 0.5 < fit.intercept.high
        assert fit.in_the_large.low > 0

    @pytest.mark.parametrize("repeats", [3])
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

    def test_over_patients_it_agrees_with_a_jackknife(self):
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
        fit = calibration_slope_intercept(labels, probabilities, groups=groups).slope
        there = deviance(labels, probabilities, offset=fit.high * logits).llf
        expected = effect * t.ppf(0.975, degrees) ** 2
        assert 2 * (model.llf - there) == pytest.approx(expected, rel=1e-5)

    @pytest.mark.parametrize(
        ("probabilities", "reason"),
        [
            (np.repeat([0.2, 0.9], 10), "the probabilities separate the classes"),
            (np.repeat([0.9, 0.2], 10), "the probabilities separate the classes"),
            # Touching is enough: both classes at 0.5, none beyond.
            (np.repeat([0.2, 0.5, 0.9], [7, 6, 7]), "the probabilities separate the classes"),
            (np.full(20, 0.3), "every probability is the same"),
        ],
    )
    def test_no_finite_slope(self, probabilities, reason):
        fit = calibration_slope_intercept(np.repeat([0, 1], 10), probabilities)
        assert fit.slope is None and fit.intercept is None
        assert reason in fit.note
        assert math.isfinite(fit.in_the_large.low) and math.isfinite(fit.in_the_large.high)

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
    def test_too_few_slices_or_one_class(self, labels, reason):
        fit = calibration_slope_intercept(labels, np.linspace(0.1, 0.9, len(labels)))
        assert (fit.slope, fit.intercept, fit.in_the_large) == (None, None, None)
        assert fit.note == reason

    def test_probabilities_of_0_and_1_are_finite(self):
        labels, probabilities = drawn(4)
        probabilities[:4] = [0, 1, 0, 1]
        assert math.isfinite(calibration_slope_intercept(labels, probabilities).slope.estimate)

    def test_patients_with_both_labels_do_not_widen_the_interval(self):
        labels, groups = np.arange(80) % 2, np.arange(80) // 2
        fit = calibration_slope_intercept(labels, np.full(80, 0.5), groups=groups)
        alone = calibration_slope_intercept(labels, np.full(80, 0.5))
        assert fit.in_the_large.high == pytest.approx(alone.in_the_large.high, rel=0.02)

    def test_too_few_patients(self):
        labels, probabilities = drawn(4)
        fit = calibration_slope_intercept(labels, probabilities, groups=np.arange(120) % 9)
        assert fit.slope is None and fit.in_the_large is None
        assert fit.note == "9 patients are too few for a calibration slope (10)"

    def test_no_interval_if_one_patient_dominates(self):
        labels, probabilities = np.arange(100) % 2, np.full(100, 0.5)
        # Nearly all are of one patient, and only theirs differ in probability.
        probabilities[:88] = np.linspace(0.1, 0.9, 88)
        groups = np.maximum(np.arange(100) - 87, 0)
        fit = calibration_slope_intercept(labels, probabilities, groups=groups)
        assert fit.slope is None
        assert fit.note.startswith("one patient decides the calibration slope nearly alone")

    @settings(max_examples=40, deadline=None)
    @given(
        labels=st.lists(st.integers(0, 1), min_size=10, max_size=30),
        seed=st.integers(0, 1000),
        levels=st.integers(2, 20),
        patients=st.integers(2, 40),
    )
    def test_intervals_are_finite_and_in_order_or_missing(self, labels, seed, levels, patients):
        rng = np.random.default_rng(seed)
        probabilities = rng.integers(0, levels, len(labels)) / (levels - 1)
        groups = rng.integers(0, patients, len(labels))
        fit = calibration_slope_intercept(np.array(labels), probabilities, groups=groups)
        for interval in (fit.slope, fit.intercept, fit.in_the_large):
            if interval is not None:
                assert -math.inf < interval.low <= interval.estimate <= interval.high < math.inf


class TestReliability:
    def test_agrees_with_scikit_learn(self):
        labels, probabilities = drawn(8, 400)
        curve = reliability_curve(labels, probabilities)
        observed, predicted = calibration_curve(labels, probabilities, n_bins=10)
        assert [one["predicted"] for one in curve] == pytest.approx(predicted)
        assert [one["observed"]["estimate"] for one in curve] == pytest.approx(observed)
        assert sum(one["n"] for one in curve) == 400

    def test_worked_by_hand(self):
        curve = reliability_curve(np.array([0, 1, 1, 1]), np.array([0.0, 0.05, 0.3, 1.0]))
        assert [(one["from"], one["to"], one["n"]) for one in curve] == [
            (0.0, 0.1, 2),
            (0.3, 0.4, 1),
            (0.9, 1.0, 1),
        ]
        assert curve[0]["predicted"] == pytest.approx(0.025)
        assert curve[0]["observed"] == wilson(1, 2).to_dict()

    def test_repeats_are_averaged(self):
        labels, probabilities = drawn(9)
        once = reliability_curve(labels, probabilities)
        assert reliability_curve(labels, [probabilities] * 3) == [
            {key: pytest.approx(value) for key, value in one.items()} for one in once
        ]
        shifted = reliability_curve(np.array([1, 0]), np.array([[0.05, 0.05], [0.05, 0.95]]))
        assert [one["n"] for one in shifted] == [1.5, 0.5]

    def test_intervals_over_patients_are_wider(self):
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
