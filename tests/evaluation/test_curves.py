from __future__ import annotations

import numpy as np
import pytest
from report_examples import draw_predictions
from sklearn import metrics as sk

from hemorrhage_tf.evaluation.curves import (
    GRID,
    decision_curve,
    precision_recall_curve,
    roc_curve,
)
from hemorrhage_tf.evaluation.resampling import Resamples

CURVES = (roc_curve, precision_recall_curve)


def few(n: int, groups=None, seed: int = 0) -> Resamples:
    return Resamples.make(n, groups, 50, seed)


class TestAgreesWithScikitLearn:
    @pytest.mark.parametrize("seed", range(3))
    @pytest.mark.parametrize("digits", [1, 9])  # with and without ties
    def test_roc_points(self, seed, digits):
        labels, repeats = draw_predictions(n=150, seed=seed)
        scores = repeats.round(digits)
        curve = roc_curve(labels, scores, few(150))
        x, y, _ = sk.roc_curve(labels, scores[0], drop_intermediate=False)
        assert curve.x == pytest.approx(x) and curve.y == pytest.approx(y)

    @pytest.mark.parametrize("seed", range(3))
    @pytest.mark.parametrize("digits", [1, 9])
    def test_precision_recall_points(self, seed, digits):
        labels, repeats = draw_predictions(n=150, seed=seed)
        scores = repeats.round(digits)
        curve = precision_recall_curve(labels, scores, few(150))
        precision, recall, _ = sk.precision_recall_curve(labels, scores[0])
        # scikit-learn repeats a recall for each threshold; its last point is at the highest one.
        first = {level: value for level, value in zip(recall[:-1], precision[:-1], strict=True)}
        assert curve.x[0] == 0 and curve.y[0] == curve.y[1]
        assert dict(zip(curve.x[1:], curve.y[1:], strict=True)) == pytest.approx(
            {level: value for level, value in first.items() if level > 0}
        )
        area = np.sum(np.diff(curve.x) * curve.y[1:])
        assert area == pytest.approx(sk.average_precision_score(labels, scores[0]))

    def test_means_over_repeats_on_a_grid(self):
        labels, repeats = draw_predictions(n=200, repeats=3)
        roc, pr = (curve(labels, repeats, few(200)) for curve in CURVES)
        areas = [sk.roc_auc_score(labels, scores) for scores in repeats]
        assert sk.auc(roc.x, roc.y) == pytest.approx(np.mean(areas), abs=0.005)
        expected = []
        for scores in repeats:
            precision, recall, _ = sk.precision_recall_curve(labels, scores)
            first = [np.flatnonzero(recall >= level - 1e-9)[-1] for level in GRID[1:]]
            expected.append(precision[first])
        assert pr.y[1:] == pytest.approx(np.mean(expected, axis=0))


class TestBands:
    @pytest.mark.parametrize("curve", CURVES)
    def test_contain_the_curve_and_follow_the_seed(self, curve):
        labels, repeats = draw_predictions(n=80, repeats=2)
        first, again, other = (curve(labels, repeats, few(80, seed=seed)) for seed in (0, 0, 1))
        assert np.all((first.low <= first.y) & (first.y <= first.high))
        assert np.array_equal(first.low, again.low)
        assert not np.array_equal(first.low, other.low)

    def test_equal_the_percentiles_of_resampled_curves(self):
        """The resamples are drawn and evaluated here by other code."""
        labels, repeats = draw_predictions(n=40)
        resamples = few(40)
        drawn = []
        for weights in np.concatenate(list(resamples.weights())):
            chosen = np.repeat(np.arange(40), weights.astype(int))
            x, y, _ = sk.roc_curve(labels[chosen], repeats[0][chosen], drop_intermediate=False)
            drawn.append(np.interp(GRID, x, y))
        low, high = np.percentile(drawn, [2.5, 97.5], axis=0)
        curve = roc_curve(labels, repeats, resamples)
        inside = (curve.low[1:] <= low + 1e-9) & (curve.high[1:] >= high - 1e-9)
        assert inside.all()
        equal = np.isclose(curve.low[1:], low) & np.isclose(curve.high[1:], high)
        assert equal.mean() > 0.9  # elsewhere the curve itself leaves the percentiles

    def test_are_wider_for_correlated_slices_of_few_patients(self):
        labels, scores = draw_predictions(n=40)
        labels, scores = np.tile(labels, 4), np.tile(scores, 4)
        wide, narrow = (
            roc_curve(labels, scores, few(160, groups))
            for groups in (np.tile(np.arange(40), 4), None)
        )
        assert np.mean(wide.high - wide.low) > 1.3 * np.mean(narrow.high - narrow.low)

    def test_of_many_thresholds_equal_those_of_all(self, monkeypatch):
        labels, repeats = draw_predictions(n=3000)
        exact = [curve(labels, repeats, few(3000)) for curve in CURVES]
        monkeypatch.setattr("hemorrhage_tf.evaluation.curves._BAND_THRESHOLDS", 400)
        for one, curve in zip(exact, CURVES, strict=True):
            thinned = curve(labels, repeats, few(3000))
            # Precision jumps at the lowest recalls.
            assert thinned.low[10:] == pytest.approx(one.low[10:], abs=0.006)
            assert thinned.high[10:] == pytest.approx(one.high[10:], abs=0.006)

    @pytest.mark.parametrize("curve", CURVES)
    def test_accept_one_slice_of_each_class(self, curve):
        result = curve(np.array([0, 1]), np.array([[0.2, 0.7]]), few(2))
        assert result.y[-1] == 1 and np.isfinite(result.low).all()

    @pytest.mark.parametrize("curve", CURVES)
    def test_accept_constant_predictions(self, curve):
        result = curve(np.array([0, 1, 0, 0]), np.full((1, 4), 0.3), few(4))
        assert np.isfinite(result.low).all() and np.isfinite(result.y).all()


class TestDecisionCurve:
    def test_follows_the_definition(self):
        labels, repeats = draw_predictions(n=60, repeats=2)
        curve = decision_curve(labels, repeats, few(60))
        for index in (4, 49, 90):
            threshold = curve.thresholds[index]
            benefits = []
            for scores in repeats:
                predicted = scores >= threshold
                hits, false = np.sum(predicted & (labels == 1)), np.sum(predicted & (labels == 0))
                benefits.append(hits / 60 - false / 60 * threshold / (1 - threshold))
            assert curve.benefit[index] == pytest.approx(np.mean(benefits))
        assert np.all((curve.low <= curve.benefit) & (curve.benefit <= curve.high))

    def test_predicting_everything_has_the_benefit_of_treating_all(self):
        labels = np.array([1, 0, 0, 1])
        curve = decision_curve(labels, np.ones((1, 4)), few(4))
        assert curve.benefit == pytest.approx(curve.treat_all)
        none = decision_curve(labels, np.zeros((1, 4)), few(4))
        assert none.benefit == pytest.approx(np.zeros(99))

    def test_a_probability_equal_to_the_threshold_reaches_it(self):
        curve = decision_curve(np.array([1, 0]), np.array([[0.5, 0.1]]), few(2), np.array([0.5]))
        assert curve.benefit == pytest.approx([0.5])
