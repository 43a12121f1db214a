import json
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit
from scipy.stats import norm
from sklearn.metrics import roc_curve

from hemorrhage_tf.core.errors import DataError, OptionError
from hemorrhage_tf.evaluation.intervals import wilson
from hemorrhage_tf.evaluation.operating_point import (
    choose,
    least_number,
    parse_operating_point,
)

LABELS = np.array([0, 0, 0, 1, 0, 1, 1, 1])
SCORES = np.array([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8])


@st.composite
def scored(draw):
    n = draw(st.integers(2, 30))
    labels = [0, 1, *draw(st.lists(st.integers(0, 1), min_size=n - 2, max_size=n - 2))]
    levels = draw(st.lists(st.integers(0, 12), min_size=n, max_size=n))
    return np.array(labels), np.array(levels) / 12


def reached(labels, scores, threshold):
    predicted = scores >= threshold
    return predicted[labels == 1].mean(), (~predicted)[labels == 0].mean()


class TestParse:
    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("balanced", ("balanced", None)),
            ("youden", ("youden", None)),
            ("sensitivity=0.95", ("sensitivity", 0.95)),
            (" specificity = .9 ", ("specificity", 0.9)),
            ("threshold=0", ("threshold", 0.0)),
            ("threshold=1", ("threshold", 1.0)),
        ],
    )
    def test_accepted(self, text, expected):
        assert parse_operating_point(text) == expected

    @pytest.mark.parametrize(
        "text",
        ["", "best", "youden=1", "balanced=", "sensitivity", "sensitivity=", "=0.5", "Youden"],
    )
    def test_rejected(self, text):
        with pytest.raises(OptionError) as error:
            parse_operating_point(text)
        assert str(error.value) == (
            f"--operating-point {text}: must be balanced, youden, sensitivity=S, specificity=S or "
            "threshold=T. Pass, for example, balanced, youden, sensitivity=0.95, specificity=0.9 "
            "or threshold=0.5."
        )
        assert error.value.exit_code == 2

    @pytest.mark.parametrize("value", ["0", "1", "-0.1", "nan", "95%", "0.9=0.8"])
    @pytest.mark.parametrize("kind", ["sensitivity", "specificity"])
    def test_shares_lie_between_0_and_1(self, kind, value):
        with pytest.raises(
            OptionError,
            match=f"{kind}={re.escape(value)}: the {kind} must be above 0 and below 1.*Pass",
        ):
            parse_operating_point(f"{kind}={value}")

    @pytest.mark.parametrize("value", ["-0.1", "1.01", "nan", "half"])
    def test_a_threshold_is_a_probability(self, value):
        with pytest.raises(
            OptionError, match="a threshold is a probability from 0 to 1. Pass, for"
        ):
            parse_operating_point(f"threshold={value}")

    def test_the_criterion_of_scans_has_an_option_of_its_own(self):
        assert parse_operating_point("sensitivity=0.9", "scans") == ("sensitivity", 0.9)
        for text in ("best", "sensitivity=1", "threshold=2"):
            with pytest.raises(OptionError, match=f"^--scan-operating-point {text}: "):
                parse_operating_point(text, "scans")


class TestLeastNumber:
    @pytest.mark.parametrize(
        ("share", "expected"), [(0.99, 381), (0.95, 73), (0.9, 35), (0.5, 4), (0.001, 1)]
    )
    def test_worked_by_hand(self, share, expected):
        # 1.96^2 = 3.8415, times 99, 19, 9, 1 and 1 / 999, rounded up.
        assert least_number(share) == expected

    @settings(max_examples=30, deadline=None)
    @given(share=st.floats(0.01, 0.999))
    def test_is_the_first_whose_wilson_interval_begins_there(self, share):
        n = least_number(share)
        assert wilson(n, n).low >= share - 1e-9
        if n > 1:
            assert wilson(n - 1, n - 1).low < share


