from __future__ import annotations

import csv
import io
import json

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from hemorrhage_tf.cli.main import main

QUICK = ["--backbone", "tiny", "--image-size", "32", "--epochs", "2", "--no-audit"]


def run(*arguments):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def words(text):
    """The words of a table, whatever its spacing."""
    return " ".join(text.split())


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


@pytest.mark.parametrize(
    "options, training",
    [
        ([], "L-BFGS to convergence, l2 0.0156, class weights balanced"),
        (
            ["--l2", "0.5", "--class-weights", "none"],
            "L-BFGS to convergence, l2 0.5, class weights none",
        ),
        (
            ["--solver", "adam"],
            "10 epochs, batches of 32, learning rate 0.001, class weights balanced",
        ),
    ],
)
def test_fit_says_how_the_head_was_trained(kaggle_folder, tmp_path, options, training):
    tiny = ["--backbone", "tiny", "--image-size", "32"]
    result = run("fit", kaggle_folder, *tiny, *options, "--out", tmp_path / "run")
    assert result.exit_code == 0, result.output
    assert f"training {training}" in words(result.stdout)


def test_fit_says_what_each_of_two_backbones_sees(kaggle_folder, tmp_path):
    options = ["--backbone", "tiny+phantomnet", "--weights", "none", "--views", "1"]
    cut = ["--feature-layer", "tiny=block2_out"]
    result = run("fit", kaggle_folder, *options, *cut, "--out", tmp_path / "run")
    assert result.exit_code == 0, result.output
    printed = words(result.stdout)
    assert "backbone tiny to block2_out, weights none, frozen, sees 64 x 64" in printed
    assert "backbone phantomnet, weights none, frozen input" in printed
    assert "192 x 192 pooling" in printed
    card = (tmp_path / "run" / "model_card.md").read_text()
    assert "tiny to block2_out + phantomnet" in card


def test_predict_json_stands_alone_on_standard_output(model, kaggle_folder):
    result = run("predict", model, kaggle_folder, "--json")
    found = json.loads(result.stdout)
    assert list(found) == ["slices", "scans"] and found["scans"] == []
    assert len(found["slices"]) == 24
    assert list(found["slices"][0]) == ["path", "probability", "hemorrhage", "scan", "warning"]
    for row in found["slices"]:
        assert row["hemorrhage"] == int(row["probability"] >= 0.5) and row["scan"] is None


def test_predict_csv_stands_alone_on_standard_output(model, kaggle_folder):
    pattern = kaggle_folder / "head_ct" / "head_ct" / "00*.png"
    result = run("predict", model, pattern, "--csv")
    found = list(csv.DictReader(io.StringIO(result.stdout)))
    assert len(found) == 10
    assert result.stdout.splitlines()[0] == "path,probability,hemorrhage,scan,warning"


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
        (["fit", "nowhere", "--backbone", "vgg"], 2, "--backbone vgg: no such backbone"),
        (["fit", "nowhere", "--backbone", "tiny+vgg"], 2, "no such backbone as 'vgg'"),
        (["fit", "nowhere", "--backbone", "tiny+tiny"], 2, "tiny is there more than once"),
        (["fit", "nowhere", "--augment", "zoom"], 2, "no augmentation is called zoom"),
        (["predict", "nowhere", "x.png"], 1, "nowhere: neither a model nor an image is there"),
        (["predict", "phantomnet"], 2, "phantomnet: a model, and no images"),
        (["evaluate", "phantomnet"], 2, "phantomnet: a model, where labeled slices belong"),
        (["evaluate", "a", "b", "c", "d"], 2, "give one model, or two to compare"),
        (["fit", "nowhere", "--window", "lung"], 2, "--window lung: accepted are brain (40/80)"),
        (["fit", "nowhere", "--window", "brain,bone"], 2, "accepted is one window (gray), or"),
        (["fit", "nowhere", "--no-crop-head", "--upright"], 2, "--upright: needs the crop_head"),
        (["predict", "nowhere"], 1, "nowhere: neither a model nor an image is there"),
        (["predict"], 2, "Missing argument"),
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

    monkeypatch.setattr("hemorrhage_tf.verbs.fit.read_manifest", refuse)
    result = run("fit", tmp_path, "--out", tmp_path / "run")
    assert (result.exit_code, result.stderr) == (1, "Error: labels.csv: Permission denied\n")


