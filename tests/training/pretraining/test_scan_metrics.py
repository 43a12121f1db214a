import numpy as np
import pytest
from scan_features import made_up_scans
from sklearn.metrics import roc_auc_score

from hemorrhage_tf.evaluation.intervals import wilson
from hemorrhage_tf.training.pretraining.scan_metrics import ScanDecisions, scan_model_metrics


@pytest.fixture
def scans():
    return made_up_scans(10)


def metrics_of(scans, of_scans, of_slices):
    alone = np.linspace(0, 1, len(scans))
    return scan_model_metrics(scans, ScanDecisions(of_scans, of_slices, alone, 0.5, 0.5))


def test_counts_scans_by_length_form_and_extent(scans):
    of_scans = np.where(scans.scan_labels, 0.9, 0.1)
    of_scans[[1, 3, 4]] = 0.4, 0.4, 0.8  # two missed, one false alarm
    of_slices = np.where(scans.labels, 0.7, 0.2)
    metrics = metrics_of(scans, of_scans, of_slices)
    assert metrics["n"] == 20 and metrics["slices"] == len(scans)
    assert metrics["sensitivity"] == 0.8 and metrics["specificity"] == 0.9
    interval = wilson(8, 10)
    assert metrics["sensitivity_interval"] == [interval.low, interval.high]
    assert metrics["roc_auc"] == pytest.approx(roc_auc_score(scans.scan_labels, of_scans))
    low, high = metrics["roc_auc_interval"]
    assert low < metrics["roc_auc"] < high
    assert metrics["20 to 29 slices: n"] == 20 and metrics["30 to 49 slices: n"] == 0
    assert metrics["30 to 49 slices: roc_auc"] is None
    assert metrics["30 to 49 slices: specificity"] is None
    assert metrics["Hounsfield units: specificity"] == 0.8  # the false alarm is of head 2
    assert metrics["display images: specificity"] == 1.0
    assert metrics["hemorrhage in 1 to 3 slices: n"] == 10
    assert metrics["hemorrhage in 1 to 3 slices: sensitivity"] == 0.8
    assert metrics["hemorrhage in 10 to 250 slices: sensitivity"] is None


def test_compares_slices_alone_and_in_their_scans(scans):
    of_slices = np.where(scans.labels, 0.7, 0.2)
    normal = np.flatnonzero(np.isin(scans.scans, 2 * np.arange(10)))
    of_slices[normal[:7]] = 0.6
    metrics = metrics_of(scans, scans.scan_labels * 0.8, of_slices)
    assert metrics["slice_in_scan_sensitivity"] == 1.0
    assert metrics["slice_in_scan_specificity"] == pytest.approx(1 - 7 / len(normal))
    alone = np.linspace(0, 1, len(scans))
    assert metrics["slice_roc_auc"] == pytest.approx(roc_auc_score(scans.labels, alone))
    highest = [np.sort(alone[members])[-3:].mean() for members in scans.members]
    expected = roc_auc_score(scans.scan_labels, highest)
    assert metrics["roc_auc_of_three_highest"] == pytest.approx(expected)
