from __future__ import annotations

import json

from words import words


def test_prints_metrics_settings_and_the_run_folder(run, quick, kaggle_once, tmp_path):
    result = run("fit", kaggle_once, *quick, "--solver", "lbfgs", "--out", tmp_path / "run")
    assert result.exit_code == 0, result.output
    printed = words(result.stdout)
    assert "sensitivity" in printed and "Confusion matrix" in printed
    assert "24 slices (12 with hemorrhage), kaggle" in printed
    assert "input head crop, 32 x 32 pooling" in printed
    assert "training L-BFGS to convergence, l2 0.0156" in printed
    assert printed.endswith(f"Run folder: {tmp_path / 'run'}")


def test_prints_other_settings(run, quick, kaggle_once, tmp_path):
    options = ("--no-crop-head", "--folds", "2", "--batch-size", "8", "--epochs", "2")
    result = run("fit", kaggle_once, *quick, *options, "--out", tmp_path / "run")
    assert result.exit_code == 0, result.output
    printed = words(result.stdout)
    assert "input 32 x 32 pooling" in printed
    assert "training 2 epochs, batch size 8, learning rate 0.001" in printed


def test_anonymizes_unless_told_otherwise(run, quick, dicom_once, tmp_path):
    for flags, count in (((), 0), (("--no-anonymize",), 1)):
        out = tmp_path / f"run {count}"
        result = run("fit", dicom_once, *quick, *flags, "--out", out)
        assert result.exit_code == 0, result.output
        assert (out / "split.csv").read_text().count(",P07,") == count


def test_target_chooses_the_label_column(run, quick, dicom_once, tmp_path):
    lines = ["path,label,subdural"]
    for path in sorted(dicom_once.rglob("IM*")):
        number = int(path.name[2:])
        lines.append(f"{path},{number % 2},{int(number % 4 == 3)}")
    (tmp_path / "manifest.csv").write_text("\n".join(lines))
    result = run("fit", tmp_path, *quick, "--target", "subdural", "--out", tmp_path / "run")
    assert result.exit_code == 0, result.output
    assert "24 slices (6 with hemorrhage)" in words(result.stdout)
    result = run("fit", tmp_path, *quick, "--target", "epidural", "--out", tmp_path / "other")
    assert result.exit_code == 2
    assert "--target epidural" in result.stderr


def test_three_windows_are_part_of_the_model(run, quick, dicom_once, tmp_path):
    out, windows = tmp_path / "run", "brain,subdural,bone"
    result = run("fit", dicom_once, *quick, "--window", windows, "--out", out)
    assert result.exit_code == 0, result.output
    assert f"head crop, 32 x 32, window {windows}" in words(result.stdout)
    assert json.loads((out / "config.json").read_text())["model"]["window"] == windows.split(",")
    for command in ("evaluate", "predict"):
        result = run(command, dicom_once, "--model", out, "--window", "brain")
        assert result.exit_code == 2 and result.stdout == ""
        assert f"this model was trained with {windows}" in result.stderr


def test_a_cache_that_cannot_be_written_is_an_error_before_phantoms_are_drawn(run, tmp_path):
    (tmp_path / "cache").write_text("a file, not a folder")
    result = run("fit", "--cache", tmp_path / "cache", "--out", tmp_path / "run")
    assert result.exit_code in (1, 2)
    assert "cache" in result.stderr
    assert not (tmp_path / "run").exists()
