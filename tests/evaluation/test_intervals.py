import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit, logit
from scipy.stats import t
from sklearn.metrics import average_precision_score, roc_auc_score
from statsmodels.stats.proportion import proportion_confint

from hemorrhage_tf.core.errors import DataError
from hemorrhage_tf.evaluation.intervals import (
    Interval,
    Resamples,
    area_interval,
    delong_variance,
    log_interval,
    logit_interval,
    proportions,
    quantile,
    ranking,
    ratio_ends,
    wilson,
)

Z = 1.959963984540054


@st.composite
def scored(draw, least=2, most=15):
    """Gives labels and scores with many ties."""
    positives, negatives = draw(st.integers(least, most)), draw(st.integers(least, most))
    n = positives + negatives
    scores = draw(st.lists(st.integers(0, 7), min_size=n, max_size=n))
    order = np.random.default_rng(draw(st.integers(0, 50))).permutation(n)
    return np.repeat([1, 0], [positives, negatives])[order], np.array(scores)[order] / 7


def delong_by_pairs(labels, scores):
    positive, negative = scores[labels == 1], scores[labels == 0]
    m, n = len(positive), len(negative)
    wins = np.array(
        [[1.0 if x > y else 0.5 if x == y else 0.0 for y in negative] for x in positive]
    )
    area = wins.sum() / (m * n)
    by_positive = sum((wins[i].sum() / n - area) ** 2 for i in range(m)) / (m - 1)
    by_negative = sum((wins[:, j].sum() / m - area) ** 2 for j in range(n)) / (n - 1)
    return area, by_positive / m + by_negative / n


def hanley_mcneil_error(area, positives, negatives):
    q1, q2 = area / (2 - area), 2 * area**2 / (1 + area)
    return math.sqrt(
        (area * (1 - area) + (positives - 1) * (q1 - area**2) + (negatives - 1) * (q2 - area**2))
        / (positives * negatives)
    )


class TestWilson:
    @settings(max_examples=200, deadline=None)
    @given(
        n=st.integers(1, 5000), share=st.floats(0, 1), confidence=st.sampled_from([0.8, 0.95, 0.99])
    )
    def test_agrees_with_statsmodels(self, n, share, confidence):
        successes = round(share * n)
        interval = wilson(successes, n, confidence)
        low, high = proportion_confint(successes, n, alpha=1 - confidence, method="wilson")
        assert interval.low == pytest.approx(low, abs=1e-12)
        assert interval.high == pytest.approx(high, abs=1e-12)
        assert interval.estimate == successes / n
        assert interval.n == n
        assert 0 <= interval.low <= interval.estimate <= interval.high <= 1

    @pytest.mark.parametrize(
        ("successes", "n", "low", "high"),
        [
            (38, 40, 83.5, 98.6),
            # Newcombe, Statistics in Medicine 17 (1998), table I, method 3.
            (81, 263, 25.53, 36.62),
            (15, 148, 6.24, 16.05),
            (0, 20, 0.0, 16.11),
            (1, 29, 0.61, 17.18),
        ],
    )
    def test_published_values(self, successes, n, low, high):
        interval = wilson(successes, n)
        digits = 1 if n == 40 else 2
        assert round(100 * interval.low, digits) == low
        assert round(100 * interval.high, digits) == high

    @pytest.mark.parametrize("n", [1, 7, 40, 1000])
    def test_ends_are_exact_at_none_and_all(self, n):
        assert wilson(0, n).low == 0
        assert wilson(n, n).high == 1

    def test_no_slices(self):
        assert wilson(0, 0) is None

    def test_mean_over_repeats_may_be_a_fraction(self):
        between = wilson(37.5, 40)
        assert between.estimate == 37.5 / 40
        assert wilson(37, 40).low < between.low < wilson(38, 40).low
        assert wilson(37, 40).high < between.high < wilson(38, 40).high

    @settings(max_examples=50, deadline=None)
    @given(n=st.integers(1, 200), share=st.floats(0, 1), times=st.integers(2, 20))
    def test_narrows_with_n(self, n, share, times):
        successes = round(share * n)
        once, more = wilson(successes, n), wilson(successes * times, n * times)
        assert more.high - more.low < once.high - once.low


