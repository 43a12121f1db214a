from __future__ import annotations

import shutil
from dataclasses import replace

import numpy as np
import pytest
from scipy import special

from hemorrhage_tf.core.errors import ModelError
from hemorrhage_tf.inference.keras_model import KerasModel, load_classifier
from hemorrhage_tf.models.run_files import MODEL_FILE, SCAN_MODEL_FILE
from hemorrhage_tf.models.scan_model import scan_geometry


def build_toy_scan_model(width):
    """Build a scan model by hand: the mean of each slice's features, and the mean of these."""
    import keras

    features = keras.Input((None, width), name="features")
    geometry = keras.Input((None, 3), name="geometry")
    mask = keras.Input((None,), name="mask")
    logits = keras.ops.mean(features, axis=-1) + geometry[:, :, 0]
    total = keras.ops.sum(logits * mask, axis=1, keepdims=True)
    mean = total / keras.ops.sum(mask, axis=1, keepdims=True)
    return keras.Model(
        {"features": features, "geometry": geometry, "mask": mask},
        {
            "probability": keras.ops.sigmoid(mean),
            "slice_probability": keras.ops.sigmoid(logits),
        },
    )


@pytest.fixture(scope="module")
def folder(run_folder, tmp_path_factory):
    """A run folder with a scan model."""
    folder = tmp_path_factory.mktemp("runs") / "scans"
    shutil.copytree(run_folder, folder)
    _, classifier = load_classifier(folder)
    width = classifier.get_layer("standardization").output.shape[-1]
    build_toy_scan_model(width).save(folder / SCAN_MODEL_FILE)
    return folder


@pytest.fixture
def scan_model(folder):
    metadata, classifier = load_classifier(folder)
    return KerasModel(folder, replace(metadata, scan_model="pooling"), classifier)


def test_the_features_are_those_of_the_head(scan_model, series, head):
    prediction = scan_model.predict(series[0].parent)
    model_input = scan_model.input_for(np.array([True]))
    features = scan_model.standardized(series, model_input)
    images = np.stack([model_input(head(index)) for index in range(5)])
    probabilities, found = scan_model.run_with_features(images)
    np.testing.assert_allclose(found, features, atol=1e-5)
    np.testing.assert_allclose(probabilities, scan_model.run(images), atol=1e-6)
    together = scan_model.run_outputs(images, features=True, cam=True)
    np.testing.assert_allclose(together["features"], found, atol=1e-5)
    maps = scan_model.run_with_cam(images)[1]
    np.testing.assert_allclose(together["cam"], maps, rtol=1e-4, atol=1e-5)
    logits = features.mean(axis=1) + np.linspace(0, 1, 5)
    (scan,) = prediction.scans
    assert scan.probability == pytest.approx(special.expit(logits.mean()), abs=1e-5)
    in_scan = [one.probability_in_scan for one in prediction]
    assert in_scan == pytest.approx(special.expit(logits), abs=1e-5)


@pytest.mark.parametrize("length", [1, 7, 260])
def test_takes_scans_of_any_length(scan_model, length):
    width = scan_model.run_with_features(np.zeros((1, 32, 32, 3), np.float32))[1].shape[1]
    features = np.random.default_rng(0).normal(size=(length, width)).astype(np.float32)
    geometry = scan_geometry(np.arange(length) * 5.0)
    output = scan_model.run_scan(features, geometry)
    logits = features.mean(axis=1) + geometry[:, 0]
    assert output.probability == pytest.approx(special.expit(logits.mean()), abs=1e-5)
    np.testing.assert_allclose(output.slice_probabilities, special.expit(logits), atol=1e-5)


def test_a_missing_scan_model_matters_for_scans_only(folder, series, tmp_path):
    alone = tmp_path / "alone"
    alone.mkdir()
    shutil.copy(folder / MODEL_FILE, alone)
    metadata, classifier = load_classifier(alone)
    model = KerasModel(alone / MODEL_FILE, replace(metadata, scan_model="gru"), classifier)
    assert len(model.predict(series[0])) == 1
    message = f"{alone / MODEL_FILE}: its scan model is missing .*{SCAN_MODEL_FILE}.*Copy it there"
    with pytest.raises(ModelError, match=message):
        model.predict(series)
    (alone / SCAN_MODEL_FILE).write_bytes(b"text")
    with pytest.raises(ModelError, match=f"{SCAN_MODEL_FILE}: the file is damaged"):
        model.predict(series)


def test_a_model_without_a_scan_model_says_so(model, series):
    assert not model.has_scan_model
    with pytest.raises(ModelError, match="this model has no scan model"):
        model.run_with_features(np.zeros((1, 32, 32, 3), np.float32))
    assert model.predict(series)[0].probability_in_scan is None
