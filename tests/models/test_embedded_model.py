from __future__ import annotations

import hashlib
import json
import shutil
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
    DESCRIPTION_FILE,
    FOLDER,
    SUMS_FILE,
    TFLITE_FILE,
    WEIGHTS_FILE,
    embedded_file,
)

NAMES = (DESCRIPTION_FILE, TFLITE_FILE, WEIGHTS_FILE)


@pytest.fixture
def files(embedded_model, tmp_path, monkeypatch):
    """A copy of the stand-in's files, to be damaged."""
    folder = tmp_path / "pretrained"
    shutil.copytree(embedded_model, folder)
    monkeypatch.setattr(pretrained_files, "FOLDER", folder)
    return folder


class TestFiles:
    @pytest.mark.parametrize("name", NAMES)
    def test_are_found_as_published(self, files, name):
        assert embedded_file(name) == files / name

    def test_sums_are_what_sha256sum_writes(self, files):
        expected = [f"{hashlib.sha256((files / n).read_bytes()).hexdigest()}  {n}" for n in NAMES]
        assert (files / SUMS_FILE).read_text().splitlines() == sorted(
            expected, key=lambda line: line[66:]
        )

    @pytest.mark.parametrize("name", NAMES)
    def test_damage_is_told_with_the_next_step(self, files, name):
        content = bytearray((files / name).read_bytes())
        content[len(content) // 2] ^= 1
        (files / name).write_bytes(content)
        with pytest.raises(ModelError, match=f"{name}: damaged or foreign(?s:.*)pip install"):
            embedded_file(name)

    @pytest.mark.parametrize("name", [WEIGHTS_FILE, SUMS_FILE])
    def test_what_is_missing_is_named(self, files, name):
        (files / name).unlink()
        with pytest.raises(ModelError, match=f"{name}: .* is missing(?s:.*)--force-reinstall"):
            embedded_file(WEIGHTS_FILE)

    def test_a_file_that_is_not_listed_is_foreign(self, files):
        lines = (files / SUMS_FILE).read_text().splitlines()
        (files / SUMS_FILE).write_text("\n".join(line for line in lines if "tflite" not in line))
        with pytest.raises(ModelError, match="a foreign file, SHA256SUMS beside it"):
            embedded_file(TFLITE_FILE)

    @pytest.mark.parametrize("content", [b"", b"\xff\x00", b"no sums\n"])
    def test_sums_that_are_none_are_told(self, files, content):
        (files / SUMS_FILE).write_bytes(content)
        with pytest.raises(ModelError, match="Install the package again"):
            embedded_file(WEIGHTS_FILE)

    def test_a_description_of_another_kind_is_told(self, files):
        (files / DESCRIPTION_FILE).write_text(json.dumps({"head": []}))
        pretrained_files.write_sums(files)
        with pytest.raises(ModelError, match="phantomnet.json: damaged"):
            read_embedded()


class TestRoundTrip:
    def test_kernels_are_float16_and_the_rest_is_exact(self, tmp_path, embedded_model):
        model = read_embedded()
        backbone = build_backbone("phantomnet", "none", IMAGE_SIZE, seed=3)
        for layer in backbone.layers:
            if layer.name.endswith("_normalization"):  # beyond what float16 holds, both ways
                layer.moving_variance.assign(np.geomspace(1e-9, 1e6, layer.gamma.shape[0]))
        written = write_embedded(
            tmp_path / "new", backbone, model.head, model.metadata, {"settings": {"seed": 3}}
        )
        assert sorted(path.name for path in (tmp_path / "new").iterdir()) == [
            *(SUMS_FILE, DESCRIPTION_FILE, WEIGHTS_FILE),
        ]
        loaded = build_backbone("phantomnet", str(tmp_path / "new" / WEIGHTS_FILE), IMAGE_SIZE)
        for before, after in zip(backbone.get_weights(), loaded.get_weights(), strict=True):
            expected = before.astype(np.float16).astype(np.float32) if before.ndim > 1 else before
            np.testing.assert_array_equal(after, expected)
        assert written.weights_hash == weights_hash(loaded) != model.metadata.weights_hash
        with h5py.File(tmp_path / "new" / WEIGHTS_FILE) as file:
            kinds = set()
            file.visititems(
                lambda _, item: (
                    kinds.add((item.dtype.name, item.ndim > 1)) if hasattr(item, "dtype") else None
                )
            )
        assert kinds == {("float16", True), ("float32", False)}

    def test_description_comes_back(self, tmp_path, embedded_model, monkeypatch):
        model = read_embedded()
        backbone = build_backbone("phantomnet", "embedded", IMAGE_SIZE)
        write_embedded(tmp_path, backbone, model.head, model.metadata, model.pretraining)
        monkeypatch.setattr(pretrained_files, "FOLDER", tmp_path)
        again = read_embedded()
        assert (again.metadata, again.pretraining) == (model.metadata, model.pretraining)
        for name, values in model.head.items():
            np.testing.assert_array_equal(again.head[name], values)
        # The TFLite file of the model before is not this one's.
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
            "import sys; from pathlib import Path; from hemorrhage_tf.models import embedded;"
            "embedded.FOLDER = Path(sys.argv[1]); embedded.read_embedded();"
            "assert not {'tensorflow', 'keras', 'h5py'} & sys.modules.keys()"
        )
        subprocess.run([sys.executable, "-c", code, str(embedded_model)], check=True)


@pytest.mark.skipif(not FOLDER.is_dir(), reason="the package's own files are not there")
def test_the_files_of_the_package_are_of_one_model():
    model = read_embedded()
    inside = read_metadata(embedded_file(TFLITE_FILE))
    assert inside.export is not None
    assert {**inside.to_dict(), "export": None} == model.metadata.to_dict()
    width = len(model.head["mean"])
    assert model.head["kernel"].shape == (width, 1) and model.head["variance"].shape == (width,)
    embedded_file(WEIGHTS_FILE)
