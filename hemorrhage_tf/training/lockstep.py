"""Several minimizations at once, whose objectives are evaluated together."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import Any

import numpy as np

# From points `(a, d)` and the number of the problem of each, to values `(a,)` and gradients
# `(a, d)`.
Objectives = Callable[[np.ndarray, Sequence[int]], tuple[np.ndarray, np.ndarray]]


class _Cancelled(Exception):
    """Another thread has failed or was interrupted."""


@dataclass
class _Problem:
    """One of the minimizations, in a thread of its own."""

    number: int
    start: np.ndarray
    options: Mapping[str, Any]
    requests: SimpleQueue
    replies: SimpleQueue = field(default_factory=SimpleQueue)

    def run(self) -> None:
        from scipy.optimize import minimize

        try:
            result = minimize(
                self._objective,
                self.start,
                method="L-BFGS-B",
                jac=True,
                options=dict(self.options),
            )
        except _Cancelled:
            return
        except BaseException as error:  # raised again by the caller's thread
            result = error
        self.requests.put((self.number, None, result))

    def _objective(self, point: np.ndarray) -> tuple[float, np.ndarray]:
        self.requests.put((self.number, point.copy(), None))
        reply = self.replies.get()
        if reply is None:
            raise _Cancelled
        return reply


def minimize_in_lockstep(
    objectives: Objectives, starts: np.ndarray, options: Mapping[str, Any]
) -> list[Any]:
    """Minimize several functions by L-BFGS, one evaluation of all of them at a time.

    Each minimization takes the same steps as it would alone. In each round those that have not
    ended are evaluated together, so that what they have in common is read once.

    Args:
        objectives: Evaluates some of the functions.
        starts: `(k, d)`, where each begins.
        options: Of `scipy.optimize.minimize` with the method "L-BFGS-B".

    Returns:
        `k` results of `scipy.optimize.minimize`. The same each time.
    """
    requests: SimpleQueue = SimpleQueue()
    problems = [_Problem(number, start, options, requests) for number, start in enumerate(starts)]
    threads = [threading.Thread(target=problem.run, daemon=True) for problem in problems]
    results: dict[int, Any] = {}
    try:
        for thread in threads:
            thread.start()
        while len(results) < len(problems):
            # Each of those that have not ended sends one message: a point, or its result.
            points: dict[int, np.ndarray] = {}
            for _ in range(len(problems) - len(results)):
                number, point, result = requests.get()
                if isinstance(result, BaseException):
                    raise result
                if point is None:
                    results[number] = result
                else:
                    points[number] = point
            if not points:
                continue
            which = sorted(points)
            values, gradients = objectives(np.stack([points[number] for number in which]), which)
            for number, value, gradient in zip(which, values.tolist(), gradients, strict=True):
                problems[number].replies.put((value, gradient))
    finally:
        for problem in problems:
            problem.replies.put(None)
        for thread in threads:
            thread.join()
    return [results[number] for number in range(len(problems))]
