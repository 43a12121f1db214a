import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import t
from sklearn.metrics import (
    accuracy_score,
    average_precision_score,
    brier_score_loss,
    confusion_matrix,
    precision_score,
    recall_score,
    roc_auc_score,
)

from hemorrhage_tf.core.errors import DataError, OptionError
from hemorrhage_tf.evaluation.areas import area_interval, delong_variance
from hemorrhage_tf.evaluation.calibration import calibration_slope_intercept, reliability_curve
from hemorrhage_tf.evaluation.intervals import wilson
from hemorrhage_tf.evaluation.labeled_predictions import LabeledPredictions
from hemorrhage_tf.evaluation.metrics import binary_metrics, compute_metrics, confusion, summary
from hemorrhage_tf.evaluation.resampling import Bootstrap

LABELS = np.array([1, 1, 1, 0, 0, 0, 0, 0])


GOOD = np.array([0.9, 0.8, 0.4, 0.6, 0.1, 0.2, 0.3, 0.05])


BETTER = np.array([0.9, 0.8, 0.7, 0.6, 0.1, 0.2, 0.3, 0.05])


@st.composite
def predictions(draw):
    n = draw(st.integers(4, 30))
    labels = [0, 1, *draw(st.lists(st.integers(0, 1), min_size=n - 2, max_size=n - 2))]
    levels = draw(st.lists(st.integers(0, 10), min_size=n, max_size=n))
    return np.array(labels), np.array(levels) / 10


@settings(max_examples=25, deadline=None)
@given(data=predictions(), threshold=st.sampled_from([0.0, 0.3, 0.5, 1.0]))
def test_metrics_agree_with_scikit_learn(data, threshold):
    labels, probabilities = data
    decisions = probabilities >= threshold
    metrics = compute_metrics(
        LabeledPredictions(labels, [probabilities], threshold), bootstrap=Bootstrap(200)
    ).to_dict()
    (tn, fp), (fn, tp) = confusion_matrix(labels, decisions, labels=[0, 1])
    assert metrics["confusion"] == {
        "true_positive": tp,
        "false_negative": fn,
        "false_positive": fp,
        "true_negative": tn,
    }
    for name, expected in (
        ("accuracy", accuracy_score(labels, decisions)),
        ("sensitivity", recall_score(labels, decisions, pos_label=1)),
        ("specificity", recall_score(labels, decisions, pos_label=0)),
        ("ppv", precision_score(labels, decisions, pos_label=1, zero_division=np.nan)),
        ("npv", precision_score(labels, decisions, pos_label=0, zero_division=np.nan)),
        ("roc_auc", roc_auc_score(labels, probabilities)),
        ("pr_auc", average_precision_score(labels, probabilities)),
        ("brier", brier_score_loss(labels, probabilities)),
    ):
        metric = metrics[name]
        if math.isnan(expected):
            assert metric is None
            continue
        assert metric["estimate"] == pytest.approx(expected, abs=1e-12)
        assert 0 <= metric["low"] <= metric["estimate"] <= metric["high"] <= 1
    assert metrics["n"] == metrics["accuracy"]["n"] == metrics["roc_auc"]["n"] == len(labels)
    assert metrics["n_positive"] == metrics["sensitivity"]["n"] == labels.sum()
    assert metrics["n_negative"] == metrics["specificity"]["n"] == (1 - labels).sum()
    assert metrics["threshold"] == threshold


def test_confusion_worked_by_hand():
    assert confusion(np.array([1, 1, 0, 0, 0]), np.array([True, False, True, False, False])) == {
        "true_positive": 1,
        "false_negative": 1,
        "false_positive": 1,
        "true_negative": 2,
    }


def test_a_probability_at_the_threshold_is_predicted_hemorrhage():
    metrics = binary_metrics(np.array([1, 0]), [np.array([0.5, 0.4999])])
    assert metrics["accuracy"]["estimate"] == 1


