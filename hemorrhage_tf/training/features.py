"""Backbone features: each (slice, view) passes through the frozen backbone once, ever.

The cache is a folder of shards, one folder a fingerprint. A shard is an uncompressed NPZ file: keys
and rows, with the CRC-32 that the ZIP format gives each member. Shards are written beside and
renamed, so that a killed process leaves whole shards or none; a damaged one is dropped, and what
it held is computed again.
"""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hemorrhage_tf.data.augmentation import Augmentation
from hemorrhage_tf.data.model_input import ModelInput
from hemorrhage_tf.data.pipeline import explained_read_errors, view_dataset
from hemorrhage_tf.data.readers import SliceRef
from hemorrhage_tf.models.backbones import (
    BackboneSpec,
    build_backbone,
    fingerprint,
    weights_hash,
)
from hemorrhage_tf.models.choices import ChosenBackbone
from hemorrhage_tf.models.classifier import Branch, build_feature_model
from hemorrhage_tf.models.folding import fold_batch_normalization
from hemorrhage_tf.reporting import Reporter

CACHE_VARIABLE = "HEMORRHAGE_TF_CACHE"

# Slices that pass through the backbone together on each replica. Fixed, and the last batch is
# padded to it, so that a feature does not depend on how many others were missing.
BATCH_SIZE = 16

_FLUSH_SECONDS = 5.0


def cache_folder(given: str | Path | None = None) -> Path:
    """Finds the cache: as given, else `$HEMORRHAGE_TF_CACHE`, else the system's own place."""
    if given is not None:
        return Path(given)
    if os.environ.get(CACHE_VARIABLE):
        return Path(os.environ[CACHE_VARIABLE])
    import platformdirs

    return platformdirs.user_cache_path("hemorrhage_tf", appauthor=False)


class FeatureCache:
    """The features of one fingerprint on disk.

    Args:
        folder: the cache folder, see `cache_folder`.
        key: the fingerprint of what computes the features.
        reporter: where a damaged shard or a full disk is told.
    """

    def __init__(self, folder: Path, key: str, reporter: Reporter) -> None:
        self.folder = folder / "features" / key
        self._reporter = reporter
        self._writable = True

    def load(self, wanted: set[str]) -> dict[str, np.ndarray]:
        """Reads the rows that are there; a damaged shard is removed and told.

        Args:
            wanted: the keys to look for.

        Returns:
            A float32 row for each key that was found.
        """
        found: dict[str, np.ndarray] = {}
        damaged = 0
        for path in sorted(self.folder.glob("*.npz")):
            try:
                with open(path, "rb") as file, np.load(file, allow_pickle=False) as shard:
                    keys, rows = shard["keys"], shard["rows"]
                if rows.ndim != 2 or len(keys) != len(rows) or rows.dtype != np.float32:
                    raise ValueError("keys and rows do not match")
            except Exception:  # what a flipped bit makes zipfile raise is anybody's guess
                damaged += 1
                path.unlink(missing_ok=True)
                continue
            for name, row in zip(keys.tolist(), rows, strict=True):
                if name in wanted:
                    found[name] = row
        if damaged:
            self._reporter.warn(
                f"{damaged} damaged shards of the feature cache in {self.folder} were removed; "
                "their features are computed again"
            )
        return found

    def append(self, keys: Sequence[str], rows: np.ndarray) -> None:
        """Writes one shard; a disk that takes no more is told once, and the fit goes on without.

        Args:
            keys: a name for each row.
            rows: float32 `(n, width)`.
        """
        if not self._writable:
            return
        path = self.folder / f"{uuid.uuid4().hex}.npz"
        partial = path.with_suffix(".part")
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            try:
                with open(partial, "wb") as file:
                    np.savez(file, keys=np.array(keys), rows=rows.astype(np.float32))
                    file.flush()
                    os.fsync(file.fileno())
                os.replace(partial, path)
            finally:
                partial.unlink(missing_ok=True)
        except OSError as error:
            self._writable = False
            self._reporter.warn(
                f"the feature cache cannot be written ({error}); the fit goes on, and the next "
                f"one computes its features again. Name another place with --cache "
                f"or ${CACHE_VARIABLE}"
            )


@dataclass(frozen=True)
class FeatureSource:
    """What computes the features of one backbone, and what decides their values.

    Attributes:
        spec: the backbone's registry entry.
        backbone: the float32 Keras model that the classifier is built around.
        weights_hash: of its weights.
        feature_layer: where it was cut, or None.
        model_input: what slices are brought to; where it is of another size than the backbone's
            input, the backbone sees it resized, as in the classifier.
        policy: the Keras dtype policy to compute under.
    """

    spec: BackboneSpec
    backbone: object
    weights_hash: str
    feature_layer: str | None
    model_input: ModelInput
    policy: str

    @property
    def branch(self) -> Branch:
        """The backbone as a classifier takes it."""
        return Branch(self.spec, self.backbone)

    @property
    def width(self) -> int:
        """How many features a view has, average and max pooled."""
        return 2 * self.backbone.output_shape[-1]

    @property
    def fingerprint(self) -> str:
        """A hash of all that decides a feature's value besides the view's pixels."""
        import tensorflow as tf

        parts = {
            "backbone": self.spec.name,
            "normalization": self.spec.normalization,
            "weights": self.weights_hash,
            "feature_layer": self.feature_layer,
            "policy": self.policy,
            "model_input": self.model_input.key,
            "tensorflow": tf.__version__,
        }
        # Where nothing is resized, a backbone shares its features with itself among others.
        side = self.backbone.input_shape[1]
        if side != self.model_input.image_size:
            parts["resized_to"] = side
        return fingerprint(parts)

    def forward(self, strategy) -> Callable[[object], np.ndarray]:
        """Makes the function from a distributed batch of images to an array of features."""
        import tensorflow as tf

        with strategy.scope():
            folded = fold_batch_normalization(self.backbone, self.policy)
            model = build_feature_model(
                folded, self.spec.normalization, self.model_input.image_size
            )

        @tf.function(reduce_retracing=True)
        def replica_features(images):
            return strategy.run(lambda batch: model(batch, training=False), args=(images,))

        def features(images) -> np.ndarray:
            results = strategy.experimental_local_results(replica_features(images))
            return np.concatenate([result.numpy() for result in results])

        return features


