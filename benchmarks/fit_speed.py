"""Times `hemorrhage-tf fit` beside a plain Keras script that does the same ten epochs.

Full ResNet152 without weights, an 80/20 split, 10 epochs, 4 views; each in a process of its own,
imports included. Prints wall time, peak memory and the ratio to the plain script.

    python benchmarks/fit_speed.py DATA
"""

import argparse
import os
import pathlib
import subprocess
import sys
import tempfile
import time

parser = argparse.ArgumentParser()
parser.add_argument("data", help="folder with labels.csv and head_ct/*.png")
arguments = parser.parse_args()
plain_script = pathlib.Path(__file__).parents[1] / "examples" / "plain_keras.py"


def measure(name: str, command: list[str], environment: dict[str, str]) -> float:
    """Runs a command and prints its wall time and peak memory."""
    begin = time.monotonic()
    process = subprocess.Popen(
        command,
        env={**os.environ, **environment},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.monotonic() - begin
    if status:
        sys.exit(f"{name} failed:\n{process.stderr.read().decode(errors='replace')}")
    print(f"{name:<24} {seconds:7.1f} s   peak {usage.ru_maxrss / 2**20:5.2f} GiB", flush=True)
    return seconds


with tempfile.TemporaryDirectory() as folder:
    environment = {"HEMORRHAGE_TF_CACHE": f"{folder}/cache"}
    fit = [sys.executable, "-m", "hemorrhage_tf", "fit", arguments.data, "--weights", "none"]
    fit += ["--solver", "adam", "--no-audit", "--calibration", "none"]
    cold = measure("fit, empty cache", [*fit, "--out", f"{folder}/cold"], environment)
    warm = measure("fit, warm cache", [*fit, "--out", f"{folder}/warm"], environment)
    command = [sys.executable, str(plain_script), arguments.data, "--weights", "none"]
    plain = measure("plain Keras script", command, environment)
    print(f"fit takes {cold / plain:.2f} of the plain script's time, {warm / plain:.2f} when warm")
