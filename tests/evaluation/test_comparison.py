import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm
from sklearn.metrics import recall_score, roc_auc_score
from statsmodels.stats.contingency_tables import mcnemar as statsmodels_mcnemar

from hemorrhage_tf.core.errors import DataError
from hemorrhage_tf.evaluation.areas import area_interval, delong_covariance, delong_variance
from hemorrhage_tf.evaluation.comparison import (
    compare,
    mcnemar,
    paired_delong,
    paired_difference,
)
from hemorrhage_tf.evaluation.intervals import wilson
from hemorrhage_tf.evaluation.resampling import Bootstrap, Resamples


def drawn(seed, n=80):
    """Draw labels and the correlated probabilities of two models, with ties."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, n)
    shared = rng.normal(size=n)
    models = [
        np.round(1 / (1 + np.exp(-(shared + rng.normal(size=n) + shift * labels - 1))), 2)
        for shift in (2.5, 1.8)
    ]
    return labels, *models


def covariance_by_pairs(labels, first, second):
    """Compute DeLong's covariance of two areas from every pair of a positive and a negative."""

    def components(scores):
        positive, negative = scores[labels == 1], scores[labels == 0]
        wins = (positive[:, None] > negative) + 0.5 * (positive[:, None] == negative)
        return wins.mean(1), wins.mean(0), wins.mean()

    (a, b, area), (c, d, other) = components(first), components(second)
    of_positives = ((a - area) * (c - other)).sum() / (len(a) - 1) / len(a)
    return of_positives + ((b - area) * (d - other)).sum() / (len(b) - 1) / len(b)


class TestPairedDelong:
    @pytest.mark.parametrize("seed", range(2))
    def test_agrees_with_every_pair(self, seed):
        labels, first, second = drawn(seed)
        result = paired_delong(labels, first, second)
        variance = (
            covariance_by_pairs(labels, first, first)
            + covariance_by_pairs(labels, second, second)
            - 2 * covariance_by_pairs(labels, first, second)
        )
        difference = roc_auc_score(labels, first) - roc_auc_score(labels, second)
        assert result["difference"]["estimate"] == pytest.approx(difference, abs=1e-12)
        statistic = difference / math.sqrt(variance)
        assert result["p_value"] == pytest.approx(2 * norm.sf(abs(statistic)), abs=1e-9)
        half = norm.ppf(0.975) * math.sqrt(variance)
        assert result["difference"]["low"] == pytest.approx(difference - half, abs=1e-9)
        assert result["difference"]["high"] == pytest.approx(difference + half, abs=1e-9)
        assert result["method"] == "paired DeLong"

    def test_covariance_of_three(self):
        labels, first, second = drawn(9)
        scores = np.stack([first, second, -first])
        areas, covariance = delong_covariance(labels, scores)
        for i in range(3):
            assert areas[i] == pytest.approx(roc_auc_score(labels, scores[i]))
            for j in range(3):
                expected = covariance_by_pairs(labels, scores[i], scores[j])
                assert covariance[i, j] == pytest.approx(expected, abs=1e-12)

    def test_worked_by_hand(self):
        # Components of the first: 1, 1/2 and 1, 1/2; of the second: 1/2, 1 and 1, 1/2. The
        # positives' differ by 1/2 and -1/2 (variance 1/2, over two), the negatives' not.
        labels = np.array([1, 1, 0, 0])
        first, second = np.array([0.9, 0.4, 0.1, 0.5]), np.array([0.4, 0.9, 0.1, 0.5])
        result = paired_delong(labels, first, second)
        assert result["difference"]["estimate"] == 0
        assert result["difference"]["high"] == pytest.approx(norm.ppf(0.975) * math.sqrt(0.25))
        assert result["p_value"] == 1.0

    def test_single_areas_are_those_of_one_model(self):
        labels, first, _ = drawn(1)
        result = paired_delong(labels, first, first**2)
        positives = int(labels.sum())
        area = area_interval(*delong_variance(labels, first), positives, 80 - positives)
        assert result["first"] == pytest.approx(area.to_dict())
        assert result["second"] == pytest.approx(area.to_dict())

    def test_the_same_ranking_does_not_differ(self):
        labels, first, _ = drawn(2)
        result = paired_delong(labels, first, np.sqrt(first))
        assert result["difference"] == {"estimate": 0.0, "low": 0.0, "high": 0.0, "n": 80}
        assert result["p_value"] == 1.0

    def test_areas_that_differ_without_a_variance(self):
        labels = np.repeat([0, 1], 10)
        result = paired_delong(labels, labels * 0.9, np.full(20, 0.5))
        assert result["p_value"] is None
        assert result["difference"]["estimate"] == 0.5
        one = area_interval(1.0, 0.0, 10, 10)
        other = area_interval(0.5, 0.0, 10, 10)
        low = 0.5 - math.hypot(1 - one.low, other.high - 0.5)
        assert result["difference"]["low"] == pytest.approx(low)
        assert low < 0.5 < result["difference"]["high"] <= 1

    @settings(max_examples=30, deadline=None)
    @given(seed=st.integers(0, 10_000), n=st.integers(6, 40))
    def test_swapping_the_models_mirrors_the_interval(self, seed, n):
        labels, first, second = drawn(seed, n)
        labels[:4] = [0, 1, 0, 1]
        one, other = paired_delong(labels, first, second), paired_delong(labels, second, first)
        assert one["p_value"] == pytest.approx(other["p_value"])
        assert one["difference"]["low"] == pytest.approx(-other["difference"]["high"])
        assert one["p_value"] is None or 0 <= one["p_value"] <= 1
        assert -1 <= one["difference"]["low"] <= one["difference"]["estimate"]
        assert one["difference"]["estimate"] <= one["difference"]["high"] <= 1

    def test_independent_slices_and_patients_of_one_slice_agree(self):
        labels, first, second = drawn(3, 400)
        exact = paired_delong(labels, first, second)["difference"]
        pairs = np.concatenate([np.arange(399), [398]])  # two of them share a patient
        resamples = Resamples.make(400, pairs, bootstraps=2000)
        result = paired_delong(labels, first, second, resamples)
        assert result["method"] == "paired bootstrap of patients"
        assert result["difference"]["low"] == pytest.approx(exact["low"], abs=0.006)
        assert result["difference"]["high"] == pytest.approx(exact["high"], abs=0.006)


