from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from report_examples import draw_level_metrics

from hemorrhage_tf.evaluation.metrics import binary_metrics
from hemorrhage_tf.reports.number_formats import format_metric
from hemorrhage_tf.verbs.results import Evaluation, Run


@pytest.fixture(scope="module")
def metrics():
    return draw_level_metrics()


def test_a_run_shows_each_level_with_intervals_and_its_confusion(metrics):
    html = Run(Path("runs/<first>"), {}, metrics)._repr_html_()
    assert "Run &lt;first&gt;" in html
    for level in (metrics, metrics["slices_in_scans"], metrics["scans"]):
        assert format_metric(level["roc_auc"]) in html
        assert format_metric(level["sensitivity"], percent=True) in html
        counts = [f"{count:g}" for count in level["confusion"].values()]
        assert f"<td>{counts[0]}</td><td>{counts[1]}</td>" in html
    assert html.count("Confusion matrix of") == 3
    assert "<script" not in html and "http" not in html


def test_metrics_that_are_missing_are_dashes():
    metrics = binary_metrics(np.ones(4), [np.full(4, 0.8)])
    metrics |= {"level": "slice", "slices_in_scans": None, "scans": None, "scan_details": None}
    evaluation = Evaluation(metrics, (), np.ones(4), "slice", 0)
    html = evaluation._repr_html_()
    assert "ROC AUC</th><td>-</td>" in html and html.count("Confusion matrix of") == 1
    for note in metrics["notes"]:
        assert note[1:].split("<")[0][:20] in html
