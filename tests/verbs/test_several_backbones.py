"""Fits on the features of two backbones side by side."""

from __future__ import annotations

import json

import numpy as np
import pytest

import hemorrhage_tf as htf
from hemorrhage_tf.inference.keras_model import load_classifier

BOTH = {"backbone": "tiny+phantomnet", "weights": "none"}
# A pooling and a cut of one backbone that are not the defaults.
SMALL = {
    "weights": "none",
    "image_size": 32,
    "views": 1,
    "pooling": "max",
    "calibration": "none",
}
CUT = "block2_out"


@pytest.fixture(scope="module")
def run_and_cache(kaggle_once, tmp_path_factory, quick):
    """A fit of both backbones, and its feature cache."""
    folder = tmp_path_factory.mktemp("side by side")
    settings = {**quick, **SMALL, "backbone": "tiny+phantomnet", "feature_layer": f"tiny={CUT}"}
    run = htf.fit(kaggle_once, out=folder / "run", cache=folder / "cache", **settings)
    return run, folder / "cache"


def check_config(run, image_size):
    config = json.loads((run / "config.json").read_text())
    assert config["model"]["backbone"] == "tiny+phantomnet"
    assert config["model"]["image_size"] == image_size
    assert htf.FitSettings(**config["settings"]).to_dict() == config["settings"]


def test_the_saved_model_repeats_the_written_predictions(
    run_and_cache, kaggle_once, check_model_repeats
):
    run, _ = run_and_cache
    written = check_model_repeats(run.path, kaggle_once)
    assert np.ptp(written) > 1e-3
    check_config(run.path, 32)


@pytest.mark.slow
@pytest.mark.parametrize(
    "settings",
    [
        # Their own sizes: tiny receives images resized from 192 to 64 pixels.
        {"image_size": None, "views": 2},
        {"image_size": 32, "pooling": "avg", "feature_cache": False, "epochs": 1},
    ],
    ids=["own sizes", "streamed"],
)
def test_the_saved_model_repeats_them_with_other_settings(
    fit_once, kaggle_once, check_model_repeats, settings
):
    run = fit_once(**BOTH, **settings)
    written = check_model_repeats(run, kaggle_once)
    assert np.ptp(written) > 1e-3
    check_config(run, settings["image_size"] or 192)


@pytest.mark.parametrize(
    "alone",
    [
        {"backbone": "tiny", "feature_layer": CUT},
        pytest.param({"backbone": "phantomnet"}, marks=pytest.mark.slow),
    ],
    ids=["tiny", "phantomnet"],
)
@pytest.mark.slow
def test_features_are_shared_with_each_backbone_alone(
    run_and_cache, kaggle_once, tmp_path, quick, monkeypatch, alone
):
    run, cache = run_and_cache

    def refuse(*arguments):
        raise AssertionError("the backbone ran again")

    monkeypatch.setattr("hemorrhage_tf.training.features.source.FeatureSource.forward", refuse)
    settings = {**quick, **SMALL, **alone}
    other = htf.fit(kaggle_once, out=tmp_path / "run", cache=cache, **settings)
    assert other.config["model"]["weights_hash"] != run.config["model"]["weights_hash"]


@pytest.mark.slow
def test_one_of_two_backbones_is_fine_tuned(fit_once, kaggle_once, check_model_repeats):
    settings = {**BOTH, "image_size": 32, "views": 2, "calibration": "none"}
    tuning = {
        "fine_tune_from": "tiny=block3_convolution",
        "fine_tune_epochs": 1,
        "fine_tune_learning_rate": 1e-3,
    }
    run, plain = fit_once(**settings, **tuning), fit_once(**settings)
    tuned, frozen = (load_classifier(path)[1] for path in (run, plain))
    changed = set()
    for name in ("tiny", "phantomnet"):
        pairs = zip(tuned.get_layer(name).weights, frozen.get_layer(name).weights, strict=True)
        changed |= {a.path for a, b in pairs if not np.array_equal(a.numpy(), b.numpy())}
    assert changed == {"block3_convolution/kernel"}
    check_model_repeats(run, kaggle_once)