class TestMcnemar:
    @settings(max_examples=40, deadline=None)
    @given(only_first=st.integers(0, 60), only_second=st.integers(0, 60))
    def test_agrees_with_statsmodels(self, only_first, only_second):
        p_value, method = mcnemar(only_first, only_second)
        exact = only_first + only_second < 25
        assert method == (
            "McNemar, exact binomial" if exact else "McNemar, chi-square with continuity correction"
        )
        table = [[50, only_first], [only_second, 50]]
        expected = statsmodels_mcnemar(table, exact=exact, correction=True).pvalue
        if only_first == only_second:
            # statsmodels' correction makes a difference of none.
            expected = 1.0
        assert p_value == pytest.approx(expected, abs=1e-9)

    def test_published_value(self):
        # Agresti, Categorical Data Analysis (2nd ed., table 10.1): 150 against 86, here corrected:
        # (64 - 1)^2 / 236 = 16.82.
        p_value, _ = mcnemar(150, 86)
        assert p_value == pytest.approx(2 * norm.sf(63 / math.sqrt(236)), rel=1e-6)

    def test_worked_by_hand(self):
        # Of 6 all go one way: 2 / 2^6.
        assert mcnemar(6, 0) == (0.03125, "McNemar, exact binomial")
        assert mcnemar(0, 0)[0] == 1.0


class TestPairedDifference:
    def test_published_formula(self):
        # Agresti and Min (2005) with 944 slices, 150 and 86: plain Wald gives 0.036 to 0.100.
        result = paired_difference(150, 86, 944)
        assert result.estimate == pytest.approx(64 / 944)
        assert (round(result.low, 3), round(result.high, 3)) == (0.036, 0.099)

    @settings(max_examples=40, deadline=None)
    @given(
        n=st.integers(1, 200),
        one=st.integers(0, 100),
        other=st.integers(0, 100),
        k=st.integers(2, 9),
    )
    def test_holds_the_estimate_and_narrows_with_n(self, n, one, other, k):
        one, other = min(one, n), min(other, n - min(one, n))
        result, more = (
            paired_difference(one, other, n),
            paired_difference(k * one, k * other, k * n),
        )
        assert -1 <= result.low <= result.estimate <= result.high <= 1
        assert more.high - more.low < result.high - result.low


