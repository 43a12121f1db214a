"""The page's TypeScript repeats the library's reading, head crop, windows and input check."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

WEB = Path(__file__).resolve().parents[2] / "web"


def run_vitest(npm: str, folder: Path) -> None:
    done = subprocess.run(
        [npm, "test"],
        cwd=WEB,
        env={**os.environ, "VECTORS": str(folder), "NO_COLOR": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-2000:]


def write(folder: Path, *arguments: str) -> Path:
    script = Path(__file__).with_name("vectors.py")
    subprocess.run([sys.executable, str(script), str(folder), *arguments], check=True)
    return folder


@pytest.mark.slow
class TestVectors:
    def test_phantoms_and_files_are_read_and_cropped_alike(self, npm, tmp_path):
        run_vitest(npm, write(tmp_path / "vectors", "--phantoms", "12"))

    def test_real_slices_are_read_and_cropped_alike(self, npm, tmp_path, shared):
        arguments = ("--phantoms", "1", "--shared", str(shared / "ct"))
        run_vitest(npm, write(tmp_path / "vectors", *arguments))
