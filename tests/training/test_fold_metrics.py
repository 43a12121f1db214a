from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from sklearn.metrics import recall_score, roc_auc_score

from hemorrhage_tf.core.progress import Progress
from hemorrhage_tf.datasets.records import Manifest, Record
from hemorrhage_tf.datasets.scan_index import ScanIndex
from hemorrhage_tf.evaluation.logit_calibration import LogitCalibration
from hemorrhage_tf.evaluation.operating_point import choose
from hemorrhage_tf.training.fold_metrics import (
    LevelResult,
    ScanResults,
    fold_metrics,
    known_labels,
    scan_results_without_model,
)
from hemorrhage_tf.training.folds import Fold, FoldResult
from hemorrhage_tf.training.settings import FitSettings

COUNT = 20
LABELS = np.arange(COUNT) % 2
PROBABILITIES = np.linspace(0.05, 0.95, COUNT)


def make_context(patients=None, members=(), labels=LABELS, has_slice_label=None, **settings):
    """Make a context of slices that are known by their labels alone."""
    if has_slice_label is None:
        has_slice_label = np.ones(len(labels), bool)
    members = tuple(np.array(each) for each in members)
    groups = np.arange(len(labels)) if patients is None else patients
    slices = type("Slices", (), {"__len__": lambda self: len(labels)})()
    slices.labels, slices.patient_groups = labels, patients
    slices.has_slice_label = has_slice_label
    slices.scans = ScanIndex(
        names=tuple(map(str, range(len(members)))),
        members=members,
        positions=np.full(len(labels), np.nan),
        labels=np.array([labels[each].max() for each in members], np.int64),
        has_slice_labels=np.array([has_slice_label[each].all() for each in members], bool),
        patients=np.array([groups[each[0]] for each in members] if len(members) else []),
    )
    records = [
        Record(Path(f"{at}.png"), int(one), columns=(str(one),)) for at, one in enumerate(labels)
    ]
    slices.manifest = Manifest(records, Path("."), "csv", columns=("subdural",))
    return SimpleNamespace(
        slices=slices,
        settings=FitSettings(backbone="tiny", **settings),
        progress=Progress(quiet=True),
    )


def compute(results, patients=None, **settings):
    return compute_in(make_context(patients, **settings), results)


def compute_in(context, results, scan_results=None):
    return fold_metrics(
        context,
        results,
        operating_point=choose(LABELS, PROBABILITIES, "threshold=0.5"),
        calibration=LogitCalibration(1.5, -0.5),
        prevalence=None,
        scan_results=scan_results,
    )


def make_results(repeats: int, folds: int) -> list[FoldResult]:
    """Make folds whose thresholds differ from the saved model's."""
    results = []
    for repeat in range(1, repeats + 1):
        for number in range(1, folds + 1):
            test = np.arange(number - 1, COUNT, folds)
            fold = Fold(repeat, number, np.setdiff1d(np.arange(COUNT), test), test)
            probabilities = PROBABILITIES[test]
            results.append(FoldResult(fold, probabilities, probabilities >= 0.3, []))
    return results


class TestFoldMetrics:
    def test_a_single_split_is_evaluated_on_its_test_part(self):
        test = np.arange(12, COUNT)
        fold = Fold(1, 1, np.arange(12), test, leaks=("a.png: on both sides",))
        probabilities = PROBABILITIES[test]
        metrics = compute([FoldResult(fold, probabilities, probabilities >= 0.5, [])])
        assert metrics["evaluated_on"] == "the test part, 8 of 20 slices"
        assert metrics["n"] == 8 and metrics["repeats"]["accuracy"] == [0.5]
        assert metrics["leaks"] == ["a.png: on both sides"]
        assert (metrics["temperature"], metrics["offset"]) == (1.5, -0.5)
        assert metrics["operating_point"]["threshold"] == 0.5

    @pytest.mark.parametrize("repeats, times", [(1, ""), (2, ", 2 times")])
    def test_a_cross_validation_is_evaluated_out_of_fold(self, repeats, times):
        results = make_results(repeats, folds=4)
        metrics = compute(results, folds=4, repeats=repeats)
        assert metrics["evaluated_on"] == f"all 20 slices, out of fold (4 folds{times})"
        assert metrics["n"] == COUNT and len(metrics["repeats"]["accuracy"]) == repeats
        # The decisions are the folds' own.
        accuracy = float(np.mean((PROBABILITIES >= 0.3) == LABELS))
        assert metrics["accuracy"]["estimate"] == pytest.approx(accuracy)
        assert metrics["threshold"] == 0.5

    def test_slices_of_a_patient_are_one_unit(self):
        patients = np.arange(COUNT) // 2
        metrics = compute(make_results(1, folds=4), patients, folds=4)
        assert metrics["intervals_of"] == "patients" and metrics["n_groups"] == COUNT // 2

    def test_without_scans(self):
        metrics = compute(make_results(1, folds=4), folds=4)
        assert metrics["level"] == "slice"
        names = ("slices_in_scans", "scans", "scan_details")
        assert [metrics[name] for name in names] == [None] * 3


