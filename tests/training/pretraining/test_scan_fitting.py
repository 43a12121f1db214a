from dataclasses import replace

import numpy as np
import pytest
from scan_features import first_feature_head, made_up_scans
from scipy.special import expit
from sklearn.metrics import roc_auc_score

from hemorrhage_tf.training import scan_loop
from hemorrhage_tf.training.pretraining.scan_fitting import (
    OutOfFold,
    ScanLogits,
    cross_validate,
    fit_scan_model,
    known_positions,
    scan_probabilities,
)


@pytest.fixture(autouse=True)
def few_steps(monkeypatch):
    monkeypatch.setattr(scan_loop, "STEPS", 6)


@pytest.fixture(scope="module")
def scans():
    return made_up_scans(8)


def test_half_of_the_display_images_have_no_position(scans):
    unknown = np.isnan(known_positions(scans))
    assert np.unique(scans.scans[unknown] // 2).tolist() == []
    more = replace(scans, display=np.ones(len(scans), bool))
    unknown = np.isnan(known_positions(more))
    assert np.unique(more.scans[unknown] // 2).tolist() == [0, 2, 4, 6]
    np.testing.assert_array_equal(known_positions(more)[~unknown], more.positions[~unknown])


def logits_alone(scans):
    kernel, bias = first_feature_head()
    return (scans.features @ kernel + bias)[:, 0]


class TestCrossValidate:
    @pytest.mark.slow
    def test_a_head_s_labels_do_not_change_its_own_predictions(self, scans):
        alone = logits_alone(scans)
        logits = cross_validate(scans, alone, "pooling", 4, 0)
        assert roc_auc_score(scans.scan_labels, logits.scans) > 0.8
        own = scans.scans // 2 == 3
        other = replace(scans, labels=np.where(own, 1 - scans.labels, scans.labels))
        changed = cross_validate(other, alone, "pooling", 4, 0)
        np.testing.assert_allclose(changed.scans[6:8], logits.scans[6:8], atol=1e-6)
        np.testing.assert_allclose(changed.slices[own], logits.slices[own], atol=1e-6)
        assert not np.allclose(changed.scans, logits.scans, atol=1e-3)


@pytest.fixture
def noisy(scans):
    """Return logits of a scan model out of fold that are too high."""
    rng = np.random.default_rng(1)
    logits = ScanLogits(
        2.0 * scans.scan_labels + rng.normal(size=len(scans.scan_labels)) + 3.0,
        2.0 * scans.labels + rng.normal(size=len(scans)) + 3.0,
    )
    return OutOfFold(logits_alone(scans), logits)


class TestFitScanModel:
    def test_the_model_is_calibrated_on_the_logits_out_of_fold(self, scans, noisy):
        model, calibrations = fit_scan_model(scans, first_feature_head(), "pooling", noisy, 0)
        for name, calibration in zip(("scan", "slice"), calibrations, strict=True):
            kernel, bias = model.get_layer(f"{name}_calibration").get_weights()
            assert kernel.item() == pytest.approx(1 / calibration.temperature)
            assert bias.item() == pytest.approx(calibration.offset)
        # The mean of calibrated probabilities is the share of hemorrhage.
        calibrated = calibrations[1].apply(expit(noisy.by_scan_model.slices))
        assert calibrated.mean() == pytest.approx(scans.labels.mean(), abs=0.02)
        of_scans, of_slices = scan_probabilities(model, scans)
        assert of_scans.shape == (16,) and of_slices.shape == (len(scans),)
        assert roc_auc_score(scans.labels, of_slices) > 0.9

    @pytest.mark.slow
    @pytest.mark.parametrize("kind", ["attention", "gru"])
    def test_the_same_seed_gives_the_same_weights(self, scans, noisy, kind):
        models = [fit_scan_model(scans, first_feature_head(), kind, noisy, 0)[0] for _ in "ab"]
        for first, second in zip(*(model.get_weights() for model in models), strict=True):
            np.testing.assert_array_equal(first, second)
