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
from hemorrhage_tf.evaluation.calibration import calibration_slope_intercept, reliability_curve
from hemorrhage_tf.evaluation.intervals import area_interval, delong_variance, wilson
from hemorrhage_tf.evaluation.metrics import at_prevalence, binary_metrics, confusion, summary

LABELS = np.array([1, 1, 1, 0, 0, 0, 0, 0])
GOOD = np.array([0.9, 0.8, 0.4, 0.6, 0.1, 0.2, 0.3, 0.05])
BETTER = np.array([0.9, 0.8, 0.7, 0.6, 0.1, 0.2, 0.3, 0.05])


@st.composite
def predictions(draw):
    n = draw(st.integers(4, 30))
    labels = [0, 1, *draw(st.lists(st.integers(0, 1), min_size=n - 2, max_size=n - 2))]
    levels = draw(st.lists(st.integers(0, 10), min_size=n, max_size=n))
    return np.array(labels), np.array(levels) / 10


@settings(max_examples=40, deadline=None)
@given(data=predictions(), threshold=st.sampled_from([0.0, 0.3, 0.5, 1.0]))
def test_figures_agree_with_scikit_learn(data, threshold):
    labels, probabilities = data
    decisions = probabilities >= threshold
    figures = binary_metrics(labels, [probabilities], threshold)
    (tn, fp), (fn, tp) = confusion_matrix(labels, decisions, labels=[0, 1])
    assert figures["confusion"] == {
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
        figure = figures[name]
        if math.isnan(expected):
            assert figure is None
            continue
        assert figure["estimate"] == pytest.approx(expected, abs=1e-12)
        assert 0 <= figure["low"] <= figure["estimate"] <= figure["high"] <= 1
    assert figures["n"] == figures["accuracy"]["n"] == figures["roc_auc"]["n"] == len(labels)
    assert figures["n_positive"] == figures["sensitivity"]["n"] == labels.sum()
    assert figures["n_negative"] == figures["specificity"]["n"] == (1 - labels).sum()
    assert figures["threshold"] == threshold


def test_confusion_worked_by_hand():
    assert confusion(np.array([1, 1, 0, 0, 0]), np.array([True, False, True, False, False])) == {
        "true_positive": 1,
        "false_negative": 1,
        "false_positive": 1,
        "true_negative": 2,
    }


def test_probability_at_the_threshold_counts_as_hemorrhage():
    figures = binary_metrics(np.array([1, 0]), [np.array([0.5, 0.4999])])
    assert figures["accuracy"]["estimate"] == 1


def test_intervals_are_those_of_the_intervals_module():
    figures = binary_metrics(LABELS, [GOOD])
    assert figures["accuracy"] == wilson(6, 8).to_dict()
    assert figures["sensitivity"] == wilson(2, 3).to_dict()
    assert figures["specificity"] == wilson(4, 5).to_dict()
    assert figures["ppv"] == wilson(2, 3).to_dict()
    assert figures["npv"] == wilson(4, 5).to_dict()
    area, variance = delong_variance(LABELS, GOOD)
    assert figures["roc_auc"] == area_interval(area, variance, 3, 5).to_dict()


class TestRepeats:
    def test_figures_are_means_over_the_repeats(self):
        figures = binary_metrics(LABELS, [GOOD, BETTER])
        assert figures["accuracy"]["estimate"] == pytest.approx((6 / 8 + 7 / 8) / 2)
        assert figures["sensitivity"]["estimate"] == pytest.approx((2 / 3 + 1) / 2)
        assert figures["specificity"]["estimate"] == pytest.approx(4 / 5)
        areas = [roc_auc_score(LABELS, repeat) for repeat in (GOOD, BETTER)]
        assert figures["roc_auc"]["estimate"] == pytest.approx(np.mean(areas))
        assert figures["confusion"] == {
            "true_positive": 2.5,
            "false_negative": 0.5,
            "false_positive": 1.0,
            "true_negative": 4.0,
        }
        assert figures["repeats"]["accuracy"] == [6 / 8, 7 / 8]
        assert figures["repeats"]["roc_auc"] == pytest.approx(areas)

    @pytest.mark.parametrize("repeats", [1, 2, 7])
    def test_neither_n_nor_the_intervals_change_with_their_number(self, repeats):
        once, more = binary_metrics(LABELS, [GOOD]), binary_metrics(LABELS, [GOOD] * repeats)
        assert more["n"] == 8
        for name in ("accuracy", "sensitivity", "specificity", "roc_auc"):
            assert more[name] == pytest.approx(once[name])

    def test_counts_of_one_repeat_are_whole_numbers(self):
        counts = binary_metrics(LABELS, [GOOD])["confusion"].values()
        assert all(isinstance(count, int) for count in counts)

    def test_spread(self):
        figures = binary_metrics(LABELS, [GOOD, BETTER])
        found = figures["spread"]["sensitivity"]
        expected = [2 / 3, 1.0]
        assert figures["repeats"]["sensitivity"] == pytest.approx(expected)
        assert found == pytest.approx(
            {
                "mean": np.mean(expected),
                "sd": np.std(expected, ddof=1),
                "least": 2 / 3,
                "most": 1.0,
            }
        )
        assert figures["spread"].keys() == figures["repeats"].keys()
        assert binary_metrics(LABELS, [GOOD])["spread"] is None

    def test_pooled_ranks_all_repeats_together(self):
        # The second repeat is lower throughout, which spoils only the common ranking.
        figures = binary_metrics(LABELS, [BETTER, BETTER / 10])
        together = np.tile(LABELS, 2), np.concatenate([BETTER, BETTER / 10])
        pooled = figures["pooled"]
        assert pooled["roc_auc"]["estimate"] == pytest.approx(roc_auc_score(*together))
        assert pooled["pr_auc"]["estimate"] == pytest.approx(average_precision_score(*together))
        assert figures["roc_auc"]["estimate"] == 1 > pooled["roc_auc"]["estimate"]
        assert pooled["roc_auc"]["n"] == 8
        assert binary_metrics(LABELS, [BETTER])["pooled"] is None

    def test_calibration_is_that_of_the_pooled_predictions(self):
        labels, first = drawn(0, 60)
        second = np.clip(first * 0.9 + 0.03, 0, 1)
        found = binary_metrics(labels, [first, second])["calibration"]
        expected = calibration_slope_intercept(
            np.tile(labels, 2), np.concatenate([first, second]), weights=np.full(120, 0.5)
        )
        assert found["slope"] == pytest.approx(expected.slope.to_dict())
        assert found["intercept"] == pytest.approx(expected.intercept.to_dict())
        assert found["in_the_large"] == pytest.approx(expected.in_the_large.to_dict())
        assert found["reliability"] == reliability_curve(labels, [first, second])


def drawn(seed, n=100, patients=None):
    """Draws labels and probabilities; of patients, alike within each."""
    rng = np.random.default_rng(seed)
    groups = np.arange(n) if patients is None else np.arange(n) % patients
    labels = rng.integers(0, 2, n)[groups]
    noise = rng.normal(size=n)[groups] + 0.5 * rng.normal(size=n)
    return labels, 1 / (1 + np.exp(-(noise + 2 * labels - 1)))


class TestPrecisionRecall:
    def test_interval_holds_the_estimate_and_narrows_with_n(self):
        widths = []
        for n in (50, 200, 1000):
            figure = binary_metrics(*_one(drawn(1, n)))["pr_auc"]
            assert 0 < figure["low"] < figure["estimate"] < figure["high"] < 1
            widths.append(figure["high"] - figure["low"])
        assert widths == sorted(widths, reverse=True)

    def test_agrees_with_a_plain_bootstrap(self):
        labels, probabilities = drawn(2, 60)
        rng = np.random.default_rng(7)
        found = []
        for _ in range(1000):
            index = rng.integers(0, 60, 60)
            found.append(average_precision_score(labels[index], probabilities[index]))
        estimate = average_precision_score(labels, probabilities)
        error = np.std(found) * math.sqrt(60 / 59) / (estimate * (1 - estimate))
        degrees = min(labels.sum(), 60 - labels.sum()) - 1
        middle, half = math.log(estimate / (1 - estimate)), t.ppf(0.975, degrees) * error
        figure = binary_metrics(labels, [probabilities])["pr_auc"]
        assert figure["low"] == pytest.approx(1 / (1 + math.exp(half - middle)), abs=0.01)
        assert figure["high"] == pytest.approx(1 / (1 + math.exp(-half - middle)), abs=0.01)

    def test_perfect_ranking_ends_as_a_proportion_of_the_positives(self):
        labels = np.repeat([1, 0], [20, 30])
        figure = binary_metrics(labels, [labels * 0.8 + 0.1])["pr_auc"]
        assert (figure["low"], figure["high"]) == (wilson(20, 20).low, 1.0)

    def test_the_seed_decides(self):
        data = _one(drawn(3))
        assert binary_metrics(*data, seed=1) == binary_metrics(*data, seed=1)
        assert binary_metrics(*data, seed=1) != binary_metrics(*data, seed=2)


def _one(data):
    return data[0], [data[1]]


class TestBrier:
    def test_worked_by_hand(self):
        figure = binary_metrics(np.array([1, 0, 0]), [np.array([0.5, 0.5, 0.1])])["brier"]
        errors = np.array([0.25, 0.25, 0.01])
        assert figure["estimate"] == pytest.approx(0.17)
        half = t.ppf(0.975, 2) * errors.std(ddof=1) / math.sqrt(3) / 0.17
        assert figure["low"] == pytest.approx(0.17 * math.exp(-half))
        assert figure["high"] == pytest.approx(min(1, 0.17 * math.exp(half)))

    def test_no_error_at_all(self):
        figure = binary_metrics(LABELS, [LABELS.astype(float)])["brier"]
        assert figure == wilson(0, 8).to_dict()

    def test_one_slice(self):
        figure = binary_metrics(np.array([1]), [np.array([0.4])])["brier"]
        assert figure == {"estimate": pytest.approx(0.36), "low": 0.0, "high": 1.0, "n": 1}


class TestPatients:
    FIGURES = ("accuracy", "sensitivity", "specificity", "ppv", "npv", "roc_auc", "pr_auc", "brier")

    def test_estimates_stay_and_intervals_widen(self):
        labels, probabilities = drawn(4, 300, patients=50)
        slices = binary_metrics(labels, [probabilities])
        patients = binary_metrics(labels, [probabilities], groups=np.arange(300) % 50)
        assert (slices["intervals_of"], slices["n_groups"]) == ("slices", 300)
        assert (patients["intervals_of"], patients["n_groups"]) == ("patients", 50)
        for name in self.FIGURES:
            one, other = slices[name], patients[name]
            assert other["estimate"] == pytest.approx(one["estimate"])
            assert other["n"] == one["n"]
            assert other["high"] - other["low"] > 1.2 * (one["high"] - one["low"])
        for name in ("slope", "intercept", "in_the_large"):
            one, other = slices["calibration"][name], patients["calibration"][name]
            assert other["high"] - other["low"] > 1.2 * (one["high"] - one["low"])

    def test_patients_of_one_slice_are_slices(self):
        labels, probabilities = drawn(5)
        groups = np.array([f"patient {index}" for index in range(100)])
        assert binary_metrics(labels, [probabilities], groups=groups) == binary_metrics(
            labels, [probabilities]
        )

    def test_independent_slices_cost_little(self):
        labels, probabilities = drawn(6, 400)
        slices = binary_metrics(labels, [probabilities])
        # One pair of near-duplicates makes a group of 400 slices.
        groups = np.minimum(np.arange(400), 398)
        patients = binary_metrics(labels, [probabilities], groups=groups)
        for name in self.FIGURES:
            assert patients[name]["low"] == pytest.approx(slices[name]["low"], abs=0.01)
            assert patients[name]["high"] == pytest.approx(slices[name]["high"], abs=0.01)

    def test_few_patients_are_noted(self):
        labels, probabilities = drawn(7, 60, patients=12)
        figures = binary_metrics(labels, [probabilities], groups=np.arange(60) % 12)
        assert any("of 12 patients only" in note for note in figures["notes"])

    @pytest.mark.parametrize("patients", [1, 2, 3])
    def test_hardly_any_patients_know_hardly_anything(self, patients):
        labels, probabilities = drawn(8, 40)
        figures = binary_metrics(labels, [probabilities], groups=np.arange(40) % patients)
        assert json.loads(json.dumps(figures, allow_nan=False)) == figures
        for name in self.FIGURES:
            assert figures[name]["low"] <= figures[name]["estimate"] <= figures[name]["high"]
        assert figures["accuracy"]["high"] - figures["accuracy"]["low"] > 0.25

    def test_groups_of_another_length(self):
        with pytest.raises(DataError, match="3 groups for 8 labels"):
            binary_metrics(LABELS, [GOOD], groups=np.arange(3))


class TestAtPrevalence:
    def test_worked_by_hand(self):
        # Of 1,000 at 10 %: 90 of 100 found, 45 of 900 false alarms.
        found = at_prevalence(wilson(90, 100), wilson(190, 200), 0.1)
        assert found["ppv"]["estimate"] == pytest.approx(90 / 135)
        assert found["npv"]["estimate"] == pytest.approx(855 / 865)
        assert found["prevalence"] == 0.1
        assert found["ppv"]["n"] == 300

    def test_ends_are_those_of_the_likelihood_ratio(self):
        # At even odds PPV / (1 - PPV) is the positive likelihood ratio: 0.9 / 0.05 = 18. Close to
        # the interval on the log scale, exp(2.89 -+ 1.96 * 0.309).
        ppv = at_prevalence(wilson(90, 100), wilson(190, 200), 0.5)["ppv"]
        low, high = (ppv[end] / (1 - ppv[end]) for end in ("low", "high"))
        error = math.sqrt(1 / 90 - 1 / 100 + 1 / 10 - 1 / 200)
        assert low == pytest.approx(18 * math.exp(-1.96 * error), rel=0.1)
        assert high == pytest.approx(18 * math.exp(1.96 * error), rel=0.1)

    @settings(max_examples=100, deadline=None)
    @given(
        found=st.integers(0, 20),
        positives=st.integers(1, 20),
        spared=st.integers(0, 20),
        negatives=st.integers(1, 20),
        prevalence=st.floats(1e-6, 1 - 1e-6),
    )
    def test_in_order_and_in_the_unit_interval(
        self, found, positives, spared, negatives, prevalence
    ):
        sensitivity = wilson(min(found, positives), positives)
        specificity = wilson(min(spared, negatives), negatives)
        values = at_prevalence(sensitivity, specificity, prevalence)
        for name in ("ppv", "npv"):
            figure = values[name]
            if figure is not None:
                assert 0 <= figure["low"] <= figure["estimate"] + 1e-12
                assert figure["estimate"] <= figure["high"] + 1e-12 <= 1 + 1e-12
        if not found:
            assert values["ppv"] is None or values["ppv"]["estimate"] == 0

    def test_rarer_is_less_predictive(self):
        labels, probabilities = drawn(9)
        ppv, npv = (
            [
                binary_metrics(labels, [probabilities], prevalence=p)["at_prevalence"][name][
                    "estimate"
                ]
                for p in (0.01, 0.1, 0.5)
            ]
            for name in ("ppv", "npv")
        )
        assert ppv == sorted(ppv) and npv == sorted(npv, reverse=True)

    def test_at_the_slices_own_prevalence_it_is_the_plain_one(self):
        labels, probabilities = drawn(10)
        figures = binary_metrics(labels, [probabilities], prevalence=float(labels.mean()))
        for name in ("ppv", "npv"):
            plain, weighted = figures[name], figures["at_prevalence"][name]
            assert weighted["estimate"] == pytest.approx(plain["estimate"])

    def test_none_asked_for(self):
        assert binary_metrics(LABELS, [GOOD])["at_prevalence"] is None

    def test_one_class(self):
        found = binary_metrics(np.ones(4, int), [np.full(4, 0.9)], prevalence=0.2)["at_prevalence"]
        assert found == {"prevalence": 0.2, "ppv": None, "npv": None}

    @pytest.mark.parametrize("prevalence", [0, 1, -0.1, 10, math.nan])
    def test_outside_the_unit_interval(self, prevalence):
        with pytest.raises(OptionError) as error:
            binary_metrics(LABELS, [GOOD], prevalence=prevalence)
        assert str(error.value).startswith("--prevalence is the share of slices with hemorrhage")
        assert f"Received: {prevalence:g}. Give, say, 0.1" in str(error.value)


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
                "curves and the calibration slope cannot be had; add slices with hemorrhage",
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
    def test_what_is_missing_and_why(self, labels, probabilities, note):
        assert note in binary_metrics(labels, [probabilities])["notes"]

    def test_constant_scores_rank_nothing(self):
        figures = binary_metrics(np.arange(20) % 2, [np.full(20, 0.25)])
        assert figures["roc_auc"]["estimate"] == figures["pr_auc"]["estimate"] == 0.5
        assert figures["ppv"] is None and figures["calibration"]["slope"] is None


class TestOneClassOnly:
    @pytest.mark.parametrize(
        ("label", "missing", "present"),
        [(0, "sensitivity", "specificity"), (1, "specificity", "sensitivity")],
    )
    def test_what_needs_the_other_class_is_none(self, label, missing, present):
        figures = binary_metrics(np.full(4, label), [np.array([0.1, 0.2, 0.8, 0.9])])
        assert figures["roc_auc"] is None
        assert figures[missing] is None
        assert figures[present]["estimate"] == figures["accuracy"]["estimate"] == 0.5
        assert figures["repeats"]["roc_auc"] == []

    def test_one_slice_of_a_class_still_has_an_area_with_an_interval(self):
        figure = binary_metrics(np.array([1, 0, 0, 0]), [np.array([0.5, 0.1, 0.7, 0.2])])["roc_auc"]
        assert figure["estimate"] == pytest.approx(2 / 3)
        assert 0 <= figure["low"] < 2 / 3 < figure["high"] <= 1


class TestErrors:
    @pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
    def test_predictions_that_are_no_numbers(self, value):
        broken = GOOD.copy()
        broken[[1, 4]] = value
        with pytest.raises(DataError, match="2 of 8 predictions are not numbers"):
            binary_metrics(LABELS, [GOOD, broken])

    def test_lengths_that_differ(self):
        with pytest.raises(DataError, match="7 predictions for 8 labels"):
            binary_metrics(LABELS, [GOOD[:7]])

    def test_predictions_that_are_no_probabilities(self):
        with pytest.raises(DataError, match=r"4 of 8 .* lie in \[0, 1\]. Received: 2.7. Of logits"):
            binary_metrics(LABELS, [GOOD * 3])

    def test_labels_that_are_none(self):
        with pytest.raises(DataError, match="labels must be 1 .* Received: 2 and 2 more"):
            binary_metrics(LABELS * 2, [GOOD])

    @pytest.mark.parametrize(
        ("labels", "repeats"), [(LABELS, []), (np.array([]), [np.array([])]), (np.array([]), [])]
    )
    def test_no_predictions(self, labels, repeats):
        with pytest.raises(DataError, match="there are no predictions to evaluate"):
            binary_metrics(labels, repeats)


@pytest.mark.parametrize("groups", [None, LABELS, np.arange(8) // 2])
@pytest.mark.parametrize("labels", [LABELS, np.ones(8, int)])
@pytest.mark.parametrize("repeats", [[GOOD], [GOOD, BETTER], [np.float32(GOOD), np.full(8, 1.0)]])
def test_figures_survive_json(repeats, labels, groups):
    figures = binary_metrics(labels, repeats, groups=groups, prevalence=0.1)
    assert json.loads(json.dumps(figures, allow_nan=False)) == figures


class TestSummary:
    def test_figures_never_without_interval_and_n(self):
        # Wilson at 38/40 and, for wholly separated classes, Hanley and McNeil's end.
        labels = np.repeat([1, 0], 20)
        probabilities = np.repeat([0.9, 0.7, 0.6, 0.1], [18, 2, 2, 18])
        text = summary(binary_metrics(labels, [probabilities]))
        assert text.startswith("accuracy 95.0% (83.5% to 98.6%, n = 40), ROC AUC 1.000 (0.")
        assert text.endswith(" to 1.000)")

    def test_one_class_has_no_area(self):
        text = summary(binary_metrics(np.ones(10, int), [np.full(10, 0.9)]))
        assert text == "accuracy 100.0% (72.2% to 100.0%, n = 10)"