def test_predict_names_all_bad_files_at_once(model, tmp_path):
    (tmp_path / "a.png").write_text("x")
    (tmp_path / "b.jpg").write_bytes(b"")
    result = run("predict", model, tmp_path / "a.png", tmp_path / "b.jpg")
    assert result.exit_code == 1
    assert "a.png: not one of the formats that are read: PNG, JPEG, DICOM" in result.stderr
    assert "b.jpg: the file is empty" in result.stderr


class TestScans:
    @pytest.fixture
    def series(self, tmp_path, head, write_series):
        write_series(tmp_path / "series", [head(index) for index in range(4)])
        return tmp_path / "series"

    @pytest.fixture
    def volume(self, tmp_path, head, write_nifti):
        return write_nifti(tmp_path / "a.nii.gz", np.stack([head(index) for index in range(3)]))

    def test_a_table_shows_slices_and_a_line_for_each_scan(self, model, series, volume):
        result = run("predict", model, series, volume)
        assert result.exit_code == 0, result.output
        slices, scans = result.stdout.split("mean of top 3")
        assert "scan slices flagged highest" in words(slices)
        order = [slices.index(f"{name}.dcm") for name in ("300", "001", "702", "403")]
        assert order == sorted(order)
        assert all(f"{volume}#{frame}" in slices for frame in range(3))
        (first, second) = (line for line in scans.splitlines() if str(series.parent) in line)
        assert first.split()[:2] == [str(series), "4"]
        assert second.split()[:2] == [str(volume), "3"]
        assert first.split()[-1] in ("yes", "no")

    def test_json_holds_the_scans(self, model, series, volume):
        result = run("predict", model, series, volume, "--json")
        found = json.loads(result.stdout)
        assert [scan["scan"] for scan in found["scans"]] == [str(series), str(volume)]
        for scan in found["scans"]:
            rows = [row for row in found["slices"] if row["scan"] == scan["scan"]]
            values = sorted(row["probability"] for row in rows)
            assert scan["slices"] == len(rows)
            assert scan["highest"] == values[-1]
            assert scan["mean_of_top_3"] == pytest.approx(np.mean(values[-3:]), abs=2e-6)
            assert scan["flagged"] == sum(row["hemorrhage"] for row in rows)

    def test_csv_is_of_the_slices(self, model, series, volume):
        result = run("predict", model, series, volume, "--csv")
        found = list(csv.DictReader(io.StringIO(result.stdout)))
        assert [row["scan"] for row in found] == [str(series)] * 4 + [str(volume)] * 3
        assert [row["path"] for row in found[4:]] == [f"{volume}#{frame}" for frame in range(3)]

    def test_cam_writes_overlays_and_names_them(self, model, series, tmp_path):
        result = run("predict", model, series, "--csv", "--cam", tmp_path / "overlays")
        found = list(csv.DictReader(io.StringIO(result.stdout)))
        made = sorted(str(path) for path in (tmp_path / "overlays").iterdir())
        assert sorted(row["cam"] for row in found) == made and len(made) == 4
        assert all(path.endswith(".dcm.cam.png") for path in made)

    def test_evaluate_says_that_scans_were_counted(self, model, tmp_path, head, write_nifti):
        for index in range(4):
            path = tmp_path / "scans" / ("normal", "ich")[index % 2] / f"{index}.nii"
            write_nifti(path, np.stack([head(5 * index + k, index % 2) for k in range(4)]))
        result = run("evaluate", model, tmp_path / "scans")
        assert result.exit_code == 0, result.output
        assert "Evaluated on 4 scans, at a threshold of 0.5." in words(result.stdout)
        metrics = json.loads(run("evaluate", model, tmp_path / "scans", "--json").stdout)
        assert metrics["n"] == 4


