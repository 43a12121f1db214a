from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import replace

import h5py
import numpy as np
import pytest
from embedded_model import IMAGE_SIZE

import hemorrhage_tf as htf
from hemorrhage_tf.core.errors import ModelError
from hemorrhage_tf.models import pretrained_files
from hemorrhage_tf.models.backbones import build_backbone, weights_hash
from hemorrhage_tf.models.embedded_model import (
    build_embedded_classifier,
    build_embedded_scan_model,
    read_embedded,
    write_embedded,
    write_embedded_scan_model,
)
from hemorrhage_tf.models.metadata import read_metadata
from hemorrhage_tf.models.pretrained_files import (
    CHECKSUMS_FILE,
    DESCRIPTION_FILE,
    FOLDER,
    TFLITE_FILE,
    WEIGHTS_FILE,
    embedded_file,
)
from hemorrhage_tf.models.scan_model import (
    build_scan_model,
    scan_geometry,
    set_scan_calibration,
    set_scan_inputs,
)


def test_rejects_a_damaged_description(tmp_path, monkeypatch):
    (tmp_path / DESCRIPTION_FILE).write_text(json.dumps({"head": []}))
    pretrained_files.write_checksums(tmp_path, (DESCRIPTION_FILE,))
    monkeypatch.setattr(pretrained_files, "FOLDER", tmp_path)
    with pytest.raises(ModelError, match="phantomnet.json: damaged"):
        read_embedded()


class TestRoundTrip:
    def test_kernels_are_float16_and_the_rest_is_exact(self, tmp_path, embedded_model):
        model = read_embedded()
        backbone = build_backbone("phantomnet", "none", IMAGE_SIZE, seed=3)
        for layer in backbone.layers:
            if layer.name.endswith("_normalization"):  # outside of float16's range
                layer.moving_variance.assign(np.geomspace(1e-9, 1e6, layer.gamma.shape[0]))
        written = write_embedded(
            tmp_path / "new", backbone, model.head, model.metadata, {"settings": {"seed": 3}}
        )
        assert sorted(path.name for path in (tmp_path / "new").iterdir()) == [
            CHECKSUMS_FILE,
            DESCRIPTION_FILE,
            WEIGHTS_FILE,
        ]
        loaded = build_backbone("phantomnet", str(tmp_path / "new" / WEIGHTS_FILE), IMAGE_SIZE)
        for before, after in zip(backbone.get_weights(), loaded.get_weights(), strict=True):
            expected = before.astype(np.float16).astype(np.float32) if before.ndim > 1 else before
            np.testing.assert_array_equal(after, expected)
        assert written.weights_hash == weights_hash(loaded) != model.metadata.weights_hash
        kinds = set()

        def collect(_, item):
            if hasattr(item, "dtype"):
                kinds.add((item.dtype.name, item.ndim > 1))

        with h5py.File(tmp_path / "new" / WEIGHTS_FILE) as file:
            file.visititems(collect)
        assert kinds == {("float16", True), ("float32", False)}

    def test_restores_the_description(self, tmp_path, embedded_model, monkeypatch):
        model = read_embedded()
        backbone = build_backbone("phantomnet", "embedded", IMAGE_SIZE)
        write_embedded(tmp_path, backbone, model.head, model.metadata, model.pretraining)
        monkeypatch.setattr(pretrained_files, "FOLDER", tmp_path)
        again = read_embedded()
        assert (again.metadata, again.pretraining) == (model.metadata, model.pretraining)
        for name, values in model.head.items():
            np.testing.assert_array_equal(again.head[name], values)
        # The TFLite file of the previous model is not listed.
        with pytest.raises(ModelError, match="phantomnet.tflite"):
            embedded_file(TFLITE_FILE)

    def test_keras_and_tflite_are_the_same_model(self, embedded_model):
        metadata, classifier = build_embedded_classifier()
        images = np.random.default_rng(0).uniform(0, 255, (5, IMAGE_SIZE, IMAGE_SIZE, 3))
        images = images.astype(np.float32)
        model = htf.load("phantomnet")
        np.testing.assert_allclose(model.run(images), classifier(images).numpy()[:, 0], atol=5e-3)
        assert model.metadata.weights_hash == metadata.weights_hash
        assert model.metadata.weights_hash == weights_hash(classifier.get_layer("phantomnet"))

    def test_reading_imports_no_tensorflow(self, embedded_model):
        code = (
            "import sys; from pathlib import Path\n"
            "from hemorrhage_tf.models import embedded_model, pretrained_files\n"
            "pretrained_files.FOLDER = Path(sys.argv[1])\n"
            "embedded_model.read_embedded()\n"
            "assert not {'tensorflow', 'keras', 'h5py'} & sys.modules.keys()"
        )
        subprocess.run([sys.executable, "-c", code, str(embedded_model)], check=True)


