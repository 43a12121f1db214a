"""A single process with the interface of a cluster, and the shards of samples for each worker."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hemorrhage_tf.core.native_output import import_tensorflow, is_tensorflow_imported
from hemorrhage_tf.core.workers import Workers


@dataclass(frozen=True)
class SampleShard:
    """One worker's rows of every global batch of an epoch, padded to equal numbers.

    Attributes:
        positions: int64 `(steps * local_replicas * rows,)`, positions of samples in the epoch, in
            the order in which the local replicas take them.
        shares: float32 of the same length: one over the size of the sample's global batch, or 0
            for padding.
        rows: Number of rows of a replica in a step.
        steps: Number of global batches.
    """

    positions: np.ndarray
    shares: np.ndarray
    rows: int
    steps: int

    def distribute(self, strategy: Any, dataset: Any) -> Any:
        """Distribute a dataset to the replicas of this worker.

        Args:
            strategy: The `tf.distribute.Strategy` over all workers.
            dataset: A `tf.data.Dataset` of single samples, those of `positions` in that order.

        Returns:
            An iterable of batches for `strategy.run`. All have the same static shape, so workers
            need not ask each other in each step whether they still have rows.
        """
        import tensorflow as tf

        def of_this_worker(_: Any) -> Any:
            return dataset.batch(self.rows, drop_remainder=True).prefetch(tf.data.AUTOTUNE)

        return strategy.distribute_datasets_from_function(of_this_worker)


class SingleProcess(Workers):
    """A process that is its own cluster, so that callers need not distinguish.

    Args:
        strategy: The `tf.distribute.Strategy` over its devices. Default: the current strategy.
    """

    def __init__(self, strategy: Any = None) -> None:
        self._strategy = strategy

    @property
    def strategy(self) -> Any:
        """The `tf.distribute.Strategy` over all workers."""
        import_tensorflow()
        import tensorflow as tf

        return self._strategy or tf.distribute.get_strategy()

    @property
    def replicas(self) -> int:
        """Number of devices that train."""
        if self._strategy is None and not is_tensorflow_imported():
            return 1  # nobody can have entered the scope of another strategy
        return int(self.strategy.num_replicas_in_sync)

    def local_strategy(self) -> Any:
        """Return the `tf.distribute.Strategy` over the devices of this worker only."""
        return self.strategy

    def shard_samples(self, count: int, batch_size: int) -> SampleShard:
        """Return this worker's shard of the samples of an epoch.

        Args:
            count: Number of samples in the epoch.
            batch_size: The global batch size; the last batch may be smaller.
        """
        replicas = self.strategy.num_replicas_in_sync
        return shard_samples(count, batch_size, self.index, self.count, replicas // self.count)

    def all_sum(self, array: np.ndarray) -> np.ndarray:
        """Sum an array over all workers.

        Args:
            array: float32, float64 or int64, of the same shape on every worker.

        Returns:
            The sum, with the same shape and dtype, and the same bytes on every worker.
        """
        return np.array(array)

    def gather_texts(self, text: str) -> list[str]:
        """Return the texts of all workers, the chief's first. They may differ in length."""
        return [data.decode() for data in self.gather_bytes(text.encode())]

    def barrier(self) -> None:
        """Wait until every worker has called this."""

    def check_shared(self, folder: Path, option: str = "--cache or --out") -> None:
        """Check that every worker sees what the chief writes to a folder.

        Args:
            folder: The folder. It is created if it is missing.
            option: The option that an error names. Defaults to "--cache or --out".

        Raises:
            OutputError: On every worker, if any of them does not see it, or the chief cannot
                write to it.
        """

    @contextmanager
    def explain_worker_loss(self) -> Iterator[None]:
        """Replace TensorFlow's errors about closed connections by an error about the lost worker.

        Raises:
            ClusterError: A worker died or cannot be reached.
        """
        yield


SINGLE = SingleProcess()


def shard_samples(
    count: int, batch_size: int, index: int, workers: int, local_replicas: int
) -> SampleShard:
    """Return one worker's shard of the samples of an epoch.

    Args:
        count: Number of samples in the epoch.
        batch_size: The global batch size.
        index: The index of the worker.
        workers: Number of workers.
        local_replicas: Number of devices of each worker.

    Returns:
        The shard. The shards of all workers together hold each sample once with a share above 0.
    """
    batch_size = min(batch_size, count)
    steps = -(-count // batch_size)
    rows = -(-batch_size // (workers * local_replicas))
    worker_rows = rows * local_replicas
    places = index * worker_rows + np.arange(worker_rows)  # in each global batch
    starts = batch_size * np.arange(steps)[:, np.newaxis]
    sizes = np.minimum(batch_size, count - starts)
    is_sample = places < sizes
    # Padding repeats a sample of the same batch, so no further slice is read for it.
    positions = starts + np.where(is_sample, places, 0)
    shares = np.where(is_sample, 1.0 / sizes, 0.0).astype(np.float32)
    return SampleShard(positions.ravel().astype(np.int64), shares.ravel(), rows, steps)