def test_intervals_are_those_of_the_intervals_module():
    metrics = binary_metrics(LABELS, [GOOD])
    assert metrics["accuracy"] == wilson(6, 8).to_dict()
    assert metrics["sensitivity"] == wilson(2, 3).to_dict()
    assert metrics["specificity"] == wilson(4, 5).to_dict()
    assert metrics["ppv"] == wilson(2, 3).to_dict()
    assert metrics["npv"] == wilson(4, 5).to_dict()
    area, variance = delong_variance(LABELS, GOOD)
    assert metrics["roc_auc"] == area_interval(area, variance, 3, 5).to_dict()


class TestRepeats:
    def test_metrics_are_means_over_the_repeats(self):
        metrics = binary_metrics(LABELS, [GOOD, BETTER])
        assert metrics["accuracy"]["estimate"] == pytest.approx((6 / 8 + 7 / 8) / 2)
        assert metrics["sensitivity"]["estimate"] == pytest.approx((2 / 3 + 1) / 2)
        assert metrics["specificity"]["estimate"] == pytest.approx(4 / 5)
        areas = [roc_auc_score(LABELS, repeat) for repeat in (GOOD, BETTER)]
        assert metrics["roc_auc"]["estimate"] == pytest.approx(np.mean(areas))
        assert metrics["confusion"] == {
            "true_positive": 2.5,
            "false_negative": 0.5,
            "false_positive": 1.0,
            "true_negative": 4.0,
        }
        assert metrics["repeats"]["accuracy"] == [6 / 8, 7 / 8]
        assert metrics["repeats"]["roc_auc"] == pytest.approx(areas)

    @pytest.mark.parametrize("repeats", [2, 7])
    def test_neither_n_nor_the_intervals_change_with_their_number(self, repeats):
        once, more = binary_metrics(LABELS, [GOOD]), binary_metrics(LABELS, [GOOD] * repeats)
        assert more["n"] == 8
        for name in ("accuracy", "sensitivity", "specificity", "roc_auc"):
            assert more[name] == pytest.approx(once[name])

    def test_counts_of_one_repeat_are_whole_numbers(self):
        counts = binary_metrics(LABELS, [GOOD])["confusion"].values()
        assert all(isinstance(count, int) for count in counts)

    def test_spread(self):
        metrics = binary_metrics(LABELS, [GOOD, BETTER])
        spread = metrics["spread"]["sensitivity"]
        expected = [2 / 3, 1.0]
        assert metrics["repeats"]["sensitivity"] == pytest.approx(expected)
        assert spread == pytest.approx(
            {
                "mean": np.mean(expected),
                "sd": np.std(expected, ddof=1),
                "least": 2 / 3,
                "most": 1.0,
            }
        )
        assert metrics["spread"].keys() == metrics["repeats"].keys()
        assert binary_metrics(LABELS, [GOOD])["spread"] is None

    def test_pooled_ranks_all_repeats_together(self):
        # The second repeat is lower throughout, which spoils only the pooled ranking.
        metrics = binary_metrics(LABELS, [BETTER, BETTER / 10])
        together = np.tile(LABELS, 2), np.concatenate([BETTER, BETTER / 10])
        pooled = metrics["pooled"]
        assert pooled["roc_auc"]["estimate"] == pytest.approx(roc_auc_score(*together))
        assert pooled["pr_auc"]["estimate"] == pytest.approx(average_precision_score(*together))
        assert metrics["roc_auc"]["estimate"] == 1 > pooled["roc_auc"]["estimate"]
        assert pooled["roc_auc"]["n"] == 8
        assert binary_metrics(LABELS, [BETTER])["pooled"] is None

    def test_calibration_is_that_of_the_pooled_predictions(self):
        labels, first = drawn(0, 60)
        second = np.clip(first * 0.9 + 0.03, 0, 1)
        calibration = binary_metrics(labels, [first, second])["calibration"]
        expected = calibration_slope_intercept(
            np.tile(labels, 2), np.concatenate([first, second]), weights=np.full(120, 0.5)
        )
        assert calibration["slope"] == pytest.approx(expected.slope.to_dict())
        assert calibration["intercept"] == pytest.approx(expected.intercept.to_dict())
        assert calibration["in_the_large"] == pytest.approx(expected.in_the_large.to_dict())
        assert calibration["reliability"] == reliability_curve(labels, [first, second])


