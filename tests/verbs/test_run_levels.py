from __future__ import annotations

import json

import numpy as np
import pytest

import hemorrhage_tf as htf
from hemorrhage_tf.evaluation.metrics import compute_metrics
from hemorrhage_tf.verbs.results import Run


def open_run(path) -> Run:
    return Run(path, {}, json.loads((path / "metrics.json").read_text()))


@pytest.mark.parametrize("settings", [{}, {"folds": 2}])
def test_levels_of_a_run_have_its_metrics(fit_once, settings):
    run = open_run(fit_once(**settings))
    assert list(run.levels) == ["slices"]
    metrics = compute_metrics(run.levels["slices"]).to_dict()
    for name in ("accuracy", "sensitivity", "specificity", "roc_auc", "brier"):
        assert metrics[name] == pytest.approx(run.metrics[name], abs=1e-5), name
    assert metrics["confusion"] == run.metrics["confusion"]


def test_a_level_that_the_tables_do_not_hold_is_left_out(fit_once):
    run = open_run(fit_once())
    assert Run(run.path, {}, {**run.metrics, "n": run.metrics["n"] + 1}).levels == {}


def test_history_has_a_row_for_each_epoch(fit_once):
    run = open_run(fit_once(epochs=2))
    assert [row["epoch"] for row in run.history][:2] == ["1", "2"]


def test_an_evaluation_has_the_predictions_that_its_metrics_count(fit_once, dicom_once):
    evaluation = htf.evaluate(dicom_once, model=fit_once(), quiet=True)
    predictions = evaluation.levels["slices"]
    assert len(np.unique(predictions.groups)) == 24
    assert compute_metrics(predictions).to_dict()["roc_auc"] == evaluation.metrics["roc_auc"]
    ax = htf.plots.plot_roc({"run": open_run(fit_once()), "evaluation": evaluation})
    area = evaluation.metrics["roc_auc"]
    assert f"evaluation: AUC {area['estimate']:.3f}" in ax.get_legend().get_texts()[1].get_text()
