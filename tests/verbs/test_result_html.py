from __future__ import annotations

import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
from report_examples import draw_level_metrics

import hemorrhage_tf as htf
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


def relabel(folder, label_of):
    """Replace the labels of a Kaggle-style folder by what `label_of(place, label)` returns."""
    table = folder / "labels.csv"
    header, *rows = table.read_text().splitlines()
    cells = [row.rpartition(",") for row in rows]
    labeled = [f"{ids},{label_of(at, int(label))}" for at, (ids, _, label) in enumerate(cells)]
    table.write_text("\n".join([header, *labeled]) + "\n")
    return folder


def test_an_evaluation_shows_its_worst_errors_with_the_scale(kaggle_folder, fit_once):
    swapped = relabel(kaggle_folder, lambda _, label: 1 - label)  # so most predictions are wrong
    evaluation = htf.evaluate(swapped, model=fit_once(), quiet=True)
    html = evaluation._repr_html_()
    errors = evaluation.previews.errors
    assert [one.label for one in errors] == [1, 1, 1, 0, 0, 0]
    assert html.count("<img ") == 6 and "Evidence above the threshold" in html
    wrong = {label: [] for label in (0, 1)}
    for prediction, label in zip(evaluation.predictions, evaluation.labels, strict=True):
        if prediction.is_hemorrhage != label:
            wrong[label].append(prediction.probability)
    missed, alarms = sorted(wrong[1])[:3], sorted(wrong[0])[-3:][::-1]
    assert [one.probability for one in errors] == pytest.approx([*missed, *alarms])
    for one in errors:
        assert f"{'missed' if one.label else 'false alarm'}: {one.name}" in html


def test_an_evaluation_without_an_error_shows_no_slice(kaggle_folder, fit_once):
    model = htf.load(fit_once())
    predictions = htf.evaluate(kaggle_folder, model=model, quiet=True).predictions
    relabel(kaggle_folder, lambda at, _: int(predictions[at].is_hemorrhage))
    evaluation = htf.evaluate(kaggle_folder, model=model, quiet=True)
    assert evaluation.previews.errors == () and "<img " not in evaluation._repr_html_()


def test_a_run_shows_its_worst_errors_until_the_model_is_gone(kaggle_folder, tmp_path):
    data = relabel(kaggle_folder, lambda at, _: at % 2)  # nothing to learn
    out, cache = tmp_path / "run", tmp_path / "cache"
    settings = {"backbone": "tiny", "image_size": 32, "views": 1, "audit": False, "quiet": True}
    run = htf.fit(data, out=out, cache=cache, folds=2, **settings)
    errors = run.previews.errors
    assert 0 < len(errors) <= 6 and run._repr_html_().count("<img ") == len(errors)
    assert pickle.loads(pickle.dumps(run)).previews is None
    shutil.rmtree(out)
    html = run._repr_html_()
    assert "<img " not in html and "the model is not there any more" in html
