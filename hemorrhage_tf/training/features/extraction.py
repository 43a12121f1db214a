"""Compute backbone features: each view of a slice passes through a frozen backbone only once.

Computed features are stored in the feature cache and read from there in parts, so the features of
all slices need not fit in memory.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hemorrhage_tf.core.errors import OutputError
from hemorrhage_tf.core.formatting import format_duration, format_size
from hemorrhage_tf.core.progress import Progress
from hemorrhage_tf.imaging.readers import SliceRef
from hemorrhage_tf.pipeline.augmentation import Augmentation
from hemorrhage_tf.pipeline.datasets import translate_read_errors, view_dataset
from hemorrhage_tf.training.distributed.single_process import SingleProcess
from hemorrhage_tf.training.features.cache import FeatureCache
from hemorrhage_tf.training.features.rows import FeatureRows, RowIndex
from hemorrhage_tf.training.features.shards import Block, row_keys
from hemorrhage_tf.training.features.source import FeatureSource
from hemorrhage_tf.training.loop import whole_pass

# Batch size of each replica. It is constant, and the last batch is padded, so that a feature does
# not depend on how many others are computed with it.
BATCH_SIZE = 16

# Computed features are written to a shard after so many seconds or bytes.
FLUSH_SECONDS = 5.0
_FLUSH_BYTES = 64 * 2**20

# A longer job is announced with its duration.
_LONG_SECONDS = 20.0


@dataclass(frozen=True)
class SliceViews:
    """The views of slices whose features are needed.

    Attributes:
        slices: The slices, which are known to be readable.
        hashes: The content hash of each slice.
        views: The view numbers of each slice; their number may differ between slices.
        augmentation: The augmentation that creates the views.
    """

    slices: Sequence[SliceRef | Path]
    hashes: Sequence[str]
    views: Sequence[Sequence[int]]
    augmentation: Augmentation

    @property
    def counts(self) -> np.ndarray:
        """Number of views of each slice, int64 `(slices,)`."""
        return np.array([len(each) for each in self.views], np.int64)

    def keys(self) -> np.ndarray:
        """Return the key of each view, slice after slice, see `shards.row_keys`."""
        return row_keys(
            f"{content_hash}/{self.augmentation.view_key(view)}"
            for content_hash, each in zip(self.hashes, self.views, strict=True)
            for view in each
        )

    def select_views(self, positions: np.ndarray) -> SliceViews:
        """Return some of the views, in the order of the slices.

        Args:
            positions: Sorted int64 `(n,)`, counted over the views of all slices.
        """
        counts = self.counts
        slice_of = np.repeat(np.arange(len(counts)), counts)
        starts = np.concatenate([[0], np.cumsum(counts)])
        selected: dict[int, list[int]] = {}
        for position in positions.tolist():
            index = int(slice_of[position])
            selected.setdefault(index, []).append(self.views[index][position - int(starts[index])])
        return SliceViews(
            slices=[self.slices[index] for index in selected],
            hashes=[self.hashes[index] for index in selected],
            views=list(selected.values()),
            augmentation=self.augmentation,
        )

    def select_slices(self, indices: Sequence[int]) -> SliceViews:
        """Return the views of some of the slices."""
        return SliceViews(
            slices=[self.slices[index] for index in indices],
            hashes=[self.hashes[index] for index in indices],
            views=[self.views[index] for index in indices],
            augmentation=self.augmentation,
        )


def compute_features(
    source: FeatureSource,
    views: SliceViews,
    cluster: SingleProcess,
    progress: Progress,
    cache_folder: Path | None,
    dtype: str = "float32",
) -> FeatureRows:
    """Compute the features of views, or read them from the cache.

    Args:
        source: The backbone.
        views: The views.
        cluster: The workers. Each computes its shard of the missing features and writes it to the
            shared cache; without a cache each computes all features.
        progress: Receives progress and warnings.
        cache_folder: The folder of the feature cache, or None for no cache.
        dtype: Storage dtype in the cache, "float32" or "float16". Defaults to "float32".

    Returns:
        Average and max pooled features, `2 * channels` for each view.

    Raises:
        HemorrhageError: A slice can no longer be read, or another worker could not write its
            features.
    """
    keys = views.keys()
    unique, first, inverse = np.unique(keys, return_index=True, return_inverse=True)
    index = RowIndex(unique)
    cache = None
    if cache_folder is not None and len(keys):
        key = source.fingerprint if dtype == "float32" else f"{source.fingerprint}-{dtype}"
        cache = FeatureCache(cache_folder, key, progress, source.about, dtype)
        index.add_all(cache.open())
    # Views with equal pixels have equal keys, and are computed once.
    missing = np.sort(first[index.block_of < 0])
    if len(missing):
        selected = views.select_views(missing)
        if cache is not None:
            selected = selected.select_slices(cluster.part(len(selected.slices)))
        index.add_all(_compute(source, selected, cluster.local_strategy(), progress, cache))
    if cluster.count > 1 and cache_folder is not None:
        cluster.barrier()
        if cache is not None and len(missing):
            index.add_all(cache.open())
        _require_all(index, source)
    return FeatureRows(views.counts, source.width, index, inverse, cache)


def _require_all(index: RowIndex, source: FeatureSource) -> None:
    """Raise an error if another worker has not written its features."""
    if index.missing:
        raise OutputError(
            f"{index.missing} of {len(index.block_of)} features of {source.spec.name} are missing "
            "from the cache, because a worker could not write there (see its messages). Make room, "
            "or name another shared folder with --cache."
        )


class _RowBuffer:
    """Computed rows that are not yet in a shard.

    Args:
        keys: The keys of all rows, in the order in which they are computed.
        cache: The cache, or None to keep the rows in memory.

    Attributes:
        added: Number of rows that were added.
    """

    def __init__(self, keys: np.ndarray, cache: FeatureCache | None) -> None:
        self.added = 0
        self._keys = keys
        self._cache = cache
        self._rows: list[np.ndarray] = []
        self._flushed = 0
        self._flushed_at = time.monotonic()

    def add(self, rows: np.ndarray) -> int:
        """Add a batch without its padding, and return its number of rows."""
        count = min(len(rows), len(self._keys) - self.added)
        self._rows.append(rows[:count])
        self.added += count
        return count

    @property
    def is_full(self) -> bool:
        """Whether the rows should be written now."""
        return (
            time.monotonic() - self._flushed_at > FLUSH_SECONDS
            or sum(rows.nbytes for rows in self._rows) > _FLUSH_BYTES
        )

    def flush(self) -> Iterator[tuple[np.ndarray, Block]]:
        """Write the rows to a shard; yield their keys and block unless there are none."""
        self._flushed_at = time.monotonic()
        if self.added == self._flushed:
            return
        keys, rows = self._keys[self._flushed : self.added], np.concatenate(self._rows)
        self._flushed = self.added
        self._rows.clear()
        block = self._cache.append(keys, rows) if self._cache is not None else None
        yield keys, block or Block(rows)


def _compute(
    source: FeatureSource,
    views: SliceViews,
    strategy: Any,
    progress: Progress,
    cache: FeatureCache | None,
) -> Iterator[tuple[np.ndarray, Block]]:
    """Compute features, and yield the keys and the block of each part once it is stored."""
    keys = views.keys()
    if not len(keys):
        return
    batch_size = BATCH_SIZE * strategy.num_replicas_in_sync
    dataset = _padded_batches(source, views, len(keys), batch_size)
    with progress.stage("Preparing the backbone"):
        forward = source.forward(strategy)
    buffer = _RowBuffer(keys, cache)
    start = time.monotonic()
    first_batch_seconds = 0.0
    description = f"Computing {source.spec.name} features"
    try:
        with translate_read_errors(), progress.track(description, len(keys)) as advance:
            batches = strategy.experimental_distribute_dataset(dataset)
            for images in whole_pass(batches, len(keys), batch_size):
                advance(buffer.add(forward(images)))
                elapsed = time.monotonic() - start
                if first_batch_seconds == 0:
                    first_batch_seconds = elapsed  # the first batch also traces the graph
                elif buffer.added == 3 * batch_size:
                    rate = (elapsed - first_batch_seconds) / (2 * batch_size)
                    left = len(keys) - buffer.added
                    _announce_long_job(source, views, rate, left, cache, progress)
                if buffer.is_full:
                    yield from buffer.flush()
    except BaseException:
        # When the user stops the fit, the computed features are stored as well.
        list(buffer.flush())
        raise
    yield from buffer.flush()


def _padded_batches(source: FeatureSource, views: SliceViews, count: int, batch_size: int) -> Any:
    """Return a dataset of full batches of model inputs, the last one padded with zeros."""
    import tensorflow as tf

    dataset = view_dataset(
        views.slices, views.hashes, views.views, source.model_input, views.augmentation
    )
    shape = (source.model_input.image_size, source.model_input.image_size, 3)
    padding = tf.data.Dataset.from_tensors(tf.zeros(shape)).repeat(-count % batch_size)
    return dataset.concatenate(padding).batch(batch_size, drop_remainder=True).prefetch(2)


def _announce_long_job(
    source: FeatureSource,
    views: SliceViews,
    seconds_per_view: float,
    views_left: int,
    cache: FeatureCache | None,
    progress: Progress,
) -> None:
    """Print the time, estimated from the first batches, and the disk space of a long job."""
    seconds = views_left * seconds_per_view
    if seconds < _LONG_SECONDS:
        return
    total = int(views.counts.sum())
    text = (
        f"Plan: {len(views.slices):,} slices, {total:,} views, each passes through "
        f"{source.spec.name} once in {1000 * seconds_per_view:.3g} ms: about "
        f"{format_duration(seconds)}"
    )
    if cache is not None:
        needed = total * source.width * cache.dtype.itemsize
        place = cache.folder
        while not place.exists():
            place = place.parent
        free = shutil.disk_usage(place).free
        text += f", and {format_size(needed)} in the cache ({format_size(free)} free)"
        if needed > free:
            progress.warn(
                f"the features need {format_size(needed)}, and {place} has {format_size(free)} "
                "free. Name another folder with --cache, or halve the size with --feature-dtype "
                "float16."
            )
    progress.note(f"{text}. You can stop and resume this run.")
