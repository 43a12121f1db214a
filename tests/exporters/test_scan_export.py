"""Exports of a model with a scan model: the second signature, and its verification."""

from __future__ import annotations

import keras
import numpy as np
import pytest

import hemorrhage_tf as htf
from hemorrhage_tf.core.errors import ModelError
from hemorrhage_tf.exporters.reference_slices import SLICES_OF_A_SEQUENCE, ReferenceSlices
from hemorrhage_tf.exporters.settings import ExportSettings
from hemorrhage_tf.exporters.tflite import convert
from hemorrhage_tf.inference.keras_model import load_classifier
from hemorrhage_tf.inference.tflite_model import FixedShapeTFLiteModel
from hemorrhage_tf.models.scan_model import PADDED_SCAN_SLICES, scan_geometry

IMAGES = np.random.default_rng(0).integers(0, 256, (8, 32, 32, 3)).astype(np.float32)


def scan_inputs(width: int, count: int, seed: int = 0) -> dict[str, np.ndarray]:
    """Return the features and the geometry of a scan."""
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(count, width)).astype(np.float32)
    return {"features": features, "geometry": scan_geometry(np.arange(count) * 5.0)}


def expected_outputs(model, features, geometry):
    mask = np.ones((1, len(features)), np.float32)
    inputs = {"features": features[None], "geometry": geometry[None], "mask": mask}
    outputs = model(inputs, training=False)
    return outputs["probability"].numpy()[0, 0], outputs["slice_probability"].numpy()[0]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        ("pooling", ExportSettings()),
        ("attention", ExportSettings(quantize="float16", batch="dynamic")),
        ("gru", ExportSettings(quantize="int8", cam=True)),
    ],
)
def test_a_tflite_file_runs_scans_of_any_length(
    trained_classifier, random_scan_model, kind, settings
):
    from ai_edge_litert.interpreter import Interpreter

    classifier = trained_classifier("avg_max")
    width = classifier.get_layer("standardization").output.shape[-1]
    scan_model = random_scan_model(kind, width)
    model = convert(classifier, 32, settings, list(IMAGES), scan_model)
    interpreter = Interpreter(model_content=model)
    runner = interpreter.get_signature_runner("serve_scan")
    for count in (1, 40, 3):
        inputs = scan_inputs(width, count, seed=count)
        outputs = runner(**{name: values[None] for name, values in inputs.items()})
        probability, slices = expected_outputs(scan_model, **inputs)
        # The scan model stays in float32, whatever happens to the backbone.
        np.testing.assert_allclose(outputs["probability"][0, 0], probability, atol=1e-5)
        np.testing.assert_allclose(outputs["slice_probability"][0], slices, atol=1e-5)
        padded = {
            name: np.full((1, PADDED_SCAN_SLICES, values.shape[1]), 9, np.float32)
            for name, values in inputs.items()
        }
        for name, values in inputs.items():
            padded[name][0, :count] = values
        mask = (np.arange(PADDED_SCAN_SLICES) < count).astype(np.float32)[None]
        outputs = interpreter.get_signature_runner("serve_padded_scan")(**padded, mask=mask)
        np.testing.assert_allclose(outputs["probability"][0, 0], probability, atol=1e-5)
        np.testing.assert_allclose(outputs["slice_probability"][0, :count], slices, atol=1e-5)
    outputs = interpreter.get_signature_runner("serving_default")(image=IMAGES[:1])
    to_features = keras.Model(classifier.input, classifier.get_layer("standardization").output)
    if settings.quantize == "none":
        np.testing.assert_allclose(outputs["features"], to_features(IMAGES[:1]), atol=1e-4)
    assert outputs["features"].shape == (1, width)
    # An interpreter that is used without signatures predicts slices.
    details = Interpreter(model_content=model).get_input_details()
    assert [tuple(each["shape"]) for each in details] == [(1, 32, 32, 3)]


