"""Measure PhantomNet's exports in each runtime side by side: LiteRT, ONNX Runtime, the browser.

    python benchmarks/devices.py [--rounds 100] [--images FILE...] [--scan-slices 30]

Python's runtimes and the browser run the same files with one thread and with all cores. Then the
exported page predicts a phantom scan ten times in Chromium: the time until it is ready, the seconds
of a scan, and the memory after each. Needs the extra `onnx`, Chromium, the built page and its
packages (`npm --prefix web ci`). A Markdown table comes first; the last line is JSON.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

import hemorrhage_tf as htf
from hemorrhage_tf.imaging.windows import to_display_image

HERE = Path(__file__).resolve().parent
EXPORTS = {
    "float32.tflite": {},
    "int8.tflite": {"quantize": "int8"},
    "float32.onnx": {},
    # With fewer slices the int8 ONNX file changes too many decisions.
    "int8.onnx": {"quantize": "int8", "calibration_slices": 300},
}
REPEATS = 10  # predictions of a scan


def export_models(folder: Path) -> list[Path]:
    """Export the embedded model in every form, and return the files with the packaged one."""
    files = []
    for name, settings in EXPORTS.items():
        target = folder / name
        htf.export("phantomnet", target, quiet=True, **settings)
        files.append(target)
    return files


def measure_python(files: list[Path], rounds: int, images: Any) -> list[dict[str, Any]]:
    """Measure files in their Python runtimes."""
    rows = []
    for threads in sorted({1, os.cpu_count() or 1}):
        measured = htf.benchmark(
            [*files, "phantomnet"], threads=threads, rounds=rounds, images=images, quiet=True
        )
        for one in measured:
            name = "the packaged file" if one.path == "phantomnet" else Path(one.path).name
            runtime = "ONNX Runtime" if name.endswith(".onnx") else "LiteRT"
            rows.append({**asdict(one), "path": name, "runtime": runtime, "threads": threads})
    return rows


def measure_browser(files: list[Path], rounds: int) -> list[dict[str, Any]]:
    """Measure TFLite files in Chromium with LiteRT.js."""
    chosen = [str(path) for path in files if path.suffix == ".tflite"]
    command = ["node", str(HERE / "browser.mjs"), "--rounds", str(rounds), *chosen]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return [json.loads(line) for line in done.stdout.splitlines()]


def measure_page(folder: Path, slices: int) -> dict[str, Any]:
    """Measure the exported page with a scan in Chromium; the driver is that of the page's tests."""
    web = HERE.parent / "web"
    site = folder / "site"
    htf.export("phantomnet", site, format="web", quiet=True)
    files = []
    for number, phantom in enumerate(htf.draw_phantom_scan(3, 1, 1, count=slices)):
        files.append(str(folder / f"{number:03d}.png"))
        Image.fromarray(to_display_image(np.rint(phantom.hounsfield))).save(files[-1])
    plan = {
        "site": str(site),
        "web": str(web),
        "chromium": shutil.which("chromium") or "chromium",
        "isolated": True,
        "downloads": str(folder),
        "steps": [{"files": files}, {"repeat": REPEATS, "scan": files}, {"files": files}],
    }
    (folder / "plan.json").write_text(json.dumps(plan))
    driver = HERE.parent / "tests" / "web" / "drive_page.mjs"
    command = ["node", str(driver), str(folder / "plan.json")]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    seen = json.loads(done.stdout)
    first, sizes, last = seen["steps"]
    return {
        "milliseconds_until_ready": seen["first"]["milliseconds"],
        "bytes_over_the_wire": seen["wire"]["bytes"],
        "first_scan": first["status"],
        "last_scan": last["status"],
        "memory_after_each_scan": sizes,
    }


def print_table(python: list[dict[str, Any]], browser: list[dict[str, Any]]) -> None:
    """Print all measurements as a Markdown table."""
    print("| runtime | file | threads | ms, median | ms, p95 | peak MiB | MB |")
    print("|---|---|---|---|---|---|---|")
    for one in python:
        print(
            f"| {one['runtime']} | {one['path']} | {one['threads']} | "
            f"{one['latency_ms_median']:.1f} | {one['latency_ms_p95']:.1f} | "
            f"{one['peak_mib']:.0f} | {one['size_bytes'] / 1e6:.2f} |"
        )
    for one in browser:
        print(
            f"| Chromium, LiteRT.js | {one['file']} | {one['threads']} | {one['median']:.1f} | "
            f"{one['p95']:.1f} | | |"
        )


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--images", nargs="+", help="slices to measure and compare with")
    parser.add_argument("--scan-slices", type=int, default=30)
    arguments = parser.parse_args()
    if shutil.which("node") is None:
        sys.exit("Node is not installed; the browser is driven with it.")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        files = export_models(folder)
        python = measure_python(files, arguments.rounds, arguments.images)
        browser = measure_browser(files, arguments.rounds)
        page = measure_page(folder, arguments.scan_slices)
    print_table(python, browser)
    print(json.dumps({"python": python, "browser": browser, "page": page}))


if __name__ == "__main__":
    main()
