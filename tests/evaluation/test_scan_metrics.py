from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import poisson, t
from sklearn.metrics import recall_score, roc_curve

from hemorrhage_tf.core.errors import DataError
from hemorrhage_tf.evaluation.intervals import wilson
from hemorrhage_tf.evaluation.labeled_predictions import LabeledPredictions
from hemorrhage_tf.evaluation.metrics import compute_metrics
from hemorrhage_tf.evaluation.resampling import Bootstrap, Resamples
from hemorrhage_tf.evaluation.scan_metrics import (
    SIZES,
    ScanSet,
    mean_count,
    metrics_by_size,
    scan_details,
    sensitivity_by_subtype,
    specificity_at_sensitivity,
)

LABELS = np.array([1, 1, 0, 0, 0])
SCORES = np.array([0.9, 0.4, 0.6, 0.2, 0.1])
# Two slices of each of the first four scans, and three of the last.
MEMBERS = [np.array([0, 1]), np.array([2, 3]), np.array([4, 5]), np.array([6, 7]), np.arange(8, 11)]
ALONE = np.isin(np.arange(11), [0, 4, 5, 8, 9, 10])
IN_SCAN = np.isin(np.arange(11), [0, 1, 5])
SUBTYPES = {
    "epidural": np.isin(np.arange(11), [0, 1, 2]).astype(int),
    "subdural": np.where(np.arange(11) == 3, 1, -1),
    "subarachnoid": np.zeros(11, int),
}


def make_set(**values) -> ScanSet:
    scans = LabeledPredictions(LABELS, [SCORES], 0.5, unit="scans")
    decisions = {"slices": ALONE, "slices_in_scans": IN_SCAN}
    return ScanSet(
        **{"scans": scans, "members": MEMBERS, "decisions": decisions, "subtypes": SUBTYPES}
        | values
    )


@pytest.fixture(scope="module")
def details():
    return scan_details(make_set(), Bootstrap(200)).to_dict()