class TestChoose:
    @pytest.mark.parametrize(
        ("criterion", "threshold", "sensitivity", "specificity"),
        [
            ("balanced", 0.5, 3 / 4, 3 / 4),
            ("youden", 0.35, 4 / 4, 3 / 4),
            ("sensitivity=0.75", 0.55, 3 / 4, 4 / 4),
            ("sensitivity=0.76", 0.35, 4 / 4, 3 / 4),
            ("specificity=0.75", 0.35, 4 / 4, 3 / 4),
            ("specificity=0.76", 0.55, 3 / 4, 4 / 4),
            ("threshold=0.4", 0.4, 4 / 4, 3 / 4),
            ("threshold=0.41", 0.41, 3 / 4, 3 / 4),
        ],
    )
    def test_worked_by_hand(self, criterion, threshold, sensitivity, specificity):
        point = choose(LABELS, SCORES, criterion)
        assert point.criterion == criterion
        assert point.threshold == pytest.approx(threshold)
        assert point.sensitivity == wilson(4 * sensitivity, 4)
        assert point.specificity == wilson(4 * specificity, 4)
        assert (point.n_positive, point.n_negative) == (4, 4)
        assert point.intervals_of == "slices"

    def test_balanced_is_the_share_that_the_probabilities_assume(self):
        labels = np.repeat([0, 1], [7, 1])
        assert choose(labels, SCORES, "balanced").threshold == 1 / 8
        point = choose(labels, SCORES, "balanced", prior=0.3)
        assert point.threshold == 0.3 and point.specificity == wilson(2, 7)

    @pytest.mark.parametrize("share", [0.05, 0.5, 0.8])
    def test_balanced_is_best_at_any_prevalence(self, share):
        # Exact sensitivity and specificity of two normal distributions, as an independent oracle.
        cuts = np.linspace(-6, 6, 4001)
        gain = norm.sf(cuts, 1) + norm.cdf(cuts, -1) - 1
        best = cuts[np.argmax(gain)]
        probabilities = expit(2 * cuts + np.log(share / (1 - share)))
        labels = np.repeat([0, 1], [1000 - int(1000 * share), int(1000 * share)])
        threshold = choose(labels, np.full(1000, 0.5), "balanced").threshold
        assert probabilities[np.searchsorted(cuts, best)] == pytest.approx(threshold, abs=0.002)

    @settings(max_examples=40, deadline=None)
    @given(data=scored())
    def test_youden_agrees_with_scikit_learn(self, data):
        labels, scores = data
        false, true, _ = roc_curve(labels, scores, drop_intermediate=False)
        sensitivity, specificity = reached(
            labels, scores, choose(labels, scores, "youden").threshold
        )
        # A slice at 1 is never predicted normal, so the point without positives does not exist.
        best = (true - false)[1:].max() if scores.max() == 1 else (true - false).max()
        assert sensitivity + specificity - 1 == pytest.approx(best, abs=1e-12)

    @settings(max_examples=40, deadline=None)
    @given(data=scored(), share=st.floats(0.01, 0.99))
    def test_sensitivity_takes_the_highest_threshold(self, data, share):
        labels, scores = data
        point = choose(labels, scores, f"sensitivity={share}")
        sensitivity, _ = reached(labels, scores, point.threshold)
        assert sensitivity >= share - 1e-9
        assert point.sensitivity.estimate == pytest.approx(sensitivity)
        higher = scores[scores >= point.threshold]
        if len(higher):
            assert reached(labels, scores, higher.min() + 1e-9)[0] < share

    @settings(max_examples=40, deadline=None)
    @given(data=scored(), share=st.floats(0.01, 0.99))
    def test_specificity_takes_the_lowest_threshold(self, data, share):
        labels, scores = data
        point = choose(labels, scores, f"specificity={share}")
        _, specificity = reached(labels, scores, point.threshold)
        if specificity < share - 1e-9:
            assert labels[scores == 1].min() == 0
            assert "is not reached at any threshold" in point.note
            return
        lower = scores[scores < point.threshold]
        if len(lower):
            assert reached(labels, scores, lower.max())[1] < share

    @settings(max_examples=30, deadline=None)
    @given(
        data=scored(), criterion=st.sampled_from(["youden", "sensitivity=0.9", "specificity=0.8"])
    )
    def test_lies_midway_so_that_rounding_changes_no_decision(self, data, criterion):
        labels, scores = data
        threshold = choose(labels, scores, criterion).threshold
        assert 0 <= threshold <= 1
        for copy in (scores.astype(np.float32), scores.astype(np.float16), scores * (1 - 1e-3)):
            assert np.array_equal(copy >= threshold, scores >= threshold) or threshold == 0.0

    def test_19_of_20_is_95_percent(self):
        labels, scores = np.repeat([1, 0], 20), np.concatenate([np.arange(20), np.zeros(20)]) / 40
        assert choose(labels, scores, "sensitivity=0.95").sensitivity.estimate == 0.95

    def test_the_lowest_of_equal_youden_points(self):
        # Sensitivity plus specificity is 1 at several thresholds; the lowest detects the most.
        labels, scores = np.array([1, 0, 1, 0]), np.array([0.2, 0.4, 0.6, 0.8])
        point = choose(labels, scores, "youden")
        assert point.threshold == pytest.approx(0.1)
        assert point.sensitivity.estimate == 1

    def test_repeats_are_pooled_and_add_no_slices(self):
        once = choose(LABELS, SCORES, "sensitivity=0.75")
        assert choose(LABELS, [SCORES] * 3, "sensitivity=0.75") == once
        two = choose(LABELS, [SCORES, 1 - SCORES], "threshold=0.55")
        assert two.sensitivity == wilson((3 + 1) / 2, 4)
        assert two.n_positive == 4

    def test_intervals_over_patients_are_wider(self):
        rng = np.random.default_rng(0)
        labels = np.repeat(rng.integers(0, 2, 40), 5)
        scores = 1 / (1 + np.exp(-np.repeat(rng.normal(size=40), 5) - 2 * labels + 1))
        slices = choose(labels, scores, "youden")
        patients = choose(labels, scores, "youden", groups=np.repeat(np.arange(40), 5))
        assert patients.threshold == slices.threshold
        assert patients.intervals_of == "patients"
        assert patients.sensitivity.low < slices.sensitivity.low

    @pytest.mark.parametrize("criterion", ["youden", "sensitivity=0.9", "threshold=0.5"])
    def test_survives_json(self, criterion):
        plain = choose(LABELS, SCORES, criterion).to_dict()
        assert json.loads(json.dumps(plain, allow_nan=False)) == plain
        assert plain["chosen_on"]["sensitivity"].keys() == {"estimate", "low", "high", "n"}


