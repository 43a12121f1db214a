"""Fits with phantoms besides their data, and with a set that is only evaluated."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from plain_phantoms import draw_phantom

import hemorrhage_tf as htf
from hemorrhage_tf.core.errors import OptionError
from hemorrhage_tf.core.progress import Progress
from hemorrhage_tf.datasets.manifest import read_manifest
from hemorrhage_tf.datasets.slice_index import build_slice_index
from hemorrhage_tf.models.embedded_model import read_embedded
from hemorrhage_tf.verbs import fit_further_data
from hemorrhage_tf.verbs.fit_request import FitRequest

TABLES = ("metrics.json", "predictions.csv", "split.csv", "history.csv")


def read_json(path):
    return json.loads(path.read_text(encoding="utf-8"))


@pytest.fixture(autouse=True)
def few_phantoms(monkeypatch):
    monkeypatch.setattr(fit_further_data, "EVALUATED_PHANTOMS", 6)


@pytest.fixture(scope="module")
def other_set(tmp_path_factory):
    folder = tmp_path_factory.mktemp("other set")
    for index in range(12):
        path = folder / ("normal", "hemorrhage")[index % 2] / f"{index}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(draw_phantom(9, index, index % 2)).save(path)
    return folder


@pytest.fixture(scope="module")
def fitted(kaggle_once, other_set, tmp_path_factory, quick):
    """A fit with phantoms whose weight is chosen, and its cache."""
    folder = tmp_path_factory.mktemp("with phantoms")
    options = {**quick, "phantoms": 8, "folds": 2, "external": other_set}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fit_further_data, "EVALUATED_PHANTOMS", 6)
        run = htf.fit(kaggle_once, out=folder / "run", cache=folder / "cache", **options)
    return run, folder / "cache", options


def test_the_metrics_of_the_other_set_are_those_of_an_evaluation(fitted, other_set):
    run, _, _ = fitted
    of_set = run.metrics["external"]
    expected = htf.evaluate(other_set, model=run, quiet=True).metrics
    assert of_set["n"] == 12 and of_set["evaluated_on"] == "12 slices of another set, each alone"
    for name in ("roc_auc", "sensitivity", "specificity"):
        assert of_set[name] == pytest.approx(expected[name], abs=1e-4)
    assert read_json(run.path / "metrics.json")["external"] == of_set
    assert run.config["external"]["slices"] == 12


def test_phantoms_that_were_not_trained_on_are_evaluated(fitted):
    run, _, _ = fitted
    assert run.metrics["phantoms"]["n"] == 6
    assert "known_head" not in run.metrics["phantoms"]  # the tiny backbone has none
    card = (run.path / "model_card.md").read_text()
    assert "## Slices of other sets, only evaluated" in card
    assert "| another set | 12 | " in card and "| phantoms | 6 | " in card
    assert "12 slices of another set, see Performance" in card


def test_the_chosen_weights_are_recorded(fitted, read_rows):
    run, _, _ = fitted
    weights = [float(row["phantom_weight"]) for row in read_rows(run.path / "history.csv")]
    assert len(weights) == 3 and set(weights) <= {0.25, 1.0, 4.0}
    assert run.config["phantom_weight"] == weights[-1]
    settings = run.config["settings"]
    assert (settings["prior"], settings["phantoms"], settings["phantom_weight"]) == (
        "none",
        8,
        None,
    )


def test_a_stopped_fit_ends_with_the_same_bytes(fitted, kaggle_once, tmp_path, monkeypatch):
    run, cache, options = fitted
    from keras.models import load_model

    from hemorrhage_tf.training.trainer import Trainer

    train, calls = Trainer.train, []

    def stop_at_the_second(self, task):
        calls.append(task)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return train(self, task)

    out = tmp_path / "run"
    monkeypatch.setattr(Trainer, "train", stop_at_the_second)
    with pytest.raises(KeyboardInterrupt):
        htf.fit(kaggle_once, out=out, cache=cache, **options)
    monkeypatch.setattr(Trainer, "train", train)
    resumed = htf.fit(resume=out, cache=cache, quiet=True)
    assert resumed.metrics == run.metrics
    for name in TABLES:
        assert (out / name).read_bytes() == (run.path / name).read_bytes(), name
    weights = [load_model(each / "model.keras").get_weights() for each in (run.path, out)]
    for before, after in zip(*weights, strict=True):
        np.testing.assert_array_equal(after, before)


def test_a_resumed_fit_keeps_its_other_set(fitted, kaggle_once, other_set, tmp_path, monkeypatch):
    _, cache, options = fitted
    from hemorrhage_tf.training.trainer import Trainer

    def stop(self, task):
        raise KeyboardInterrupt

    out = tmp_path / "run"
    train = Trainer.train
    monkeypatch.setattr(Trainer, "train", stop)
    with pytest.raises(KeyboardInterrupt):
        htf.fit(kaggle_once, out=out, cache=cache, **options)
    monkeypatch.setattr(Trainer, "train", train)
    changed = shutil.copytree(other_set, tmp_path / "changed")
    with pytest.raises(OptionError, match=r"external: .*other set.* before, .*changed now"):
        htf.fit(resume=out, external=changed, cache=cache, quiet=True)


def test_an_other_set_needs_cached_features(kaggle_once, other_set):
    request = FitRequest(
        data=kaggle_once, external=other_set, settings={"backbone": "tiny", "feature_cache": False}
    )
    message = r"--external .*cached features.*Leave out --external.*evaluate DATA --model RUN"
    with pytest.raises(OptionError, match=message):
        request.fit_settings()


class TestSubtypes:
    def test_the_labels_of_a_subtype_have_no_prior(self, kaggle_once):
        values = {"backbone": "phantomnet"}
        request = FitRequest(data=kaggle_once, target="Subdural", settings=values)
        assert request.fit_settings().prior == "none"
        request = FitRequest(data=kaggle_once, target="all", settings=values)
        assert request.fit_settings().prior == "embedded"

    @pytest.mark.parametrize("values", [{"prior": "embedded"}, {"phantoms": 20}])
    def test_they_exclude_phantoms(self, kaggle_once, values):
        settings = {"backbone": "phantomnet", **values}
        request = FitRequest(data=kaggle_once, target="subdural", settings=settings)
        with pytest.raises(OptionError, match=r"--target subdural. Leave out one of them"):
            request.fit_settings()


def test_another_head_of_the_embedded_model_is_another_fit(
    kaggle_once, embedded_model, monkeypatch
):
    progress = Progress(quiet=True)
    slices = build_slice_index(read_manifest(kaggle_once, progress=progress), progress)
    request = FitRequest(data=kaggle_once, settings={"backbone": "phantomnet"})
    settings = request.fit_settings()
    before = request.identity(slices, settings)
    model = read_embedded()
    other = replace(model, head={**model.head, "bias": model.head["bias"] + 1})
    monkeypatch.setattr("hemorrhage_tf.verbs.fit_request.read_embedded", lambda: other)
    after = request.identity(slices, settings)
    assert {name for name in after if after[name] != before[name]} == {"head of the embedded model"}


def test_a_fit_without_data_has_no_prior():
    assert FitRequest().fit_settings().prior == "none"


@pytest.mark.slow
def test_a_model_with_phantomnet_keeps_its_answers(
    embedded_model, kaggle_once, other_set, tmp_path
):
    """With a strong pull, the head is that of the embedded model but for its calibration."""
    options = {"backbone": "phantomnet", "image_size": 64, "views": 1, "phantoms": 20}
    options |= {"external": other_set, "audit": False, "quiet": True, "cache": tmp_path / "cache"}
    held = htf.fit(kaggle_once, out=tmp_path / "held", l2=1e4, phantom_weight=1.0, **options)
    before = htf.evaluate(other_set, quiet=True).metrics["roc_auc"]
    known = held.metrics["external"]["known_head"]["roc_auc"]
    assert known["estimate"] == pytest.approx(before["estimate"], abs=0.03)
    assert held.metrics["external"]["roc_auc"]["estimate"] == pytest.approx(
        known["estimate"], abs=0.03
    )
    assert held.config["settings"]["prior"] == "embedded"
