"""Measures whole fits of two sizes, side by side: memory, seconds a stage, rows read in a second.

Run with `python benchmarks/fit_scale.py [--sizes 10000,100000] [--phantoms 400]`. The slices are
those of `scan_scale.py`, the backbone is `tiny`, the head is trained with Adam for three epochs and
with L-BFGS. Each fit is a command of its own. Its memory is that of its main process, and its
seconds are those of its event log. Before the first training its rows are read once as L-BFGS reads
them, and once as an epoch of Adam does.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
from scan_scale import CHUNK, CLASSES, draw, write

OPTIONS = "--backbone tiny --weights none --image-size 32 --views 1 --seed 0".split()
SOLVERS = {"adam": ["--solver", "adam", "--epochs", "3"], "lbfgs": ["--solver", "lbfgs"]}


def fit(data: Path, place: Path, solver: str) -> dict[str, float]:
    """Runs one fit, and gives its peak memory and the seconds of its stages."""
    log = place / f"{data.name}-{solver}.jsonl"
    told = log.with_suffix(".rates")
    command = [sys.executable, __file__, "--fit", str(told), "fit", str(data)]
    command += ["--out", str(place / log.stem), *OPTIONS, *SOLVERS[solver]]
    command += ["--log-json", str(log), "--cache", str(place / f"cache-{data.name}")]
    begin = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if os.waitstatus_to_exitcode(status):
        raise SystemExit(f"the fit of {data} with {solver} failed")
    found = {"whole fit": time.monotonic() - begin, "peak MB": usage.ru_maxrss / 1024}
    for line in log.read_text().splitlines():
        event = json.loads(line)
        if event["event"] == "stage_end":
            stage = event["stage"].split(" /")[0]
            found[stage] = found.get(stage, 0.0) + event["seconds"]
    return found | json.loads(told.read_text())


def run_fit(told: Path, arguments: list[str]) -> None:
    """Runs a fit in this process, and times how fast its first training's rows can be read."""
    from hemorrhage_tf.cli.main import main
    from hemorrhage_tf.training.features.table import (
        FeatureChunks,
        feature_dataset,
        window_order,
    )
    from hemorrhage_tf.training.trainer import Trainer

    train = Trainer.train

    def timed(self, task):
        if not told.exists():
            table = self._features
            places, _ = table.places(task.train)
            order = window_order(len(places), np.random.default_rng(0))
            zeros, ones = (np.full(table.width, value, np.float32) for value in (0, 1))
            shuffled = feature_dataset(table, places[order], zeros, ones).batch(32)
            begin = time.monotonic()
            in_order = sum(len(chunk) for chunk in FeatureChunks(table, places))
            middle = time.monotonic()
            in_batches = sum(len(batch) for batch in shuffled.as_numpy_iterator())
            end = time.monotonic()
            rates = {
                "rows a second, in order": in_order / (middle - begin),
                "rows a second, in batches": in_batches / (end - middle),
                "rows": in_order,
                "row width": table.width,
            }
            told.write_text(json.dumps(rates))
        return train(self, task)

    Trainer.train = timed
    main(arguments)


def main() -> None:
    """Writes the sets, fits them, and prints a table."""
    if sys.argv[1:2] == ["--fit"]:
        run_fit(Path(sys.argv[2]), sys.argv[3:])
        return
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", default="10000,100000")
    parser.add_argument("--phantoms", type=int, default=400)
    options = parser.parse_args()
    sizes = [int(size) for size in options.sizes.split(",")]
    with tempfile.TemporaryDirectory() as folder, ProcessPoolExecutor() as executor:
        place = Path(folder)
        parts = [range(at, at + 50) for at in range(0, options.phantoms, 50)]
        bases = np.stack([each for part in executor.map(draw, parts) for each in part])
        for size in sizes:
            for name in CLASSES:
                (place / str(size) / name).mkdir(parents=True)
            chunks = [range(at, min(at + CHUNK, size)) for at in range(0, size, CHUNK)]
            root = [str(place / str(size))] * len(chunks)
            list(executor.map(write, root, [bases] * len(chunks), chunks))
        for solver in SOLVERS:
            measured = [fit(place / str(size), place, solver) for size in sizes]
            print(f"{solver:32}" + "".join(f"{size:12,}" for size in sizes))
            for name in measured[-1]:
                print(f"{name:32}" + "".join(f"{each.get(name, 0):12.1f}" for each in measured))
            peaks = [each["peak MB"] for each in measured]
            print(f"peak of the last over the first: {peaks[-1] / peaks[0]:.2f}", flush=True)


if __name__ == "__main__":
    main()