class TestScanDetails:
    """Everything is small enough to count by hand."""

    def test_false_alarms(self, details):
        alarms = details["false_alarms"]
        assert alarms["n_normal_scans"] == 3
        assert alarms["scans_flagged"] == wilson(1, 3).to_dict()
        flagged = alarms["flagged_slices"]
        assert flagged["slices"]["estimate"] == pytest.approx((2 + 0 + 3) / 3)
        assert flagged["slices_in_scans"]["estimate"] == pytest.approx((1 + 0 + 0) / 3)
        assert flagged["slices"]["n"] == 3

    def test_subtypes_at_each_level(self, details):
        shares = {
            level: {name: share and share["estimate"] for name, share in of_level.items()}
            for level, of_level in details["by_subtype"].items()
        }
        # Scan 0 is flagged and scan 1 is not; both have an epidural hemorrhage.
        assert shares == {
            "slices": {"epidural": pytest.approx(1 / 3), "subdural": 0, "subarachnoid": None},
            "slices_in_scans": {
                "epidural": pytest.approx(2 / 3),
                "subdural": 0,
                "subarachnoid": None,
            },
            "scans": {"epidural": 0.5, "subdural": 0, "subarachnoid": None},
        }
        assert details["by_subtype"]["scans"]["epidural"] == wilson(1, 2).to_dict()
        assert details["by_subtype"]["slices"]["epidural"]["n"] == 3

    def test_specificity_at_a_sensitivity(self, details):
        # Both hemorrhages are reached at 0.4, where one of three normal scans is flagged.
        for row in details["at_sensitivity"]:
            assert row["specificity"]["estimate"] == pytest.approx(2 / 3)
        assert [row["sensitivity"] for row in details["at_sensitivity"]] == [0.9, 0.95]
        assert details["notes"] == [
            "with 2 scans with hemorrhage, the threshold for a sensitivity of 0.9 depends on the "
            "lowest of them alone; it takes at least 10"
        ]

    def test_sizes(self, details):
        [row] = details["by_size"]
        assert (row["least"], row["most"], row["n"]) == (1, SIZES[1] - 1, 5)
        assert row["sensitivity"] == wilson(1, 2).to_dict()
        assert row["specificity"] == wilson(2, 3).to_dict()

    def test_plain_values(self, details):
        assert json.loads(json.dumps(details, allow_nan=False)) == details

    def test_scans_of_one_patient_are_one_unit(self):
        scans = LabeledPredictions(LABELS, [SCORES], groups=np.array([0, 1, 2, 2, 3]), unit="scans")
        metrics = compute_metrics(scans, bootstrap=Bootstrap(200)).to_dict()
        assert (metrics["intervals_of"], metrics["n_groups"], metrics["n"]) == ("patients", 4, 5)
        details = scan_details(make_set(scans=scans))
        share = details.false_alarms.scans_flagged
        assert share.n == 3 and share.high - share.low >= wilson(1, 3).high - wilson(1, 3).low

    def test_normal_scans_only(self):
        scans = LabeledPredictions(np.zeros(5), [SCORES], unit="scans")
        details = scan_details(make_set(scans=scans, subtypes={}), Bootstrap(100)).to_dict()
        assert details["false_alarms"]["n_normal_scans"] == 5
        assert {row["specificity"] for row in details["at_sensitivity"]} == {None}
        assert details["by_size"][0]["sensitivity"] is None
        assert details["by_subtype"] == {} and details["notes"] == []

    def test_hemorrhages_only(self):
        scans = LabeledPredictions(np.ones(5), [SCORES], unit="scans")
        alarms = scan_details(make_set(scans=scans), Bootstrap(100)).to_dict()["false_alarms"]
        assert alarms == {
            "n_normal_scans": 0,
            "scans_flagged": None,
            "flagged_slices": {"slices": None, "slices_in_scans": None},
        }

    def test_repeats_are_averaged(self):
        scans = LabeledPredictions(LABELS, [SCORES, 1 - SCORES], 0.5, unit="scans")
        decisions = {"slices": np.stack([ALONE, IN_SCAN])}
        alarms = scan_details(
            make_set(scans=scans, decisions=decisions), Bootstrap(100)
        ).false_alarms
        assert alarms.flagged_slices["slices"].estimate == pytest.approx((5 / 3 + 1 / 3) / 2)
        assert alarms.scans_flagged.estimate == pytest.approx((1 / 3 + 2 / 3) / 2)

    def test_what_does_not_fit_together(self):
        with pytest.raises(DataError, match="slices of 4 scans for 5 labels.*Pass as many"):
            make_set(members=MEMBERS[:4])
        with pytest.raises(DataError, match="1 scans have no slice, the first is number 4"):
            make_set(members=[*MEMBERS[:4], np.array([], int)])


