"""Pretrains PhantomNet on phantoms alone: `python -m hemorrhage_tf.training.pretraining.pretrain`.

No real slice takes part in it. The backbone learns to say whether there is a hemorrhage and, held
to the phantoms' masks, where; then the head is solved on phantoms of another seed, the operating
point is chosen on them, and all is measured on phantoms of a third one. Whole phantom scans choose
the operating point of scans.

It goes on where it was stopped. On two cores it takes from an hour and a half to three, most of it
passes over the network; a GPU takes minutes after the phantoms are drawn, so that more phantoms and
passes are worth asking for there. `docs/phantomnet.md` has the command that gave what is embedded.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import click
import numpy as np

from hemorrhage_tf.core.atomic_files import write_atomically
from hemorrhage_tf.core.native_output import import_tensorflow
from hemorrhage_tf.core.progress import Progress
from hemorrhage_tf.models.phantomnet import EVIDENCE, EVIDENCE_OFFSET, IMAGE_SIZE
from hemorrhage_tf.models.scan_score import mean_of_highest
from hemorrhage_tf.synthesis.draw import GENERATOR_VERSION
from hemorrhage_tf.synthesis.hemorrhage import SUBTYPES
from hemorrhage_tf.training.pretraining.samples import (
    Samples,
    ScanSamples,
    as_images,
    draw_samples,
    draw_scan_samples,
)
from hemorrhage_tf.training.pretraining.step import BACKENDS, batch_of, build_step

# The seeds of the sets are apart, so that no phantom is in two of them.
HEAD_SEED, TEST_SEED = 1_000_001, 2_000_002
SCAN_SEED, TEST_SCAN_SEED = 4_000_004, 5_000_005

CHECKPOINT_FILE = "checkpoint.npz"
_CHECKPOINT_SECONDS = 120.0
_TOLD_EVERY = 50  # steps


@dataclass(frozen=True)
class PretrainingSettings:
    """Everything that decides the weights. The defaults are for two cores.

    Attributes:
        count: phantoms to train on.
        epochs: passes over them, each with other augmentations.
        hard_from: first pass, counted from 0, in which half of what is seen is of the quarter of
            the phantoms that the network found hardest; see `order_of_pass`.
        head_count: phantoms that the head is solved and the operating point is chosen on.
        test_count: phantoms that the figures are of.
        batch_size: phantoms in a step.
        learning_rate: of AdamW at its highest; it rises over `warmup` steps and falls to 0 with a
            cosine.
        weight_decay: of AdamW.
        warmup: steps.
        l2: strength of the head's penalty, see `trainer.solve_head`. On a third of the head's
            phantoms of version 4, kept apart for it, 1/16 to 1/4 gave the best ROC AUC.
        specificity: on phantoms without a hemorrhage, that the threshold is chosen for. A scan of
            30 slices has 30 chances to raise a false alarm, so that it is high.
        scan_count: whole phantom scans that the threshold for scans is chosen on.
        test_scan_count: whole phantom scans that the figures of scans are of.
        scan_specificity: on scans without a hemorrhage, that their threshold is chosen for.
        seed: of the phantoms and of everything that is drawn.
        start: hash of the weights that the backbone starts from; None for random ones.
    """

    count: int = 70_000
    epochs: int = 5
    hard_from: int = 2
    head_count: int = 6_000
    test_count: int = 4_000
    batch_size: int = 32
    learning_rate: float = 1.5e-3
    weight_decay: float = 1e-3
    warmup: int = 300
    l2: float = 1 / 8
    specificity: float = 0.97
    scan_count: int = 600
    test_scan_count: int = 400
    scan_specificity: float = 0.95
    seed: int = 0
    start: str | None = None

    @property
    def steps_of_epoch(self) -> int:
        """Whole batches in a pass."""
        return self.count // self.batch_size

    @property
    def steps(self) -> int:
        """Of all passes."""
        return self.steps_of_epoch * self.epochs

    def recorded(self) -> dict[str, Any]:
        """Gives the settings as they are written down, with the version of the phantoms."""
        return {**asdict(self), "generator": GENERATOR_VERSION}


def learning_rate(settings: PretrainingSettings):
    """Builds the schedule of the learning rate: a cosine with a warm-up."""
    import keras

    falling = max(settings.steps - settings.warmup, 1)
    return keras.optimizers.schedules.CosineDecay(
        0.0, falling, 0.0, "cosine", settings.learning_rate, settings.warmup
    )


def build_trainee():
    """Builds what is trained: the backbone, and outputs for the label and the maps.

    Returns:
        The backbone, and a `keras.Model` from uint8-like gray levels `(n, 192, 192, 1)` in
        [0, 255] to a dictionary: `label`, logits `(n, 1)`, and `maps`, logits `(n, 24, 24, 7)`.
    """
    import keras

    from hemorrhage_tf.models.classifier import pool
    from hemorrhage_tf.models.phantomnet import PhantomNet

    backbone = PhantomNet(False, None, (IMAGE_SIZE, IMAGE_SIZE, 3))
    both = keras.Model(backbone.input, [backbone.output, backbone.get_layer("evidence").output])
    gray = keras.Input((IMAGE_SIZE, IMAGE_SIZE, 1), name="image")
    scaled = keras.layers.Rescaling(1 / 127.5, -1.0)(keras.ops.repeat(gray, 3, axis=-1))
    features, evidence = both(scaled)
    pooled = keras.layers.Dropout(0.1)(pool({"": features}, "avg_max"))
    label = keras.layers.Dense(1, name="label")(pooled)
    maps = keras.layers.Rescaling(1.0, -EVIDENCE_OFFSET, name="maps")(evidence)
    return backbone, keras.Model(gray, {"label": label, "maps": maps}, name="trainee")


def order_of_pass(settings: PretrainingSettings, epoch: int, losses: np.ndarray) -> np.ndarray:
    """Says in which order phantoms are seen in a pass.

    In the first passes each comes once. From `hard_from` on every second one is of the quarter
    whose label the network found hardest when it saw them last, each of these twice; the others are
    half of all. Of most phantoms there is little left to learn by then.

    Args:
        settings: see there.
        epoch: of the pass, from 0 up.
        losses: float32 `(count,)`, of the labels when they were last seen.

    Returns:
        int64 `(count,)`: indices of the phantoms.

    Reference:
        A. Katharopoulos and F. Fleuret, Not all samples are created equal: deep learning with
        importance sampling, ICML 2018, on why what is still wrong is worth more steps.
    """
    rng = np.random.default_rng([settings.seed, epoch])
    order = rng.permutation(settings.count)
    if epoch < settings.hard_from:
        return order
    half = (settings.count + 1) // 2
    hardest = np.argsort(-losses, kind="stable")[: (settings.count + 3) // 4]
    again = np.concatenate([rng.permutation(hardest) for _ in range(-(-half // len(hardest)))])
    return np.stack((order[:half], again[:half]), axis=1).ravel()[: settings.count]


def train(
    draw: Callable[[], Samples],
    settings: PretrainingSettings,
    folder: Path,
    progress: Progress,
    start: Path | None = None,
):
    """Trains the backbone; goes on from the checkpoint in the folder, of whatever backend.

    Args:
        draw: gives what to train on; it is not asked where the training is done.
        settings: see there.
        folder: where the checkpoint and `history.csv` are kept.
        progress: where progress goes.
        start: weights that the backbone starts from; None for random ones. Default None.

    Returns:
        The trained backbone.
    """
    import keras

    keras.utils.set_random_seed(settings.seed)
    backbone, model = build_trainee()
    if start is not None:
        backbone.load_weights(start)
    optimizer = keras.optimizers.AdamW(
        learning_rate(settings), settings.weight_decay, global_clipnorm=2.0
    )
    optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    optimizer.build(model.trainable_variables)
    variables = [*model.variables, *optimizer.variables]
    # What the order of a pass depends on, and the order of the present one.
    losses, seen, at = np.zeros(settings.count, np.float32), np.arange(settings.count), 0
    if (folder / CHECKPOINT_FILE).is_file():
        at, losses, seen = _restore(folder / CHECKPOINT_FILE, variables)
        progress.note(f"Going on from step {at} of {settings.steps}.")
    _keep_history(folder / "history.csv", at)
    if at == settings.steps:
        return backbone
    samples = draw()
    step = build_step(model, optimizer)
    saved_at = time.monotonic()
    # What steps found, as arrays of the backend: reading them at once would wait for each step.
    told: list[tuple[np.ndarray, Any, Any]] = []
    with (
        progress.track("Pretraining", settings.steps) as advance,
        open(folder / "history.csv", "a", encoding="utf-8") as history,
    ):
        advance(at)
        for number in range(at, settings.steps):
            epoch, place = divmod(number, settings.steps_of_epoch)
            if not place:
                seen = order_of_pass(settings, epoch, losses)
            chosen = np.sort(seen[place * settings.batch_size :][: settings.batch_size])
            told.append((chosen, *step(*batch_of(samples, settings.seed, number, chosen))))
            done = number + 1
            save = done == settings.steps or time.monotonic() - saved_at > _CHECKPOINT_SECONDS
            if save or len(told) == _TOLD_EVERY or not done % settings.steps_of_epoch:
                for each, _, found in told:
                    losses[each] = np.asarray(found)
                figures = np.mean([np.asarray(figures) for _, figures, _ in told], axis=0)
                history.write(",".join(map(str, (done, *np.round(figures, 5)))) + "\n")
                history.flush()
                advance(len(told))
                told = []
            if save:
                step.settle()
                _keep(folder / CHECKPOINT_FILE, variables, done, losses, seen)
                saved_at = time.monotonic()
    return backbone


def _keep_history(path: Path, step: int) -> None:
    """Leaves of a history what is not told again by a training that goes on from a step."""
    rows = path.read_text(encoding="utf-8").splitlines()[1:] if path.is_file() else []
    kept = [row for row in rows if int(row.split(",")[0]) <= step]
    lines = ["step,label_loss,map_loss,accuracy", *kept, ""]
    write_atomically(path, lambda file: file.write("\n".join(lines).encode()))


def _keep(path: Path, variables: list, step: int, losses: np.ndarray, order: np.ndarray) -> None:
    arrays = {f"{number:04d}": np.asarray(each) for number, each in enumerate(variables)}
    write_atomically(
        path, lambda file: np.savez(file, step=step, losses=losses, order=order, **arrays)
    )


def _restore(path: Path, variables: list) -> tuple[int, np.ndarray, np.ndarray]:
    """Sets variables to what was kept; gives the step, the losses and the order of the pass."""
    with np.load(path, allow_pickle=False) as kept:
        for number, variable in enumerate(variables):
            variable.assign(kept[f"{number:04d}"])
        return int(kept["step"]), kept["losses"], kept["order"]


def features_of(backbone, samples: Samples | ScanSamples) -> np.ndarray:
    """Gives average and max pooled features: float32 `(n, 2 * channels)`."""
    import tensorflow as tf

    from hemorrhage_tf.models.classifier import build_feature_model

    model = build_feature_model(backbone, "symmetric")
    forward = tf.function(lambda images: model(images, training=False))
    return np.concatenate(
        [
            forward(as_images(samples.images[first : first + 100])).numpy()
            for first in range(0, len(samples.images), 100)
        ]
    )


def pointing_hits(cams: np.ndarray, blood: np.ndarray) -> np.ndarray:
    """Says of each slice whether its map's maximum lies in the hemorrhage.

    Args:
        cams: float32 `(n, cells, cells)`, class activation maps.
        blood: bool `(n, size, size)`, of which the size is a multiple of the cells.

    Returns:
        bool `(n,)`: whether the cell of the maximum holds a pixel of blood.

    Reference:
        J. Zhang et al., Top-down neural attention by excitation backprop, ECCV 2016 (the pointing
        game).
    """
    count, cells = cams.shape[:2]
    part = blood.shape[1] // cells
    with_blood = blood.reshape(count, cells, part, cells, part).any(axis=(2, 4))
    peaks = cams.reshape(count, -1).argmax(axis=1)
    return with_blood.reshape(count, -1)[np.arange(count), peaks]


def pointing_accuracy(classifier, samples: Samples) -> dict[str, dict[str, float]]:
    """Measures how often the class activation map's maximum lies in the hemorrhage.

    Args:
        classifier: the whole model.
        samples: of which those with a hemorrhage are looked at.

    Returns:
        For "any" and each subtype: `hits`, a share, and `n`. See `pointing_hits`.
    """
    import tensorflow as tf

    from hemorrhage_tf.models.classifier import with_class_activation_map

    model = with_class_activation_map(classifier)
    forward = tf.function(lambda images: model(images, training=False)["cam"])
    chosen = np.flatnonzero(samples.labels)
    found = [
        pointing_hits(
            forward(as_images(samples.images[part])).numpy(),
            np.unpackbits(samples.pointable[part], axis=-1).astype(bool),
        )
        for part in np.split(chosen, range(100, len(chosen), 100))
    ]
    hits = np.concatenate(found)
    shares = {"any": {"hits": float(hits.mean()), "n": len(hits)}}
    for bit, name in enumerate(SUBTYPES):
        of = (samples.blood[chosen] >> bit & 1).astype(bool)
        shares[name] = {"hits": float(hits[of].mean()), "n": int(of.sum())}
    return shares


def measure(probabilities: np.ndarray, samples: Samples, threshold: float) -> dict[str, Any]:
    """Gives the figures on phantoms, of all and of each subtype against those without blood."""
    from sklearn.metrics import roc_auc_score

    labels = samples.labels.astype(bool)
    called = probabilities >= threshold
    subtypes = {}
    for bit, name in enumerate(SUBTYPES):
        of = (samples.blood >> bit & 1).astype(bool)
        kept = of | ~labels
        subtypes[name] = {
            "roc_auc": float(roc_auc_score(of[kept], probabilities[kept])),
            "sensitivity": float(called[of].mean()),
            "n": int(of.sum()),
        }
    return {
        "n": len(labels),
        "roc_auc": float(roc_auc_score(labels, probabilities)),
        "accuracy": float((called == labels).mean()),
        "sensitivity": float(called[labels].mean()),
        "specificity": float((~called[~labels]).mean()),
        "subtypes": subtypes,
    }


def scan_scores(probabilities: np.ndarray, samples: ScanSamples) -> tuple[np.ndarray, np.ndarray]:
    """Gives the figure of each scan, and whether there is blood in any of its slices.

    Args:
        probabilities: `(n,)`, of each slice.
        samples: the slices.

    Returns:
        float64 `(scans,)` and bool `(scans,)`.
    """
    scans = np.unique(samples.scans)
    members = [samples.scans == scan for scan in scans]
    figures = [mean_of_highest(probabilities[each]) for each in members]
    return np.array(figures), np.array([samples.labels[each].any() for each in members])


def measure_scans(
    probabilities: np.ndarray, samples: ScanSamples, threshold: float, scan_threshold: float
) -> dict[str, float]:
    """Gives the figures on whole phantom scans.

    Args:
        probabilities: `(n,)`, of each slice.
        samples: the slices.
        threshold: of slices.
        scan_threshold: of the mean of a scan's three highest probabilities.

    Returns:
        `n` scans, their `roc_auc`, and `sensitivity` and `specificity` at their threshold; and
        `flagged`, the mean share of slices flagged in a scan without a hemorrhage.
    """
    from sklearn.metrics import roc_auc_score

    figures, labels = scan_scores(probabilities, samples)
    called = figures >= scan_threshold
    normal = ~labels[np.searchsorted(np.unique(samples.scans), samples.scans)]
    return {
        "n": len(labels),
        "roc_auc": float(roc_auc_score(labels, figures)),
        "sensitivity": float(called[labels].mean()),
        "specificity": float((~called[~labels]).mean()),
        "flagged": float((probabilities[normal] >= threshold).mean()),
    }


def as_rows(figures: dict[str, Any]) -> dict[str, float]:
    """Lays the figures of all and of the subtypes out in one level, for the model card."""
    rows = {name: value for name, value in figures.items() if not isinstance(value, dict)}
    rows |= {f"scans: {name}": value for name, value in figures["scans"].items()}
    rows["pointing_accuracy"] = figures["pointing"]["any"]["hits"]
    for name in SUBTYPES:
        found = figures["subtypes"][name]
        rows |= {f"{name}: {key}": value for key, value in found.items()}
        rows[f"{name}: pointing_accuracy"] = figures["pointing"][name]["hits"]
    return {name: round(value, 4) for name, value in rows.items()}


def threshold_for(probabilities: np.ndarray, specificity: float) -> float:
    """Gives the lowest threshold below which a share of what has no hemorrhage lies.

    Args:
        probabilities: `(n,)`, of slices or scans without a hemorrhage.
        specificity: the share.

    Returns:
        The threshold; 1 where all are to lie below it.
    """
    above = np.sort(probabilities)[math.ceil(specificity * len(probabilities)) :]
    return float(above[0]) if len(above) else 1.0


def pretrain(
    settings: PretrainingSettings,
    work: Path,
    out: Path,
    workers: int,
    progress: Progress,
    start: Path | None = None,
    train_only: bool = False,
) -> dict[str, Any] | None:
    """Draws, trains, solves the head, measures, and writes the embedded files.

    Args:
        settings: what decides the weights.
        work: folder for phantoms and checkpoints, which may be gigabytes.
        out: folder for the weights and what belongs to them.
        workers: processes that draw.
        progress: where progress and notes go.
        start: weights that the backbone starts from; None for random ones. Default None.
        train_only: end after the training, which needs no TensorFlow where Keras runs on JAX. What
            was trained is in the work folder then. Default False.

    Returns:
        What was measured, as it is written beside the weights; None after the training alone.
    """
    from hemorrhage_tf.models.backbones import backbone_spec, weights_hash
    from hemorrhage_tf.models.classifier import Branch, build_classifier, set_head, standardize
    from hemorrhage_tf.models.embedded_model import write_embedded
    from hemorrhage_tf.models.metadata import ModelMetadata, versions
    from hemorrhage_tf.training.head_solver import (
        HeadWeights,
        class_weight,
        feature_statistics,
        solve_head,
    )

    if start is not None:
        settings = replace(settings, start=hashlib.sha256(start.read_bytes()).hexdigest())
    folder = _work_folder(work, settings)
    backbone = train(
        lambda: draw_samples(work, settings.seed, settings.count, workers, progress),
        settings, folder, progress, start,
    )  # fmt: skip
    if train_only:
        progress.note(f"Trained; what is left goes on from {folder}.")
        return None
    # The weights are kept as float16, so the head is solved on what those give.
    backbone.set_weights([_rounded(weights) for weights in backbone.get_weights()])
    heads = draw_samples(
        work, settings.seed + HEAD_SEED, settings.head_count, workers, progress,
        "phantoms for the head",
    )  # fmt: skip
    test = draw_samples(
        work, settings.seed + TEST_SEED, settings.test_count, workers, progress,
        "phantoms to measure on",
    )  # fmt: skip
    labels = heads.labels.astype(np.int64)
    with progress.stage("Solving the head"):
        rows = features_of(backbone, heads)
        mean, variance = feature_statistics(rows)
        solution = solve_head(
            standardize(rows, mean, variance), labels, class_weight(labels, "none"), settings.l2
        )
    head = HeadWeights(mean, variance, solution.kernel, solution.bias)
    threshold = threshold_for(head.probabilities(rows)[labels == 0], settings.specificity)
    scans = draw_scan_samples(
        work, settings.seed + SCAN_SEED, settings.scan_count, workers, progress,
        "scans for their threshold",
    )  # fmt: skip
    with progress.stage("Choosing the threshold of scans"):
        found, with_blood = scan_scores(head.probabilities(features_of(backbone, scans)), scans)
        scan_threshold = threshold_for(found[~with_blood], settings.scan_specificity)
    scans = draw_scan_samples(
        work, settings.seed + TEST_SCAN_SEED, settings.test_scan_count, workers, progress,
        "scans to measure on",
    )  # fmt: skip
    with progress.stage("Measuring"):
        classifier = build_classifier([Branch(backbone_spec("phantomnet"), backbone)], "avg_max")
        set_head(classifier, head.mean, head.variance, head.kernel, head.bias)
        figures = measure(head.probabilities(features_of(backbone, test)), test, threshold)
        figures["pointing"] = pointing_accuracy(classifier, test)
        probabilities = head.probabilities(features_of(backbone, scans))
        figures["scans"] = measure_scans(probabilities, scans, threshold, scan_threshold)
    measured = {
        "settings": settings.recorded(),
        "figures": as_rows(figures),
        "maps": list(EVIDENCE),
    }
    metadata = ModelMetadata(
        image_size=IMAGE_SIZE,
        window=("brain",),
        crop_head=True,
        threshold=threshold,
        scan_threshold=scan_threshold,
        operating_point=f"specificity={settings.specificity:g}",
        scan_operating_point=f"specificity={settings.scan_specificity:g}",
        backbone="phantomnet",
        feature_layer=None,
        pooling="avg_max",
        weights_hash=weights_hash(backbone),
        data_hash=f"phantoms-v{GENERATOR_VERSION}-n{settings.count}-s{settings.seed}",
        versions=versions(),
    )
    kept = {"mean": mean, "variance": variance, "kernel": head.kernel, "bias": head.bias}
    write_embedded(out, backbone, kept, metadata, measured)
    return measured


def _rounded(weights: np.ndarray) -> np.ndarray:
    """Rounds a kernel to what float16 holds; what has one dimension is kept as it is."""
    return weights.astype(np.float16).astype(np.float32) if weights.ndim > 1 else weights


def _work_folder(work: Path, settings: PretrainingSettings) -> Path:
    """Gives the folder of a training; other settings or phantoms are another training."""
    from hemorrhage_tf.models.backbones import fingerprint

    recorded = settings.recorded()
    folder = work / f"training-{fingerprint(recorded)[:12]}"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "settings.json").write_text(json.dumps(recorded, indent=2) + "\n")
    return folder


def _check_backend(train_only: bool) -> None:
    if not train_only:
        import_tensorflow()
    import keras

    backend = keras.backend.backend()
    if backend not in (BACKENDS if train_only else ("tensorflow",)):
        raise click.UsageError(
            f"KERAS_BACKEND={backend}: not a backend for this. "
            "Accepted: tensorflow, and with --train-only also jax."
        )


def _setting(name: str, help: str, least: int = 1):
    """Makes an option of a count among the settings."""
    default = getattr(PretrainingSettings, name.replace("-", "_"))
    return click.option(
        f"--{name}", type=click.IntRange(least), default=default, show_default=True, help=help
    )


@click.command()
@click.option("--work", type=click.Path(path_type=Path), default=Path("pretraining"),
              show_default=True, help="Folder for phantoms and checkpoints (5 GB).")  # fmt: skip
@click.option("--out", type=click.Path(path_type=Path), default=Path("pretrained"),
              show_default=True, help="Folder for weights and figures.")  # fmt: skip
@_setting("count", "Phantoms to train on.")
@_setting("epochs", "Passes over them.")
@_setting("hard-from", "First pass, from 0 up, with twice the hardest.", least=0)
@_setting("head-count", "Phantoms to solve the head on.")
@_setting("test-count", "Phantoms to measure on.")
@_setting("scan-count", "Whole scans to choose their threshold on.")
@_setting("test-scan-count", "Whole scans to measure on.")
@_setting("batch-size", "Phantoms in a step.")
@click.option("--learning-rate", type=float, default=PretrainingSettings.learning_rate,
              show_default=True, help="At its highest.")  # fmt: skip
@click.option("--start", type=click.Path(path_type=Path, exists=True, dir_okay=False),
              help="Weights that the backbone starts from, instead of random ones.")  # fmt: skip
@click.option("--seed", type=int, default=0, show_default=True, help="Of all that is drawn.")
@click.option("--workers", type=int, default=os.cpu_count(), help="Processes that draw.")
@click.option("--train-only", is_flag=True,
              help="End after the training, on any backend; run again for the rest.")  # fmt: skip
def main(
    work: Path, out: Path, workers: int, start: Path | None, train_only: bool, **settings: Any
) -> None:
    """Pretrain PhantomNet on phantoms alone. Go on where it was stopped.

    The training itself also runs on JAX, without TensorFlow: KERAS_BACKEND=jax with --train-only.
    """
    chosen = PretrainingSettings(**settings)
    if chosen.steps < 1:
        raise click.UsageError(
            f"--count {chosen.count}, --batch-size {chosen.batch_size}, --epochs {chosen.epochs}: "
            "less than a step. Accepted: an epoch or more, and a batch of phantoms or more."
        )
    _check_backend(train_only)
    measured = pretrain(chosen, work, out, max(1, workers), Progress(), start, train_only)
    if measured is not None:
        click.echo(json.dumps(measured["figures"], indent=2))


if __name__ == "__main__":
    main()
