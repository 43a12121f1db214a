"""Pretrains PhantomNet on phantoms alone: `python -m hemorrhage_tf.training.pretrain`.

No real slice takes part in it. The backbone learns to say whether there is a hemorrhage and, held
to the phantoms' masks, where; then the head is solved on phantoms of another seed, the operating
point is chosen on them, and all is measured on phantoms of a third one. Whole phantom scans choose
the operating point of scans.

It goes on where it was stopped. On two cores it takes from an hour and a half to two and three
quarters, most of it passes over the network, so that a GPU takes minutes after the phantoms are
drawn.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import click
import numpy as np

from hemorrhage_tf.data.phantoms import GENERATOR_VERSION, SUBTYPES
from hemorrhage_tf.models.phantomnet import EVIDENCE, EVIDENCE_OFFSET
from hemorrhage_tf.models.scan_figure import mean_of_top
from hemorrhage_tf.reporting import Reporter, import_tensorflow
from hemorrhage_tf.training.phantom_samples import (
    IMAGE_SIZE,
    Samples,
    ScanSamples,
    as_images,
    draw_samples,
    draw_scan_samples,
)

# The seeds of the sets are apart, so that no phantom is in two of them.
HEAD_SEED, TEST_SEED = 1_000_001, 2_000_002
SCAN_SEED, TEST_SCAN_SEED = 4_000_004, 5_000_005

# How much the maps weigh beside the label, and in them what is covered beside what is not. Most
# cells show nothing, and a mean over all of them is small.
_MAP_WEIGHT, _COVERED_WEIGHT = 8.0, 3.0
_LABEL_SMOOTHING = 0.02
_CHECKPOINT_SECONDS = 120.0


@dataclass(frozen=True)
class PretrainingSettings:
    """Everything that decides the weights.

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
            phantoms, kept apart for it, 1/16 to 1/4 gave the best ROC AUC.
        specificity: on phantoms without a hemorrhage, that the threshold is chosen for. A scan of
            30 slices has 30 chances to raise a false alarm, so that it is high.
        scan_count: whole phantom scans that the threshold for scans is chosen on.
        test_scan_count: whole phantom scans that the figures of scans are of.
        scan_specificity: on scans without a hemorrhage, that their threshold is chosen for.
        seed: of the phantoms and of everything that is drawn.
        start: hash of the weights that the backbone starts from; None for random ones.
    """

    count: int = 88_000
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
        The backbone, and a `keras.Model` from uint8-like gray levels `(n, 160, 160, 1)` in
        [0, 255] to a dictionary: `label`, logits `(n, 1)`, and `maps`, logits `(n, 20, 20, 7)`.
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


def augmenting_transforms(rng: np.random.Generator, count: int) -> np.ndarray:
    """Draws how pictures are flipped, turned, scaled and moved.

    Args:
        rng: where it comes from.
        count: of pictures.

    Returns:
        float32 `(count, 8)`: projective transforms from output to input pixels, in units of half
        the picture's side and from its middle; see `_in_pixels`.
    """
    turned = rng.normal(0, 0.08, count)
    anyhow = rng.random(count) < 0.12
    turned = np.where(anyhow, rng.uniform(-np.pi, np.pi, count), turned)
    flip_x = np.where(rng.random(count) < 0.5, -1.0, 1.0)
    flip_y = np.where(rng.random(count) < 0.3, -1.0, 1.0)
    zoom_x = np.exp(rng.normal(0, 0.06, count))
    zoom_y = zoom_x * np.exp(rng.normal(0, 0.04, count))
    move_x, move_y = rng.normal(0, 0.05, (2, count))
    cos, sin = np.cos(turned), np.sin(turned)
    zero = np.zeros(count)
    rows = (
        *(zoom_x * flip_x * cos, -zoom_x * flip_x * sin, move_x),
        *(zoom_y * flip_y * sin, zoom_y * flip_y * cos, move_y),
        *(zero, zero),
    )
    return np.stack(rows, axis=1).astype(np.float32)


def _in_pixels(transforms: np.ndarray, side: int) -> np.ndarray:
    """Brings transforms around the middle to pixels counted from the corner."""
    half = (side - 1) / 2
    pixels = transforms.copy()
    for row in (0, 3):
        a, b, moved = transforms[:, row], transforms[:, row + 1], transforms[:, row + 2]
        pixels[:, row + 2] = half * (1 + moved - a - b)
    return pixels


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


def batch_of(
    samples: Samples, settings: PretrainingSettings, step: int, chosen: np.ndarray
) -> tuple[np.ndarray, ...]:
    """Gives the batch of a step; the same one whenever it is asked.

    Args:
        samples: to choose from.
        settings: see there.
        step: of the training, from 0 up.
        chosen: int `(n,)`, indices of the samples.

    Returns:
        Images uint8 `(n, 160, 160, 1)`, maps uint8 `(n, 20, 20, 7)`, labels float32 `(n, 1)`, and
        what augments them: transforms of both `(n, 8)`, contrast, brightness and gamma `(n, 3)`.
    """
    rng = np.random.default_rng([settings.seed, 1, step])
    transforms = augmenting_transforms(rng, len(chosen))
    tones = np.stack(
        (
            np.exp(rng.normal(0, 0.12, len(chosen))),
            rng.normal(0, 8, len(chosen)),
            np.exp(rng.normal(0, 0.08, len(chosen))),
        ),
        axis=1,
    )
    return (
        samples.images[chosen, :, :, np.newaxis],
        samples.maps[chosen],
        samples.labels[chosen, np.newaxis].astype(np.float32),
        _in_pixels(transforms, samples.images.shape[1]),
        _in_pixels(transforms, samples.maps.shape[1]),
        tones.astype(np.float32),
    )


def _make_step(model, optimizer):
    import tensorflow as tf

    def moved(images, transforms):
        return tf.raw_ops.ImageProjectiveTransformV3(
            images=images,
            transforms=transforms,
            output_shape=tf.shape(images)[1:3],
            fill_value=0.0,
            interpolation="BILINEAR",
            fill_mode="CONSTANT",
        )

    @tf.function
    def step(images, maps, labels, image_transforms, map_transforms, tones):
        images = moved(tf.cast(images, tf.float32), image_transforms)
        contrast, brightness, gamma = tf.split(tones[:, tf.newaxis, tf.newaxis], 3, axis=-1)
        images = 255.0 * tf.pow(tf.maximum(images, 1e-3) / 255.0, gamma)
        # What is black around a head stays black.
        toned = images + brightness + (contrast - 1.0) * (images - 100.0)
        images = tf.where(images > 8.0, toned, images)
        images = tf.clip_by_value(images, 0.0, 255.0)
        targets = moved(tf.cast(maps, tf.float32) / 255.0, map_transforms)
        with tf.GradientTape() as tape:
            found = model(images, training=True)
            smooth = labels * (1 - _LABEL_SMOOTHING) + 0.5 * _LABEL_SMOOTHING
            label_losses = tf.nn.sigmoid_cross_entropy_with_logits(smooth, found["label"])
            label_loss = tf.reduce_mean(label_losses)
            map_loss = _MAP_WEIGHT * tf.reduce_mean(
                tf.nn.weighted_cross_entropy_with_logits(targets, found["maps"], _COVERED_WEIGHT)
            )
            loss = label_loss + map_loss
        gradients = tape.gradient(loss, model.trainable_variables)
        optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
        right = tf.reduce_mean(tf.cast((found["label"] > 0) == (labels > 0.5), tf.float32))
        return tf.stack([label_loss, map_loss, right]), label_losses[:, 0]

    return step


def train(
    samples: Samples,
    settings: PretrainingSettings,
    folder: Path,
    reporter: Reporter,
    start: Path | None = None,
):
    """Trains the backbone; goes on from the last checkpoint in the folder.

    Args:
        samples: what to train on.
        settings: see there.
        folder: where checkpoints and `history.csv` are kept.
        reporter: where progress goes.
        start: weights that the backbone starts from; None for random ones. Default None.

    Returns:
        The trained backbone.
    """
    import keras
    import tensorflow as tf

    keras.utils.set_random_seed(settings.seed)
    backbone, model = build_trainee()
    if start is not None:
        backbone.load_weights(start)
    optimizer = keras.optimizers.AdamW(
        learning_rate(settings), settings.weight_decay, global_clipnorm=2.0
    )
    optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    optimizer.build(model.trainable_variables)
    at = tf.Variable(0, dtype=tf.int64)
    # Keras leaves the state of dropout's generator out of what a checkpoint finds by itself.
    generators = [each.value for each in model.variables if "seed_generator" in each.path]
    # What the order of a pass depends on, and the order of the present one.
    kept_losses = tf.Variable(tf.zeros(settings.count))
    order = tf.Variable(np.arange(settings.count))
    checkpoint = tf.train.Checkpoint(
        model=model, optimizer=optimizer, step=at, generators=generators,
        losses=kept_losses, order=order,
    )  # fmt: skip
    manager = tf.train.CheckpointManager(checkpoint, str(folder / "checkpoints"), max_to_keep=2)
    if manager.latest_checkpoint:
        checkpoint.restore(manager.latest_checkpoint)
        reporter.note(f"Going on from step {int(at)} of {settings.steps}.")
    step = _make_step(model, optimizer)
    losses, seen = kept_losses.numpy().copy(), order.numpy()
    saved_at, sums, counted = time.monotonic(), np.zeros(3), 0
    with (
        reporter.progress("Pretraining", settings.steps) as advance,
        open(folder / "history.csv", "a", encoding="utf-8") as history,
    ):
        if not int(at):
            history.write("step,label_loss,map_loss,accuracy\n")
        advance(int(at))
        for number in range(int(at), settings.steps):
            epoch, place = divmod(number, settings.steps_of_epoch)
            if not place:
                seen = order_of_pass(settings, epoch, losses)
            chosen = np.sort(seen[place * settings.batch_size :][: settings.batch_size])
            figures, found = step(*map(tf.constant, batch_of(samples, settings, number, chosen)))
            losses[chosen] = found.numpy()
            sums += figures.numpy()
            counted += 1
            at.assign_add(1)
            advance(1)
            last = int(at) == settings.steps
            if int(at) % 50 == 0 or last:
                history.write(",".join(map(str, (int(at), *np.round(sums / counted, 5)))) + "\n")
                history.flush()
                sums, counted = np.zeros(3), 0
            if last or time.monotonic() - saved_at > _CHECKPOINT_SECONDS:
                kept_losses.assign(losses)
                order.assign(seen)
                manager.save()
                saved_at = time.monotonic()
    return backbone


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


def scan_figures(probabilities: np.ndarray, samples: ScanSamples) -> tuple[np.ndarray, np.ndarray]:
    """Gives the figure of each scan, and whether there is blood in any of its slices.

    Args:
        probabilities: `(n,)`, of each slice.
        samples: the slices.

    Returns:
        float64 `(scans,)` and bool `(scans,)`.
    """
    scans = np.unique(samples.scans)
    members = [samples.scans == scan for scan in scans]
    figures = [mean_of_top(probabilities[each]) for each in members]
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

    figures, labels = scan_figures(probabilities, samples)
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
    """Gives the lowest threshold below which a share of the slices without hemorrhage lies."""
    above = np.sort(probabilities)[math.ceil(specificity * len(probabilities)) :]
    return float(above[0]) if len(above) else 1.0


def pretrain(
    settings: PretrainingSettings,
    work: Path,
    out: Path,
    workers: int,
    reporter: Reporter,
    start: Path | None = None,
) -> dict[str, Any]:
    """Draws, trains, solves the head, measures, and writes the embedded files.

    Args:
        settings: what decides the weights.
        work: folder for phantoms and checkpoints, which may be gigabytes.
        out: folder for the weights and what belongs to them.
        workers: processes that draw.
        reporter: where progress and notes go.
        start: weights that the backbone starts from; None for random ones. Default None.

    Returns:
        What was measured, as it is written beside the weights.
    """
    from hemorrhage_tf.models.backbones import backbone_spec, weights_hash
    from hemorrhage_tf.models.classifier import Branch, build_classifier, set_head, standardize
    from hemorrhage_tf.models.embedded import write_embedded
    from hemorrhage_tf.models.metadata import ModelMetadata, versions
    from hemorrhage_tf.training.trainer import Head, class_weight, feature_statistics, solve_head

    if start is not None:
        settings = replace(settings, start=hashlib.sha256(start.read_bytes()).hexdigest())
    folder = _work_folder(work, settings)
    samples = draw_samples(work, settings.seed, settings.count, workers, reporter)
    import_tensorflow()
    backbone = train(samples, settings, folder, reporter, start)
    del samples
    # The weights are kept as float16, so the head is solved on what those give.
    backbone.set_weights([_rounded(weights) for weights in backbone.get_weights()])
    heads = draw_samples(
        work, settings.seed + HEAD_SEED, settings.head_count, workers, reporter,
        "phantoms for the head",
    )  # fmt: skip
    test = draw_samples(
        work, settings.seed + TEST_SEED, settings.test_count, workers, reporter,
        "phantoms to measure on",
    )  # fmt: skip
    labels = heads.labels.astype(np.int64)
    with reporter.stage("Solving the head"):
        rows = features_of(backbone, heads)
        mean, variance = feature_statistics(rows)
        solution = solve_head(
            standardize(rows, mean, variance), labels, class_weight(labels, "none"), settings.l2
        )
    head = Head(mean, variance, solution.kernel, solution.bias)
    threshold = threshold_for(head.probabilities(rows)[labels == 0], settings.specificity)
    scans = draw_scan_samples(
        work, settings.seed + SCAN_SEED, settings.scan_count, workers, reporter,
        "scans for their threshold",
    )  # fmt: skip
    with reporter.stage("Choosing the threshold of scans"):
        found, with_blood = scan_figures(head.probabilities(features_of(backbone, scans)), scans)
        scan_threshold = threshold_for(found[~with_blood], settings.scan_specificity)
    scans = draw_scan_samples(
        work, settings.seed + TEST_SCAN_SEED, settings.test_scan_count, workers, reporter,
        "scans to measure on",
    )  # fmt: skip
    with reporter.stage("Measuring"):
        classifier = build_classifier([Branch(backbone_spec("phantomnet"), backbone)], "avg_max")
        set_head(classifier, head.mean, head.variance, head.kernel, head.bias)
        figures = measure(head.probabilities(features_of(backbone, test)), test, threshold)
        figures["pointing"] = pointing_accuracy(classifier, test)
        probabilities = head.probabilities(features_of(backbone, scans))
        figures["scans"] = measure_scans(probabilities, scans, threshold, scan_threshold)
    measured = {
        "settings": {**asdict(settings), "generator": GENERATOR_VERSION},
        "figures": as_rows(figures),
        "maps": list(EVIDENCE),
    }
    metadata = ModelMetadata(
        image_size=IMAGE_SIZE,
        window=("brain",),
        canonical=True,
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
    """Gives the folder of a training; another setting is another training."""
    from hemorrhage_tf.models.backbones import fingerprint

    folder = work / f"training-{fingerprint(asdict(settings))[:12]}"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "settings.json").write_text(json.dumps(asdict(settings), indent=2) + "\n")
    return folder


@click.command()
@click.option("--work", type=click.Path(path_type=Path), default=Path("pretraining"),
              show_default=True, help="Folder for phantoms and checkpoints (4 GB).")  # fmt: skip
@click.option("--out", type=click.Path(path_type=Path), default=Path("pretrained"),
              show_default=True, help="Folder for weights and figures.")  # fmt: skip
@click.option("--count", type=int, default=PretrainingSettings.count, show_default=True,
              help="Phantoms to train on.")  # fmt: skip
@click.option("--epochs", type=int, default=PretrainingSettings.epochs, show_default=True,
              help="Passes over them.")  # fmt: skip
@click.option("--hard-from", type=int, default=PretrainingSettings.hard_from, show_default=True,
              help="First pass, from 0 up, with twice the hardest.")  # fmt: skip
@click.option("--head-count", type=int, default=PretrainingSettings.head_count,
              show_default=True, help="Phantoms to solve the head on.")  # fmt: skip
@click.option("--test-count", type=int, default=PretrainingSettings.test_count,
              show_default=True, help="Phantoms to measure on.")  # fmt: skip
@click.option("--scan-count", type=int, default=PretrainingSettings.scan_count, show_default=True,
              help="Whole scans to choose their threshold on.")  # fmt: skip
@click.option("--test-scan-count", type=int, default=PretrainingSettings.test_scan_count,
              show_default=True, help="Whole scans to measure on.")  # fmt: skip
@click.option("--learning-rate", type=float, default=PretrainingSettings.learning_rate,
              show_default=True, help="At its highest.")  # fmt: skip
@click.option("--start", type=click.Path(path_type=Path, exists=True, dir_okay=False),
              help="Weights that the backbone starts from, instead of random ones.")  # fmt: skip
@click.option("--seed", type=int, default=0, show_default=True, help="Of all that is drawn.")
@click.option("--workers", type=int, default=os.cpu_count(), help="Processes that draw.")
def main(work: Path, out: Path, workers: int, start: Path | None, **settings: Any) -> None:
    """Pretrain PhantomNet on phantoms alone. Go on where it was stopped."""
    chosen = PretrainingSettings(**settings)
    measured = pretrain(chosen, work, out, max(1, workers), Reporter(), start)
    click.echo(json.dumps(measured["figures"], indent=2))


if __name__ == "__main__":
    main()
