import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, confusion_matrix, recall_score, roc_auc_score

from hemorrhage_tf.errors import DataError
from hemorrhage_tf.evaluation.intervals import area_interval, delong_variance, wilson
from hemorrhage_tf.evaluation.metrics import binary_metrics, confusion, summary

LABELS = np.array([1, 1, 1, 0, 0, 0, 0, 0])
GOOD = np.array([0.9, 0.8, 0.4, 0.6, 0.1, 0.2, 0.3, 0.05])
BETTER = np.array([0.9, 0.8, 0.7, 0.6, 0.1, 0.2, 0.3, 0.05])


@st.composite
def predictions(draw):
    n = draw(st.integers(4, 30))
    labels = [0, 1, *draw(st.lists(st.integers(0, 1), min_size=n - 2, max_size=n - 2))]
    levels = draw(st.lists(st.integers(0, 10), min_size=n, max_size=n))
    return np.array(labels), np.array(levels) / 10


@settings(max_examples=60, deadline=None)
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
        ("roc_auc", roc_auc_score(labels, probabilities)),
    ):
        figure = figures[name]
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

    @pytest.mark.parametrize(
        ("labels", "repeats"), [(LABELS, []), (np.array([]), [np.array([])]), (np.array([]), [])]
    )
    def test_no_predictions(self, labels, repeats):
        with pytest.raises(DataError, match="there are no predictions to evaluate"):
            binary_metrics(labels, repeats)


@pytest.mark.parametrize("repeats", [[GOOD], [GOOD, BETTER]])
def test_figures_survive_json(repeats):
    figures = binary_metrics(LABELS, repeats)
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