class TestMeanCount:
    def test_interval_worked_by_hand(self):
        counts = np.array([[0, 2, 1, 5, 0, 4]], float)
        mean = mean_count(counts, np.ones(6, bool), Resamples.make(6, None))
        values = counts[0]
        half = t.ppf(0.975, 5) * values.std(ddof=1) / np.sqrt(6) / 2
        assert (mean.estimate, mean.n) == (2, 6)
        assert mean.low == pytest.approx(2 * np.exp(-half))
        assert mean.high == pytest.approx(2 * np.exp(half))

    def test_no_false_alarm_at_all(self):
        members = np.arange(10) < 8
        mean = mean_count(np.zeros((1, 10)), members, Resamples.make(10, None))
        assert (mean.estimate, mean.low, mean.n) == (0, 0, 8)
        # The mean that still has a chance of 2.5 % to show nothing in 8 scans.
        assert poisson.pmf(0, 8 * mean.high) == pytest.approx(0.025)

    @pytest.mark.parametrize("value, n", [(3.0, 1), (1.0, 4)])
    def test_counts_that_do_not_vary(self, value, n):
        mean = mean_count(np.full((1, n), value), np.ones(n, bool), Resamples.make(n, None))
        total = value * n
        assert poisson.cdf(total, n * mean.high) == pytest.approx(0.025)
        assert poisson.sf(total - 1, n * mean.low) == pytest.approx(0.025)

    def test_scans_of_few_patients_say_less(self):
        counts = np.repeat([0.0, 4.0, 1.0, 7.0, 2.0], 4)[None]
        everything = np.ones(20, bool)
        alone = mean_count(counts, everything, Resamples.make(20, None))
        of_patients = mean_count(counts, everything, Resamples.make(20, np.arange(20) // 4))
        assert of_patients.estimate == alone.estimate
        assert of_patients.low < alone.low and of_patients.high > alone.high

    def test_without_members(self):
        assert mean_count(np.zeros((1, 3)), np.zeros(3, bool), Resamples.make(3, None)) is None


@st.composite
def scored_scans(draw):
    n = draw(st.integers(2, 25))
    labels = np.array([0, 1, *draw(st.lists(st.integers(0, 1), min_size=n - 2, max_size=n - 2))])
    levels = draw(st.lists(st.integers(0, 8), min_size=n, max_size=n))
    return labels, np.array(levels) / 8


class TestSpecificityAtSensitivity:
    @settings(max_examples=40)
    @given(scored_scans(), st.sampled_from([0.5, 0.9, 0.95]))
    def test_agrees_with_the_roc_curve_of_scikit_learn(self, data, sensitivity):
        labels, scores = data
        metric = specificity_at_sensitivity(
            labels, scores[None], sensitivity, Resamples.make(len(labels), None, 50)
        )
        false_positive_rate, sensitivities, _ = roc_curve(labels, scores, drop_intermediate=False)
        expected = 1 - false_positive_rate[sensitivities >= sensitivity - 1e-9].min()
        assert metric.estimate == pytest.approx(expected)
        assert 0 <= metric.low <= metric.estimate + 1e-12 and metric.estimate <= metric.high <= 1
        assert metric.n == (labels == 0).sum()

    def test_is_the_mean_over_repeats(self):
        resamples = Resamples.make(5, None, 50)
        scores = np.stack([SCORES, 1 - SCORES])
        each = [
            specificity_at_sensitivity(LABELS, one[None], 0.9, resamples).estimate for one in scores
        ]
        both = specificity_at_sensitivity(LABELS, scores, 0.9, resamples)
        assert both.estimate == pytest.approx(np.mean(each)) and both.n == 3

    def test_needs_both_classes(self):
        resamples = Resamples.make(5, None, 50)
        assert specificity_at_sensitivity(np.ones(5), SCORES[None], 0.9, resamples) is None
        assert specificity_at_sensitivity(np.zeros(5), SCORES[None], 0.9, resamples) is None

    def test_perfect_separation_of_few_scans_proves_little(self):
        labels = np.arange(12) < 6
        metric = specificity_at_sensitivity(
            labels.astype(int), labels[None] * 1.0, 0.9, Resamples.make(12, None, 50)
        )
        assert metric.estimate == metric.high == 1
        assert metric.low == pytest.approx(wilson(6, 6).low)


@given(st.integers(1, 400))
@settings(max_examples=60)
def test_each_scan_falls_into_the_size_that_names_its_number_of_slices(size):
    [row] = metrics_by_size(
        np.array([1]), np.array([[True]]), np.array([size]), Resamples.make(1, None)
    )
    assert row.least <= size and (row.most is None or size <= row.most)
    assert (row.n_positive, row.n_negative, row.specificity) == (1, 0, None)


def test_sizes_divide_the_scans():
    rng = np.random.default_rng(0)
    labels, sizes = rng.integers(0, 2, 60), rng.integers(1, 300, 60)
    decisions = rng.random((1, 60)) < 0.5
    rows = metrics_by_size(labels, decisions, sizes, Resamples.make(60, None))
    assert sum(row.n_positive for row in rows) == labels.sum()
    assert sum(row.n_negative for row in rows) == (labels == 0).sum()
    for row in rows:
        inside = (sizes >= row.least) & (sizes <= (row.most or 10**6))
        expected = recall_score(labels[inside], decisions[0, inside])
        assert row.sensitivity.estimate == pytest.approx(expected)


def test_unknown_subtypes_are_not_counted():
    present = np.array([1.0, np.nan, 0.0, 1.0])
    decisions = np.array([[True, False, True, False]])
    shares = sensitivity_by_subtype({"epidural": present}, decisions, Resamples.make(4, None))
    assert shares["epidural"] == wilson(1, 2)
    assert sensitivity_by_subtype({}, decisions, Resamples.make(4, None)) == {}


def test_notes_name_scans():
    scans = LabeledPredictions(np.zeros(3), [np.full(3, 0.2)], unit="scans")
    metrics = compute_metrics(scans).to_dict()
    assert metrics["intervals_of"] == "scans"
    assert metrics["notes"][0].startswith("all 3 scans are without hemorrhage")
    assert metrics["notes"][-1].endswith("the model does not tell scans apart")