class TestDelong:
    @settings(max_examples=100, deadline=None)
    @given(data=scored(least=1))
    def test_area_agrees_with_scikit_learn(self, data):
        area, _ = delong_variance(*data)
        assert area == pytest.approx(roc_auc_score(*data), abs=1e-12)

    @settings(max_examples=100, deadline=None)
    @given(data=scored())
    def test_variance_agrees_with_structural_components(self, data):
        area, variance = delong_variance(*data)
        expected_area, expected = delong_by_pairs(*data)
        assert area == pytest.approx(expected_area, abs=1e-12)
        assert variance == pytest.approx(expected, abs=1e-12)

    def test_worked_by_hand(self):
        # Of the four pairs three are won: the components are 1 and 1/2 on both sides.
        labels, scores = np.array([1, 1, 0, 0]), np.array([0.9, 0.4, 0.5, 0.1])
        area, variance = delong_variance(labels, scores)
        assert area == 0.75
        assert variance == pytest.approx(0.125 / 2 + 0.125 / 2)

    @pytest.mark.parametrize("labels", [[1, 0, 0], [1, 1, 0], [1, 0]])
    def test_variance_needs_two_of_each_class(self, labels):
        area, variance = delong_variance(np.array(labels), np.arange(len(labels)))
        assert 0 <= area <= 1
        assert math.isnan(variance)

    @settings(max_examples=50, deadline=None)
    @given(data=scored())
    def test_only_the_order_of_the_scores_counts(self, data):
        labels, scores = data
        assert delong_variance(labels, np.exp(3 * scores) - 9) == delong_variance(labels, scores)


class TestAreaInterval:
    @settings(max_examples=200, deadline=None)
    @given(data=scored(least=1))
    def test_inside_the_unit_interval_and_around_the_estimate(self, data):
        labels, scores = data
        positives = int(labels.sum())
        negatives = len(labels) - positives
        interval = area_interval(*delong_variance(labels, scores), positives, negatives)
        assert 0 <= interval.low <= interval.estimate <= interval.high <= 1
        assert interval.low < interval.high
        assert interval.n == len(labels)

    @settings(max_examples=100, deadline=None)
    @given(data=scored(), times=st.integers(2, 5))
    def test_narrows_with_n(self, data, times):
        def width(labels, scores):
            positives = int(labels.sum())
            area, variance = delong_variance(labels, scores)
            interval = area_interval(area, variance, positives, len(labels) - positives)
            return interval.high - interval.low

        labels, scores = data
        assert width(np.tile(labels, times), np.tile(scores, times)) < width(labels, scores)

    def test_symmetric_on_the_logit_scale(self):
        interval = area_interval(0.9, 0.0016, 50, 50)
        logit = [math.log(p / (1 - p)) for p in (interval.low, interval.estimate, interval.high)]
        # The derivative of the logit at 0.9 is 1 / 0.09.
        assert logit[1] - logit[0] == pytest.approx(Z * 0.04 / 0.09)
        assert logit[2] - logit[1] == pytest.approx(Z * 0.04 / 0.09)

    @pytest.mark.parametrize(("positives", "negatives"), [(1, 1), (2, 30), (30, 2), (100, 100)])
    def test_perfect_separation_ends_where_hanley_and_mcneil_say(self, positives, negatives):
        interval = area_interval(1.0, 0.0, positives, negatives)
        assert interval.high == 1
        assert interval.low < 1
        error = hanley_mcneil_error(interval.low, positives, negatives)
        assert 1 - interval.low == pytest.approx(Z * error, rel=1e-5)

    def test_perfect_separation_narrows_with_n(self):
        lows = [area_interval(1.0, 0.0, n, n).low for n in (1, 2, 5, 20, 100, 1000, 100_000)]
        assert lows == sorted(set(lows))

    @pytest.mark.parametrize(("positives", "negatives"), [(1, 1), (3, 40), (50, 50)])
    def test_wholly_wrong_order_mirrors_perfect_separation(self, positives, negatives):
        wrong = area_interval(0.0, 0.0, positives, negatives)
        right = area_interval(1.0, 0.0, negatives, positives)
        assert wrong.low == 0
        assert wrong.high == pytest.approx(1 - right.low)

    def test_constant_scores_have_an_interval_around_one_half(self):
        labels = np.arange(40) % 2
        area, variance = delong_variance(labels, np.full(40, 0.3))
        assert variance == 0
        interval = area_interval(area, variance, 20, 20)
        assert interval.estimate == 0.5
        assert 0.2 < interval.low < 0.4
        assert interval.high == pytest.approx(1 - interval.low)

    def test_higher_confidence_is_wider(self):
        for area, variance in ((0.8, 0.002), (1.0, 0.0)):
            lows = [area_interval(area, variance, 30, 30, c).low for c in (0.99, 0.95, 0.8)]
            assert lows == sorted(lows)


