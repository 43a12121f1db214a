"""The round trip with Debian's Orthanc; skipped where it is not installed."""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from predicted_series import STUDY, CenterModel, write_predicted_series

import hemorrhage_tf as htf
from hemorrhage_tf.core.errors import ArchiveError

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("Orthanc") is None, reason="Orthanc is not installed"),
    pytest.mark.skipif(
        not Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so").exists(),
        reason="Orthanc's DICOMweb plugin is not installed",
    ),
]

FOLDER = Path(__file__).resolve().parents[2] / "examples" / "orthanc"


def load_example():
    spec = importlib.util.spec_from_file_location("round_trip", FOLDER / "round_trip.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


example = load_example()


def free_port():
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return server.getsockname()[1]


@pytest.fixture
def archive(tmp_path, monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    work = tmp_path / "work"
    work.mkdir()
    dicom = free_port()
    with example.running_orthanc(work, free_port(), dicom) as url:
        yield url, dicom


@pytest.fixture
def series(write_dicom, tmp_path):
    return write_predicted_series(write_dicom, tmp_path / "series", (0.1, 0.9, 0.2))


def modalities(url):
    return sorted(
        (one["MainDicomTags"]["Modality"], len(one["Instances"]))
        for one in example.request(f"{url}/series?expand")
    )


def test_a_round_trip(archive, series, tmp_path, capfd):
    url, dicom = archive
    example.send(series, url, dicom)
    assert example.studies(url) == [STUDY["StudyInstanceUID"]]
    model = CenterModel(tmp_path / "model")
    options = {"model": model, "dicomweb": f"{url}/dicom-web", "quiet": True}
    options |= {"study": STUDY["StudyInstanceUID"], "dicom_out": tmp_path / "out"}
    for _ in range(2):  # twice in a row gives no duplicates
        assert len(htf.predict(**options)) == 3
        assert example.studies(url) == [STUDY["StudyInstanceUID"]]
        assert modalities(url) == [("CT", 3), ("KO", 1), ("OT", 2), ("SR", 1)]
    example.show(url)
    assert "SR     1 objects" in capfd.readouterr().out
    with pytest.raises(ArchiveError, match="no CT images of this study|no such study"):
        htf.predict(**(options | {"study": "1.2.3"}))


def test_a_watched_archive_and_a_kill(archive, series, tmp_path):
    url, dicom = archive
    example.send(series, url, dicom)
    command = [sys.executable, "-m", "hemorrhage_tf", "predict", "--watch"]
    command += ["--dicomweb", f"{url}/dicom-web", "--dicom-out", tmp_path / "out"]

    def watch_until_done():
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
            for line in process.stderr:
                if ": done, " in line:
                    break
            process.send_signal(signal.SIGKILL)
        return line

    assert "Study 2.25." in watch_until_done()
    # A kill at any time loses nothing: without its record, the study is done again.
    before = modalities(url)
    (tmp_path / "out" / "watched.jsonl").unlink(missing_ok=True)
    assert "Study 2.25." in watch_until_done()
    assert modalities(url) == before and ("SR", 1) in before


def test_the_script(series, tmp_path):
    command = [sys.executable, FOLDER / "round_trip.py", series, "--folder", tmp_path / "results"]
    command += ["--http", str(free_port()), "--dicom", str(free_port())]
    environment = os.environ | {"no_proxy": "127.0.0.1"}
    run = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert run.returncode == 0, run.stderr
    assert "In the archive:" in run.stdout and "Hemorrhage, research, no diagnosis" in run.stdout
    if shutil.which("dsrdump"):
        assert "Imaging Measurement Report" in run.stdout
