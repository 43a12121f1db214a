from __future__ import annotations

import csv
import io
import json

import pytest
from click.testing import CliRunner

from hemorrhage_tf.cli import main

QUICK = ["--backbone", "tiny", "--image-size", "32", "--epochs", "2"]


def run(*arguments):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.fixture
def model(kaggle_folder, tmp_path):
    out = tmp_path / "run"
    result = run("fit", kaggle_folder, *QUICK, "--out", out)
    assert result.exit_code == 0, result.output
    return out


def test_fit_prints_figures_with_intervals_split_and_settings(kaggle_folder, tmp_path):
    result = run("fit", kaggle_folder, *QUICK, "--out", tmp_path / "run")
    assert result.exit_code == 0, result.output
    for text in ("accuracy", "sensitivity", "specificity", "ROC AUC", "95 % interval"):
        assert text in result.stdout
    for text in ("Confusion matrix", "20% to test on", "horizontal_flip", "Run folder:", "seed"):
        assert text in result.stdout


def test_predict_json_stands_alone_on_standard_output(model, kaggle_folder):
    result = run("predict", model, kaggle_folder, "--json")
    found = json.loads(result.stdout)
    assert len(found) == 24
    assert list(found[0]) == ["path", "probability", "hemorrhage"]
    assert all(row["hemorrhage"] == int(row["probability"] >= 0.5) for row in found)


def test_predict_csv_stands_alone_on_standard_output(model, kaggle_folder):
    pattern = kaggle_folder / "head_ct" / "head_ct" / "00*.png"
    result = run("predict", model, pattern, "--csv")
    found = list(csv.DictReader(io.StringIO(result.stdout)))
    assert len(found) == 10
    assert result.stdout.splitlines()[0] == "path,probability,hemorrhage"


def test_predict_prints_a_table_with_every_path(model, kaggle_folder):
    result = run("predict", model / "model.keras", kaggle_folder)
    assert result.exit_code == 0
    assert all(f"{index:03d}.png" in result.stdout for index in range(24))


def test_predict_shows_a_path_with_markup_as_it_is(model, kaggle_folder, tmp_path):
    odd = tmp_path / "[red]odd[bold].png"
    odd.write_bytes((kaggle_folder / "head_ct" / "head_ct" / "000.png").read_bytes())
    assert "[red]odd[bold].png" in "".join(run("predict", model, odd).stdout.split())


def test_evaluate_prints_a_table_or_json(model, kaggle_folder):
    assert "Wilson" in run("evaluate", model, kaggle_folder).stdout
    metrics = json.loads(run("evaluate", model, kaggle_folder, "--json").stdout)
    assert set(metrics["accuracy"]) == {"estimate", "low", "high", "n"}


def test_export_and_benchmark_print_how_the_models_compare(model, tmp_path):
    target = tmp_path / "saved_models" / "a.tflite"
    result = run("export", model, target, "--quantize", "int8")
    assert result.exit_code == 0, result.output
    assert "tflite int8" in result.stdout and "largest difference" in result.stdout
    result = run("benchmark", model, target, "--rounds", "2", "--batch-size", "4", "--json")
    assert result.exit_code == 0, result.output
    first, second = json.loads(result.stdout)
    assert (first["largest_difference"], second["format"]) == (0, "tflite")
    result = run("benchmark", target, "--rounds", "2", "--batch-size", "4")
    assert "a.tflite" in result.stdout and "of 64" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["fit", "nowhere"], 1, "no such file or folder"),
        (["fit", "nowhere", "--folds", "1"], 2, "--folds 1"),
        (["fit", "nowhere", "--backbone", "vgg"], 2, "'vgg' is not one of"),
        (["fit", "nowhere", "--augment", "zoom"], 2, "no augmentation is called zoom"),
        (["predict", "nowhere", "x.png"], 1, "no model there"),
        (["predict", "nowhere"], 2, "Missing argument"),
        (["predict", "nowhere", "x.png", "--json", "--csv"], 2, "exclude each other"),
    ],
)
def test_mistakes_are_told_without_a_traceback(arguments, code, message):
    result = run(*arguments)
    assert result.exit_code == code
    assert message in result.stderr
    assert "Traceback" not in result.output
    assert result.stdout == ""


def test_a_cache_that_cannot_be_written_is_told_before_phantoms_are_drawn(tmp_path):
    (tmp_path / "cache").write_text("a file, not a folder")
    result = run("fit", "--cache", tmp_path / "cache", "--out", tmp_path / "run")
    assert result.exit_code == 1
    assert "Name another cache folder with --cache" in result.stderr
    assert not (tmp_path / "run").exists()


def test_a_manifest_that_cannot_be_opened_is_told_without_a_traceback(tmp_path, monkeypatch):
    def refuse(*arguments, **keywords):
        raise PermissionError(13, "Permission denied", "labels.csv")

    monkeypatch.setattr("hemorrhage_tf.api.read_manifest", refuse)
    result = run("fit", tmp_path, "--out", tmp_path / "run")
    assert (result.exit_code, result.stderr) == (1, "Error: labels.csv: Permission denied\n")


def test_predict_names_all_bad_files_at_once(model, tmp_path):
    (tmp_path / "a.png").write_text("x")
    (tmp_path / "b.jpg").write_bytes(b"")
    result = run("predict", model, tmp_path / "a.png", tmp_path / "b.jpg")
    assert result.exit_code == 1
    assert "a.png: not a PNG or JPEG image" in result.stderr
    assert "b.jpg: the file is empty" in result.stderr