class TestScales:
    def test_quantiles(self):
        assert quantile(0.95) == pytest.approx(Z)
        assert quantile(0.95, 7) == pytest.approx(t.ppf(0.975, 7))

    def test_logit(self):
        interval = logit_interval(0.8, 0.01, 50, degrees=9)
        half = t.ppf(0.975, 9) * 0.1 / (0.8 * 0.2)
        assert interval.low == pytest.approx(expit(logit(0.8) - half))
        assert interval.high == pytest.approx(expit(logit(0.8) + half))

    def test_log(self):
        interval = log_interval(0.2, 0.0004, 50)
        assert interval.low == pytest.approx(0.2 * math.exp(-Z * 0.1))
        assert interval.high == pytest.approx(0.2 * math.exp(Z * 0.1))

    @pytest.mark.parametrize("variance", [1.0, 1e6])
    def test_log_stays_in_the_unit_interval(self, variance):
        interval = log_interval(0.001, variance, 5)
        assert 0 <= interval.low < 0.001
        assert interval.high == 1

    def test_log_of_nothing_is_wilsons(self):
        assert log_interval(0.0, 0.0, 30) == wilson(0, 30)


class TestRatioEnds:
    def test_textbook_form(self):
        # Newcombe's formula as printed, of 18 of 20 over 3 of 25.
        one, other = wilson(18, 20), wilson(3, 25)
        product = one.estimate * other.estimate

        def printed(sign, a, b):
            c = a * (2 * one.estimate - a) * b * (2 * other.estimate - b)
            return (product + sign * math.sqrt(product**2 - c)) / (b * (2 * other.estimate - b))

        low, high = ratio_ends(one, other)
        assert low == pytest.approx(printed(-1, one.low, other.high))
        assert high == pytest.approx(printed(1, one.high, other.low))
        assert low < one.estimate / other.estimate < high

    @settings(max_examples=100, deadline=None)
    @given(a=st.integers(0, 30), m=st.integers(1, 30), b=st.integers(0, 30), n=st.integers(1, 30))
    def test_holds_the_ratio(self, a, m, b, n):
        one, other = wilson(min(a, m), m), wilson(min(b, n), n)
        low, high = ratio_ends(one, other)
        assert 0 <= low <= high
        if other.estimate:
            ratio = one.estimate / other.estimate
            assert low <= ratio * (1 + 1e-12) and ratio <= high * (1 + 1e-12)
        else:
            assert high == math.inf and low < math.inf


