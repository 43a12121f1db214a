from __future__ import annotations

import csv
import io
import json

import numpy as np
import pytest
from PIL import Image
from words import words

NAMES = ("300", "001", "702", "403")  # from the neck up


@pytest.fixture
def series(tmp_path, head, write_series):
    write_series(tmp_path / "series", [head(index) for index in range(4)])
    return tmp_path / "series"


@pytest.fixture
def volume(tmp_path, head, write_nifti):
    return write_nifti(tmp_path / "a.nii.gz", np.stack([head(index) for index in range(3)]))


def test_the_default_model_is_the_embedded_one(run, embedded_model, kaggle_once):
    result = run("predict", kaggle_once, "--json")
    assert result.exit_code == 0, result.output
    assert len(json.loads(result.stdout)["slices"]) == 24
    assert "Model: PhantomNet" in words(result.stderr)
    named = run("predict", kaggle_once, "--model", "phantomnet", "--json")
    assert named.stdout == result.stdout
    averaged = run("predict", kaggle_once, "--json", "--tta")
    assert averaged.exit_code == 0 and averaged.stdout != result.stdout


def test_prints_each_scan_and_then_its_slices(run, run_folder, series, volume, kaggle_once):
    image = kaggle_once / "head_ct" / "head_ct" / "001.png"
    result = run("predict", series, image, volume, "--model", run_folder)
    assert result.exit_code == 0, result.output
    first, second = result.stdout.split(f"{volume}: ")
    assert first.startswith(f"{series}: ")
    lines = first.splitlines()
    assert " of 4 slices flagged" in lines[1]
    assert sum(" of 4  " in line for line in lines) == 3  # the slices to look at
    order = [first.index(f"{place}   {name}.dcm") for place, name in enumerate(NAMES, start=1)]
    assert order == sorted(order)
    assert f"3   {volume.name}#2" in second
    assert second.rstrip().splitlines()[-1].split()[0] == str(image)  # the slice of no scan


def test_chooses_a_series_of_a_study_and_says_so(run, run_folder, tmp_path, head, write_series):
    for number, kernel in ((2, "H31s"), (3, "H60s")):
        tags = {"SeriesNumber": number, "SeriesInstanceUID": f"1.2.{number}"}
        heads = [head(index) for index in range(8)]
        folder = tmp_path / "study" / str(number)
        write_series(folder, heads, StudyInstanceUID="1.2", ConvolutionKernel=kernel, **tags)
    study = tmp_path / "study"
    result = run("predict", study, "--model", run_folder, "--json")
    values = json.loads(result.stdout)
    assert [scan["scan"] for scan in values["scans"]] == [str(study / "2")]
    assert values["left_out"] == [
        {
            "series": "3",
            "path": str(study / "3"),
            "slices": 8,
            "reason": "a sharp kernel, as for bone",
        }
    ]
    assert result.stderr.count("series 3 of") == 1
    assert "Chose 1 of 2 series. Pass --series NUMBER" in result.stderr
    other = run("predict", study, "--model", run_folder, "--json", "--series", "3")
    assert [scan["scan"] for scan in json.loads(other.stdout)["scans"]] == [str(study / "3")]
    wrong = run("predict", study, "--model", run_folder, "--series", "4")
    assert wrong.exit_code == 2 and "--series 4: no such series" in wrong.stderr


def test_json_holds_slices_and_scans(run, run_folder, series, volume):
    result = run("predict", series, volume, "--model", run_folder, "--json")
    values = json.loads(result.stdout)
    assert [scan["scan"] for scan in values["scans"]] == [str(series), str(volume)]
    for scan in values["scans"]:
        rows = [row for row in values["slices"] if row["scan"] == scan["scan"]]
        probabilities = sorted(row["probability"] for row in rows)
        assert scan["slices"] == len(rows)
        assert scan["highest"] == probabilities[-1]
        assert scan["mean_of_top_3"] == pytest.approx(np.mean(probabilities[-3:]), abs=2e-6)
        assert scan["flagged"] == sum(row["hemorrhage"] for row in rows)
        assert scan["probability"] == scan["mean_of_top_3"]
        by_path = {row["path"]: row["probability"] for row in rows}
        assert [by_path[name] for name in scan["top_slices"]] == probabilities[:-4:-1]


def test_csv_holds_slices_with_their_overlays(run, run_folder, series, tmp_path):
    folder = tmp_path / "overlays"
    result = run("predict", series, "--model", run_folder, "--csv", "--cam", folder)
    rows = list(csv.DictReader(io.StringIO(result.stdout)))
    assert [row["scan"] for row in rows] == [str(series)] * 4
    overlays = sorted(str(path) for path in folder.iterdir() if path.name != "color_bar.png")
    assert sorted(row["cam"] for row in rows) == overlays


def test_csv_repeats_the_scan_in_each_row(run, run_folder, series, kaggle_once):
    image = kaggle_once / "head_ct" / "head_ct" / "001.png"
    values = json.loads(run("predict", series, image, "--model", run_folder, "--json").stdout)
    result = run("predict", series, image, "--model", run_folder, "--csv")
    *rows, alone = csv.DictReader(io.StringIO(result.stdout))
    (scan,) = values["scans"]
    assert {row["scan_probability"] for row in rows} == {str(scan["probability"])}
    assert {row["scan_hemorrhage"] for row in rows} == {str(scan["hemorrhage"])}
    assert [row["place"] for row in rows] == ["1", "2", "3", "4"]
    ranked = sorted((row["rank"], row["path"]) for row in rows if row["rank"])
    assert [path for _, path in ranked] == scan["top_slices"]
    assert [alone[name] for name in ("scan_probability", "place", "rank")] == ["", "", ""]


def test_the_table_has_a_column_for_warnings_where_there_is_one(
    run, embedded_model, kaggle_once, tmp_path
):
    image = kaggle_once / "head_ct" / "head_ct" / "001.png"
    assert "warning" not in run("predict", image).stdout
    blank = tmp_path / "blank.png"
    Image.new("L", (90, 90), 40).save(blank)
    assert "warning" in run("predict", image, blank).stdout
    rows = list(csv.DictReader(io.StringIO(run("predict", image, blank, "--csv").stdout)))
    assert rows[0]["warning"] == "" and "head" in rows[1]["warning"]


def test_names_all_invalid_files_at_once(run, tmp_path):
    (tmp_path / "a.png").write_text("x")
    (tmp_path / "b.jpg").write_bytes(b"")
    result = run("predict", tmp_path / "a.png", tmp_path / "b.jpg")
    assert result.exit_code == 1
    for text in ("a.png", "b.jpg", "--skip-invalid"):
        assert text in result.stderr


def test_rejects_a_window_for_display_images(run, kaggle_once):
    result = run("predict", kaggle_once, "--window", "brain")
    assert result.exit_code == 2
    assert "24 of 24 slices are display images" in result.stderr