class TestWindow:
    def test_fit_evaluate_and_predict_with_three(self, dicom_folder, tmp_path):
        out, windows = tmp_path / "run", "brain,subdural,bone"
        result = run("fit", dicom_folder, *QUICK, "--window", windows, "--out", out)
        assert result.exit_code == 0, result.output
        assert f"the head crop, 32 x 32, window {windows}" in words(result.stdout)
        for command in ("evaluate", "predict"):
            assert run(command, out, dicom_folder).exit_code == 0
            assert run(command, out, dicom_folder, "--window", windows).exit_code == 0
            result = run(command, out, dicom_folder, "--window", "brain")
            assert result.exit_code == 2 and result.stdout == ""
            assert "this model was trained with brain,subdural,bone" in result.stderr

    def test_on_pictures_is_refused(self, model, kaggle_folder, tmp_path):
        for arguments in (
            ("fit", kaggle_folder, *QUICK, "--out", tmp_path / "other"),
            ("evaluate", model, kaggle_folder),
            ("predict", model, kaggle_folder),
        ):
            result = run(*arguments, "--window", "brain")
            assert result.exit_code == 2
            assert "--window brain: 24 of 24 slices are pictures" in result.stderr
        assert not (tmp_path / "other").exists()

    def test_three_on_a_model_of_pictures(self, model, dicom_folder):
        plain, three = (
            run("predict", model, dicom_folder, "--csv", *arguments).stdout
            for arguments in ((), ("--window", "brain,subdural,bone"))
        )
        assert len(plain.splitlines()) == len(three.splitlines()) == 25
        assert plain != three


@pytest.mark.parametrize(
    ("arguments", "shown", "expected"),
    [
        ((), "the head crop, 32 x 32", (True, False)),
        (("--no-crop-head",), "32 x 32", (False, False)),
        (("--upright",), "the head crop, 32 x 32", (True, True)),
    ],
)
def test_fit_says_and_keeps_how_slices_are_brought(
    kaggle_folder, tmp_path, arguments, shown, expected
):
    result = run("fit", kaggle_folder, *QUICK, *arguments, "--out", tmp_path / "run")
    assert result.exit_code == 0, result.output
    assert f" input {shown} pooling" in words(result.stdout)
    model = json.loads((tmp_path / "run" / "config.json").read_text())["model"]
    assert (model["crop_head"], model["upright"]) == expected


def test_patients_are_named_only_where_asked(dicom_folder, tmp_path):
    for flag, count in (("--anonymize", 0), ("--no-anonymize", 1)):
        out = tmp_path / flag
        result = run("fit", dicom_folder, *QUICK, flag, "--out", out)
        assert result.exit_code == 0, result.output
        assert (out / "split.csv").read_text().count(",P07,") == count


def test_target_chooses_the_label(tmp_path, dicom_folder):
    lines = ["path,label,subdural"]
    for path in sorted(dicom_folder.rglob("IM*")):
        number = int(path.name[2:])
        lines.append(f"{path},{number % 2},{int(number % 4 == 3)}")
    (tmp_path / "manifest.csv").write_text("\n".join(lines))
    result = run("fit", tmp_path, *QUICK, "--target", "subdural", "--out", tmp_path / "run")
    assert result.exit_code == 0, result.output
    assert "24 slices (6 with hemorrhage)" in words(result.stdout)
    result = run("fit", tmp_path, *QUICK, "--target", "epidural", "--out", tmp_path / "other")
    assert result.exit_code == 2
    assert "--target epidural: manifest.csv has no such column" in result.stderr