class TestCompare:
    def test_agrees_with_independent_computations(self):
        labels, first, second = drawn(4, 200)
        result = compare(labels, first, second, (0.5, 0.3))
        right = (first >= 0.5) == labels, (second >= 0.3) == labels
        for name, part in (
            ("accuracy", np.ones(200, bool)),
            ("sensitivity", labels == 1),
            ("specificity", labels == 0),
        ):
            n, metric = part.sum(), result[name]
            assert metric["first"] == wilson(right[0][part].sum(), n).to_dict()
            assert metric["second"] == wilson(right[1][part].sum(), n).to_dict()
            gain = right[0][part].astype(int) - right[1][part]
            assert metric["only_first_right"] == (gain == 1).sum()
            assert metric["only_second_right"] == (gain == -1).sum()
            assert metric["difference"]["estimate"] == pytest.approx(gain.mean())
            assert (metric["p_value"], metric["method"]) == mcnemar(
                (gain == 1).sum(), (gain == -1).sum()
            )
        expected = recall_score(labels, second >= 0.3)
        assert result["sensitivity"]["second"]["estimate"] == pytest.approx(expected)
        assert result["roc_auc"] == paired_delong(labels, first, second)
        assert result["thresholds"] == [0.5, 0.3]
        assert (result["intervals_of"], result["n_groups"]) == ("slices", 200)
        assert result["n_positive"] + result["n_negative"] == result["n"] == 200

    def test_patients_of_one_slice_are_independent_slices(self):
        labels, first, second = drawn(5)
        groups = np.array([f"patient {index}" for index in range(80)])
        assert compare(labels, first, second, groups=groups) == compare(labels, first, second)

    def test_copies_in_one_patient_add_no_evidence(self):
        labels, first, second = drawn(6, 60)
        once = compare(labels, first, second)
        labels, first, second = (np.tile(one, 8) for one in (labels, first, second))
        slices = compare(labels, first, second)
        patients = compare(labels, first, second, groups=np.tile(np.arange(60), 8))
        assert patients["intervals_of"] == "patients"
        for name in ("roc_auc", "accuracy", "sensitivity", "specificity"):
            width = [
                one[name]["difference"]["high"] - one[name]["difference"]["low"]
                for one in (once, slices, patients)
            ]
            assert width[1] < 0.5 * width[0]
            assert width[2] == pytest.approx(width[0], rel=0.25)
            assert slices[name]["p_value"] < patients[name]["p_value"]
            assert patients[name]["method"] == "paired bootstrap of patients"

    def test_one_class_has_neither_area_nor_specificity(self):
        result = compare(np.ones(12, int), np.linspace(0, 1, 12), np.linspace(1, 0, 12))
        assert result["roc_auc"] is None and result["specificity"] is None
        assert result["sensitivity"]["difference"] == result["accuracy"]["difference"]

    @pytest.mark.parametrize(
        "groups", [None, np.arange(30) // 3, np.arange(30) // 15, np.zeros(30)]
    )
    @pytest.mark.parametrize("constant", [False, True])
    def test_survives_json(self, groups, constant):
        labels, first, second = drawn(7, 30)
        if constant:
            second = np.full(30, 0.5)
        result = compare(labels, first, second, groups=groups, bootstrap=Bootstrap(100))
        assert json.loads(json.dumps(result, allow_nan=False)) == result
        for name in ("roc_auc", "accuracy", "sensitivity", "specificity"):
            for metric in ("first", "second", "difference"):
                one = result[name][metric]
                assert one["low"] <= one["estimate"] <= one["high"]

    def test_depends_only_on_the_seed(self):
        labels, first, second = drawn(8)
        groups = np.arange(80) // 2
        one, same, other = (
            compare(labels, first, second, groups=groups, bootstrap=Bootstrap(500, seed))
            for seed in (0, 0, 1)
        )
        assert one == same
        assert one["roc_auc"]["p_value"] != other["roc_auc"]["p_value"]
        assert one["roc_auc"]["p_value"] == pytest.approx(other["roc_auc"]["p_value"], abs=0.08)

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"first": np.full(80, np.nan)}, "80 of 80 predictions are not numbers"),
            ({"second": np.zeros(79)}, "79 predictions for 80 labels"),
            ({"second": np.full(80, 7.0)}, r"are outside \[0, 1\]"),
            ({"groups": np.arange(3)}, "3 groups for 80 labels"),
            ({"thresholds": (0.5,)}, "a comparison needs two finite thresholds. Pass one"),
            ({"thresholds": (0.5, np.nan)}, "a comparison needs two finite thresholds. Pass one"),
        ],
    )
    def test_rejects_invalid_input(self, change, message):
        labels, first, second = drawn(0)
        with pytest.raises(DataError, match=message):
            compare(**{"labels": labels, "first": first, "second": second, **change})
