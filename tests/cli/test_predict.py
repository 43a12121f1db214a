from __future__ import annotations

import csv
import io
import json

import numpy as np
import pytest
from PIL import Image
from words import words


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


def test_prints_slices_and_a_line_for_each_scan(run, run_folder, series, volume):
    result = run("predict", series, volume, "--model", run_folder)
    assert result.exit_code == 0, result.output
    slices, scans = result.stdout.split("mean of highest 3")
    order = [slices.index(f"{name}.dcm") for name in ("300", "001", "702", "403")]
    assert order == sorted(order)
    assert all(f"{volume}#{frame}" in slices for frame in range(3))
    first, second = (line for line in scans.splitlines() if str(series.parent) in line)
    assert first.split()[:2] == [str(series), "4"]
    assert second.split()[:2] == [str(volume), "3"]


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


def test_csv_holds_slices_with_their_overlays(run, run_folder, series, tmp_path):
    folder = tmp_path / "overlays"
    result = run("predict", series, "--model", run_folder, "--csv", "--cam", folder)
    rows = list(csv.DictReader(io.StringIO(result.stdout)))
    assert [row["scan"] for row in rows] == [str(series)] * 4
    assert sorted(row["cam"] for row in rows) == sorted(str(path) for path in folder.iterdir())


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
