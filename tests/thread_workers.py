"""Workers that are threads of one process, for tests of work that workers share."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from hemorrhage_tf.core.errors import ClusterError
from hemorrhage_tf.core.workers import Workers


class _ThreadWorker(Workers):
    def __init__(self, index: int, slots: list[Any], barrier: threading.Barrier) -> None:
        self.index, self.count, self.is_chief = index, len(slots), index == 0
        self._slots, self._barrier = slots, barrier

    def gather_bytes(self, data: bytes) -> list[bytes]:
        self._slots[self.index] = data
        self._barrier.wait(60)
        gathered = list(self._slots)
        self._barrier.wait(60)  # so that nobody puts the next bytes before all have these
        return gathered

    def require_agreement(self, values) -> None:
        if len(set(self.gather_bytes(repr(values).encode()))) > 1:
            raise ClusterError("the workers differ")


def run_workers(count: int, work: Callable[[Workers], Any]) -> list[Any]:
    """Run something on each of several workers; return or raise what each returns or raises."""
    slots: list[Any] = [None] * count
    barrier = threading.Barrier(count)
    results: list[Any] = [None] * count
    errors: list[BaseException] = []

    def run(index: int) -> None:
        try:
            results[index] = work(_ThreadWorker(index, slots, barrier))
        except BaseException as error:
            errors.append(error)
            barrier.abort()

    threads = [threading.Thread(target=run, args=(index,)) for index in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for error in errors:
        if not isinstance(error, threading.BrokenBarrierError):
            raise error
    return results