def drawn(seed, n=100, patients=None):
    """Draw labels and probabilities; those of one patient are correlated."""
    rng = np.random.default_rng(seed)
    groups = np.arange(n) if patients is None else np.arange(n) % patients
    labels = rng.integers(0, 2, n)[groups]
    noise = rng.normal(size=n)[groups] + 0.5 * rng.normal(size=n)
    return labels, 1 / (1 + np.exp(-(noise + 2 * labels - 1)))


class TestPrecisionRecall:
    def test_interval_holds_the_estimate_and_narrows_with_n(self):
        widths = []
        for n in (50, 200, 600):
            metric = binary_metrics(*_one(drawn(1, n)))["pr_auc"]
            assert 0 < metric["low"] < metric["estimate"] < metric["high"] < 1
            widths.append(metric["high"] - metric["low"])
        assert widths == sorted(widths, reverse=True)

    def test_agrees_with_a_plain_bootstrap(self):
        labels, probabilities = drawn(2, 60)
        rng = np.random.default_rng(7)
        areas = []
        for _ in range(500):
            index = rng.integers(0, 60, 60)
            areas.append(average_precision_score(labels[index], probabilities[index]))
        estimate = average_precision_score(labels, probabilities)
        error = np.std(areas) * math.sqrt(60 / 59) / (estimate * (1 - estimate))
        degrees = min(labels.sum(), 60 - labels.sum()) - 1
        middle, half = math.log(estimate / (1 - estimate)), t.ppf(0.975, degrees) * error
        metric = binary_metrics(labels, [probabilities])["pr_auc"]
        assert metric["low"] == pytest.approx(1 / (1 + math.exp(half - middle)), abs=0.015)
        assert metric["high"] == pytest.approx(1 / (1 + math.exp(-half - middle)), abs=0.015)

    def test_depends_on_the_seed(self):
        data = _one(drawn(3))
        assert binary_metrics(*data, seed=1) == binary_metrics(*data, seed=1)
        assert binary_metrics(*data, seed=1) != binary_metrics(*data, seed=2)


def _one(data):
    return data[0], [data[1]]


class TestBrier:
    def test_worked_by_hand(self):
        metric = binary_metrics(np.array([1, 0, 0]), [np.array([0.5, 0.5, 0.1])])["brier"]
        errors = np.array([0.25, 0.25, 0.01])
        assert metric["estimate"] == pytest.approx(0.17)
        half = t.ppf(0.975, 2) * errors.std(ddof=1) / math.sqrt(3) / 0.17
        assert metric["low"] == pytest.approx(0.17 * math.exp(-half))
        assert metric["high"] == pytest.approx(min(1, 0.17 * math.exp(half)))

    def test_no_error_at_all(self):
        metric = binary_metrics(LABELS, [LABELS.astype(float)])["brier"]
        assert metric == wilson(0, 8).to_dict()

    def test_one_slice(self):
        metric = binary_metrics(np.array([1]), [np.array([0.4])])["brier"]
        assert metric == {"estimate": pytest.approx(0.36), "low": 0.0, "high": 1.0, "n": 1}