@pytest.fixture
def with_scan_model(tmp_path, embedded_model, monkeypatch):
    """Give the embedded model a scan model with random weights; return that scan model."""
    for name in (WEIGHTS_FILE, DESCRIPTION_FILE, TFLITE_FILE):
        shutil.copy(embedded_model / name, tmp_path / name)
    model = read_embedded()
    rng = np.random.default_rng(0)
    width = len(model.head["mean"])
    scan_model = build_scan_model("pooling", width)
    axes = rng.normal(size=(width, 8)).astype(np.float32)
    set_scan_inputs(scan_model, model.head["kernel"], model.head["bias"], axes)
    set_scan_calibration(scan_model, scans=(2.0, 0.5), slices=(1.5, -0.5))
    metadata = replace(
        model.metadata, scan_model="pooling", scan_threshold=0.4, slice_in_scan_threshold=0.3
    )
    pretraining = {**model.pretraining, "scan_model": {"settings": {"seed": 0}}}
    write_embedded_scan_model(tmp_path, scan_model, metadata, pretraining)
    monkeypatch.setattr(pretrained_files, "FOLDER", tmp_path)
    return scan_model


class TestScanModel:
    def test_is_restored_with_its_description(self, with_scan_model):
        features = np.random.default_rng(1).normal(size=(1, 25, 158)).astype(np.float32)
        inputs = {
            "features": features,
            "geometry": scan_geometry(np.arange(25) * 5.0)[np.newaxis],
            "mask": np.ones((1, 25), np.float32),
        }
        restored = build_embedded_scan_model()
        for name, expected in with_scan_model(inputs).items():
            np.testing.assert_array_equal(restored(inputs)[name], expected)
        model = read_embedded()
        assert model.metadata.scan_model == "pooling"
        assert model.metadata.scan_threshold == 0.4
        assert model.metadata.slice_in_scan_threshold == 0.3
        assert model.pretraining["scan_model"] == {"settings": {"seed": 0}}
        # The TFLite file holds no scan model, or another one.
        with pytest.raises(ModelError, match="does not list this file"):
            embedded_file(TFLITE_FILE)

    def test_names_the_file_with_weights_of_another_kind(self, with_scan_model):
        path = pretrained_files.FOLDER / DESCRIPTION_FILE
        path.write_text(path.read_text().replace('"pooling",', '"attention",', 1))
        assert json.loads(path.read_text())["metadata"]["scan_model"] == "attention"
        pretrained_files.write_checksums(pretrained_files.FOLDER)
        with pytest.raises(ModelError, match="phantomnet_scan.npz: weights of another"):
            build_embedded_scan_model()

    def test_a_model_without_one_says_so(self, embedded_model):
        with pytest.raises(ModelError, match="phantomnet: this version has no scan model"):
            build_embedded_scan_model()


@pytest.mark.skipif(not FOLDER.is_dir(), reason="the package's own files are missing")
def test_the_files_of_the_package_belong_to_one_model():
    model = read_embedded()
    inside = read_metadata(embedded_file(TFLITE_FILE))
    assert inside.export is not None
    assert {**inside.to_dict(), "export": None} == model.metadata.to_dict()
    width = len(model.head["mean"])
    assert model.head["kernel"].shape == (width, 1) and model.head["variance"].shape == (width,)
    embedded_file(WEIGHTS_FILE)
    if model.metadata.scan_model is not None:
        assert build_embedded_scan_model().input["features"].shape[-1] == width


def test_descriptions_of_the_metadata_format_before_are_read(embedded_model, tmp_path, monkeypatch):
    values = json.loads((embedded_model / DESCRIPTION_FILE).read_text())
    values["metadata"]["canonical"] = values["metadata"].pop("crop_head")
    for name in ("scan_model", "slice_in_scan_threshold", "offset", "subtypes"):
        del values["metadata"][name]
    (tmp_path / DESCRIPTION_FILE).write_text(json.dumps({**values, "format_version": 3}))
    pretrained_files.write_checksums(tmp_path, (DESCRIPTION_FILE,))
    monkeypatch.setattr(pretrained_files, "FOLDER", tmp_path)
    metadata = read_embedded().metadata
    assert metadata.crop_head is True and metadata.scan_model is None
