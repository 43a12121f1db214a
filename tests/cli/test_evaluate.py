from __future__ import annotations

import json

import numpy as np
from words import words

from hemorrhage_tf.models.metadata import read_metadata


def test_prints_a_table_or_json(run, run_folder, kaggle_once):
    result = run("evaluate", kaggle_once, "--model", run_folder)
    assert result.exit_code == 0, result.output
    assert words(result.stdout).startswith(f"{run_folder} on {kaggle_once} metric estimate")
    threshold = read_metadata(run_folder / "model.keras").threshold
    assert f"Evaluated on 24 slices, at a threshold of {threshold:.4g}." in words(result.stdout)
    metrics = json.loads(run("evaluate", kaggle_once, "--model", run_folder, "--json").stdout)
    assert set(metrics["accuracy"]) == {"estimate", "low", "high", "n"}
    assert metrics["comparison"] is None


def test_json_is_the_same_with_a_report(run, embedded_model, kaggle_once, tmp_path):
    report = tmp_path / "report.html"
    plain = run("evaluate", kaggle_once, "--json")
    with_report = run("evaluate", kaggle_once, "--json", "--report", report)
    assert with_report.exit_code == 0, with_report.output
    assert with_report.stdout == plain.stdout
    assert "ROC" in report.read_text()


def test_writes_figures_of_both_models(run, embedded_model, run_folder, kaggle_once, tmp_path):
    options = ("--against", run_folder, "--figures", tmp_path / "new", "--format", "svg")
    result = run("evaluate", kaggle_once, *options)
    assert result.exit_code == 0, result.output
    assert f"Figures: {tmp_path / 'new'}" in result.stdout
    names = {path.name for path in (tmp_path / "new").iterdir()}
    assert {"roc.svg", "calibration.svg", "confusion.svg", "decision_curve.svg"} <= names
    assert all(name.endswith(".svg") for name in names)
    legend = (tmp_path / "new" / "roc.svg").read_text()
    assert f"<!-- {run_folder.name}: AUC" in legend and "<!-- phantomnet: AUC" in legend


def test_figures_need_a_folder(run, run_folder, kaggle_once, tmp_path):
    (tmp_path / "file").touch()
    options = ("--model", run_folder, "--figures", tmp_path / "file")
    assert run("evaluate", kaggle_once, *options).exit_code == 2


def test_compares_with_a_second_model(run, embedded_model, run_folder, kaggle_once):
    result = run("evaluate", kaggle_once, "--model", run_folder, "--against", "phantomnet")
    assert result.exit_code == 0, result.output
    comparison = result.stdout.split("Comparison on the same slices")[1]
    header = next(line for line in comparison.splitlines() if "metric" in line)
    assert header.index(str(run_folder)) < header.index("phantomnet")


def test_says_that_test_time_augmentation_was_used(run, embedded_model, kaggle_once):
    result = run("evaluate", kaggle_once, "--tta")
    assert words(result.stdout).startswith("phantomnet on ")
    assert "on 24 slices, with test-time augmentation, at a threshold" in words(result.stdout)


def test_counts_scans_where_labels_belong_to_scans(run, run_folder, tmp_path, head, write_nifti):
    for index in range(4):
        path = tmp_path / "scans" / ("normal", "ich")[index % 2] / f"{index}.nii"
        write_nifti(path, np.stack([head(5 * index + k, index % 2) for k in range(4)]))
    result = run("evaluate", tmp_path / "scans", "--model", run_folder)
    assert result.exit_code == 0, result.output
    threshold = read_metadata(run_folder / "model.keras").threshold
    assert f"Evaluated on 4 scans, at a threshold of {threshold:.4g}." in words(result.stdout)


def test_rejects_the_former_order_of_arguments(run, run_folder, kaggle_once):
    result = run("evaluate", run_folder)
    assert result.exit_code == 2
    assert f"{run_folder}: this is a model, not labeled data. Pass it as --model" in result.stderr


def test_the_event_log_holds_an_option_that_is_rejected(run, kaggle_once, tmp_path):
    log = tmp_path / "log.jsonl"
    result = run("evaluate", kaggle_once, "--prevalence", "2", "--log-json", log)
    assert result.exit_code == 2
    start, error = map(json.loads, log.read_text().splitlines())
    assert (start["event"], start["verb"]) == ("start", "evaluate")
    assert (error["event"], error["error"]) == ("error", "OptionError")
    assert "--prevalence 2" in error["message"]