@pytest.mark.parametrize("target", ["a.tflite", pytest.param("saved", marks=pytest.mark.slow)])
def test_an_export_predicts_scans_like_the_run(scan_run, write_series, head, tmp_path, target):
    export = htf.export(scan_run, tmp_path / target, quiet=True)
    assert export.verifications.keys() >= {
        "serving_default",
        "serve_scan, scans",
        "serve_scan, slices",
    }
    if target == "a.tflite":
        assert export.verifications["serve_padded_scan, slices"].largest_difference < 1e-4
        model = FixedShapeTFLiteModel(export.path)
        width = len(model.run_with_features(IMAGES[:1])[1][0])
        too_many = np.zeros((PADDED_SCAN_SLICES + 1, width), np.float32)
        with pytest.raises(ModelError, match="takes at most 512 slices, and the scan has 513"):
            model.run_scan(too_many, scan_geometry(np.arange(len(too_many)) * 1.0))
    folder = write_series(tmp_path / "series", [head(index) for index in range(6)])[0].parent
    run, exported = (htf.predict(folder, model=one, quiet=True) for one in (scan_run, export.path))
    assert exported.scans[0].probability == pytest.approx(run.scans[0].probability, abs=1e-4)
    in_scans = [[one.probability_in_scan for one in result] for result in (run, exported)]
    assert None not in in_scans[1]
    np.testing.assert_allclose(in_scans[1], in_scans[0], atol=1e-4)


def test_an_export_whose_scan_model_differs_is_rejected(scan_run, tmp_path, monkeypatch):
    from hemorrhage_tf.exporters import export as exporter

    def convert_other_scan_model(classifier, size, settings, calibration, scan_model):
        weights = scan_model.get_weights()
        scan_model.set_weights([weights[0] * 3, *weights[1:]])
        model = convert(classifier, size, settings, calibration, scan_model)
        scan_model.set_weights(weights)
        return model

    monkeypatch.setattr(exporter, "convert", convert_other_scan_model)
    with pytest.raises(ModelError, match="serve_scan, .* differs too much from the trained one"):
        htf.export(scan_run, tmp_path / "a.tflite", quiet=True)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_saved_model_pads_scans_of_several_lengths(scan_run, tmp_path):
    import tensorflow as tf

    export = htf.export(scan_run, tmp_path / "saved", quiet=True)
    serve = tf.saved_model.load(str(export.path)).signatures["serve_scan"]
    _, classifier = load_classifier(scan_run)
    width = classifier.get_layer("standardization").output.shape[-1]
    scans = [scan_inputs(width, count, seed=count) for count in (2, 5)]
    padded = {
        name: np.stack([np.pad(one[name], ((0, 5 - len(one[name])), (0, 0))) for one in scans])
        for name in ("features", "geometry")
    }
    mask = np.array([[1, 1, 0, 0, 0], [1, 1, 1, 1, 1]], np.float32)
    outputs = serve(**{name: tf.constant(each) for name, each in padded.items()}, mask=mask)
    model = htf.load(scan_run)
    for row, one in enumerate(scans):
        alone = model.run_scan(one["features"], one["geometry"])
        count = len(one["features"])
        probability = float(outputs["probability"][row, 0])
        assert probability == pytest.approx(alone.probability, abs=1e-5)
        np.testing.assert_allclose(
            outputs["slice_probability"][row, :count], alone.slice_probabilities, atol=1e-5
        )


def test_a_model_without_a_scan_model_has_one_signature(exports_once):
    from ai_edge_litert.interpreter import Interpreter

    signatures = Interpreter(str(exports_once / "a.tflite")).get_signature_list()
    assert signatures == {"serving_default": {"inputs": ["image"], "outputs": ["probability"]}}
    assert not htf.load(exports_once / "a.tflite").has_scan_model
    assert not htf.load(exports_once / "1").has_scan_model


def test_slices_of_no_scan_are_compared_in_sequences():
    count = 2 * SLICES_OF_A_SEQUENCE + 3
    slices = ReferenceSlices([None] * count, np.zeros(count, int))
    lengths = [len(members) for members in slices.sequences.members]
    assert lengths == [SLICES_OF_A_SEQUENCE, SLICES_OF_A_SEQUENCE, 3]
    np.testing.assert_array_equal(np.concatenate(slices.sequences.members), np.arange(count))


@pytest.mark.slow
def test_full_int8_leaves_the_scan_model_out_and_says_so(scan_run, tmp_path, capsys):
    target = tmp_path / "integers.tflite"
    htf.export(scan_run, target, quantize="full-int8")
    assert "so the file has no scan model" in " ".join(capsys.readouterr().err.split())
    model = htf.load(target)
    assert not model.has_scan_model and model.scan_threshold == model.threshold
