"""Time the heads of a cross-validation: solved together, and each alone.

    python benchmarks/heads.py [--slices 1219] [--views 4] [--width 2206] [--folds 5] [--repeats 3]

The features are drawn: 60 directions of decreasing size that the slices of a patient share, and
noise. Seconds are wall and processor time. The last line of the output is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable

import numpy as np

from hemorrhage_tf.datasets.splits import folds
from hemorrhage_tf.training.head_solver import (
    class_weight,
    feature_statistics,
    solve_first_outputs,
    solve_head,
)
from hemorrhage_tf.training.logistic_regressions import Samples, most_together

L2 = 1 / 64
SLICES_OF_PATIENT = 30


def draw(slices: int, views: int, width: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draw features `(slices * views, width)`, labels, and the patient of each slice."""
    rng = np.random.default_rng(0)
    patients = np.arange(slices) // SLICES_OF_PATIENT
    scores = rng.normal(size=(patients[-1] + 1, 60))[patients] + rng.normal(size=(slices, 60))
    labels = (scores[:, :8].sum(axis=1) > 4.5).astype(np.int64)
    directions = rng.normal(size=(60, width)) / np.sqrt(1 + np.arange(60))[:, np.newaxis]
    features = np.repeat(scores @ directions, views, axis=0)
    features += rng.normal(0, 0.5, features.shape)
    return np.maximum(features + 1, 0).astype(np.float32), labels, patients


def timed(work: Callable[[], object]) -> dict[str, float]:
    """Run something and return its wall and processor seconds."""
    before, start = os.times(), time.perf_counter()
    work()
    after = os.times()
    processor = sum(after[:2]) - sum(before[:2])
    return {"wall": round(time.perf_counter() - start, 2), "processor": round(processor, 2)}


def main() -> None:
    """Draw features, and solve the heads in both ways."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, default in (("slices", 1219), ("views", 4), ("width", 2206), ("folds", 5)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    features, labels, patients = draw(options.slices, options.views, options.width)
    trainings = [
        np.repeat(np.isin(np.arange(options.slices), train), options.views)
        for seed in range(options.repeats)
        for train, _ in folds(labels, patients, options.folds, seed)
    ]
    targets = np.repeat(labels, options.views)

    def alone() -> None:
        for training in trainings:
            mean, variance = feature_statistics(features[training])
            inputs = ((features[training] - mean) / np.sqrt(variance)).astype(np.float32)
            own = targets[training]
            solve_head(inputs, own, class_weight(own, "balanced"), L2)

    def together() -> None:
        size = most_together(len(features))
        for begin in range(0, len(trainings), size):
            group = trainings[begin : begin + size]
            weights = np.zeros((len(features), len(group)), np.float32)
            for number, training in enumerate(group):
                weights[training, number] = class_weight(targets[training], "balanced")
            statistics = [feature_statistics(features[training]) for training in group]
            means, variances = (np.stack(each) for each in zip(*statistics, strict=True))
            solve_first_outputs(Samples(features, targets, weights, means, np.sqrt(variances)), L2)

    result = {"heads": len(trainings), "together": timed(together), "alone": timed(alone)}
    result["processor ratio"] = round(
        result["alone"]["processor"] / max(result["together"]["processor"], 0.01), 2
    )
    print(json.dumps(result))


if __name__ == "__main__":
    main()
