from __future__ import annotations

import json
import subprocess
import sys

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
    read_embedded,
    write_embedded,
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


@pytest.mark.skipif(not FOLDER.is_dir(), reason="the package's own files are missing")
def test_the_files_of_the_package_belong_to_one_model():
    # They are of an earlier metadata format, so this also tests that such files are read.
    values = json.loads(embedded_file(DESCRIPTION_FILE).read_text())["metadata"]
    assert "canonical" in values and "crop_head" not in values
    model = read_embedded()
    assert model.metadata.crop_head is values["canonical"]
    inside = read_metadata(embedded_file(TFLITE_FILE))
    assert inside.export is not None
    assert {**inside.to_dict(), "export": None} == model.metadata.to_dict()
    width = len(model.head["mean"])
    assert model.head["kernel"].shape == (width, 1) and model.head["variance"].shape == (width,)
    embedded_file(WEIGHTS_FILE)
