"""Measure listing, indexing, splitting and writing tables for sets of two sizes, side by side.

Run with `python benchmarks/index_scale.py [--sizes 10000,100000] [--phantoms 400]
[--slices-per-patient 20]`. The slices are variations of phantoms of 48 to 64 pixels a side:
rotated, scaled, bent, mirrored and noisy, so that they are as similar as heads are and hardly any
is a duplicate. Each size is measured in a process of its own. Seconds are wall time and processor
time, the latter with all worker processes. The last line of the output is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image

from hemorrhage_tf.synthesis.draw import draw_phantom

CLASSES = ("normal", "hemorrhage")
CHUNK = 500
SIZE = 64


def draw(chunk: range) -> list[np.ndarray]:
    """Draw phantoms in the brain window; every second one has a hemorrhage."""
    return [
        (draw_phantom(11, index, size=SIZE).hounsfield.clip(0, 80) * (255 / 80)).astype(np.uint8)
        for index in chunk
    ]


def vary(base: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Rotate, scale, bend, mirror and disturb a slice."""
    side = int(rng.integers(48, SIZE + 1))
    line = np.linspace(-1, 1, side)
    y, x = line[:, np.newaxis], line
    turn, (tall, wide) = rng.normal(0, 0.15), np.exp(rng.normal(0, 0.12, 2))
    bend = rng.normal(0, 0.06, (2, 4))
    rows = tall * (np.cos(turn) * y + np.sin(turn) * x) + bend[0, 0]
    rows = rows + bend[0, 1] * np.sin(3 * x + 9 * bend[0, 2]) + bend[0, 3] * np.sin(5 * y)
    columns = wide * (np.cos(turn) * x - np.sin(turn) * y) + bend[1, 0]
    columns = columns + bend[1, 1] * np.sin(3 * y + 9 * bend[1, 2]) + bend[1, 3] * np.sin(5 * x)
    if rng.random() < 0.5:
        columns = -columns
    last = SIZE - 1
    pixels = base[
        np.rint((rows + 1) * last / 2).astype(int).clip(0, last),
        np.rint((columns + 1) * last / 2).astype(int).clip(0, last),
    ].astype(np.float32)
    pixels = 255 * (pixels / 255) ** np.float32(np.exp(rng.normal(0, 0.2))) * rng.uniform(0.8, 1)
    return (pixels + rng.normal(0, 4, pixels.shape)).clip(0, 255).astype(np.uint8)


def write(folder: str, bases: np.ndarray, chunk: range) -> None:
    """Write some slices of a set; a larger set starts with those of a smaller one."""
    for index in chunk:
        base = index % len(bases)
        pixels = vary(bases[base], np.random.default_rng([3, index]))
        path = f"{folder}/{CLASSES[base % 2]}/{index:06d}.png"
        Image.fromarray(pixels).save(path, compress_level=1)


def write_manifest(folder: Path, size: int, bases: int, slices_each: int) -> None:
    """Write a manifest in which some slices each are of one patient."""
    with open(folder / "manifest.csv", "w") as file:
        file.write("path,label,patient\n")
        for index in range(size):
            label = index % bases % 2
            path = f"{CLASSES[label]}/{index:06d}.png"
            file.write(f"{path},{label},P{index // slices_each}\n")


def measure(folder: Path) -> dict[str, float]:
    """Measure every stage in this process."""
    from hemorrhage_tf.core.progress import Progress
    from hemorrhage_tf.datasets.manifest import read_manifest
    from hemorrhage_tf.datasets.slice_index import build_slice_index
    from hemorrhage_tf.training.folds import FoldResult, make_folds
    from hemorrhage_tf.training.run_folder import write_tables
    from hemorrhage_tf.training.settings import FitSettings

    measured: dict[str, float] = {}

    @contextmanager
    def stage(name: str) -> Iterator[None]:
        begin, used = time.monotonic(), os.times()
        yield
        now = os.times()
        measured[name] = time.monotonic() - begin
        measured[f"{name}, processor"] = sum(now[:4]) - sum(used[:4])
        measured[f"{name}, peak MB"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

    progress = Progress(quiet=True)
    with stage("listing"):
        manifest = read_manifest(folder)
    with stage("index"):
        slices = build_slice_index(manifest, progress)
    with stage("5 folds"):
        folds = make_folds(slices, FitSettings(folds=5), progress)
    with stage("one split"):
        make_folds(slices, FitSettings(), progress)
    with stage("tables"), tempfile.TemporaryDirectory() as out:
        results = [
            FoldResult(fold, np.full(len(fold.test), 0.5), np.ones(len(fold.test), bool), [])
            for fold in folds
        ]
        write_tables(Path(out), slices, results)
    measured["slices"] = len(slices)
    measured["near pairs"] = len(slices.near_pairs)
    measured["groups"] = int(slices.groups.max()) + 1
    return measured


def main() -> None:
    """Write the sets, measure each in a process of its own, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", default="10000,100000")
    parser.add_argument("--phantoms", type=int, default=400)
    parser.add_argument("--slices-per-patient", type=int, default=0, help="0: no patients known")
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        print(json.dumps(measure(options.measure)))
        return
    measured = []
    with tempfile.TemporaryDirectory() as folder, ProcessPoolExecutor() as executor:
        parts = [range(at, at + 50) for at in range(0, options.phantoms, 50)]
        bases = np.stack([each for part in executor.map(draw, parts) for each in part])
        for size in map(int, options.sizes.split(",")):
            root = Path(folder) / str(size)
            for name in CLASSES:
                (root / name).mkdir(parents=True)
            chunks = [range(at, min(at + CHUNK, size)) for at in range(0, size, CHUNK)]
            count = len(chunks)
            list(executor.map(write, [str(root)] * count, [bases] * count, chunks))
            if options.slices_per_patient:
                write_manifest(root, size, len(bases), options.slices_per_patient)
            done = subprocess.run(
                [sys.executable, __file__, "--measure", str(root)],
                stdout=subprocess.PIPE,
                check=True,
                text=True,
            )
            measured.append(json.loads(done.stdout))
    for name in measured[0]:
        print(f"{name:24}" + "".join(f"{each[name]:12.1f}" for each in measured))
    timed = ("listing", "index", "5 folds", "one split")
    print(
        f"{'total before tables':24}"
        + "".join(f"{sum(m[n] for n in timed):12.1f}" for m in measured)
    )
    peaks = [each["tables, peak MB"] for each in measured]
    print(f"peak of the last over the first: {peaks[-1] / peaks[0]:.2f}")
    print(json.dumps({str(each["slices"]): each for each in measured}))


if __name__ == "__main__":
    main()
