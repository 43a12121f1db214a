from __future__ import annotations

import io
import struct
import subprocess
import sys
import zlib
from dataclasses import replace

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from plain_phantoms import draw_phantom

from hemorrhage_tf.exporters.saved_model import decode_to_model_input, write_saved_model
from hemorrhage_tf.imaging.readers import read_slice
from hemorrhage_tf.models.classifier import POOLINGS, set_head, with_class_activation_map
from hemorrhage_tf.models.metadata import ModelMetadata, versions
from hemorrhage_tf.pipeline.model_input import ModelInput

SIZE = 32
WHOLE = ModelInput(SIZE, crop_head=False)
IMAGES = np.random.default_rng(0).integers(0, 256, (16, SIZE, SIZE, 3)).astype(np.float32)
MODES = ("1", "L", "LA", "P", "RGB", "RGBA", "I;16")


def metadata():
    return ModelMetadata(SIZE, 0.5, "tiny", None, "avg", "w", "d", versions())


@pytest.mark.parametrize("pooling", POOLINGS)
def test_mean_of_the_class_activation_map_is_the_logit(trained_classifier, pooling):
    classifier = trained_classifier(pooling)
    explained = with_class_activation_map(classifier)(IMAGES, training=False)
    to_logit = keras.Model(classifier.input, classifier.get_layer("logit").output)
    np.testing.assert_allclose(
        explained["cam"].numpy().mean(axis=(1, 2)), to_logit(IMAGES).numpy()[:, 0], atol=1e-4
    )
    np.testing.assert_array_equal(explained["probability"], classifier(IMAGES, training=False))


@pytest.mark.parametrize("pooling", ["avg", "max"])
def test_class_activation_map_peaks_at_the_evidence(trained_classifier, pooling):
    # With a single channel in the head, the map is that channel (avg) or its peak (max).
    classifier = trained_classifier(pooling)
    width = classifier.get_layer("logit").get_weights()[0].shape[0]
    kernel = np.zeros((width, 1), np.float32)
    layer = "average_pooling" if pooling == "avg" else "max_pooling"
    feature_map = keras.Model(classifier.input, classifier.get_layer(layer).input)(IMAGES).numpy()
    channel = int(feature_map.std(axis=(0, 1, 2)).argmax())
    kernel[channel] = 1
    zeros, ones = np.zeros(width), np.ones(width)
    set_head(classifier, zeros, ones, kernel, np.zeros(1))
    cam = with_class_activation_map(classifier)(IMAGES)["cam"].numpy()
    for one, features in zip(cam, feature_map[..., channel], strict=True):
        assert one.argmax() == features.argmax()


@pytest.fixture(scope="module")
def encoded() -> list[bytes]:
    contents = []
    for image in IMAGES:
        buffer = io.BytesIO()
        Image.fromarray(image.astype(np.uint8)).save(buffer, "PNG")
        contents.append(buffer.getvalue())
    return contents


@pytest.mark.parametrize("input_type", ["float32", "uint8"])
def test_both_signatures_predict_like_the_keras_model(
    trained_classifier, encoded, input_type, tmp_path
):
    classifier = trained_classifier("avg_max")
    write_saved_model(classifier, tmp_path / "model", metadata(), input_type)
    signatures = tf.saved_model.load(str(tmp_path / "model")).signatures
    direct = signatures["serving_default"](image=tf.constant(IMAGES.astype(input_type)))
    decoded = signatures["serve_bytes"](image_bytes=tf.constant(encoded))
    expected = classifier(IMAGES, training=False).numpy()
    for outputs in (direct, decoded):
        np.testing.assert_allclose(outputs["probability"], expected, atol=1e-6)
        assert outputs["cam"].shape == (16, 4, 4)


