from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from hemorrhage_tf.evaluation.logit_calibration import LogitCalibration
from hemorrhage_tf.evaluation.operating_point import choose
from hemorrhage_tf.training.fold_metrics import fold_metrics
from hemorrhage_tf.training.folds import Fold, FoldResult
from hemorrhage_tf.training.settings import FitSettings

COUNT = 20
LABELS = np.arange(COUNT) % 2
PROBABILITIES = np.linspace(0.05, 0.95, COUNT)


def compute(results, patients=None, **settings):
    slices = type("Slices", (), {"__len__": lambda self: COUNT})()
    slices.labels, slices.patient_groups = LABELS, patients
    context = SimpleNamespace(slices=slices, settings=FitSettings(backbone="tiny", **settings))
    return fold_metrics(
        context,
        results,
        operating_point=choose(LABELS, PROBABILITIES, "threshold=0.5"),
        calibration=LogitCalibration(1.5, -0.5),
        prevalence=None,
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
