from __future__ import annotations

import csv
import select
import signal
import subprocess
import sys
import time

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


@pytest.mark.slow
@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_processes_without_a_trace(tmp_path, signum):
    # A shell that runs the tests in the background may have told them to ignore Ctrl-C.
    code = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
    code += "from hemorrhage_tf.cli.main import main; main()"
    command = [sys.executable, "-c", code, "phantoms", str(tmp_path / "set")]
    process = subprocess.Popen(
        [*command, "--count", "5000", "--size", "64"], stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 120
    while not list(tmp_path.glob("*/slices/*")) and time.monotonic() < deadline:
        select.select([], [], [], 0.05)
    process.send_signal(signum)
    _, noted = process.communicate(timeout=120)
    assert process.returncode == 128 + signum
    assert "Traceback" not in noted and noted.endswith("Stopped.\n")
    assert list(tmp_path.iterdir()) == []
