"""Measure the training of a scan model: seconds and peak memory by number of scans.

Run with `python benchmarks/scan_model.py [--scans 500,2000] [--kinds pooling,attention,gru]`. The
scans have 20 to 80 slices, 50 on average, with 158 features in 4 views, which are made up when they
are read: `fit_scale.py` measures how fast features are read from the cache. Each training is a
separate process: the heads for the training slices, reading and projecting the features, and the
scan model itself. "before" is the memory of the process before the training.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

sys.path.append(str(Path(__file__).parent.parent / "tests"))

WIDTH, VIEWS = 158, 4


def measure(kind: str, scans: int) -> dict[str, float]:
    """Train one scan model in this process."""
    from made_up_scans import MadeUpFeatures, make_scan_context

    from hemorrhage_tf.core.native_output import import_tensorflow
    from hemorrhage_tf.training.head_groups import HeadGroups
    from hemorrhage_tf.training.head_solver import HeadWeights
    from hemorrhage_tf.training.known_head import Anchors
    from hemorrhage_tf.training.scan_trainer import ScanTrainer, SliceHeads

    import_tensorflow()
    context = make_scan_context(np.random.default_rng(0).integers(20, 81, scans))
    features = MadeUpFeatures(context.true_labels, VIEWS, WIDTH)
    zeros = np.zeros(WIDTH, np.float32)
    head = HeadWeights(zeros, zeros + 1, np.eye(WIDTH, 1, dtype=np.float32), zeros[:1])
    trainer = ScanTrainer(context, features, kind)
    groups = HeadGroups(context, features, Anchors(context, features))
    slices = np.arange(len(context.slices))
    before, start = _peak_mb(), time.monotonic()
    heads = SliceHeads(slices, head, groups.solve_parts(slices))
    trainer.train(heads, np.arange(scans), slices[:0])
    return {
        "slices": len(slices),
        "seconds": time.monotonic() - start,
        "CPU seconds": time.process_time(),
        "MB before": before,
        "MB": _peak_mb(),
    }


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    """Print a table: a row for each kind and number of scans."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scans", default="500,2000")
    parser.add_argument("--kinds", default="pooling,attention,gru")
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(measure(arguments.one[0], int(arguments.one[1]))))
        return
    print(f"{'kind':10} {'scans':>6} {'slices':>8} {'seconds':>8} {'CPU s':>6} {'MB':>12}")
    for kind in arguments.kinds.split(","):
        for scans in arguments.scans.split(","):
            command = [sys.executable, __file__, "--one", kind, scans]
            environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
            done = subprocess.run(command, capture_output=True, env=environment, check=True)
            row = json.loads(done.stdout.splitlines()[-1])
            memory = f"{row['MB before']:.0f} -> {row['MB']:.0f}"
            print(
                f"{kind:10} {scans:>6} {row['slices']:8,d} {row['seconds']:8.1f} "
                f"{row['CPU seconds']:6.1f} {memory:>12}",
                flush=True,
            )


if __name__ == "__main__":
    main()
