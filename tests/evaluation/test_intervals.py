import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score
from statsmodels.stats.proportion import proportion_confint

from hemorrhage_tf.evaluation.intervals import Interval, area_interval, delong_variance, wilson

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


def test_interval_as_plain_values():
    assert Interval(0.5, 0.25, 0.75, 9).to_dict() == {
        "estimate": 0.5,
        "low": 0.25,
        "high": 0.75,
        "n": 9,
    }
