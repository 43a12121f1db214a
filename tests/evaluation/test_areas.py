import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, roc_auc_score

from hemorrhage_tf.evaluation.areas import (
    area_interval,
    clustered_variance,
    delong_covariance,
    delong_variance,
    repeated_areas,
    weighted_areas,
)
from hemorrhage_tf.evaluation.intervals import wilson
from hemorrhage_tf.evaluation.resampling import Resamples

Z = 1.959963984540054


@st.composite
def scored(draw, least=2, most=15):
    """Draw labels and scores with many ties."""
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


class TestDelong:
    @settings(max_examples=40, deadline=None)
    @given(data=scored(least=1))
    def test_area_agrees_with_scikit_learn(self, data):
        area, _ = delong_variance(*data)
        assert area == pytest.approx(roc_auc_score(*data), abs=1e-12)

    @settings(max_examples=40, deadline=None)
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

    @settings(max_examples=30, deadline=None)
    @given(data=scored())
    def test_depends_only_on_the_order_of_the_scores(self, data):
        labels, scores = data
        assert delong_variance(labels, np.exp(3 * scores) - 9) == delong_variance(labels, scores)


class TestAreaInterval:
    @settings(max_examples=40, deadline=None)
    @given(data=scored(least=1))
    def test_inside_the_unit_interval_and_around_the_estimate(self, data):
        labels, scores = data
        positives = int(labels.sum())
        negatives = len(labels) - positives
        interval = area_interval(*delong_variance(labels, scores), positives, negatives)
        assert 0 <= interval.low <= interval.estimate <= interval.high <= 1
        assert interval.low < interval.high
        assert interval.n == len(labels)

    @settings(max_examples=40, deadline=None)
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
    def test_perfect_separation_ends_at_hanley_and_mcneils_error(self, positives, negatives):
        interval = area_interval(1.0, 0.0, positives, negatives)
        assert interval.high == 1
        assert interval.low < 1
        error = hanley_mcneil_error(interval.low, positives, negatives)
        assert 1 - interval.low == pytest.approx(Z * error, rel=1e-5)

    def test_perfect_separation_narrows_with_n(self):
        lows = [area_interval(1.0, 0.0, n, n).low for n in (1, 2, 5, 20, 100, 1000, 100_000)]
        assert lows == sorted(set(lows))

    @pytest.mark.parametrize(("positives", "negatives"), [(1, 1), (3, 40), (50, 50)])
    def test_a_reversed_order_mirrors_perfect_separation(self, positives, negatives):
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


class TestWeightedAreas:
    @settings(max_examples=25, deadline=None)
    @given(data=scored(least=1), seed=st.integers(0, 100))
    def test_agrees_with_scikit_learn_under_any_weights(self, data, seed):
        labels, scores = data
        weights = np.random.default_rng(seed).integers(0, 4, (3, len(labels))).astype(float)
        roc, recall = weighted_areas(labels, scores)(weights)
        for row, weight in enumerate(weights):
            if not (weight[labels == 1].any() and weight[labels == 0].any()):
                assert np.isnan(roc[row]) and np.isnan(recall[row])
                continue
            expected = roc_auc_score(labels, scores, sample_weight=weight)
            assert roc[row] == pytest.approx(expected, abs=1e-12)
            expected = average_precision_score(labels, scores, sample_weight=weight)
            assert recall[row] == pytest.approx(expected, abs=1e-12)


class TestClusteredVariance:
    def test_with_one_slice_per_group_it_is_delongs(self):
        rng = np.random.default_rng(0)
        labels, scores = rng.integers(0, 2, 50), rng.normal(size=50).round(1)
        result = clustered_variance(labels, scores, np.arange(50))
        assert result == pytest.approx(delong_variance(labels, scores))

    def test_copies_in_one_group_do_not_change_it(self):
        rng = np.random.default_rng(0)
        labels, scores = rng.integers(0, 2, 40), rng.normal(size=40)
        result = clustered_variance(
            np.tile(labels, 5), np.tile(scores, 5), np.tile(np.arange(40), 5)
        )
        assert result == pytest.approx(delong_variance(labels, scores))

    def test_agrees_with_a_bootstrap_of_groups(self):
        rng = np.random.default_rng(1)
        groups = np.repeat(np.arange(80), 5)
        labels = rng.integers(0, 2, 400)
        scores = labels + 1.5 * rng.normal(size=80)[groups] + rng.normal(size=400)
        areas = []
        for _ in range(200):
            drawn = rng.integers(0, 80, 80)
            chosen = (5 * drawn[:, None] + np.arange(5)).ravel()
            areas.append(roc_auc_score(labels[chosen], scores[chosen]))
        area, variance = clustered_variance(labels, scores, groups)
        assert area == pytest.approx(roc_auc_score(labels, scores))
        assert variance == pytest.approx(np.var(areas), rel=0.3)
        assert variance != pytest.approx(delong_variance(labels, scores)[1], rel=0.05)


class TestRepeatedAreas:
    def test_means_over_repeats_and_the_pooled_ranking(self):
        labels = np.array([1, 1, 1, 0, 0, 0, 0, 0])
        scores = np.array([0.9, 0.8, 0.7, 0.6, 0.1, 0.2, 0.3, 0.05])
        # The second repeat is lower throughout, which spoils only the pooled ranking.
        areas = repeated_areas(labels, np.stack([scores, scores / 10]), Resamples.make(8, None))
        pooled = np.tile(labels, 2), np.concatenate([scores, scores / 10])
        assert areas.each_roc_auc == [1, 1] and areas.roc_auc.estimate == 1
        assert areas.pooled_roc_auc.estimate == pytest.approx(roc_auc_score(*pooled))
        assert areas.pooled_pr_auc.estimate == pytest.approx(average_precision_score(*pooled))
        assert areas.pooled_roc_auc.n == 8

    def test_one_class_has_no_area(self):
        areas = repeated_areas(np.ones(4, int), np.ones((1, 4)), Resamples.make(4, None))
        assert areas.roc_auc is None and areas.each_roc_auc == []

    def test_perfect_ranking_ends_as_a_proportion_of_the_positives(self):
        labels = np.repeat([1, 0], [20, 30])
        areas = repeated_areas(labels, labels[None] * 0.8, Resamples.make(50, None, 50))
        assert (areas.pr_auc.low, areas.pr_auc.high) == (wilson(20, 20).low, 1.0)

    def test_delong_covariance_of_one_model_is_its_variance(self):
        labels, scores = np.array([1, 1, 0, 0]), np.array([0.9, 0.4, 0.5, 0.1])
        assert delong_covariance(labels, scores[None])[1] == pytest.approx(
            np.array([[delong_variance(labels, scores)[1]]])
        )