def build_source(chosen: ChosenBackbone, model_input: ModelInput, seed: int) -> FeatureSource:
    """Builds a backbone and what computes its features in float32.

    Args:
        chosen: the backbone.
        model_input: what slices are brought to.
        seed: of random weights.

    Returns:
        The source.

    Raises:
        HemorrhageError: see `build_backbone`.
    """
    backbone = build_backbone(
        chosen.spec.name, chosen.weights, chosen.image_size, chosen.feature_layer, seed
    )
    return FeatureSource(
        chosen.spec,
        backbone,
        weights_hash(backbone),
        chosen.feature_layer,
        model_input,
        "float32",
    )


def compute_features(
    source: FeatureSource,
    slices: Sequence[SliceRef | Path],
    hashes: Sequence[str],
    views: Sequence[Sequence[int]],
    augmentation: Augmentation,
    strategy,
    reporter: Reporter,
    cache_at: Path | None,
) -> list[np.ndarray]:
    """Gives the features of slices, from the cache where it has them.

    Args:
        source: what computes them.
        slices: where they are; they are known to be readable.
        hashes: content hash of each.
        views: the view numbers that are wanted of each; may be of different lengths.
        augmentation: what makes the views.
        strategy: the devices to compute on.
        reporter: where progress goes.
        cache_at: the cache folder, see `cache_folder`, or None to keep nothing.

    Returns:
        For each path a float32 array `(its views, 2 * channels)`, average and max pooled.
    """
    wanted = [
        [f"{key}/{augmentation.view_key(view)}" for view in each]
        for key, each in zip(hashes, views, strict=True)
    ]
    names = {name for each in wanted for name in each}
    cache = None if cache_at is None else FeatureCache(cache_at, source.fingerprint, reporter)
    found = cache.load(names) if cache is not None else {}
    # A picture that occurs twice is computed once.
    todo: list[tuple[int, list[int]]] = []
    planned = set(found)
    for index, each in enumerate(wanted):
        missing = []
        for name, view in zip(each, views[index], strict=True):
            if name not in planned:
                planned.add(name)
                missing.append(view)
        if missing:
            todo.append((index, missing))
    if todo:
        found.update(
            _compute(source, slices, hashes, todo, augmentation, strategy, reporter, cache)
        )
    width = source.width
    return [np.array([found[name] for name in each]).reshape(-1, width) for each in wanted]


def _compute(source, slices, hashes, todo, augmentation, strategy, reporter, cache):
    import tensorflow as tf

    keys = [
        f"{hashes[index]}/{augmentation.view_key(view)}" for index, each in todo for view in each
    ]
    dataset = view_dataset(
        [slices[index] for index, _ in todo],
        [hashes[index] for index, _ in todo],
        [each for _, each in todo],
        source.model_input,
        augmentation,
    )
    shape = (source.model_input.image_size, source.model_input.image_size, 3)
    batch_size = BATCH_SIZE * strategy.num_replicas_in_sync
    padding = tf.data.Dataset.from_tensors(tf.zeros(shape)).repeat(-len(keys) % batch_size)
    dataset = dataset.concatenate(padding).batch(batch_size, drop_remainder=True).prefetch(2)
    with reporter.stage("Preparing the backbone"):
        forward = source.forward(strategy)

    computed: dict[str, np.ndarray] = {}
    unsaved: list[str] = []
    saved_at = time.monotonic()

    def save() -> None:
        nonlocal saved_at
        if cache is not None and unsaved:
            cache.append(unsaved, np.stack([computed[name] for name in unsaved]))
        unsaved.clear()
        saved_at = time.monotonic()

    description = f"Computing {source.spec.name} features"
    try:
        with explained_read_errors(), reporter.progress(description, len(keys)) as advance:
            for images in strategy.experimental_distribute_dataset(dataset):
                rows = forward(images)
                batch_keys = keys[len(computed) : len(computed) + batch_size]
                for name, row in zip(batch_keys, rows, strict=False):
                    computed[name] = row
                unsaved.extend(batch_keys)
                advance(len(batch_keys))
                if time.monotonic() - saved_at > _FLUSH_SECONDS:
                    save()
    finally:
        save()  # also when the user stops the fit: what was computed is kept
    return computed
