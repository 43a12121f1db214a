"""Run all benchmarks at a stated size, and compare the results with earlier ones.

    python -m benchmarks --out results.json [--size small|full] [--against ../before]
        [--data DATA] [--scans DATA] [--weights FOLDER] [--only NAME ...] [--compare earlier.json]

`../before` is a checkout of an earlier commit (`git worktree add ../before COMMIT`), which the
scripts that compare two checkouts measure in alternation with this one. DATA is a Kaggle-style
folder, for `--scans` a data set with scans; the folder of weights has the files of ResNet152 and
MobileNetV2. A benchmark that lacks one of these is skipped, with a note. The JSON file states the
machine, the versions and the size, and holds the last line of each script's output; seconds are
wall time and processor time, and other work on the machine hardly changes the latter.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
LIBRARIES = ("numpy", "scipy", "scikit-learn", "tensorflow", "keras", "pillow", "ai-edge-litert")

RESNET152 = "resnet152_conv4_imagenet.weights.h5"
MOBILENET_V2 = "mobilenetv2_imagenet.weights.h5"

# The size of each benchmark.
SIZES = {
    "small": {
        "rounds": "1",
        "slices": "60",
        "heads": ["--slices", "300", "--width", "300"],
        "plain script": ["--slices", "20", "--epochs", "3"],
        "most": "40",
        "index": ["300,1000", "--phantoms", "50"],
        "crops": "600",
        "scan": ["--slices", "30", "--flagged", "5"],
        "devices": ["--rounds", "10", "--scan-slices", "10"],
    },
    "full": {
        "rounds": "3",
        "slices": "2500",
        "heads": [],
        "plain script": [],
        "most": "400",
        "index": ["10000,100000"],
        "crops": "600,1000,4000",
        "scan": [],
        "devices": [],
    },
}


@dataclass(frozen=True)
class Benchmark:
    """A script with its arguments.

    Attributes:
        name: What it measures.
        command: The script and its arguments; an argument that was not given is None.
    """

    name: str
    command: list[str | None]

    @property
    def is_possible(self) -> bool:
        """Whether every option that it needs was given."""
        return None not in self.command


def _path(given: Path | None, name: str = "") -> str | None:
    return None if given is None else str(Path(given, name).resolve())


def scripts(options: argparse.Namespace) -> list[Benchmark]:
    """Return all benchmarks."""
    size: dict[str, Any] = SIZES[options.size]
    resnet = _path(options.weights, RESNET152)
    mobilenet = _path(options.weights, MOBILENET_V2)
    data, scans = _path(options.data), _path(options.scans)
    against = [] if options.against is None else ["--against", str(options.against.resolve())]
    compared = against or [None]
    layer = ["--feature-layer", "conv4_block36_out"]
    full_fit = ["--weights", resnet, *layer] if options.size == "full" else []
    backbone = full_fit or ["--backbone", "phantomnet"]
    rounds = ["--rounds", size["rounds"]]
    return [
        Benchmark("fits", ["fit_side_by_side.py", data, *compared, *rounds, *backbone]),
        Benchmark("fit against the plain script", ["fit_speed.py", data, *size["plain script"]]),
        Benchmark("heads", ["heads.py", *size["heads"]]),
        Benchmark(
            "reading and predicting",
            ["reading_speed.py", "--slices", size["slices"], *against, *rounds],
        ),
        Benchmark("features in bfloat16", ["precision.py", "resnet152"]),
        Benchmark(
            "features in int8",
            [
                *["int8.py", "resnet152", "--weights", resnet, *layer],
                *["--onnxruntime", "--data", data, scans, "--most", size["most"]],
            ],
        ),
        Benchmark(
            "MobileNetV2 in int8",
            ["int8.py", "mobilenet_v2", "--weights", mobilenet, "--operators"],
        ),
        Benchmark("slice index", ["index_scale.py", "--sizes", *size["index"]]),
        Benchmark("cropped near-duplicates", ["crop_recall.py", "--sizes", size["crops"]]),
        Benchmark("DICOM results", ["dicom_results.py", *size["scan"]]),
        Benchmark("devices", ["devices.py", *size["devices"]]),
    ]


def run(command: list[str]) -> dict[str, Any]:
    """Run a script and return its seconds, exit status and last line, from JSON if it is JSON."""
    start = time.monotonic()
    done = subprocess.run(
        [sys.executable, str(HERE / command[0]), *command[1:]],
        cwd=HERE.parent,
        env={**os.environ, "PYTHONPATH": str(HERE.parent)},
        stdout=subprocess.PIPE,
        text=True,
    )
    lines = done.stdout.strip().splitlines() or [""]
    try:
        result = json.loads(lines[-1])
    except ValueError:
        result = lines
    return {
        "command": command,
        "seconds": round(time.monotonic() - start, 1),
        "status": done.returncode,
        "result": result,
    }


def machine() -> dict[str, Any]:
    """Describe the machine."""
    model = platform.processor()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        lines = cpuinfo.read_text().splitlines()
        models = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
        model = models[0] if models else model
    return {"system": platform.platform(), "processor": model, "cores": os.cpu_count()}


def report(size: str, results: dict[str, Any]) -> dict[str, Any]:
    """Return the content of the JSON file."""
    return {
        "machine": machine(),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in LIBRARIES},
        "commit": commit(),
        "size": {"name": size, **SIZES[size]},
        "benchmarks": results,
    }


def commit() -> str:
    """Return the commit of this checkout; empty if git does not know it."""
    done = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=HERE.parent, capture_output=True, text=True
    )
    return done.stdout.strip()


def write(path: Path, content: dict[str, Any]) -> None:
    """Write the JSON file; what is finished stays if a later benchmark is stopped."""
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def numbers(value: Any, name: str = "") -> dict[str, float]:
    """Return all numbers in a JSON value by their path."""
    if isinstance(value, bool):
        return {}
    if isinstance(value, int | float):
        return {name: float(value)}
    items: list[tuple[Any, Any]] = []
    if isinstance(value, dict):
        items = list(value.items())
    elif isinstance(value, list):
        items = list(enumerate(value))
    found = {}
    for key, each in items:
        found |= numbers(each, f"{name}/{key}" if name else str(key))
    return found


def compare(earlier: dict[str, Any], now: dict[str, Any]) -> None:
    """Print the numbers of both files side by side."""
    for key in ("machine", "versions", "size"):
        if earlier.get(key) != now[key]:
            print(f"{key} differs: {earlier.get(key)} before, {now[key]} now")
    for name, benchmark in now["benchmarks"].items():
        before = numbers(earlier.get("benchmarks", {}).get(name, {}).get("result"))
        for path, value in numbers(benchmark["result"]).items():
            if before.get(path):
                change = value / before[path]
                print(f"{name}: {path}: {before[path]:g} -> {value:g} ({change:.2f})")


def main() -> None:
    """Run the benchmarks, write the results, and compare them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--against", type=Path, help="checkout of an earlier commit")
    parser.add_argument("--out", type=Path, required=True, help="JSON file to write")
    parser.add_argument("--size", choices=("small", "full"), default="small")
    parser.add_argument("--data", type=Path, help="labeled slices, as for `fit`")
    parser.add_argument("--scans", type=Path, help="labeled slices of scans, as for `fit`")
    parser.add_argument("--weights", type=Path, help="folder of weights")
    parser.add_argument("--only", nargs="+", help="names of the benchmarks to run")
    parser.add_argument("--compare", type=Path, help="JSON file of an earlier run")
    options = parser.parse_args()
    results = {}
    every = scripts(options)
    names = [each.name for each in every]
    unknown = sorted(set(options.only or ()) - set(names))
    if unknown:
        parser.error(f"--only {unknown[0]}: unknown. Pass some of: {', '.join(names)}.")
    for each in every:
        if options.only and each.name not in options.only:
            continue
        if not each.is_possible:
            print(f"{each.name}: skipped, it needs --against, --data, --scans or --weights")
            continue
        command = [argument for argument in each.command if argument is not None]
        print(f"{each.name}: {' '.join(command)}", flush=True)
        results[each.name] = run(command)
        write(options.out, report(options.size, results))
    final = report(options.size, results)
    write(options.out, final)
    print(f"Wrote {options.out}")
    if options.compare is not None:
        compare(json.loads(options.compare.read_text(encoding="utf-8")), final)
    failed = [name for name, result in results.items() if result["status"]]
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
