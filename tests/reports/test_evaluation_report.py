from __future__ import annotations

import csv

import numpy as np
import pytest
from PIL import Image
from plain_phantoms import draw_phantom

import hemorrhage_tf as htf

EVIL_NAME = "<script>alert(1)<.png"


def write_data(folder):
    """Write 24 phantoms of 12 patients, every second one with hemorrhage, from two scanners."""
    folder.mkdir(parents=True)
    names = [f"{index:02d}.png" for index in range(23)] + [EVIL_NAME]
    rows = []
    for index, name in enumerate(names):
        Image.fromarray(draw_phantom(0, index, index % 2)).save(folder / name)
        rows.append([name, index % 2, f"p{index // 2}", "AB"[index // 2 % 2]])
    with open(folder / "manifest.csv", "w", newline="") as file:
        csv.writer(file).writerows([["path", "label", "patient", "scanner"], *rows])


@pytest.fixture(scope="module")
def data(once):
    return once("report-data", write_data)


@pytest.fixture(scope="module")
def evaluation(data, fit_once, tmp_path_factory):
    path = tmp_path_factory.mktemp("report") / "report.html"
    run = fit_once(epochs=2)
    result = htf.evaluate(data, model=run, against=run, report=path, quiet=True)
    return result, path.read_text("utf-8")


def test_shows_every_wrong_slice(evaluation):
    result, page = evaluation
    wrong = [
        one.path
        for one, label in zip(result.predictions, result.labels, strict=True)
        if one.is_hemorrhage != bool(label)
    ]
    assert wrong
    for name in wrong:
        assert f'alt="Slice {name.replace("<", "&lt;")}'.replace(">", "&gt;") in page


def test_runs_no_script_and_loads_nothing(evaluation):
    _, page = evaluation
    assert "&lt;script&gt;alert(1)&lt;.png" in page
    assert "<script" not in page and "http:" not in page and "https:" not in page


def test_has_every_section(evaluation):
    _, page = evaluation
    for section in ("summary", "curves", "slices", "comparison", "limits"):
        assert f'<section id="{section}"' in page
    for folded in ("audit", "robustness", "subgroups", "training", "about", "all"):
        assert f'id="{folded}"' in page, folded
    assert "scanner: A" in page and "scanner: B" in page
    assert "rotation by 5 degrees" in page
    assert "Class activation map over slice" in page


def test_warns_of_slices_that_the_model_was_trained_on(evaluation):
    result, page = evaluation
    assert any("were trained on" in warning for warning in result.metrics["warnings"])
    assert "slices were trained on" in page


def test_intervals_are_over_patients(evaluation):
    assert "95% confidence intervals over 12 patients." in evaluation[1]


def test_scan_labels_are_reported_as_scans(fit_once, tmp_path, head, write_nifti):
    volumes = [
        np.stack([head(index, scan % 2) for index in range(4 * scan, 4 * scan + 4)])
        for scan in range(6)
    ]
    lines = ["path,label"]
    for scan, volume in enumerate(volumes):
        write_nifti(tmp_path / "scans" / f"{scan}.nii.gz", volume)
        lines.append(f"{scan}.nii.gz,{scan % 2}")
    (tmp_path / "scans" / "manifest.csv").write_text("\n".join(lines))
    report = tmp_path / "report.html"
    htf.evaluate(tmp_path / "scans", model=fit_once(), report=report, quiet=True)
    page = report.read_text("utf-8")
    assert "Of 3 scans with hemorrhage" in page
    assert "95% confidence intervals over 6 scans." in page
    assert "Computed for single slices, at the threshold for slices." in page
    assert "This report contains no images of slices." in page
