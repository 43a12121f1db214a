from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from report_examples import draw_levels, draw_predictions

from hemorrhage_tf.core.errors import DataError
from hemorrhage_tf.evaluation.labeled_predictions import LabeledPredictions
from hemorrhage_tf.evaluation.metrics import binary_metrics
from hemorrhage_tf.evaluation.plots.models import models_to_plot

NAMES = ("roc_auc", "pr_auc", "accuracy", "sensitivity", "specificity", "ppv", "npv")


@pytest.mark.parametrize("groups", [None, np.arange(60) // 3])
def test_metrics_of_arrays_equal_binary_metrics(groups):
    labels, repeats = draw_predictions(n=60, repeats=2)
    expected = binary_metrics(labels, list(repeats), 0.4, groups=groups)
    [model] = models_to_plot(labels, repeats, threshold=0.4, groups=groups)
    for name in NAMES:
        assert model.metric(name) == pytest.approx(expected[name]), name
    assert model.confusion == pytest.approx(expected["confusion"])
    assert model.reliability == expected["calibration"]["reliability"]


@pytest.fixture(scope="module")
def evaluation():
    labels, repeats = draw_predictions()
    levels, _ = draw_levels()
    metrics = {**binary_metrics(labels, list(repeats)), "level": "slice"}
    return SimpleNamespace(
        metrics={**metrics, **{level.name: level.metrics for level in levels}},
        levels={
            "slices": LabeledPredictions(labels, list(repeats)),
            **{level.name: level.predictions for level in levels},
        },
    )


def test_an_evaluation_brings_its_metrics(evaluation):
    [model] = models_to_plot(evaluation)
    assert model.metric("roc_auc") is evaluation.metrics["roc_auc"]
    [model] = models_to_plot(evaluation, level="scans")
    assert model.metric("roc_auc") is evaluation.metrics["scans"]["roc_auc"]
    assert model.unit == "scans"


def test_a_mapping_names_its_models(evaluation):
    assert [one.name for one in models_to_plot({"a": evaluation, "b": evaluation})] == ["a", "b"]


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        ((3,), {}, "int: cannot be plotted. Pass a Run, an Evaluation, or labels"),
        (({},), {}, "0 models: a plot shows 1 to 4"),
        (([0, 1], dict.fromkeys("abcde", [0.1, 0.2])), {}, "5 models: a plot shows 1 to 4"),
        (([0, 1], [0.1]), {}, "1 predictions for 2 labels"),
    ],
)
def test_errors(arguments, options, message):
    with pytest.raises(DataError, match=message):
        models_to_plot(*arguments, **options)


def test_options_of_arrays_and_unknown_levels_are_errors(evaluation):
    with pytest.raises(DataError, match="threshold and groups belong to labels"):
        models_to_plot(evaluation, threshold=0.5)
    with pytest.raises(DataError, match="level 'scan': .* Pass one of 'slices', 'slices_in_scans'"):
        models_to_plot(evaluation, level="scan")
