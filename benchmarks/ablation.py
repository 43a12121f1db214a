"""Train PhantomNet briefly in variants that each lack one change, and measure them on real slices.

    python benchmarks/ablation.py ../ct_ich --start phantomnet-6.weights.h5 --work ablation

Each variant starts from the same weights and makes the same number of steps. All heads are solved
on the same phantom scans, and all thresholds have the same specificity on their normal scans. DATA
is what `hemorrhage-tf evaluate` accepts. "lost" is the area under the ROC curve of the first
variant, which lacks nothing, minus that of each, with an interval over patients. The last variant,
which lacks nothing either, shows what the seed alone changes. Finished trainings are kept in the
work folder. The last line of the output is one JSON object.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from unittest import mock

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
from scipy.special import expit
from sklearn.metrics import roc_auc_score

from hemorrhage_tf.core.lookahead import results_in_order
from hemorrhage_tf.core.progress import Progress
from hemorrhage_tf.datasets.manifest import read_manifest
from hemorrhage_tf.evaluation.comparison import paired_delong
from hemorrhage_tf.evaluation.resampling import Resamples
from hemorrhage_tf.imaging.readers import read_slice
from hemorrhage_tf.imaging.windows import Window
from hemorrhage_tf.synthesis import display_image, draw, hemorrhage_plans, scanner
from hemorrhage_tf.synthesis.hemorrhage import SUBTYPES
from hemorrhage_tf.synthesis.phantom_sets import drawing_processes
from hemorrhage_tf.training.pretraining import samples as sample_files
from hemorrhage_tf.training.pretraining.metrics import feature_computer, threshold_for
from hemorrhage_tf.training.pretraining.pretrain import TEST_SEED, work_folder
from hemorrhage_tf.training.pretraining.samples import Samples, SampleStore, gray_model_input
from hemorrhage_tf.training.pretraining.scan_samples import (
    HEAD_SEED,
    ScanFeatures,
    draw_scan_samples,
    join_scan_samples,
)
from hemorrhage_tf.training.pretraining.settings import PretrainingSettings
from hemorrhage_tf.training.pretraining.slice_head import cross_fitted_logits, solve_slice_head
from hemorrhage_tf.training.pretraining.training import train

HEADS_OF_A_TASK = 5
HEAD_FOLDS = 5


def _white_noise(*arguments: Any) -> np.ndarray:
    """Return noise of the same strength without its texture."""
    noise = _drawn_noise(*arguments)
    white: np.ndarray = arguments[-1].standard_normal(noise.shape, np.float32)
    return white * noise.std()


_drawn_noise = scanner.draw_noise


def _brain_window(rng: np.random.Generator) -> Window:
    return Window(40, 80)


# What the generator of phantoms can lack: a module, its attribute, and what replaces that.
GENERATORS: dict[str, tuple[Any, str, Any]] = {
    "face and neck": (draw, "NECK_SHARE", 0.0),
    "ages of blood": (
        hemorrhage_plans,
        "_AGE_WEIGHTS",
        {subtype: {"acute": 1.0} for subtype in SUBTYPES},
    ),
    "texture of noise": (scanner, "draw_noise", _white_noise),
    "windows": (display_image, "_choose_window", _brain_window),
}


@dataclass(frozen=True)
class Variant:
    """A training that lacks something.

    Attributes:
        name: What it lacks.
        generator: A key of `GENERATORS`; None for the phantoms as they are.
        settings: Settings of the training that differ.
    """

    name: str
    generator: str | None = None
    settings: dict[str, Any] = field(default_factory=dict)


VARIANTS = (
    Variant("nothing"),
    *(Variant(name, name) for name in GENERATORS),
    Variant("hard phantoms", settings={"hard_from": 99}),
    Variant("window pairs", settings={"window_pairs": 0}),
    Variant("training", settings={"epochs": 0}),
    Variant("nothing, with another seed", settings={"seed": 1}),
)


def draw_shard(generator: str | None, path: Path, seed: int, number: int) -> None:
    """Draw one shard; this runs in worker processes."""
    with mock.patch.object(*GENERATORS[generator]) if generator else contextlib.nullcontext():
        sample_files._draw_shard(path, seed, number)


@dataclass(frozen=True)
class VariantStore(SampleStore):
    """Samples of a variant of the generator.

    Attributes:
        generator: A key of `GENERATORS`, or None.
    """

    generator: str | None = None

    def _draw(self, seed: int, shards: dict[int, Path], advance: Callable[[int], object]) -> None:
        with drawing_processes(self.workers) as executor:
            tasks = (
                executor.submit(draw_shard, self.generator, path, seed, number).result
                for number, path in shards.items()
            )
            for _ in results_in_order(tasks, 2 * self.workers):
                advance(sample_files.SHARD_SIZE)


@dataclass(frozen=True)
class Scans:
    """Phantom scans that the heads are solved on.

    Attributes:
        images: uint8 `(m, 192, 192)`.
        rows: int64 `(n,)`, the image of each slice.
        others: The further arrays of `ScanFeatures`.
    """

    images: np.ndarray
    rows: np.ndarray
    others: dict[str, np.ndarray]

    def features(self, compute: Callable[[np.ndarray], np.ndarray]) -> ScanFeatures:
        """Return the scans with their features."""
        return ScanFeatures(features=compute(self.images)[self.rows], **self.others)


def draw_scans(path: Path, heads: int, workers: int) -> Scans:
    """Draw scans once."""
    if not path.is_file():
        ranges = [range(k, k + HEADS_OF_A_TASK) for k in range(0, heads, HEADS_OF_A_TASK)]
        with drawing_processes(workers) as executor:
            tasks = (executor.submit(draw_scan_samples, HEAD_SEED, each).result for each in ranges)
            parts = list(results_in_order(tasks, 2 * workers))
        sample_files.write_shard(path, join_scan_samples(parts))
    arrays = sample_files.join_shards([path])
    return Scans(arrays.pop("images"), arrays.pop("rows"), arrays)


@dataclass(frozen=True)
class RealSlices:
    """Labeled slices.

    Attributes:
        name: Name of the set.
        images: uint8 `(n, 192, 192)`.
        labels: int64 `(n,)`.
        groups: `(n,)`, equal for slices of one patient; None for independent slices.
    """

    name: str
    images: np.ndarray
    labels: np.ndarray
    groups: np.ndarray | None


def read_real(data: str) -> RealSlices:
    """Read labeled slices as model input."""
    manifest = read_manifest(data)
    images = [gray_model_input(read_slice(ref)) for ref in manifest.records.refs]
    patients = manifest.records.patients
    groups = None if None in patients else np.unique(patients, return_inverse=True)[1]
    return RealSlices(Path(data).name, np.stack(images), manifest.labels, groups)


def measure(
    backbone: Any,
    settings: PretrainingSettings,
    scans: Scans,
    test: Samples,
    real: list[RealSlices],
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Solve a head, and measure it on phantoms and real slices.

    Returns:
        The metrics, and the probabilities of the slices of each set of `real`.
    """
    compute = feature_computer(backbone)
    of_scans = scans.features(compute)
    head = solve_slice_head(of_scans.features, of_scans.labels, settings.l2)
    logits = cross_fitted_logits(of_scans, settings.l2, HEAD_FOLDS, settings.seed)
    threshold = threshold_for(expit(logits[of_scans.of_normal_scans]), settings.specificity)
    result = {"scans, slices": round(float(roc_auc_score(of_scans.labels, logits)), 4)}
    result["phantoms"] = _metrics(head.probabilities(compute(test.images)), test.labels, threshold)
    probabilities = {data.name: head.probabilities(compute(data.images)) for data in real}
    for data in real:
        result[data.name] = _metrics(probabilities[data.name], data.labels, threshold)
    return result, probabilities