class TestPhantoms:
    def test_writes_a_set_that_audit_and_the_manifest_take(self, tmp_path):
        result = run("phantoms", tmp_path / "set", "--count", 6, "--seed", 3, "--size", 64)
        assert result.exit_code == 0, result.output
        assert result.stdout == f"Phantoms: {tmp_path / 'set'}\n"
        with open(tmp_path / "set" / "manifest.csv", newline="") as file:
            rows = list(csv.DictReader(file))
        assert [row["label"] for row in rows] == ["0", "1"] * 3
        result = run("audit", tmp_path / "set", "--json")
        assert result.exit_code == 0, result.output

    @pytest.mark.parametrize("form", ["dicom", "nifti"])
    def test_in_hounsfield_units(self, tmp_path, form):
        out = tmp_path / "set"
        result = run("phantoms", out, "--count", 2, "--size", 64, "--format", form)
        assert result.exit_code == 0, result.output
        assert len(list((out / "slices").iterdir())) == 2

    def test_what_is_there_is_not_written_over(self, tmp_path):
        result = run("phantoms", tmp_path, "--count", 2)
        assert result.exit_code == 1
        assert result.stderr == f"Error: {tmp_path}: exists. Name a folder that is not there yet\n"

    @pytest.mark.parametrize(
        ("option", "value", "accepted"),
        [("--count", 0, "1 to 1,000,000"), ("--size", 600, "64 to 512"), ("--seed", -1, "0 to")],
    )
    def test_values_out_of_range(self, tmp_path, option, value, accepted):
        result = run("phantoms", tmp_path / "set", option, value)
        assert result.exit_code == 2
        assert f"{option} {value}: accepted is {accepted}" in result.stderr
        assert not (tmp_path / "set").exists()


class TestEmbedded:
    def test_predicts_and_evaluates_where_no_model_is_named(self, embedded_model, kaggle_folder):
        result = run("predict", kaggle_folder, "--json")
        assert result.exit_code == 0, result.output
        assert len(json.loads(result.stdout)["slices"]) == 24
        assert "trained on synthetic phantoms alone" in words(result.stderr)
        assert run("predict", "phantomnet", kaggle_folder, "--json").stdout == result.stdout
        flipped = run("predict", kaggle_folder, "--json", "--tta")
        assert flipped.exit_code == 0 and flipped.stdout != result.stdout
        result = run("evaluate", kaggle_folder, "--tta")
        assert words(result.stdout).startswith("phantomnet on ")
        assert "on 24 slices, each with its tta, at a threshold of 0.5." in words(result.stdout)

    def test_stands_beside_another(self, embedded_model, model, kaggle_folder):
        result = run("evaluate", model, "phantomnet", kaggle_folder)
        assert result.exit_code == 0, result.output
        assert "Compared on the same slices" in result.stdout
        result = run(
            "benchmark", "phantomnet", model, "--rounds", "2", "--batch-size", "4", "--json"
        )
        assert result.exit_code == 0, result.output
        first, second = json.loads(result.stdout)
        size = (embedded_model / "phantomnet.tflite").stat().st_size
        assert (first["path"], first["format"], first["size_bytes"]) == (
            *("phantomnet", "embedded", size),
        )
        assert second["format"] == "run folder"

    def test_a_table_has_a_column_for_warnings_where_there_is_one(
        self, embedded_model, kaggle_folder, tmp_path
    ):
        assert "warning" not in run("predict", kaggle_folder).stdout
        blank = tmp_path / "blank.png"
        Image.new("L", (90, 90), 40).save(blank)
        shown = words(run("predict", kaggle_folder, blank).stdout)
        assert "hemorrhage warning" in shown and "no head was found in it" in shown
        found = csv.DictReader(io.StringIO(run("predict", kaggle_folder, blank, "--csv").stdout))
        assert [row["warning"] for row in found] == [""] * 24 + ["no head was found in it"]