class TestPatients:
    METRICS = ("accuracy", "sensitivity", "specificity", "ppv", "npv", "roc_auc", "pr_auc", "brier")

    def test_estimates_stay_and_intervals_widen(self):
        labels, probabilities = drawn(4, 300, patients=50)
        slices = binary_metrics(labels, [probabilities])
        patients = binary_metrics(labels, [probabilities], groups=np.arange(300) % 50)
        assert (slices["intervals_of"], slices["n_groups"]) == ("slices", 300)
        assert (patients["intervals_of"], patients["n_groups"]) == ("patients", 50)
        for name in self.METRICS:
            one, other = slices[name], patients[name]
            assert other["estimate"] == pytest.approx(one["estimate"])
            assert other["n"] == one["n"]
            assert other["high"] - other["low"] > 1.2 * (one["high"] - one["low"])
        for name in ("slope", "intercept", "in_the_large"):
            one, other = slices["calibration"][name], patients["calibration"][name]
            assert other["high"] - other["low"] > 1.2 * (one["high"] - one["low"])

    def test_patients_of_one_slice_are_independent_slices(self):
        labels, probabilities = drawn(5)
        groups = np.array([f"patient {index}" for index in range(100)])
        assert binary_metrics(labels, [probabilities], groups=groups) == binary_metrics(
            labels, [probabilities]
        )

    def test_one_pair_of_duplicates_hardly_widens_intervals(self):
        labels, probabilities = drawn(6, 300)
        slices = binary_metrics(labels, [probabilities])
        # One pair of near-duplicates makes a group of 300 slices.
        groups = np.minimum(np.arange(300), 298)
        patients = binary_metrics(labels, [probabilities], groups=groups)
        for name in self.METRICS:
            assert patients[name]["low"] == pytest.approx(slices[name]["low"], abs=0.015)
            assert patients[name]["high"] == pytest.approx(slices[name]["high"], abs=0.015)

    def test_few_patients_are_noted(self):
        labels, probabilities = drawn(7, 60, patients=12)
        metrics = binary_metrics(labels, [probabilities], groups=np.arange(60) % 12)
        assert any("of 12 patients only" in note for note in metrics["notes"])

    @pytest.mark.parametrize("patients", [1, 2, 3])
    def test_intervals_over_very_few_patients_are_wide(self, patients):
        labels, probabilities = drawn(8, 40)
        metrics = binary_metrics(labels, [probabilities], groups=np.arange(40) % patients)
        assert json.loads(json.dumps(metrics, allow_nan=False)) == metrics
        for name in self.METRICS:
            assert metrics[name]["low"] <= metrics[name]["estimate"] <= metrics[name]["high"]
        assert metrics["accuracy"]["high"] - metrics["accuracy"]["low"] > 0.25

    def test_rejects_groups_of_another_length(self):
        with pytest.raises(DataError, match="3 groups for 8 labels"):
            binary_metrics(LABELS, [GOOD], groups=np.arange(3))


class TestPrevalence:
    def test_predictive_values_at_a_prevalence(self):
        labels, probabilities = drawn(10)
        metrics = binary_metrics(labels, [probabilities], prevalence=float(labels.mean()))
        for name in ("ppv", "npv"):
            at_prevalence = metrics["at_prevalence"][name]
            assert at_prevalence["estimate"] == pytest.approx(metrics[name]["estimate"])

    def test_none_without_a_prevalence(self):
        assert binary_metrics(LABELS, [GOOD])["at_prevalence"] is None

    def test_one_class(self):
        metrics = binary_metrics(np.ones(4, int), [np.full(4, 0.9)], prevalence=0.2)
        assert metrics["at_prevalence"] == {"prevalence": 0.2, "ppv": None, "npv": None}