@pytest.mark.slow
def test_a_program_needs_tensorflow_alone(trained_classifier, encoded, tmp_path):
    classifier = trained_classifier("avg_max")
    write_saved_model(classifier, tmp_path / "model", metadata())
    np.savez(tmp_path / "in.npz", encoded=np.array(encoded))
    code = f"""
import sys, numpy as np, tensorflow as tf
serve = tf.saved_model.load({str(tmp_path / "model")!r}).signatures["serve_bytes"]
contents = np.load({str(tmp_path / "in.npz")!r})["encoded"].tolist()
outputs = serve(image_bytes=tf.constant(contents))
assert "hemorrhage_tf" not in sys.modules
np.save({str(tmp_path / "out.npy")!r}, outputs["probability"])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    expected = classifier(IMAGES, training=False).numpy()
    np.testing.assert_allclose(np.load(tmp_path / "out.npy"), expected, atol=1e-6)


def test_every_weight_is_written_once(trained_classifier, tmp_path):
    classifier = trained_classifier("avg")
    write_saved_model(classifier, tmp_path / "model", metadata())
    names = dict(tf.train.list_variables(str(tmp_path / "model" / "variables" / "variables")))
    count = sum(int(np.prod(shape)) for name, shape in names.items() if "weights" in name)
    assert count == sum(int(np.prod(weight.shape)) for weight in classifier.weights)


@pytest.mark.parametrize("mode", MODES)
def test_the_graph_decodes_every_png_mode_like_the_reader(mode, tmp_path):
    rng = np.random.default_rng(1)
    path = tmp_path / "slice.png"
    if mode == "I;16":
        Image.fromarray(rng.integers(0, 65536, (41, 57)).astype(np.uint16)).save(path)
    else:
        pixels = rng.integers(0, 256, (41, 57, 4)).astype(np.uint8)
        Image.fromarray(pixels).convert("RGB" if mode == "P" else "RGBA").convert(mode).save(path)
    decoded = decode_to_model_input(tf.constant(path.read_bytes()), WHOLE)
    np.testing.assert_allclose(decoded, WHOLE(read_slice(path)), atol=0.01)


@pytest.mark.parametrize("depth", [1, 2, 4])
def test_the_graph_decodes_gray_of_few_bits_like_the_reader(depth, tmp_path):
    path = tmp_path / "slice.png"
    rng = np.random.default_rng(3)
    rows = rng.integers(0, 256, (40, 5 * depth)).astype(np.uint8)
    data = b"".join(b"\0" + row.tobytes() for row in rows)

    def chunk(kind, content):
        body = kind + content
        return struct.pack(">I", len(content)) + body + struct.pack(">I", zlib.crc32(body))

    header = struct.pack(">IIBBBBB", 40, 40, depth, 0, 0, 0, 0)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(data))
        + chunk(b"IEND", b"")
    )
    decoded = decode_to_model_input(tf.constant(path.read_bytes()), WHOLE)
    np.testing.assert_allclose(decoded, WHOLE(read_slice(path)), atol=0.01)


@pytest.mark.parametrize("mode", ["L", "RGB"])
@pytest.mark.parametrize("quality", [30, 95])
def test_the_graph_decodes_jpeg_like_the_reader(mode, quality, tmp_path):
    rng = np.random.default_rng(2)
    small = Image.fromarray(rng.integers(0, 256, (12, 15, 3)).astype(np.uint8))
    path = tmp_path / "slice.jpg"
    small.resize((150, 120)).convert(mode).save(path, quality=quality)
    decoded = decode_to_model_input(tf.constant(path.read_bytes()), WHOLE).numpy()
    expected = WHOLE(read_slice(path))
    assert np.abs(decoded - expected).max() < 0.05


@pytest.mark.parametrize("upright", [False, True])
@pytest.mark.parametrize("mode", ["L", "LA", "RGB"])
def test_the_graph_crops_heads_like_the_library(mode, upright, tmp_path):
    path = tmp_path / "slice.png"
    model_input = ModelInput(SIZE, upright=upright)
    for index in range(4):
        pixels = np.pad(draw_phantom(0, index, index % 2), ((30, 50), (5, 60)))
        pixels[-9:-6] = 150  # a couch
        Image.fromarray(np.rot90(pixels, index)).convert(mode).save(path)
        decoded = decode_to_model_input(tf.constant(path.read_bytes()), model_input)
        np.testing.assert_allclose(decoded, model_input(read_slice(path)), atol=0.01)


def test_the_signature_of_bytes_preprocesses_like_the_metadata(trained_classifier, tmp_path):
    classifier = trained_classifier("avg_max")
    path = tmp_path / "slice.png"
    pixels = np.pad(draw_phantom(0, 1, 1), ((40, 0), (0, 70)))
    Image.fromarray(pixels).save(path)
    outputs = []
    for crop_head in (True, False):
        values = replace(metadata(), crop_head=crop_head)
        write_saved_model(classifier, tmp_path / f"{crop_head}", values, "float32")
        serve = tf.saved_model.load(str(tmp_path / f"{crop_head}")).signatures["serve_bytes"]
        output = serve(image_bytes=tf.constant([path.read_bytes()]))["probability"].numpy()
        images = values.model_input(pixels)[np.newaxis]
        np.testing.assert_allclose(output, classifier(images, training=False), atol=1e-5)
        outputs.append(float(output[0, 0]))
    assert abs(outputs[0] - outputs[1]) > 1e-3