def difference(data: RealSlices, full: np.ndarray, without: np.ndarray) -> dict[str, Any]:
    """Return by how much the full training has the larger area under the ROC curve."""
    resamples = Resamples.make(len(data.labels), data.groups)
    return dict(paired_delong(data.labels, full, without, resamples)["difference"])


def _metrics(probabilities: np.ndarray, labels: np.ndarray, threshold: float) -> dict[str, float]:
    flagged = probabilities >= threshold
    return {
        "roc_auc": round(float(roc_auc_score(labels, probabilities)), 4),
        "sensitivity": round(float(flagged[labels == 1].mean()), 4),
        "specificity": round(float((~flagged[labels == 0]).mean()), 4),
    }


def run(
    variant: Variant, options: argparse.Namespace, settings: PretrainingSettings, progress: Progress
) -> Any:
    """Train a variant, or return it from its folder."""
    folder = options.work / (variant.generator or "phantoms").replace(" ", "-")
    store = VariantStore(folder, options.workers, progress, variant.generator)
    own = replace(settings, **variant.settings)

    def draw() -> Samples:
        return store.samples(own.seed, own.count, variant.name)

    return train(draw, own, work_folder(folder, own), progress, options.start)


def main() -> None:
    """Train and measure all variants."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", nargs="+", help="labeled slices")
    parser.add_argument("--start", type=Path, required=True, help="weights to start from")
    parser.add_argument("--work", type=Path, default=Path("ablation"))
    parser.add_argument("--count", type=int, default=6000, help="number of phantoms")
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--heads", type=int, default=50, help="phantom heads, each with two scans")
    parser.add_argument("--test-count", type=int, default=2000)
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    progress = Progress()
    settings = PretrainingSettings(
        count=options.count,
        epochs=options.epochs,
        hard_from=1,
        warmup=50,
        learning_rate=1e-3,
        start=hashlib.sha256(options.start.read_bytes()).hexdigest(),
    )
    scans = draw_scans(options.work / f"scans-{options.heads}.npz", options.heads, options.workers)
    store = SampleStore(options.work / "phantoms", options.workers, progress)
    test = store.samples(TEST_SEED, options.test_count, "test phantoms")
    real = [read_real(data) for data in options.data]
    results: dict[str, dict[str, Any]] = {}
    full: dict[str, np.ndarray] = {}
    for variant in VARIANTS:
        backbone = run(variant, options, settings, progress)
        results[variant.name], found = measure(backbone, settings, scans, test, real)
        full = full or found
        for data in real:
            results[variant.name][data.name]["lost"] = difference(
                data, full[data.name], found[data.name]
            )
        print(variant.name, json.dumps(results[variant.name]), flush=True)
    print(json.dumps({"steps": settings.steps, "without": results}))


if __name__ == "__main__":
    main()
