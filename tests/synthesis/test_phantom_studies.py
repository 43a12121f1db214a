"""Whole DICOM studies of phantoms. Drawing one takes seconds, so most of these tests are slow."""

from __future__ import annotations

import csv
import shutil
import subprocess

import numpy as np
import pydicom
import pytest
from PIL import Image

import hemorrhage_tf as htf
from hemorrhage_tf.core.errors import OutputError

SIZE = 64


@pytest.fixture(scope="module")
def studies(once):
    """Two studies, the second with a hemorrhage."""
    return once(
        "phantom-studies",
        lambda path: htf.phantoms(path, 2, 4, form="study", size=SIZE, quiet=True),
    )


def read_series(studies, study, number):
    folder = studies / "studies" / f"{study:06d}" / str(number)
    return [pydicom.dcmread(path) for path in sorted(folder.iterdir())]


def hounsfield(dataset):
    return dataset.pixel_array.astype(np.float32) + dataset.RescaleIntercept


@pytest.mark.slow
def test_a_study_has_the_series_of_an_examination(studies):
    for study in (0, 1):
        series = {number: read_series(studies, study, number) for number in range(1, 6)}
        thin, thick = len(series[3]), len(series[2])
        assert [len(one) for one in series.values()] == [2, thick, thin, thin, thin]
        assert thin == 4 * thick and 10 < thick < 70
        files = [dataset for one in series.values() for dataset in one]
        assert len({one.StudyInstanceUID for one in files}) == 1
        assert len({one.SOPInstanceUID for one in files}) == len(files)
        assert len({one.SeriesInstanceUID for one in files}) == 5
        assert len({one.FrameOfReferenceUID for one in files}) == 1
        assert {one[0].SeriesDescription: one[0].SliceThickness for one in series.values()} == {
            "Localizer": 1.25,
            "Head 5.0 soft": 5,
            "Head 1.25 soft": 1.25,
            "Head 1.25 bone": 1.25,
            "Head CTA 1.25": 1.25,
        }


@pytest.mark.slow
def test_thick_slices_lie_in_the_middle_of_the_thin_ones_and_are_their_mean(studies):
    thick, thin = read_series(studies, 1, 2), read_series(studies, 1, 3)
    for index in (0, len(thick) // 2):
        part = thin[4 * index : 4 * index + 4]
        z = [float(one.ImagePositionPatient[2]) for one in part]
        assert float(thick[index].ImagePositionPatient[2]) == pytest.approx(np.mean(z), abs=0.01)
        mean = np.mean([hounsfield(one) for one in part], axis=0)
        assert np.abs(hounsfield(thick[index]) - mean).max() <= 0.5


@pytest.mark.slow
def test_kernels_and_contrast_agent_change_the_pixels_as_they_should(studies):
    middle = len(read_series(studies, 1, 3)) // 2
    soft, bone, vessels = (
        np.stack([hounsfield(one) for one in read_series(studies, 1, number)[middle : middle + 9]])
        for number in (3, 4, 5)
    )
    brain = (soft > 0) & (soft < 60)
    assert bone[brain].std() > soft[brain].std() + 10
    enhanced = vessels - soft
    assert enhanced.max() > 150 and enhanced.min() >= -1
    assert (enhanced > 100).mean() < 0.02
    assert np.abs(enhanced[soft > 300]).max() == 0


@pytest.mark.slow
def test_predict_uses_the_plain_thick_series(studies, tmp_path):
    prediction = htf.predict(studies / "studies" / "000001", quiet=True)
    assert len(prediction.scans) == 1 and prediction.scans[0].slices == len(prediction)
    assert prediction.scans[0].scan.endswith("/2")
    reasons = {one.series: one.reason for one in prediction.left_out}
    assert reasons["1"] == "a localizer, or a page of text"
    assert "closer to 5 mm" in reasons["3"]
    assert reasons["4"] == "a sharp kernel, as for bone"
    assert reasons["5"].startswith("with contrast agent")


@pytest.mark.slow
def test_the_manifest_has_labels_and_masks_of_that_series(studies):
    with open(studies / "manifest.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["path"].split("/")[2] for row in rows} == {"2"}
    for row in rows:
        mask = np.asarray(Image.open(studies / row["mask"]))
        assert bool(mask.any()) == (row["label"] == "1")
        assert mask.shape == (SIZE, SIZE)
    by_study = {row["path"].split("/")[1]: 0 for row in rows}
    for row in rows:
        by_study[row["path"].split("/")[1]] += int(row["label"])
    assert by_study["000000"] == 0 and by_study["000001"] > 0
    manifest = htf.read_manifest(studies)
    assert len(manifest) == len(rows)


@pytest.mark.slow
def test_the_same_seed_writes_the_same_bytes_in_several_processes(studies, tmp_path):
    again = htf.phantoms(tmp_path / "again", 2, 4, form="study", size=SIZE, workers=2, quiet=True)
    files = [path for path in studies.rglob("*") if path.is_file()]
    assert len(files) == sum(1 for path in again.rglob("*") if path.is_file())
    for path in files:
        assert (again / path.relative_to(studies)).read_bytes() == path.read_bytes()


@pytest.mark.slow
def test_images_are_valid_dicom(studies):
    if shutil.which("dciodvfy") is None:
        pytest.skip("dciodvfy is not installed")
    for series in range(1, 6):
        for path in sorted((studies / "studies" / "000001" / str(series)).iterdir())[:2]:
            run = subprocess.run(["dciodvfy", "-new", path], capture_output=True, text=True)
            lines = (run.stdout + run.stderr).splitlines()
            assert not [line for line in lines if line.startswith("Error")], path


def test_the_folder_must_be_new(tmp_path):
    (tmp_path / "studies").mkdir()
    with pytest.raises(OutputError, match="already exists. Pass the name of a new folder"):
        htf.phantoms(tmp_path / "studies", 1, form="study", quiet=True)
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="studies cannot be written"):
        htf.phantoms(tmp_path / "file" / "studies", 1, form="study", quiet=True)
