"""Results of parallel tasks in order, with a few tasks started ahead of their use."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

Result = TypeVar("Result")


def results_in_order(tasks: Iterable[Callable[[], Result]], ahead: int) -> Iterator[Result]:
    """Start tasks some steps before their results are needed, and yield the results in order.

    So that memory stays flat, no more than these wait for their turn. An executor of loky must not
    have many more of them when it ends its processes at once, or else it fails itself.

    Args:
        tasks: Each starts when it is taken from here, and returns its result when it is called,
            such as the `result` of a `Future`.
        ahead: How many are started before the first result is needed.

    Example:
        >>> from concurrent.futures import ThreadPoolExecutor
        >>> from hemorrhage_tf.core.lookahead import results_in_order
        >>> with ThreadPoolExecutor(2) as pool:
        ...     tasks = (pool.submit(pow, number, 2).result for number in range(4))
        ...     list(results_in_order(tasks, ahead=2))
        [0, 1, 4, 9]
    """
    pending: deque[Callable[[], Result]] = deque()
    for task in tasks:
        pending.append(task)
        if len(pending) > ahead:
            yield pending.popleft()()
    while pending:
        yield pending.popleft()()
