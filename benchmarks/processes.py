"""Run commands, and measure their time and memory."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

HERE = Path(__file__).resolve().parents[1]

Measured = dict[str, float]


def measure(arguments: Sequence[str], checkout: Path = HERE) -> Measured:
    """Run Python in a checkout, and end this program if it fails.

    Args:
        arguments: Those of Python.
        checkout: The checkout whose package is used. Defaults to this one.

    Returns:
        "wall" and "processor" seconds, the latter (user and system) of its children too, and
        "memory", the peak of its largest process in MB.
    """
    variables = {
        **{key: os.environ[key] for key in os.environ if key != "PYTHONDONTWRITEBYTECODE"},
        "PYTHONPATH": str(checkout),
        # Compiled files, as an installation has them.
        "PYTHONPYCACHEPREFIX": str(Path(tempfile.gettempdir(), "benchmarks")),
    }
    before, start = os.times(), time.perf_counter()
    with tempfile.TemporaryFile() as messages:
        process = subprocess.Popen(
            [sys.executable, *arguments],
            cwd=checkout,
            env=variables,
            stdout=subprocess.DEVNULL,
            stderr=messages,
        )
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if status:
            messages.seek(0)
            text = messages.read().decode(errors="replace")
            sys.exit(f"python {' '.join(arguments)} failed:\n{text}")
    after = os.times()
    return {
        "wall": round(time.perf_counter() - start, 2),
        "processor": round(sum(after[2:4]) - sum(before[2:4]), 2),
        "memory": round(usage.ru_maxrss / 1024),
    }


def ratios(
    other: Sequence[Measured], this: Sequence[Measured], units: Sequence[str] = ("processor",)
) -> Measured:
    """Return the least of the other checkout's rounds over the least of this one's, by unit."""
    return {
        unit: round(min(each[unit] for each in other) / max(min(e[unit] for e in this), 0.01), 2)
        for unit in units
    }
