"""Pretrain PhantomNet on phantoms alone: `python -m hemorrhage_tf.training.pretraining.pretrain`.

No real slice takes part. The backbone learns to predict whether there is a hemorrhage and, from the
phantoms' masks, where. Then the head is solved and the operating point chosen on the slices of
phantom scans of another random seed, and the metrics are computed on phantoms of a third seed.
`scan_pretraining` adds the scan model and the operating points of scans.

An interrupted pretraining resumes from its checkpoint. `docs/phantomnet.md` lists the command that
trained the embedded model.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click
import numpy as np
from scipy.special import expit

from hemorrhage_tf.core.native_output import import_tensorflow
from hemorrhage_tf.core.progress import Progress
from hemorrhage_tf.models.phantomnet import EVIDENCE, IMAGE_SIZE
from hemorrhage_tf.synthesis.draw import GENERATOR_VERSION
from hemorrhage_tf.training.pretraining.metrics import (
    feature_computer,
    flatten_metrics,
    pointing_accuracy,
    slice_metrics,
    threshold_for,
)
from hemorrhage_tf.training.pretraining.options import (
    count_option,
    seed_option,
    work_option,
    workers_option,
)
from hemorrhage_tf.training.pretraining.samples import SampleStore
from hemorrhage_tf.training.pretraining.scan_samples import HEAD_SEED, ScanFeatureStore
from hemorrhage_tf.training.pretraining.settings import PretrainingSettings
from hemorrhage_tf.training.pretraining.step import BACKENDS
from hemorrhage_tf.training.pretraining.training import train

# Offset of the random seed, so that no phantom is in two sets.
TEST_SEED = 2_000_002
# Heads that choose the threshold, each solved without one fold.
HEAD_FOLDS = 5


@dataclass(frozen=True)
class _Solved:
    """A solved head and its operating point.

    Attributes:
        head: The `HeadWeights`.
        threshold: Threshold of slices.
    """

    head: Any
    threshold: float


def pretrain(
    settings: PretrainingSettings,
    store: SampleStore,
    out: Path,
    start: Path | None = None,
    train_only: bool = False,
) -> dict[str, Any] | None:
    """Train the backbone, solve the head, compute metrics, and write the embedded model's files.

    Args:
        settings: What determines the weights.
        store: The samples. Checkpoints are written into its folder, too.
        out: Folder for the weights and their description.
        start: Weights file that the backbone starts from; None for random weights. Defaults to
            None.
        train_only: Stop after the training, which needs no TensorFlow if Keras runs on JAX. A
            later call resumes from the folder of the store. Defaults to False.

    Returns:
        Settings and metrics, as written next to the weights; None after the training alone.
    """
    from hemorrhage_tf.models.backbones import weights_hash
    from hemorrhage_tf.models.embedded_model import write_embedded
    from hemorrhage_tf.models.metadata import ModelMetadata, versions

    if start is not None:
        settings = replace(settings, start=hashlib.sha256(start.read_bytes()).hexdigest())
    folder = work_folder(store.folder, settings)
    backbone = train(
        lambda: store.samples(settings.seed, settings.count),
        settings,
        folder,
        store.progress,
        start,
    )
    if train_only:
        store.progress.note(f"Training is complete. Run again without --train-only ({folder}).")
        return None
    # The file stores kernels as float16, so the head is solved on the features of those.
    backbone.set_weights([_round_kernel(weights) for weights in backbone.get_weights()])
    solved = _solve(settings, store, backbone)
    metrics = _compute_metrics(settings, store, backbone, solved)
    # The names of these keys are part of the file's format.
    description = {
        "settings": settings.to_dict(),
        "figures": flatten_metrics(metrics),
        "maps": list(EVIDENCE),
    }
    metadata = ModelMetadata(
        image_size=IMAGE_SIZE,
        window=("brain",),
        crop_head=True,
        threshold=solved.threshold,
        operating_point=f"specificity={settings.specificity:g}",
        backbone="phantomnet",
        feature_layer=None,
        pooling="avg_max",
        weights_hash=weights_hash(backbone),
        data_hash=f"phantoms-v{GENERATOR_VERSION}-n{settings.count}-s{settings.seed}",
        versions=versions(),
    )
    write_embedded(out, backbone, vars(solved.head), metadata, description)
    return description


def work_folder(work: Path, settings: PretrainingSettings) -> Path:
    """Create the folder of a training, by the settings that it depends on."""
    from hemorrhage_tf.models.backbones import fingerprint

    recorded = settings.of_training()
    folder = work / f"training-{fingerprint(recorded)[:12]}"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "settings.json").write_text(json.dumps(recorded, indent=2) + "\n")
    return folder


def _round_kernel(weights: np.ndarray) -> np.ndarray:
    """Round a kernel to float16; return vectors unchanged."""
    return weights.astype(np.float16).astype(np.float32) if weights.ndim > 1 else weights


def _solve(settings: PretrainingSettings, store: SampleStore, backbone: Any) -> _Solved:
    """Solve the head and choose its threshold, on scans that the backbone never saw."""
    from hemorrhage_tf.models.backbones import weights_hash
    from hemorrhage_tf.training.pretraining.slice_head import cross_fitted_logits, solve_slice_head

    scan_store = ScanFeatureStore(
        store.folder,
        feature_computer(backbone),
        weights_hash(backbone),
        store.workers,
        store.progress,
    )
    scans = scan_store.scans(settings.seed + HEAD_SEED, settings.head_scans, "scans for the head")
    with store.progress.stage("Solving the head"):
        head = solve_slice_head(scans.features, scans.labels, settings.l2)
        logits = cross_fitted_logits(scans, settings.l2, HEAD_FOLDS, settings.seed)
    normal = scans.of_normal_scans
    return _Solved(head, threshold_for(expit(logits[normal]), settings.specificity))


def _compute_metrics(
    settings: PretrainingSettings, store: SampleStore, backbone: Any, solved: _Solved
) -> dict[str, Any]:
    """Compute all metrics on phantoms that nothing was chosen on."""
    from hemorrhage_tf.models.backbones import backbone_spec
    from hemorrhage_tf.models.classifier import Branch, build_classifier, set_head

    head = solved.head
    samples = store.samples(settings.seed + TEST_SEED, settings.test_count, "test phantoms")
    with store.progress.stage("Computing metrics"):
        features = feature_computer(backbone)(samples.images)
        classifier = build_classifier([Branch(backbone_spec("phantomnet"), backbone)], "avg_max")
        set_head(classifier, head.mean, head.variance, head.kernel, head.bias)
        probabilities = head.probabilities(features)
        metrics = slice_metrics(probabilities, samples, solved.threshold)
        metrics["pointing"] = pointing_accuracy(classifier, samples)
    return metrics


def _check_backend(train_only: bool) -> None:
    if not train_only:
        import_tensorflow()
    import keras

    backend = keras.backend.backend()
    if backend not in (BACKENDS if train_only else ("tensorflow",)):
        raise click.UsageError(
            f"KERAS_BACKEND={backend}: not supported here. Set it to tensorflow, or to jax with "
            "--train-only."
        )


@click.command()
@work_option("Store samples here (5 GB).")
@click.option(
    "--out",
    metavar="DIR",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("pretrained"),
    show_default=True,
    help="Write the model here.",
)
@count_option(PretrainingSettings, "count", "Train on N phantoms.")
@count_option(PretrainingSettings, "epochs", "Make N passes over the phantoms.")
@count_option(PretrainingSettings, "hard-from", "Repeat hard phantoms from pass N.", least=0)
@count_option(
    PretrainingSettings, "window-pairs", "Show N of a batch through a second window.", least=0
)
@count_option(PretrainingSettings, "head-scans", "Solve the head on N scans.", least=10)
@count_option(PretrainingSettings, "test-count", "Compute metrics on N phantoms.")
@count_option(PretrainingSettings, "batch-size", "Train on N phantoms in each step.")
@click.option(
    "--learning-rate",
    metavar="X",
    type=float,
    default=PretrainingSettings.learning_rate,
    show_default=True,
    help="Set the highest learning rate.",
)
@click.option(
    "--start",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Start from these weights instead of random ones.",
)
@seed_option
@workers_option
@click.option("--train-only", is_flag=True, help="Stop after the training; rerun for the rest.")
def main(
    work: Path, out: Path, workers: int, start: Path | None, train_only: bool, **settings: Any
) -> None:
    """Pretrain PhantomNet on phantoms alone, or resume an interrupted run.

    Training also runs on JAX, without TensorFlow: set KERAS_BACKEND=jax and pass --train-only.
    """
    chosen = PretrainingSettings(**settings)
    if chosen.steps < 1:
        raise click.UsageError(
            f"--count {chosen.count}, --batch-size {chosen.batch_size}: less than one batch. "
            "Pass a count of at least the batch size."
        )
    _check_backend(train_only)
    store = SampleStore(work, workers, Progress())
    description = pretrain(chosen, store, out, start, train_only)
    if description is not None:
        click.echo(json.dumps(description["figures"], indent=2))


if __name__ == "__main__":
    main()
