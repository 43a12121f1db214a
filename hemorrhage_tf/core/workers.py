"""Processes that share a piece of work. Those of a cluster are in `training.distributed`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import DTypeLike

_Item = TypeVar("_Item")


class Workers:
    """A single process, which does all of the work; a subclass is one of several.

    All workers must call the methods that talk to the others in the same order.

    Attributes:
        index: The index of this worker.
        count: Number of workers.
        is_chief: Whether this worker writes what all of them computed.
    """

    index = 0
    count = 1
    is_chief = True

    def part(self, count: int) -> range:
        """Return this worker's share of `count` items: every `self.count`-th."""
        return range(self.index, count, self.count)

    def gather_bytes(self, data: bytes) -> list[bytes]:
        """Return the bytes of all workers, the chief's first. They may differ in length."""
        return [data]

    def require_agreement(self, values: Mapping[str, str]) -> None:
        """Check that all workers have the same values.

        Args:
            values: A value or a hash by name. The name of an option begins with "--".

        Raises:
            ClusterError: On every worker, if any value differs; the message names them.
        """

    def share(
        self,
        items: Sequence[_Item],
        work: Callable[[Sequence[_Item]], Iterable[np.ndarray]],
        dtype: DTypeLike,
    ) -> list[np.ndarray]:
        """Do some work for each of many items, each worker for its part of them.

        Args:
            items: The same on every worker.
            work: Takes the items of a worker and yields an array `(k,)` for each, in order.
            dtype: The dtype of these arrays.

        Returns:
            The array of each item, in order: the same bytes on every worker, and the same as from
            a single one.
        """
        own = list(work([items[place] for place in self.part(len(items))]))
        if self.count == 1:
            return own
        lengths = np.array([len(each) for each in own], np.int64)
        joined = np.concatenate([np.zeros(0, dtype), *own])
        of_workers = zip(
            self.gather_bytes(lengths.tobytes()), self.gather_bytes(joined.tobytes()), strict=True
        )
        results = [np.zeros(0, dtype)] * len(items)
        for index, (of_lengths, of_arrays) in enumerate(of_workers):
            ends = np.cumsum(np.frombuffer(of_lengths, np.int64))
            parts = np.split(np.frombuffer(of_arrays, dtype), ends)[:-1]
            for place, part in zip(range(index, len(items), self.count), parts, strict=True):
                results[place] = part
        return results


ALONE = Workers()