class TestNotes:
    def test_nothing_to_note(self):
        assert binary_metrics(*_one(drawn(11)))["notes"] == []

    @pytest.mark.parametrize(
        ("labels", "probabilities", "note"),
        [
            (
                np.zeros(12, int),
                np.linspace(0.1, 0.9, 12),
                "all 12 slices are without hemorrhage, so that sensitivity, the areas under the "
                "curves and the calibration slope are not defined; add slices with hemorrhage",
            ),
            (LABELS, GOOD, "8 slices show little: read the intervals, not the estimates"),
            (LABELS, GOOD, "8 slices are too few for a calibration slope (10)"),
            (
                np.arange(20) % 2,
                np.full(20, 0.25),
                "every prediction is the same (0.25): the model does not tell slices apart",
            ),
            (
                np.repeat([0, 1], 10),
                np.repeat([0.1, 0.9], 10),
                "the probabilities separate the classes, so that no calibration slope is finite",
            ),
        ],
    )
    def test_note_of_a_limitation(self, labels, probabilities, note):
        assert note in binary_metrics(labels, [probabilities])["notes"]

    def test_large_sets_get_fewer_resamples(self, monkeypatch):
        labels, probabilities = drawn(12, 100)
        monkeypatch.setattr("hemorrhage_tf.evaluation.metrics.MOST_RESAMPLED", 20)
        metrics = binary_metrics(labels, [probabilities])
        assert metrics["notes"] == [
            "the intervals rest on 400 resamples, fewer than usual for so many slices"
        ]

    def test_constant_predictions_have_an_area_of_one_half(self):
        metrics = binary_metrics(np.arange(20) % 2, [np.full(20, 0.25)])
        assert metrics["roc_auc"]["estimate"] == metrics["pr_auc"]["estimate"] == 0.5
        assert metrics["ppv"] is None and metrics["calibration"]["slope"] is None


class TestOneClassOnly:
    @pytest.mark.parametrize(
        ("label", "missing", "present"),
        [(0, "sensitivity", "specificity"), (1, "specificity", "sensitivity")],
    )
    def test_metrics_of_the_missing_class_are_none(self, label, missing, present):
        metrics = binary_metrics(np.full(4, label), [np.array([0.1, 0.2, 0.8, 0.9])])
        assert metrics["roc_auc"] is None
        assert metrics[missing] is None
        assert metrics[present]["estimate"] == metrics["accuracy"]["estimate"] == 0.5
        assert metrics["repeats"]["roc_auc"] == []

    def test_one_slice_of_a_class_still_has_an_area_with_an_interval(self):
        metric = binary_metrics(np.array([1, 0, 0, 0]), [np.array([0.5, 0.1, 0.7, 0.2])])["roc_auc"]
        assert metric["estimate"] == pytest.approx(2 / 3)
        assert 0 <= metric["low"] < 2 / 3 < metric["high"] <= 1


class TestErrors:
    def test_rejects_a_repeat_with_invalid_predictions(self):
        with pytest.raises(DataError, match="8 of 8 predictions are not numbers"):
            binary_metrics(LABELS, [GOOD, np.full(8, np.nan)])

    def test_rejects_an_invalid_prevalence(self):
        with pytest.raises(OptionError, match="--prevalence 2: must be"):
            binary_metrics(LABELS, [GOOD], prevalence=2)


@pytest.mark.parametrize("groups", [None, LABELS, np.arange(8) // 2])
@pytest.mark.parametrize("labels", [LABELS, np.ones(8, int)])
@pytest.mark.parametrize("repeats", [[GOOD], [GOOD, BETTER], [np.float32(GOOD), np.full(8, 1.0)]])
def test_metrics_survive_json(repeats, labels, groups):
    metrics = binary_metrics(labels, repeats, groups=groups, prevalence=0.1)
    assert json.loads(json.dumps(metrics, allow_nan=False)) == metrics


class TestSummary:
    def test_accuracy_and_area_come_with_interval_and_n(self):
        # Wilson at 38/40 and, for wholly separated classes, Hanley and McNeil's end.
        labels = np.repeat([1, 0], 20)
        probabilities = np.repeat([0.9, 0.7, 0.6, 0.1], [18, 2, 2, 18])
        text = summary(binary_metrics(labels, [probabilities]))
        assert text.startswith("accuracy 95.0% (83.5% to 98.6%, n = 40), ROC AUC 1.000 (0.")
        assert text.endswith(" to 1.000)")

    def test_one_class_has_no_area(self):
        text = summary(binary_metrics(np.ones(10, int), [np.full(10, 0.9)]))
        assert text == "accuracy 100.0% (72.2% to 100.0%, n = 10)"
