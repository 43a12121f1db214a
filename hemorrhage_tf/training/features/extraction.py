"""Backbone features: each (slice, view) passes through the frozen backbone once, ever.

What was computed lies in the feature cache, see `feature_cache`, and is read from there in parts,
so that the features of all slices need not fit in memory.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hemorrhage_tf.core.errors import OutputError
from hemorrhage_tf.core.formatting import format_duration, format_size
from hemorrhage_tf.core.progress import Progress
from hemorrhage_tf.imaging.readers import SliceRef
from hemorrhage_tf.models.backbone_options import BackboneOptions
from hemorrhage_tf.models.backbones import (
    BackboneSpec,
    build_backbone,
    fingerprint,
    weights_hash,
)
from hemorrhage_tf.models.batch_norm_folding import fold_batch_normalization
from hemorrhage_tf.models.classifier import Branch, build_feature_model
from hemorrhage_tf.pipeline.augmentation import Augmentation
from hemorrhage_tf.pipeline.datasets import explained_read_errors, view_dataset
from hemorrhage_tf.pipeline.model_input import ModelInput
from hemorrhage_tf.training.distributed.single_process import SingleProcess
from hemorrhage_tf.training.features.cache import FORMAT, FeatureCache
from hemorrhage_tf.training.features.shards import Block, row_key, row_keys
from hemorrhage_tf.training.loop import whole_pass

# Slices that pass through the backbone together on each replica. Fixed, and the last batch is
# padded to it, so that a feature does not depend on how many others were missing.
BATCH_SIZE = 16

_FLUSH_SECONDS = 5.0
_FLUSH_BYTES = 64 * 2**20
_LONG_SECONDS = 20.0  # a job that takes longer is told before it goes on


class FeatureRows:
    """The features of slices' views, wherever they lie.

    It is gone through like a list: of each slice a float32 array `(its views, width)`.

    Args:
        counts: views of each slice.
        width: features of a view.
        blocks: where rows lie.
        block_of: int32 `(views,)`, of all slices one after another: the block that each is in.
        row_of: int32 `(views,)`: its row there.
        cache: what keeps the shards from being removed or merged, as long as they are read; or
            None.
    """

    def __init__(
        self,
        counts: np.ndarray,
        width: int,
        blocks: Sequence[Block],
        block_of: np.ndarray,
        row_of: np.ndarray,
        cache: FeatureCache | None = None,
    ) -> None:
        self._cache = cache
        self.offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        self.width = width
        self._blocks = blocks
        self._block_of = block_of
        self._row_of = row_of

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, index: int) -> np.ndarray:
        if not 0 <= index < len(self):
            raise IndexError(index)
        return self.take(np.arange(self.offsets[index], self.offsets[index + 1]))

    def take(self, places: np.ndarray) -> np.ndarray:
        """Reads some of the rows.

        Args:
            places: int64 `(n,)`, counted over the views of all slices.

        Returns:
            float32 `(n, width)`.
        """
        out = np.empty((len(places), self.width), np.float32)
        blocks, rows = self._block_of[places], self._row_of[places]
        # In the order in which they lie on disk.
        order = np.lexsort((rows, blocks))
        ends = np.flatnonzero(np.diff(blocks[order])) + 1
        for part in np.split(order, ends):
            if len(part):
                self._blocks[blocks[part[0]]].take(rows[part], out, part)
        return out


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
    def about(self) -> dict[str, object]:
        """What the cache says of these features to whoever looks into it."""
        return {
            "backbone": self.spec.name,
            "feature_layer": self.feature_layer,
            "image_size": self.model_input.image_size,
            "policy": self.policy,
            "width": self.width,
        }

    @property
    def fingerprint(self) -> str:
        """A hash of all that decides a feature's value besides the view's pixels."""
        import tensorflow as tf

        parts = {
            "format": FORMAT,
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


def build_source(chosen: BackboneOptions, model_input: ModelInput, seed: int) -> FeatureSource:
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
    cluster: SingleProcess,
    progress: Progress,
    cache_at: Path | None,
    dtype: str = "float32",
) -> FeatureRows:
    """Gives the features of slices, from the cache where it has them.

    Args:
        source: what computes them.
        slices: where they are; they are known to be readable.
        hashes: content hash of each.
        views: the view numbers that are wanted of each; may be of different lengths.
        augmentation: what makes the views.
        cluster: the workers, of which each computes its part into one cache; without a cache each
            computes all.
        progress: where progress goes.
        cache_at: the cache folder, see `cache_folder`, or None to keep nothing.
        dtype: what the cache keeps, "float32" or "float16". Default "float32".

    Returns:
        Average and max pooled features, `2 * channels` of each view.

    Raises:
        HemorrhageError: a slice cannot be read any more, or another worker left features out.
    """
    counts = np.array([len(each) for each in views], np.int64)
    keys = row_keys(
        f"{key}/{augmentation.view_key(view)}"
        for key, each in zip(hashes, views, strict=True)
        for view in each
    )
    unique, first, inverse = np.unique(keys, return_index=True, return_inverse=True)
    found = _Found(unique)
    cache = None
    if cache_at is not None and len(keys):
        key = source.fingerprint if dtype == "float32" else f"{source.fingerprint}-{dtype}"
        cache = FeatureCache(cache_at, key, progress, source.about, dtype)
        found.add_all(cache.open())
    slice_of = np.repeat(np.arange(len(counts)), counts)
    # A picture that occurs twice is computed once.
    missing = np.sort(first[found.block_of < 0])
    if len(missing):
        begins = np.concatenate([[0], np.cumsum(counts)])
        todo: dict[int, list[int]] = {}
        for place in missing.tolist():
            index = int(slice_of[place])
            todo.setdefault(index, []).append(views[index][place - int(begins[index])])
        items = list(todo.items())
        mine = items if cache is None else [items[number] for number in cluster.part(len(items))]
        strategy = cluster.local_strategy()
        for names, block in _compute(
            source, slices, hashes, mine, augmentation, strategy, progress, cache
        ):
            found.add(names, block)
    if cluster.count > 1 and cache_at is not None:
        cluster.barrier()
        if cache is not None and len(missing):
            found.add_all(cache.open())
        found.check(source)
    return FeatureRows(
        *(counts, source.width, found.blocks),
        *(found.block_of[inverse], found.row_of[inverse], cache),
    )


class _Found:
    """Where the wanted rows lie, as far as they are there.

    Args:
        keys: sorted, of the wanted rows.
    """

    def __init__(self, keys: np.ndarray) -> None:
        self._keys = keys
        self.blocks: list[Block] = []
        self.block_of = np.full(len(keys), -1, np.int32)
        self.row_of = np.zeros(len(keys), np.int32)

    def add_all(self, shards: Sequence[tuple[np.ndarray, Block]]) -> None:
        for keys, block in shards:
            self.add(keys, block)

    def add(self, keys: np.ndarray, block: Block) -> None:
        """Adds what a block has of the wanted rows."""
        if not len(self._keys):
            return
        places = np.searchsorted(self._keys, keys).clip(max=len(self._keys) - 1)
        rows = np.flatnonzero(self._keys[places] == keys)
        if len(rows):
            self.block_of[places[rows]] = len(self.blocks)
            self.row_of[places[rows]] = rows
            self.blocks.append(block)

    def check(self, source: FeatureSource) -> None:
        """Raises an error where other processes have not computed what was theirs."""
        missing = int((self.block_of < 0).sum())
        if missing:
            raise OutputError(
                f"{missing} of {len(self._keys)} features of {source.spec.name} are not in the "
                "cache, though every worker has computed its part: a worker could not write "
                "there, see its messages. Make room, or name another shared folder with --cache"
            )


def _compute(
    source, slices, hashes, todo, augmentation, strategy, progress, cache
) -> Iterator[tuple[np.ndarray, Block]]:
    """Computes features; gives keys and block of each part as soon as it is kept."""
    import tensorflow as tf

    if not todo:
        return
    keys = [
        row_key(f"{hashes[index]}/{augmentation.view_key(view)}")
        for index, each in todo
        for view in each
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
    with progress.stage("Preparing the backbone"):
        forward = source.forward(strategy)

    saved = done = 0
    rows: list[np.ndarray] = []
    saved_at = begin = time.monotonic()
    first_seconds = 0.0

    def save() -> tuple[np.ndarray, Block] | None:
        nonlocal saved, saved_at
        saved_at = time.monotonic()
        if done == saved:
            return None
        names, stacked = keys[saved:done], np.concatenate(rows)[: done - saved]
        saved = done
        rows.clear()
        block = cache.append(names, stacked) if cache is not None else None
        return np.array(names, "S16"), block or Block(stacked)

    description = f"Computing {source.spec.name} features"
    try:
        with explained_read_errors(), progress.track(description, len(keys)) as advance:
            dealt = strategy.experimental_distribute_dataset(dataset)
            for images in whole_pass(dealt, len(keys), batch_size):
                rows.append(forward(images))
                count = min(batch_size, len(keys) - done)
                done += count
                advance(count)
                now = time.monotonic()
                if first_seconds == 0:
                    first_seconds = now - begin  # the first batch traces the graph
                elif done == 3 * batch_size:
                    pace = (now - begin - first_seconds) / (2 * batch_size)
                    _tell_plan(source, len(slices), len(keys), done, pace, cache, progress)
                size = len(rows) * batch_size * source.width * 4
                if now - saved_at > _FLUSH_SECONDS or size > _FLUSH_BYTES:
                    part = save()
                    if part is not None:
                        yield part
    except BaseException:
        save()  # also when the user stops the fit: what was computed is kept
        raise
    part = save()
    if part is not None:
        yield part


def _tell_plan(source, slices, views, done, pace, cache, progress) -> None:
    """Says before a long job what it will take, from the time of its first batches."""
    seconds = (views - done) * pace
    if seconds < _LONG_SECONDS:
        return
    text = (
        f"Plan: {slices:,} slices, {views:,} views to pass through {source.spec.name} once, "
        f"{1000 * pace:.3g} ms each: about {format_duration(seconds)}"
    )
    if cache is not None:
        needed = views * source.width * cache.dtype.itemsize
        place = cache.folder
        while not place.exists():
            place = place.parent
        free = shutil.disk_usage(place).free
        text += f", and {format_size(needed)} in the cache ({format_size(free)} free)"
        if needed > free:
            progress.warn(
                f"the features take {format_size(needed)}, and {place} has {format_size(free)} left. "
                "Name another place with --cache, or halve it with --feature-dtype float16"
            )
    progress.note(f"{text}. It can be stopped and gone on with.")
