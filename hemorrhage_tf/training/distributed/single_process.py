"""One process as a cluster of its own, and how samples are sharded over workers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np


@dataclass(frozen=True)
class SampleShard:
    """One worker's rows of every global batch of an epoch, filled up to equal numbers.

    Attributes:
        positions: int64 `(steps * local_replicas * rows,)`: which of the epoch's samples, in the
            order in which the local replicas take them.
        shares: float32, of the same length: one over the true size of the global batch that the
            sample is in; 0 for what fills up.
        rows: of one replica, in one step.
        steps: how many global batches there are.
    """

    positions: np.ndarray
    shares: np.ndarray
    rows: int
    steps: int

    def distribute(self, strategy, dataset):
        """Gives a dataset to each replica of this worker.

        Args:
            strategy: over all workers.
            dataset: `tf.data.Dataset` of single samples, those of `positions` in that order.

        Returns:
            What `strategy.run` takes its batches from. All have the same static shape, so that no
            worker has to ask the others in each step whether they still have rows.
        """
        import tensorflow as tf

        def of_this_worker(_):
            return dataset.batch(self.rows, drop_remainder=True).prefetch(tf.data.AUTOTUNE)

        return strategy.distribute_datasets_from_function(of_this_worker)


class SingleProcess:
    """One process that is a cluster of its own, so that callers need no `if`.

    Args:
        strategy: `tf.distribute.Strategy` over its devices; by default the current one.
    """

    index = 0
    count = 1
    is_chief = True

    def __init__(self, strategy=None) -> None:
        self._strategy = strategy

    @property
    def strategy(self):
        """The strategy to train with."""
        import tensorflow as tf

        return self._strategy or tf.distribute.get_strategy()

    def local_strategy(self):
        """Gives the strategy for work that needs no other worker."""
        return self.strategy

    def part(self, count: int) -> range:
        """Gives this worker's share of `count` pieces of work: every `self.count`-th."""
        return range(self.index, count, self.count)

    def shard_samples(self, count: int, batch_size: int) -> SampleShard:
        """Deals an epoch's samples out to the workers and their replicas.

        Args:
            count: samples in the epoch.
            batch_size: the global one; the last batch may be smaller.

        Returns:
            This worker's part.
        """
        replicas = self.strategy.num_replicas_in_sync
        return shard_samples(count, batch_size, self.index, self.count, replicas // self.count)

    def all_sum(self, array: np.ndarray) -> np.ndarray:
        """Sums an array over the workers.

        Args:
            array: float32, float64 or int64, of the same shape on every worker.

        Returns:
            The sum, of the same shape and dtype; the same bytes on every worker.
        """
        return np.array(array)

    def gather_texts(self, text: str) -> list[str]:
        """Gives the text of every worker, the chief's first. They may be of any lengths."""
        return [text]

    def barrier(self) -> None:
        """Waits until every worker is here."""

    def require_agreement(self, what: Mapping[str, str]) -> None:
        """Makes sure that all workers have the same values.

        Args:
            what: a value or a hash for each name; of options under their names.

        Raises:
            ClusterError: on every worker, where any of them differs; it names them.
        """

    def check_shared(self, folder: Path, option: str = "--cache or --out") -> None:
        """Makes sure that every worker sees what the chief writes into a folder.

        Args:
            folder: it is made where it is not there.
            option: what names the folder on the command line.

        Raises:
            OutputError: on every worker, where any of them does not see it, or the chief cannot
                write.
        """

    @contextmanager
    def explained(self) -> Iterator[None]:
        """Says that a worker was lost where TensorFlow says that a socket was closed.

        Raises:
            ClusterError: a worker of the cluster died or cannot be reached.
        """
        yield


SINGLE = SingleProcess()


def shard_samples(
    count: int, batch_size: int, index: int, workers: int, local_replicas: int
) -> SampleShard:
    """Deals an epoch's samples out, see `SingleProcess.shard_samples`.

    Args:
        count: samples in the epoch.
        batch_size: the global one.
        index: of this worker.
        workers: how many there are.
        local_replicas: how many devices each of them has.

    Returns:
        This worker's part. Together the workers' parts hold each sample once with a share above 0.
    """
    batch_size = min(batch_size, count)
    steps = -(-count // batch_size)
    rows = -(-batch_size // (workers * local_replicas))
    own = rows * local_replicas
    places = index * own + np.arange(own)  # of this worker in each global batch
    begin = batch_size * np.arange(steps)[:, np.newaxis]
    sizes = np.minimum(batch_size, count - begin)
    real = places < sizes
    # What fills up is a sample of the same batch, so that nothing is read that would not be.
    positions = begin + np.where(real, places, 0)
    shares = np.where(real, 1.0 / sizes, 0.0).astype(np.float32)
    return SampleShard(positions.ravel().astype(np.int64), shares.ravel(), rows, steps)