class TestResamples:
    def test_every_resample_draws_as_many_units(self):
        groups = np.array(["a", "b", "a", "c", "c", "c"])
        resamples = Resamples.make(6, groups, bootstraps=50)
        assert (resamples.count, resamples.drawn) == (3, "patients")
        (weights,) = resamples.weights()
        assert weights.shape == (50, 6)
        assert np.array_equal(weights[:, 0], weights[:, 2])
        assert np.array_equal(weights[:, 3], weights[:, 5])
        assert np.all(weights[:, [0, 1, 3]].sum(1) == 3)

    @pytest.mark.parametrize("groups", [None, np.arange(7), list("gfedcba")])
    def test_slices_on_their_own(self, groups):
        resamples = Resamples.make(7, groups)
        assert resamples.drawn == "slices" and resamples.count == 7

    def test_parts_add_up_and_the_seed_decides(self, monkeypatch):
        def drawn(seed):
            return np.concatenate(list(Resamples.make(40, None, 100, seed).weights()))

        once = drawn(3)
        monkeypatch.setattr("hemorrhage_tf.evaluation.intervals._AT_ONCE", 400)
        assert len(list(Resamples.make(40, None, 100, 3).weights())) == 10
        assert len(drawn(3)) == 100
        assert np.array_equal(drawn(3), drawn(3))
        assert not np.array_equal(once, drawn(4))

    def test_variance_of_a_mean_is_that_of_theory(self):
        values = np.random.default_rng(0).normal(size=25)
        resamples = Resamples.make(25, None, bootstraps=40_000)
        (variance,) = resamples.variances(lambda weights: (weights @ values / 25)[None])
        # 40,000 resamples know it to about 0.7 %.
        assert variance == pytest.approx(values.var(ddof=1) / 25, rel=0.03)

    def test_of_patients_agrees_with_linearization(self):
        rng = np.random.default_rng(1)
        groups = rng.integers(0, 60, 300)
        right = (rng.random(60) < 0.8)[groups] & (rng.random(300) < 0.9)
        resamples = Resamples.make(300, groups, bootstraps=20_000)
        (variance,) = resamples.variances(lambda w: (w @ right / w.sum(1))[None])
        residual = np.bincount(groups, weights=right - right.mean())
        count = len(np.unique(groups))
        expected = (residual**2).sum() / 300**2 * count / (count - 1)
        assert variance == pytest.approx(expected, rel=0.05)

    def test_resamples_without_the_figure_are_left_out(self):
        resamples = Resamples.make(3, None, bootstraps=500)

        def first_if_drawn(weights):
            return np.where(weights[:, 0] > 0, weights[:, 1], np.nan)[None]

        assert np.isfinite(resamples.variances(first_if_drawn)[0])
        assert np.isnan(resamples.variances(lambda w: np.full((1, len(w)), np.nan))[0])

    def test_one_unit_has_no_variance(self):
        resamples = Resamples.make(5, np.zeros(5))
        assert np.isnan(resamples.variances(lambda w: w[:, 0][None])[0])

    def test_degrees(self):
        resamples = Resamples.make(8, np.array([0, 0, 1, 1, 2, 2, 3, 3]))
        assert resamples.degrees(np.ones(8)) == pytest.approx(3)
        # (4 + 1 + 1)^2 / (16 + 1 + 1) is 2.
        uneven = Resamples.make(6, np.array([0, 0, 0, 0, 1, 2]))
        assert uneven.degrees(np.ones(6)) == pytest.approx(1)

    def test_groups_of_another_length(self):
        with pytest.raises(DataError, match="3 groups for 4 labels"):
            Resamples.make(4, np.arange(3))


