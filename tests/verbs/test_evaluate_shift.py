"""Warnings of `evaluate`: slices that differ from the training slices, or were trained on."""

from __future__ import annotations

import pytest
from PIL import Image
from plain_phantoms import draw_phantom

import hemorrhage_tf as htf


@pytest.fixture
def larger_slices(tmp_path):
    folder = tmp_path / "larger"
    folder.mkdir()
    lines = ["path,label"]
    for index in range(12):
        image = Image.fromarray(draw_phantom(1, index, index % 2))
        image.resize((400, 400)).save(folder / f"{index}.png")
        lines.append(f"{index}.png,{index % 2}")
    (folder / "manifest.csv").write_text("\n".join(lines))
    return folder


def test_warns_of_slices_that_differ_from_the_training_slices(fit_once, larger_slices, capsys):
    evaluation = htf.evaluate(larger_slices, model=fit_once())
    [warning] = evaluation.metrics["warnings"]
    assert "look different from the training slices" in warning and "400" in warning
    assert warning in " ".join(capsys.readouterr().err.split())


def test_counts_the_slices_that_the_model_was_trained_on(fit_once, kaggle_once, capsys):
    run = fit_once()
    evaluation = htf.evaluate(kaggle_once, model=run, against=run)
    [warning] = evaluation.metrics["warnings"]
    assert f"{evaluation.seen_in_training} of the 24 slices were trained on" in warning
    assert 0 < evaluation.seen_in_training < 24
    assert evaluation.comparison["roc_auc"]["difference"]["estimate"] == 0
    assert evaluation.comparison["accuracy"]["only_first_right"] == 0
