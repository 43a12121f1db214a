"""The objects pass the validators of others: `dciodvfy` of dicom3tools and `dsrdump` of DCMTK."""

from __future__ import annotations

import re
import shutil
import subprocess

import numpy as np
import pydicom
import pytest
from predicted_series import STUDY, CenterModel, slice_with, write_predicted_series

import hemorrhage_tf as htf

pytestmark = pytest.mark.slow


def program(name):
    if shutil.which(name) is None:
        pytest.skip(f"{name} is not installed")
    return name


def errors_of(path):
    """Return what `dciodvfy` reports as an error."""
    run = subprocess.run([program("dciodvfy"), "-new", path], capture_output=True, text=True)
    lines = (run.stdout + run.stderr).splitlines()
    return [line for line in lines if line.startswith("Error")]


def dump(path):
    run = subprocess.run(
        [program("dsrdump"), "+Pl", "+U8", path], capture_output=True, text=True, check=True
    )
    return run.stdout


def predict(series, tmp_path, **options):
    model = CenterModel(tmp_path / "model", subtypes=options.pop("subtypes", ()))
    htf.predict(series, model=model, dicom_out=tmp_path / "out", quiet=True, **options)
    return sorted((tmp_path / "out").glob("*/*.dcm"))


@pytest.mark.parametrize(
    "options", [{}, {"anonymize": True}, {"subtypes": ("subdural", "epidural")}]
)
@pytest.mark.parametrize("missing", [(), ("PatientName", "PatientID", "StudyDate", "StudyTime")])
def test_objects_have_no_errors(options, missing, write_dicom, tmp_path):
    folder = write_predicted_series(
        write_dicom, tmp_path / "series", (0.1, 0.7, 0.9), **dict.fromkeys(missing)
    )
    files = predict(folder, tmp_path, **options)
    assert len(files) == 5
    assert {path.name: errors_of(path) for path in files} == {path.name: [] for path in files}


def test_objects_of_a_file_of_several_frames_have_no_errors(write_dicom, tmp_path):
    volume = np.stack([slice_with(one) for one in (0.1, 0.7, 0.9)])
    tags = STUDY | {"SOPInstanceUID": "1.2.826.0.1.77.1.2.1"}
    tags["SOPClassUID"] = pydicom.uid.EnhancedCTImageStorage
    write_dicom(tmp_path / "volume.dcm", volume, [0.0, 5.0, 10.0], **tags)
    files = predict(tmp_path / "volume.dcm", tmp_path)
    assert {path.name: errors_of(path) for path in files} == {path.name: [] for path in files}


@pytest.mark.parametrize("count", [2, 300])
def test_dcmtk_reads_the_same_report(count, write_dicom, tmp_path):
    probabilities = [0.9 if index % 3 == 0 else 0.2 for index in range(count)]
    folder = write_predicted_series(write_dicom, tmp_path / "series", probabilities)
    files = predict(folder, tmp_path)
    [report] = [path for path in files if path.name == "report.dcm"]
    assert errors_of(report) == []
    text = dump(report)
    flagged = sum(one > 0.5 for one in probabilities)
    assert "Mustermann^Erika" in text and "UNVERIFIED" in text and "PARTIAL" in text
    assert text.count('"Measurement Group"') == flagged + 1
    assert text.count('(1386000,SCT,"Intracranial hemorrhage') == flagged + 1
    assert text.count('"Source of Measurement"') == flagged + count
    found = re.findall(r'"Probability"\)="([0-9.]+)"', text)
    assert [float(one) for one in found[1:]] == pytest.approx([0.9] * flagged, abs=0.01)
    dumped = dump(report.with_name("key-slices.dcm"))
    assert dumped.count("contains IMAGE") == flagged


def test_a_clinical_series(shared, tmp_path):
    files = sorted((shared / "ct" / "ge_series").iterdir())
    htf.predict(files, dicom_out=tmp_path / "out", quiet=True)
    written = sorted((tmp_path / "out").glob("*/*.dcm"))
    assert len(written) >= 2
    assert {path.name: errors_of(path) for path in written} == {path.name: [] for path in written}
    report = pydicom.dcmread(written[0].with_name("report.dcm"))
    source = pydicom.dcmread(files[0], stop_before_pixels=True)
    for keyword in ("PatientID", "PatientName", "StudyInstanceUID"):
        assert report[keyword].value == source[keyword].value