class TestProportions:
    def test_of_slices_are_wilsons(self):
        successes, out_of = (
            np.array([[1, 0], [1, 0], [0, 1.0]]),
            np.array([[1, 0], [1, 0], [1, 1.0]]),
        )
        found = proportions(successes, out_of, Resamples.make(3, None))
        assert found == [wilson(2, 3), wilson(1, 1)]

    def test_nothing_to_count(self):
        found = proportions(
            np.zeros((4, 1)), np.zeros((4, 1)), Resamples.make(4, np.arange(4) // 2)
        )
        assert found == [None]

    @pytest.mark.parametrize("copies", [2, 10])
    def test_copies_in_one_patient_add_nothing(self, copies):
        right = np.tile(np.arange(40) >= 4, copies)[:, None].astype(float)
        resamples = Resamples.make(len(right), np.tile(np.arange(40), copies))
        (found,) = proportions(right, np.ones_like(right), resamples)
        once = wilson(36, 40)
        assert found.estimate == once.estimate and found.n == 40 * copies
        # Student's quantile, and what the bootstrap does not know.
        assert found.low == pytest.approx(once.low, abs=0.02)
        assert found.high == pytest.approx(once.high, abs=0.02)

    def test_worked_by_hand(self):
        right = np.array([1, 1, 1, 0, 0, 1, 1, 1, 1, 1, 1, 1.0])[:, None]
        groups = np.repeat(np.arange(6), 2)
        resamples = Resamples.make(12, groups, bootstraps=500)
        (variance,) = resamples.variances(lambda w: (w @ right[:, 0] / w.sum(1))[None])
        p = 10 / 12
        effect = variance / (p * (1 - p) / 12)
        effective = 12 / (effect * (t.ppf(0.975, 5) / Z) ** 2)
        assert effective < 12
        (found,) = proportions(right, np.ones((12, 1)), resamples)
        expected = wilson(p * effective, effective)
        assert (found.low, found.high) == pytest.approx((expected.low, expected.high))

    @pytest.mark.parametrize("share", [0.0, 1.0])
    def test_without_a_variance_patients_count(self, share):
        right = np.full((30, 1), share)
        resamples = Resamples.make(30, np.arange(30) // 3, bootstraps=50)
        (found,) = proportions(right, np.ones((30, 1)), resamples)
        expected = wilson(10 * share, 10)
        assert (found.low, found.high, found.n) == (expected.low, expected.high, 30)

    def test_patients_never_narrow(self):
        # All but one patient have one right and one wrong, so that they hardly vary.
        right = np.tile([1.0, 0.0], 50)
        right[1] = 1
        resamples = Resamples.make(100, np.arange(100) // 2, bootstraps=50)
        (found,) = proportions(right[:, None], np.ones((100, 1)), resamples)
        alone = wilson(51, 100)
        assert (found.low, found.high) == (alone.low, alone.high)


class TestRanking:
    @settings(max_examples=40, deadline=None)
    @given(data=scored(least=1), seed=st.integers(0, 100))
    def test_agrees_with_scikit_learn_under_any_weights(self, data, seed):
        labels, scores = data
        weights = np.random.default_rng(seed).integers(0, 4, (3, len(labels))).astype(float)
        roc, recall = ranking(labels, scores)(weights)
        for row, weight in enumerate(weights):
            if not (weight[labels == 1].any() and weight[labels == 0].any()):
                assert np.isnan(roc[row]) and np.isnan(recall[row])
                continue
            expected = roc_auc_score(labels, scores, sample_weight=weight)
            assert roc[row] == pytest.approx(expected, abs=1e-12)
            expected = average_precision_score(labels, scores, sample_weight=weight)
            assert recall[row] == pytest.approx(expected, abs=1e-12)


def test_interval_as_plain_values():
    assert Interval(0.5, 0.25, 0.75, 9).to_dict() == {
        "estimate": 0.5,
        "low": 0.25,
        "high": 0.75,
        "n": 9,
    }
    assert Interval(0.5, 0.25, 0.75, 4.5).to_dict()["n"] == 4.5
    assert isinstance(Interval(0.5, 0.25, 0.75, 4.0).to_dict()["n"], int)
