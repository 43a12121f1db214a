"""Time commands that read slices, in this checkout and in another one, in alternation.

The commands: `--version`, `--help`, `predict` of one file, `predict` of many, and the slice index
of labeled slices, read anew and, in a checkout that keeps it, again. Other work on the machine
slows both checkouts down alike, so ratios of processor time (user and system) can be compared best.

    git worktree add ../before COMMIT
    python benchmarks/reading_speed.py 'slices/*.jpg' --data manifest.csv --against ../before

The last line of the output is one JSON object with the seconds of each round.
"""

from __future__ import annotations

import argparse
import glob
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parents[1]
INDEX = """
import inspect, sys
from pathlib import Path
from hemorrhage_tf.core.progress import Progress
from hemorrhage_tf.datasets.manifest import read_manifest
from hemorrhage_tf.datasets.slice_index import build_slice_index
can_keep = "keep_in" in inspect.signature(build_slice_index).parameters
kept = {"keep_in": Path(sys.argv[2])} if can_keep and sys.argv[2] else {}
build_slice_index(read_manifest(sys.argv[1]), Progress(quiet=True), skip_invalid=True, **kept)
"""


def measure(checkout: Path, arguments: list[str]) -> dict[str, float]:
    """Run Python in a checkout; return wall and processor seconds, of its children too."""
    environment = {key: os.environ[key] for key in os.environ if key != "PYTHONDONTWRITEBYTECODE"}
    environment |= {
        "PYTHONPATH": str(checkout),
        # Compiled files, as an installation has them.
        "PYTHONPYCACHEPREFIX": str(Path(tempfile.gettempdir()) / "reading_speed"),
    }
    before, start = os.times(), time.perf_counter()
    subprocess.run(
        [sys.executable, *arguments],
        cwd=checkout,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        check=True,
    )
    after = os.times()
    used = sum(after[2:4]) - sum(before[2:4])
    return {"wall": round(time.perf_counter() - start, 2), "processor": round(used, 2)}


def commands(images: str, data: str | None, kept: str) -> dict[str, list[str]]:
    """Return the arguments of Python for each command."""
    program = ["-m", "hemorrhage_tf"]
    files = sorted(glob.glob(images)) or [images]
    every = {
        "--version": [*program, "--version"],
        "--help": [*program, "--help"],
        "predict one": [*program, "predict", files[0]],
        "predict many": [*program, "predict", images, "--json"],
    }
    if data is not None:
        every["index"] = ["-c", INDEX, data, ""]
        every["index, first kept"] = ["-c", INDEX, data, kept]
        every["index, kept"] = ["-c", INDEX, data, kept]
    return every


def main() -> None:
    """Time each command in both checkouts."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("images", help="folder or pattern of slices to predict")
    parser.add_argument("--data", help="labeled slices to index")
    parser.add_argument("--against", type=Path, help="another checkout")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    checkouts = {"here": HERE}
    if options.against is not None:
        checkouts["against"] = options.against.resolve()
    images = str(Path(options.images).absolute())
    data = None if options.data is None else str(Path(options.data).absolute())
    results: dict[str, dict[str, list[dict[str, float]]]] = {}
    for _ in range(options.rounds):
        with tempfile.TemporaryDirectory() as kept:
            for command, arguments in commands(images, data, kept).items():
                of_command = results.setdefault(command, {name: [] for name in checkouts})
                for name, checkout in checkouts.items():
                    of_command[name].append(measure(checkout, arguments))
    for command, of_command in results.items():
        least = {
            name: min(each["processor"] for each in rounds) for name, rounds in of_command.items()
        }
        ratio = f", ratio {least['against'] / least['here']:.1f}" if "against" in least else ""
        seconds = ", ".join(f"{name} {value:.2f} s" for name, value in least.items())
        print(f"{command}: processor time {seconds}{ratio}")
    machine = {"machine": platform.processor() or platform.machine(), "cores": os.cpu_count()}
    print(json.dumps({**machine, "python": platform.python_version(), "results": results}))


if __name__ == "__main__":
    main()
