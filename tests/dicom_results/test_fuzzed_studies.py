"""A small part of `benchmarks/fuzz_studies.py`: mutated studies are answered, and results valid."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "fuzz_studies.py"


@pytest.mark.slow
def test_mutated_studies_are_answered():
    command = [sys.executable, SCRIPT, "--count", "30", "--seed", "1"]
    run = subprocess.run(command, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr
    # Both kinds of answers occur, so that the mutations test something.
    assert "written" in run.stdout and "DataError" in run.stdout
