from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from hemorrhage_tf.models.embedded_model import read_embedded
from hemorrhage_tf.models.metadata import read_metadata
from hemorrhage_tf.models.run_files import CONFIG_FILE, METRICS_FILE
from hemorrhage_tf.reports import run_card
from hemorrhage_tf.reports.run_card import write_embedded_card, write_run_card


@pytest.fixture(scope="module")
def run(fit_once):
    return fit_once()


def read(path):
    return json.loads(path.read_text("utf-8"))


def rewrite_card(run, folder, config=(), metrics=()):
    """Write the card of a run with some values replaced, and return its JSON."""
    values = read(run / CONFIG_FILE)
    settings = {**values["settings"], **dict(config).get("settings", {})}
    data = {**values["data"], **dict(config).get("data", {})}
    write_run_card(
        folder,
        "first",
        read_metadata(run / "model.keras"),
        {**values, "settings": settings, "data": data},
        {**read(run / METRICS_FILE), **dict(metrics)},
        None,
    )
    return read(folder / "model_card.json")


class TestWriteRunCard:
    def test_a_run_has_a_card_with_open_items(self, run):
        markdown = (run / "model_card.md").read_text("utf-8")
        for text in ("CLAIM 2024", "TRIPOD+AI", "STARD-AI", "to be completed by a person"):
            assert text in markdown
        assert "**same set**" in markdown

    def test_names_no_path_and_no_slice(self, run, kaggle_once):
        for name in ("model_card.md", "model_card.json"):
            card = (run / name).read_text("utf-8")
            assert str(kaggle_once) not in card and "000.png" not in card

    def test_describes_a_held_out_part(self, run, tmp_path):
        split = rewrite_card(run, tmp_path)["data"]["split"]
        assert split.endswith(
            "of 24 slices held out, stratified. Duplicates and near-duplicates stay on one side of "
            "the split"
        )

    @pytest.mark.parametrize(("repeats", "text"), [(1, "5 stratified folds, once"), (2, "2 times")])
    def test_describes_folds(self, run, tmp_path, repeats, text):
        settings = {"folds": 5, "repeats": repeats}
        assert text in rewrite_card(run, tmp_path, {"settings": settings})["data"]["split"]

    def test_other_patients_need_patients_and_no_leak(self, run, tmp_path):
        patients = {"data": {"patients": 12}}
        card = rewrite_card(run, tmp_path, patients)
        assert card["data"]["independence"] == "other patients" and card["warnings"] == []
        card = rewrite_card(run, tmp_path, patients, {"leaks": ["a", "b"]})
        assert card["data"]["independence"] == "same set"
        assert card["warnings"] == ["2 slices are on both sides of the split."]

    def test_names_a_weights_file_without_its_folder(self, run, tmp_path):
        settings = {"weights": "/home/someone/tiny.weights.h5"}
        rewrite_card(run, tmp_path, {"settings": settings})
        card = (tmp_path / "model_card.json").read_text("utf-8")
        assert "tiny.weights.h5" in card and "someone" not in card


def test_embedded_card_states_that_it_was_trained_on_phantoms(run, tmp_path):
    labels = np.arange(20) % 2
    metadata = read_metadata(run / "model.keras")
    write_embedded_card(tmp_path, metadata, labels, labels * 0.8 + 0.1, "phantoms")
    card = read(tmp_path / "model_card.json")
    assert card["evaluated_on"] == "20 phantoms"
    assert card["warnings"][0].startswith("Trained on synthetic phantoms only.")
    assert any(name.startswith("metric: ") for name, _ in card["training"])


def test_embedded_card_lists_its_scan_model(run, tmp_path, monkeypatch):
    scan_model = {"settings": {"kind": "gru"}, "figures": {"roc_auc": 0.98765}}
    embedded = replace(read_embedded(), pretraining={"settings": {}, "scan_model": scan_model})
    monkeypatch.setattr(run_card, "read_embedded", lambda: embedded)
    labels = np.arange(20) % 2
    metadata = read_metadata(run / "model.keras")
    write_embedded_card(tmp_path, metadata, labels, labels * 0.8 + 0.1, "phantoms")
    rows = read(tmp_path / "model_card.json")["training"]
    assert ["scan model setting: kind", "gru"] in rows
    assert ["scan model metric: roc auc", "0.9877"] in rows
