from __future__ import annotations

import numpy as np
import pytest

from hemorrhage_tf.core.errors import OptionError
from hemorrhage_tf.exporters.settings import ExportSettings
from hemorrhage_tf.exporters.tflite import convert, convert_to_integers
from hemorrhage_tf.exporters.tflite_metadata import operator_names

SIZE = 32
IMAGES = np.random.default_rng(0).integers(0, 256, (16, SIZE, SIZE, 3)).astype(np.float32)


def run(
    model: bytes, images: np.ndarray, dtype: str = "float32", signature: str = "serving_default"
) -> dict[str, np.ndarray]:
    from ai_edge_litert.interpreter import Interpreter

    runner = Interpreter(model_content=model).get_signature_runner(signature)
    return runner(image=images.astype(dtype))


@pytest.fixture(scope="module")
def classifier(trained_classifier):
    return trained_classifier("avg_max")


@pytest.mark.parametrize(
    ("quantize", "tolerance"), [("none", 1e-5), ("float16", 5e-3), ("dynamic", 0.05), ("int8", 0.1)]
)
def test_every_quantization_predicts_like_the_trained_model(classifier, quantize, tolerance):
    # Together with the rarer settings: uint8 input, a class activation map, dynamic batches.
    settings = ExportSettings(quantize=quantize, cam=True, input_type="uint8", batch="dynamic")
    model = convert(classifier, SIZE, settings, list(IMAGES))
    outputs = run(model, IMAGES[:5], "uint8")
    expected = classifier(IMAGES[:5], training=False).numpy()
    assert np.ptp(expected) > 1e-3
    np.testing.assert_allclose(outputs["probability"], expected, atol=tolerance)
    assert outputs["cam"].shape == (5, 4, 4)
    alone = [run(model, IMAGES[i : i + 1], "uint8", "serve_slice") for i in range(5)]
    for name, values in outputs.items():  # the same weights, in a graph of fixed shapes
        joined = np.concatenate([one[name] for one in alone])
        np.testing.assert_allclose(joined, values, atol=1e-3 if quantize == "dynamic" else 1e-5)
    if quantize == "none":
        logits = np.log(expected / (1 - expected))[:, 0]
        np.testing.assert_allclose(outputs["cam"].mean(axis=(1, 2)), logits, atol=1e-3)
    assert not any(name.startswith("custom:") for name in operator_names(model))


@pytest.mark.parametrize("input_type", ["float32", "uint8"])
def test_full_int8_computes_in_integers_alone(classifier, input_type):
    from ai_edge_litert.interpreter import Interpreter

    settings = ExportSettings(quantize="full-int8", input_type=input_type)
    model = convert_to_integers(classifier, settings, list(IMAGES))
    outputs = [run(model, IMAGES[i : i + 1], input_type) for i in range(5)]
    assert outputs[0].keys() == {"probability"}
    expected = classifier(IMAGES[:5], training=False).numpy()
    assert np.ptp(expected) > 1e-3
    found = np.concatenate([one["probability"] for one in outputs])
    np.testing.assert_allclose(found, expected, atol=0.15)
    interpreter = Interpreter(model_content=model)
    assert list(interpreter.get_signature_list()) == ["serving_default"]
    types = {tensor["index"]: tensor["dtype"] for tensor in interpreter.get_tensor_details()}
    for operator in interpreter._get_ops_details():
        used = {types[index] for index in operator["outputs"] if index in types}
        if operator["op_name"] not in ("DEQUANTIZE", "DELEGATE"):
            assert np.float32 not in used, operator["op_name"]


def test_full_int8_needs_slices_to_calibrate_on(classifier):
    with pytest.raises(OptionError, match="--quantize full-int8: there are no slices"):
        convert_to_integers(classifier, ExportSettings(quantize="full-int8"), [])


def test_defaults_are_batches_of_one_float32_image_without_a_map(classifier):
    outputs = run(convert(classifier, SIZE, ExportSettings()), IMAGES[:1])
    assert outputs.keys() == {"probability"}
    np.testing.assert_allclose(outputs["probability"], classifier(IMAGES[:1]), atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("pooling", ["avg", "max"])
@pytest.mark.parametrize("quantize", ["none", "int8"])
def test_every_pooling_converts(trained_classifier, pooling, quantize):
    classifier = trained_classifier(pooling)
    model = convert(classifier, SIZE, ExportSettings(quantize=quantize), list(IMAGES))
    tolerance = 1e-5 if quantize == "none" else 0.1
    np.testing.assert_allclose(
        run(model, IMAGES[:1])["probability"], classifier(IMAGES[:1]), atol=tolerance
    )


def test_int8_needs_images_to_calibrate_on(classifier):
    with pytest.raises(OptionError, match="--quantize int8: there are no slices.*--representative"):
        convert(classifier, SIZE, ExportSettings(quantize="int8"))


def test_conversion_prints_nothing(classifier, capfd):
    convert(classifier, SIZE, ExportSettings(quantize="int8"), list(IMAGES[:8]))
    assert capfd.readouterr() == ("", "")
