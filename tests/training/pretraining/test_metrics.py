from dataclasses import replace

import numpy as np
import pytest

from hemorrhage_tf.synthesis.hemorrhage import SUBTYPES
from hemorrhage_tf.training.pretraining.metrics import (
    flatten_metrics,
    pointing_hits,
    slice_metrics,
    threshold_for,
)
from hemorrhage_tf.training.pretraining.samples import Samples

LABELS = np.array([0, 1, 0, 1, 0, 1], np.uint8)
SAMPLES = Samples(
    images=np.zeros((6, 1, 1), np.uint8),
    maps=np.zeros((6, 1, 1, 7), np.uint8),
    labels=LABELS,
    blood=LABELS * 31,
    pointable=np.zeros((6, 1, 1), np.uint8),
)


def test_the_threshold_reaches_the_specificity():
    probabilities = np.linspace(0, 0.99, 100)
    threshold = threshold_for(probabilities, 0.97)
    assert (probabilities < threshold).mean() == pytest.approx(0.97)
    assert threshold_for(probabilities, 1.0) == 1.0


def test_perfect_probabilities_have_perfect_metrics():
    metrics = slice_metrics(np.where(LABELS, 0.9, 0.1), SAMPLES, 0.5)
    assert metrics["roc_auc"] == metrics["accuracy"] == 1
    assert metrics["sensitivity"] == metrics["specificity"] == 1
    assert metrics["subtypes"].keys() == set(SUBTYPES)


def test_subtypes_are_compared_with_samples_without_a_hemorrhage():
    samples = replace(SAMPLES, blood=np.array([0, 1, 0, 30, 0, 31], np.uint8))
    probabilities = np.array([0.5, 0.1, 0.5, 0.9, 0.5, 0.9])
    metrics = slice_metrics(probabilities, samples, 0.5)["subtypes"]
    assert metrics["intraparenchymal"] == {"roc_auc": 0.5, "sensitivity": 0.5, "n": 2}
    assert metrics["epidural"] == {"roc_auc": 1.0, "sensitivity": 1.0, "n": 2}


def test_pointing_hits_where_the_cell_of_the_maximum_has_blood():
    blood = np.zeros((3, 8, 8), bool)
    blood[:, 3, 4] = True  # in the second row and third column of cells of two pixels
    cams = np.zeros((3, 4, 4), np.float32)
    cams[0, 1, 2] = cams[1, 1, 1] = cams[2, 2, 2] = 5
    assert pointing_hits(cams, blood).tolist() == [True, False, False]


def test_all_metrics_lie_in_one_level_for_the_model_card():
    metrics = slice_metrics(np.where(LABELS, 0.9, 0.1), SAMPLES, 0.5)
    metrics["pointing"] = {name: {"hits": 0.12345, "n": 3} for name in ("any", *SUBTYPES)}
    rows = flatten_metrics(metrics)
    assert rows["pointing_accuracy"] == rows["subdural: pointing_accuracy"] == 0.1235
    assert rows["epidural: n"] == 3
    assert not any(isinstance(value, dict) for value in rows.values())
