from __future__ import annotations

from pathlib import Path

import pytest
from words import words

import hemorrhage_tf as htf
from hemorrhage_tf.core.errors import ModelError, OptionError
from hemorrhage_tf.core.progress import Progress
from hemorrhage_tf.verbs.arguments import check_data, check_images, model_name, resolve_model

QUIET = Progress(quiet=True)


@pytest.fixture(scope="module")
def folder(fit_once):
    return fit_once()


@pytest.fixture(scope="module")
def run(folder):
    return htf.fit(resume=folder, quiet=True)


@pytest.fixture(scope="module")
def model(folder):
    return htf.load(folder)


class TestResolveModel:
    def test_loads_paths_and_runs(self, folder, run):
        for given in (str(folder), folder, folder / "model.keras", run):
            assert resolve_model(given, QUIET).metadata.backbone == "tiny"

    def test_returns_a_loaded_model_as_it_is(self, model):
        assert resolve_model(model, QUIET) is model

    def test_adds_test_time_augmentation(self, model):
        assert resolve_model(model, QUIET, tta=True).uses_tta
        assert not model.uses_tta

    def test_notes_the_embedded_model(self, embedded_model, folder, capsys):
        assert resolve_model("phantomnet", Progress()).is_embedded
        noted = words(capsys.readouterr().err)
        assert "Model: PhantomNet, trained on synthetic phantoms alone" in noted
        assert "not a medical device" in noted
        resolve_model(folder, Progress())
        assert "PhantomNet" not in capsys.readouterr().err

    def test_a_path_without_a_model_is_an_error(self, tmp_path):
        with pytest.raises(ModelError, match="there is no model"):
            resolve_model(tmp_path / "none", QUIET)


def test_model_name_is_the_path(folder, run, model):
    assert {model_name(given) for given in (str(folder), folder, run, model)} == {str(folder)}
    assert model_name("phantomnet") == "phantomnet"


class TestCheckImages:
    def test_returns_a_list(self):
        assert check_images("a.png") == ["a.png"]
        assert check_images(Path("a.png")) == [Path("a.png")]
        assert check_images(name for name in ("a.png", "b.png")) == ["a.png", "b.png"]

    def test_rejects_an_empty_list(self):
        with pytest.raises(OptionError, match="no images were passed. Pass files"):
            check_images([])

    def test_rejects_a_model(self, folder, run, model):
        for given in (folder, str(folder), [folder / "model.keras"], run, model, ["phantomnet"]):
            with pytest.raises(OptionError, match="this is a model, not an image. Pass it as"):
                check_images(given)


class TestCheckData:
    def test_returns_data_as_they_are(self, kaggle_once):
        manifest = htf.read_manifest(kaggle_once)
        for given in (kaggle_once, str(kaggle_once), manifest):
            assert check_data(given) is given

    def test_rejects_a_model(self, folder, run, model):
        for given in (folder, str(folder), folder / "model.keras", run, model, "phantomnet"):
            with pytest.raises(OptionError, match="this is a model, not labeled data. Pass it as"):
                check_data(given)
