"""Measure fits of data sets of several sizes: memory, seconds of each stage, rows read per second.

Run with `python benchmarks/fit_scale.py [--sizes 10000,100000] [--phantoms 400]`. The slices are
those of `index_scale.py` and the backbone is `tiny`. The head is trained with Adam for three
epochs, and with L-BFGS. Each fit is a separate command. Its memory is that of its main process,
and the seconds are from its event log. Before the first training, its rows are read once in the
order of L-BFGS, and once as in an epoch of Adam.
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
from index_scale import CHUNK, CLASSES, draw, write

OPTIONS = "--backbone tiny --weights none --image-size 32 --views 1 --seed 0".split()
SOLVERS = {"adam": ["--solver", "adam", "--epochs", "3"], "lbfgs": ["--solver", "lbfgs"]}


def fit(data: Path, place: Path, solver: str) -> dict[str, float]:
    """Run one fit, and return its peak memory in MB and the seconds of its stages."""
    log = place / f"{data.name}-{solver}.jsonl"
    rates = log.with_suffix(".rates")
    command = [sys.executable, __file__, "--fit", str(rates), "fit", str(data)]
    command += ["--out", str(place / log.stem), *OPTIONS, *SOLVERS[solver]]
    command += ["--log-json", str(log), "--cache", str(place / f"cache-{data.name}")]
    start = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if os.waitstatus_to_exitcode(status):
        raise SystemExit(f"the fit of {data} with {solver} failed")
    measured = {"whole fit": time.monotonic() - start, "peak MB": usage.ru_maxrss / 1024}
    for line in log.read_text().splitlines():
        event = json.loads(line)
        if event["event"] == "stage_end":
            stage = event["stage"].split(" /")[0]
            measured[stage] = measured.get(stage, 0.0) + event["seconds"]
    return measured | json.loads(rates.read_text())


def run_fit(rates: Path, arguments: list[str]) -> None:
    """Run a fit in this process, and measure how fast the rows of its first training are read."""
    from hemorrhage_tf.cli.main import main
    from hemorrhage_tf.training.features.table import (
        FeatureChunks,
        feature_dataset,
        window_order,
    )
    from hemorrhage_tf.training.trainer import Trainer

    train = Trainer.train

    def timed(self, task):
        if not rates.exists():
            table = self._features
            rows, _ = table.view_rows(task.train)
            order = window_order(len(rows), np.random.default_rng(0))
            zeros, ones = (np.full(table.width, value, np.float32) for value in (0, 1))
            shuffled = feature_dataset(table, rows[order], zeros, ones).batch(32)
            start = time.monotonic()
            in_order = sum(len(chunk) for chunk in FeatureChunks(table, rows))
            middle = time.monotonic()
            in_batches = sum(len(batch) for batch in shuffled.as_numpy_iterator())
            end = time.monotonic()
            values = {
                "rows per second, in order": in_order / (middle - start),
                "rows per second, in batches": in_batches / (end - middle),
                "rows": in_order,
                "row width": table.width,
            }
            rates.write_text(json.dumps(values))
        return train(self, task)

    Trainer.train = timed
    main(arguments)


def main() -> None:
    """Write the data sets, fit them, and print a table."""
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