class TestNote:
    def test_twenty_positives_cannot_show_99_percent(self):
        labels = np.repeat([1, 0], [20, 500])
        scores = np.concatenate([np.linspace(0.4, 0.9, 20), np.linspace(0, 0.6, 500)])
        # 20 / (20 + 1.96^2) is 0.839.
        assert choose(labels, scores, "sensitivity=0.99").note == (
            "20 slices with hemorrhage cannot show a sensitivity of 0.99: with none wrong the 95 % "
            "interval begins at 0.839. It would take at least 381 slices with hemorrhage with none "
            "wrong"
        )
        assert choose(labels, scores, "specificity=0.99").note is None

    def test_no_note_with_enough_slices(self):
        labels, scores = np.repeat([1, 0], 100), np.linspace(1, 0, 200)
        for criterion in ("youden", "threshold=0.5", "sensitivity=0.95", "specificity=0.95"):
            assert choose(labels, scores, criterion).note is None

    def test_a_note_over_patients_counts_patients(self):
        labels, scores = np.repeat([1, 0], 100), np.linspace(1, 0, 200)
        note = choose(labels, scores, "specificity=0.95", groups=np.arange(200) // 10).note
        assert note.startswith("10 patients without hemorrhage cannot show a specificity of 0.95")
        assert "at least 73 patients without hemorrhage" in note

    def test_specificity_out_of_reach(self):
        point = choose(np.array([1, 0, 0]), np.array([1.0, 1.0, 0.2]), "specificity=0.9")
        assert point.note == (
            "a specificity of 0.9 is not reached at any threshold, because slices without "
            "hemorrhage have a probability of 1; the highest threshold reaches 0.500"
        )


class TestErrors:
    @pytest.mark.parametrize(
        ("criterion", "label", "missing"),
        [
            ("balanced", 1, "without"),
            ("youden", 1, "without"),
            ("youden", 0, "with"),
            ("sensitivity=0.9", 0, "with"),
            ("specificity=0.9", 1, "without"),
        ],
    )
    def test_rejects_a_missing_class(self, criterion, label, missing):
        message = f"none of 4 slices is {missing} hemorrhage: .*{criterion} needs .* Add some, or"
        with pytest.raises(DataError, match=message):
            choose(np.full(4, label), SCORES[:4], criterion)

    def test_scans_are_called_scans(self):
        message = "none of 4 scans is with hemorrhage: --scan-operating-point youden needs scans"
        with pytest.raises(DataError, match=message):
            choose(np.zeros(4), SCORES[:4], "youden", unit="scans")
        point = choose(LABELS, SCORES, "sensitivity=0.99", unit="scans")
        assert point.intervals_of == "scans" and "at least 381 scans with" in point.note

    def test_a_known_share_needs_no_class(self):
        point = choose(np.zeros(4, int), SCORES[:4], "balanced", prior=0.5)
        assert point.threshold == 0.5 and point.sensitivity is None

    def test_a_threshold_needs_no_class(self):
        point = choose(np.zeros(4, int), SCORES[:4], "threshold=0.5")
        assert point.sensitivity is None
        assert point.specificity == wilson(4, 4)

    @pytest.mark.parametrize(
        ("probabilities", "message"),
        [
            (np.full(8, np.nan), "8 of 8 predictions are not numbers"),
            (SCORES[:5], "5 predictions for 8 labels"),
            ([SCORES, SCORES[:5]], "5 predictions for 8 labels"),
            (SCORES * 9, r"are outside \[0, 1\]"),
        ],
    )
    def test_rejects_invalid_predictions(self, probabilities, message):
        with pytest.raises(DataError, match=message):
            choose(LABELS, probabilities, "youden")

    def test_rejects_groups_of_another_length(self):
        with pytest.raises(DataError, match="3 groups for 8 labels"):
            choose(LABELS, SCORES, "youden", groups=np.arange(3))
