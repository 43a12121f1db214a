"""Compare the speed of `hemorrhage-tf fit` with that of a plain Keras script of the same task.

Full ResNet152 without weights, an 80/20 split, 10 epochs, 4 views. Each runs in a process of its
own, imports included. Prints wall time, peak memory, and the ratio to the plain script.

    python benchmarks/fit_speed.py DATA
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

PLAIN_SCRIPT = Path(__file__).parents[1] / "examples" / "plain_keras.py"
OPTIONS = ("--weights", "none", "--solver", "adam", "--no-audit", "--calibration", "none")


def measure(name: str, command: list[str], environment: dict[str, str]) -> float:
    """Run a command, print its wall time and peak memory, and return the time in seconds."""
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


def main() -> None:
    """Run the fit with an empty and a filled cache, and the plain script."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", help="folder with labels.csv and head_ct/*.png")
    data = parser.parse_args().data
    with tempfile.TemporaryDirectory() as folder:
        environment = {"HEMORRHAGE_TF_CACHE": f"{folder}/cache"}
        fit = [sys.executable, "-m", "hemorrhage_tf", "fit", data, *OPTIONS]
        cold = measure("fit, empty cache", [*fit, "--out", f"{folder}/cold"], environment)
        warm = measure("fit, warm cache", [*fit, "--out", f"{folder}/warm"], environment)
        script = [sys.executable, str(PLAIN_SCRIPT), data, "--weights", "none"]
        plain = measure("plain Keras script", script, environment)
    print(f"fit takes {cold / plain:.2f} of the plain script's time, {warm / plain:.2f} when warm")


if __name__ == "__main__":
    main()
