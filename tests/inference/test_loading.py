from __future__ import annotations

import zipfile

import keras
import numpy as np
import pytest

import hemorrhage_tf as htf
from hemorrhage_tf.core.errors import ModelError
from hemorrhage_tf.inference.forms import model_form
from hemorrhage_tf.inference.keras_model import KerasModel, load_classifier


class TestModelForm:
    def test_recognizes_each_form_without_loading_it(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        for name in ("m.tflite", "m.keras", "run/model.keras", "saved/saved_model.pb", "a.png"):
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).write_bytes(b"")
        forms = {
            "m.tflite": "tflite",
            "m.keras": "keras",
            "run": "run folder",
            "saved": "saved_model",
            "phantomnet": "embedded",
            "a.png": None,
            "missing": None,
        }
        assert {name: model_form(name) for name in forms} == forms

    def test_an_existing_path_has_priority_over_the_embedded_model(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        (tmp_path / "phantomnet").mkdir()
        assert model_form("phantomnet") is None
        with pytest.raises(ModelError, match="there is no model"):
            htf.load("phantomnet")


class TestLoad:
    def test_a_run_folder_and_its_file_predict_the_same(self, run_folder, kaggle_once, tmp_path):
        alone = tmp_path / "alone.keras"
        alone.write_bytes((run_folder / "model.keras").read_bytes())
        model = htf.load(alone)
        assert isinstance(model, KerasModel)
        assert model.predict(kaggle_once) == htf.load(run_folder).predict(kaggle_once)
        assert model.training_hashes() == set() and model.training_profile() is None

    def test_a_run_folder_knows_its_training_slices(self, model):
        assert len(model.training_hashes()) > 12
        assert "quantiles" in model.training_profile()

    @pytest.mark.parametrize("name", ["missing", "empty_folder", "model.pb"])
    def test_names_the_accepted_forms_for_anything_else(self, name, tmp_path):
        (tmp_path / "empty_folder").mkdir()
        (tmp_path / "model.pb").write_text("x")
        with pytest.raises(ModelError, match="Pass a run folder"):
            htf.load(tmp_path / name)

    def test_rejects_a_truncated_file(self, run_folder, tmp_path):
        broken = tmp_path / "broken.keras"
        content = (run_folder / "model.keras").read_bytes()
        broken.write_bytes(content[: len(content) // 2])
        with pytest.raises(ModelError, match="broken.keras"):
            htf.load(broken)

    def test_rejects_damaged_weights(self, run_folder, tmp_path):
        damaged = tmp_path / "damaged.keras"
        with (
            zipfile.ZipFile(run_folder / "model.keras") as source,
            zipfile.ZipFile(damaged, "w") as target,
        ):
            for name in source.namelist():
                content = source.read(name)
                target.writestr(name, content[:100] if name.endswith(".h5") else content)
        with pytest.raises(ModelError, match="is damaged and cannot be loaded"):
            htf.load(damaged)

    def test_rejects_a_keras_model_of_another_program(self, tmp_path):
        inputs = keras.Input((4,))
        keras.Model(inputs, keras.layers.Dense(2)(inputs)).save(tmp_path / "foreign.keras")
        with pytest.raises(ModelError, match="not written by hemorrhage-tf"):
            htf.load(tmp_path / "foreign.keras")


class TestKerasModel:
    def test_maps_average_to_the_logit(self, model):
        images = np.random.default_rng(0).uniform(0, 255, (2, 32, 32, 3)).astype(np.float32)
        probabilities, maps = model.run_with_cam(images)
        logits = np.log(probabilities / (1 - probabilities))
        np.testing.assert_allclose(maps.mean(axis=(1, 2)), logits, atol=1e-4)

    def test_standardized_features_are_those_before_the_head(self, model, run_folder, kaggle_once):
        paths = sorted(kaggle_once.rglob("*.png"))[:3]
        features = model.standardized(paths)
        _, classifier = load_classifier(run_folder)
        kernel, bias = classifier.get_layer("logit").get_weights()
        logits = features @ kernel + bias
        expected = 1 / (1 + np.exp(-logits[:, 0]))
        np.testing.assert_allclose(model.probabilities(paths), expected, atol=1e-5)