@pytest.fixture(scope="module")
def ten_scans():
    """Ten scans of four slices, half with a hemorrhage in some slices, and their folds."""
    rng = np.random.default_rng(3)
    labels = np.zeros(40, np.int64)
    labels[[1, 2, 9, 13, 14, 25, 33]] = 1
    members = np.arange(40).reshape(10, 4)
    results, scores = [], []
    for repeat in (1, 2):
        probabilities = np.clip(0.35 * labels + rng.random(40) * 0.65, 0, 1)
        scores.append(probabilities)
        for number in (1, 2):
            test = members[number - 1 :: 2].ravel()
            fold = Fold(repeat, number, np.setdiff1d(np.arange(40), test), test)
            results.append(FoldResult(fold, probabilities[test], probabilities[test] >= 0.5, []))
    context = make_context(members=members, labels=labels, folds=2, repeats=2)
    return SimpleNamespace(
        context=context, labels=labels, members=members, results=results, scores=scores
    )


class TestScans:
    def test_without_a_scan_model_the_mean_of_the_three_highest_counts(self, ten_scans):
        metrics = compute_in(ten_scans.context, ten_scans.results)
        scans, labels = metrics["scans"], ten_scans.labels[ten_scans.members].max(1)
        means = [np.sort(each[ten_scans.members])[:, -3:].mean(1) for each in ten_scans.scores]
        areas = [roc_auc_score(labels, each) for each in means]
        assert scans["roc_auc"]["estimate"] == pytest.approx(np.mean(areas))
        assert scans["evaluated_on"] == "all 10 scans, out of fold (2 folds, 2 times)"
        assert scans["intervals_of"] == "scans" and scans["n"] == 10
        assert scans["operating_point"]["criterion"] == "youden"
        assert metrics["slices_in_scans"] is None and metrics["level"] == "slice"
        assert metrics["n"] == 40

    def test_the_threshold_of_a_scan_comes_from_the_other_folds(self, ten_scans):
        result = scan_results_without_model(ten_scans.context, ten_scans.results, 0.5)
        labels = ten_scans.labels[ten_scans.members].max(1)
        for scores, decisions in zip(
            result.scans.probabilities, result.scans.decisions, strict=True
        ):
            for test in (np.arange(0, 10, 2), np.arange(1, 10, 2)):
                others = np.setdiff1d(np.arange(10), test)
                threshold = choose(labels[others], scores[others], "youden").threshold
                np.testing.assert_array_equal(decisions[test], scores[test] >= threshold)

    def test_results_of_a_scan_model(self, ten_scans):
        labels = ten_scans.labels
        scan_labels = labels[ten_scans.members].max(1)
        point = choose(scan_labels, np.linspace(0, 1, 10), "threshold=0.25", unit="scans")
        scan_scores = [np.linspace(0.1, 0.9, 10), np.linspace(0.9, 0.1, 10)]
        decided = [scores >= 0.3 for scores in scan_scores]
        in_scans = [np.full(40, 0.2), labels * 0.5]
        metrics = compute_in(
            ten_scans.context,
            ten_scans.results,
            ScanResults(
                scans=LevelResult(
                    indices=np.arange(10), probabilities=scan_scores, decisions=decided, point=point
                ),
                slices_in_scans=LevelResult(
                    indices=np.arange(40), probabilities=in_scans, point=point
                ),
            ),
        )
        expected = np.mean([recall_score(scan_labels, each) for each in decided])
        assert metrics["scans"]["sensitivity"]["estimate"] == pytest.approx(expected)
        assert metrics["scans"]["operating_point"]["threshold"] == 0.25
        # Nothing is flagged in the first repeat, and every hemorrhage in the second.
        assert metrics["slices_in_scans"]["sensitivity"]["estimate"] == 0.5
        assert metrics["slices_in_scans"]["evaluated_on"].startswith("all 40 slices")
        details = metrics["scan_details"]
        assert details["false_alarms"]["n_normal_scans"] == 5
        assert details["false_alarms"]["flagged_slices"]["slices_in_scans"]["estimate"] == 0
        normal = ten_scans.members[scan_labels == 0]
        flagged = np.mean([(each[normal] >= 0.5).sum(1).mean() for each in ten_scans.scores])
        assert details["false_alarms"]["flagged_slices"]["slices"]["estimate"] == flagged
        assert details["by_subtype"]["slices_in_scans"]["subdural"]["estimate"] == 0.5
        assert details["by_subtype"]["scans"]["subdural"]["n"] == 5

    def test_a_single_split_evaluates_its_test_scans(self, ten_scans):
        test = ten_scans.members[[0, 1, 2, 4]].ravel()
        fold = Fold(1, 1, np.setdiff1d(np.arange(40), test), test)
        scores = ten_scans.scores[0]
        context = make_context(members=ten_scans.members, labels=ten_scans.labels)
        metrics = compute_in(context, [FoldResult(fold, scores[test], scores[test] >= 0.5, [])])
        scans = metrics["scans"]
        assert scans["evaluated_on"] == "the test part, 4 of 10 scans" and scans["n"] == 4
        # The threshold for slices applies; it was not chosen on scans.
        assert scans["operating_point"]["threshold"] == 0.5
        assert scans["operating_point"]["chosen_on"]["n_positive"] == 0
        means = np.sort(scores[ten_scans.members[[0, 1, 2, 4]]])[:, -3:].mean(1)
        labels = ten_scans.labels[ten_scans.members[[0, 1, 2, 4]]].max(1)
        expected = np.mean((means >= 0.5) == labels)
        assert scans["accuracy"]["estimate"] == expected

    def test_labels_of_scans_alone_leave_the_level_of_scans(self, ten_scans):
        labels = np.repeat(ten_scans.labels[ten_scans.members].max(1), 4)
        context = make_context(
            members=ten_scans.members,
            labels=labels,
            has_slice_label=np.zeros(40, bool),
            folds=2,
            repeats=2,
        )
        metrics = compute_in(context, ten_scans.results)
        assert metrics["level"] == "scan" and metrics["n"] == metrics["scans"]["n"] == 10
        assert metrics["roc_auc"] == metrics["scans"]["roc_auc"]
        subtypes = metrics["scan_details"]["by_subtype"]
        assert subtypes["scans"]["subdural"]["n"] == 5 and subtypes["slices"]["subdural"] is None

    def test_slices_without_a_label_of_their_own_are_left_out(self, ten_scans):
        labels, has_label = ten_scans.labels.copy(), np.ones(40, bool)
        # A scan with hemorrhage and a normal one: the slices of the second are known negatives.
        labels[:4], has_label[:4], has_label[4:8] = 1, False, False
        context = make_context(
            members=ten_scans.members, labels=labels, has_slice_label=has_label, folds=2, repeats=2
        )
        assert known_labels(context.slices, np.arange(40)).tolist() == list(range(4, 40))
        metrics = compute_in(context, ten_scans.results)
        assert metrics["evaluated_on"].startswith("36 of 40 slices, out of fold")
        assert (metrics["level"], metrics["n"], metrics["scans"]["n"]) == ("slice", 36, 10)
