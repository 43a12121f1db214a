"""Run all benchmarks at a stated size, and compare the results with earlier ones.

    python -m benchmarks --against ../before --out results.json [--size small|full]
        [--data DATA] [--images 'slices/*.jpg'] [--only NAME ...] [--compare earlier.json]

`../before` is a checkout of an earlier commit (`git worktree add ../before COMMIT`), which the
scripts that compare two checkouts measure in alternation with this one. A script without its data
is skipped. The JSON file states the machine, the versions and the size, and holds the last line of
each script's output.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
LIBRARIES = ("numpy", "scipy", "scikit-learn", "tensorflow", "keras", "pillow")


def scripts(options: argparse.Namespace) -> dict[str, list[str] | None]:
    """Return the command of each benchmark, or None for one that lacks its data."""
    is_small = options.size == "small"
    against = None if options.against is None else ["--against", str(options.against)]
    reading = fits = None
    if against is not None and options.images is not None:
        reading = ["reading_speed.py", options.images, *against]
        if options.data is not None:
            reading += ["--data", options.data]
    if against is not None:
        fits = ["fit_side_by_side.py", *against, "--rounds", "1" if is_small else "3"]
        if options.data is not None:
            fits += [options.data, "--backbone", "phantomnet"]
    speed = None if options.data is None or is_small else ["fit_speed.py", options.data]
    return {
        "heads": ["heads.py", *(("--slices", "300", "--width", "300") if is_small else ())],
        "fits": fits,
        "reading": reading,
        "fit against the plain script": speed,
        "slice index": ["index_scale.py", "--sizes", "300,1000" if is_small else "10000,100000"],
        "cropped near-duplicates": [
            "crop_recall.py",
            "--sizes",
            "600" if is_small else "600,1000,4000",
        ],
    }


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
    parser.add_argument("--data", help="labeled slices, as for `fit`")
    parser.add_argument("--images", help="pattern of image files, as for `predict`")
    parser.add_argument("--only", nargs="+", help="names of the benchmarks to run")
    parser.add_argument("--compare", type=Path, help="JSON file of an earlier run")
    options = parser.parse_args()
    results = {}
    for name, command in scripts(options).items():
        if options.only and name not in options.only:
            continue
        if command is None:
            print(f"{name}: skipped, it needs --against, --data, --images or --size full")
            continue
        print(f"{name}: {' '.join(command)}", flush=True)
        results[name] = run(command)
    report = {
        "machine": machine(),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in LIBRARIES},
        "size": options.size,
        "benchmarks": results,
    }
    options.out.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    print(f"Wrote {options.out}")
    if options.compare is not None:
        compare(json.loads(options.compare.read_text(encoding="utf-8")), report)
    failed = [name for name, result in results.items() if result["status"]]
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
