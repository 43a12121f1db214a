from __future__ import annotations

import csv

import pytest


@pytest.mark.parametrize("form", ["png", "dicom", "nifti"])
def test_writes_slices_and_a_manifest(run, tmp_path, form):
    folder = tmp_path / "set"
    result = run("phantoms", folder, "--count", 4, "--seed", 3, "--size", 64, "--format", form)
    assert result.exit_code == 0, result.output
    assert result.stdout == f"Phantoms: {folder}\n"
    with open(folder / "manifest.csv", newline="") as file:
        assert [row["label"] for row in csv.DictReader(file)] == ["0", "1"] * 2
    assert len(list((folder / "slices").iterdir())) == 4


def test_does_not_write_into_an_existing_folder(run, tmp_path):
    result = run("phantoms", tmp_path, "--count", 2)
    assert result.exit_code == 1
    assert f"{tmp_path}: already exists" in result.stderr
