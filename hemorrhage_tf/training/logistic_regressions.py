"""Logistic regressions on parts of the same rows, minimized together by L-BFGS.

Each pass over the features serves all of them with one product of matrices, which is several times
as fast as a product with a vector for each: the folds of a cross-validation share most rows.
"""

from __future__ import annotations

import math
import os
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from scipy.special import expit

from hemorrhage_tf.training.features.table import CHUNK_BYTES, FeatureChunks, JoinedChunks
from hemorrhage_tf.training.lockstep import minimize_in_lockstep

MOST_TOGETHER = 64
_WEIGHT_BYTES = 64 * 2**20  # of the weights of all samples in all regressions
_IN_MEMORY_BYTES = 256 * 2**20  # of features that stay in float64, not converted at each pass
_ROWS_TOGETHER = 256  # of features in memory, multiplied by one thread; its cache holds them
_MOST_THREADS = 16

Features = np.ndarray | FeatureChunks | JoinedChunks


@dataclass(frozen=True)
class Optimum:
    """The optimum of a logistic regression.

    Attributes:
        kernel: float64 `(width,)`, of the standardized features.
        bias: The bias.
        loss: Mean weighted loss of the counted samples, without the penalty.
        accuracy: Their accuracy at a probability of 0.5, where the weight is not 0.
        iterations: Number of iterations.
        converged: False if the iterations ran out.
    """

    kernel: np.ndarray
    bias: float
    loss: float
    accuracy: float
    iterations: int
    converged: bool


class Coordinates(Protocol):
    """Other coordinates for kernels and biases, see `curvature.Curvature`."""

    def to_kernels(self, points: np.ndarray, threads: Executor) -> np.ndarray:
        """Return kernels and biases, `(k, width + 1)`."""

    def of_gradients(self, gradients: np.ndarray, threads: Executor) -> np.ndarray:
        """Return gradients in these coordinates."""


@dataclass(frozen=True)
class Samples:
    """The samples of several regressions, or one worker's part of them.

    Attributes:
        inputs: `(n, width)` features, or their chunks.
        labels: `(n,)`, 0 or 1; or `(n, k)` in [0, 1], the wanted probabilities.
        weights: float32 `(n, k)`, of each sample in each regression; 0 where it is not part of it.
        means: `(k, width)`, which the features of each regression are standardized by; None to
            leave them unchanged. Defaults to None.
        deviations: `(k, width)`, likewise. Defaults to None.
        centers: `(k, width)`, the kernel that the penalty pulls each regression toward; None for
            zero. Defaults to None.
        counted: How many samples, from the first on, the reported loss and accuracy are of; None
            for all. Defaults to None.
        curvature: In whose coordinates to search for the optimum, which takes fewer passes; None to
            search in those of the kernels. Defaults to None.
    """

    inputs: Features
    labels: np.ndarray
    weights: np.ndarray
    means: np.ndarray | None = None
    deviations: np.ndarray | None = None
    centers: np.ndarray | None = None
    counted: int | None = None
    curvature: Coordinates | None = None


def most_together(samples: int) -> int:
    """Return how many regressions on so many samples are minimized together."""
    return max(1, min(MOST_TOGETHER, _WEIGHT_BYTES // (4 * max(samples, 1))))


def minimize(
    samples: Samples,
    l2: float | np.ndarray,
    all_sum: Callable[[np.ndarray], np.ndarray],
    options: dict[str, Any],
) -> list[Optimum]:
    """Minimize mean(weights * loss) + l2 / 2 * |kernel - center|^2 for each, in float64.

    Args:
        samples: The samples.
        l2: Strength of the penalty, which leaves the bias out; one for all, or `(k,)`.
        all_sum: Sums an array over the workers.
        options: Of `scipy.optimize.minimize` with the method "L-BFGS-B".

    Returns:
        The optima; the same bytes each time, and on any number of cores.
    """
    from threadpoolctl import threadpool_limits

    count, width = samples.weights.shape[1], samples.inputs.shape[1]
    cores = min(os.cpu_count() or 1, _MOST_THREADS)
    # Each chunk is multiplied by one thread, so the sums do not depend on the number of cores.
    with threadpool_limits(1, "blas"), ThreadPoolExecutor(cores) as threads:
        regressions = _Regressions(samples, l2, all_sum, threads, 2 * cores)
        centers = np.zeros((count, width + 1))
        if samples.centers is not None:
            centers[:, :-1] = samples.centers
        if samples.curvature is None:
            results = minimize_in_lockstep(regressions.objectives, centers, options)
            points = np.stack([result.x for result in results])
        else:
            search = _Search(regressions, centers, samples.curvature, threads)
            results = minimize_in_lockstep(search.objectives, np.zeros_like(centers), options)
            points = search.kernels(np.stack([result.x for result in results]), range(count))
        losses, accuracies = regressions.evaluate(points)
    return [
        Optimum(
            kernel=point[:-1],
            bias=float(point[-1]),
            loss=float(loss),
            accuracy=float(accuracy),
            iterations=int(result.nit),
            converged=result.status != 1,
        )
        for result, point, loss, accuracy in zip(results, points, losses, accuracies, strict=True)
    ]


class _Regressions:
    """The regressions, see `minimize`."""

    def __init__(
        self,
        samples: Samples,
        l2: float | np.ndarray,
        all_sum: Callable[[np.ndarray], np.ndarray],
        threads: ThreadPoolExecutor,
        ahead: int,
    ) -> None:
        self._samples = samples
        self._chunks = chunks_of(samples.inputs)
        if 8 * math.prod(samples.inputs.shape) <= _IN_MEMORY_BYTES:
            self._chunks = [
                chunk[begin : begin + _ROWS_TOGETHER].astype(np.float64)
                for chunk in self._chunks
                for begin in range(0, len(chunk), _ROWS_TOGETHER)
            ]
        self._l2 = np.broadcast_to(np.asarray(l2, np.float64), samples.weights.shape[1:])
        self._all_sum = all_sum
        self._threads = threads
        self._ahead = ahead
        self._totals = all_sum(samples.weights.sum(axis=0, dtype=np.float64))

    def objectives(self, points: np.ndarray, which: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
        """Compute losses and gradients of some of the regressions, see `lockstep.Objectives`."""
        chosen = list(which)
        kernels, width = points[:, :-1], points.shape[1] - 1
        sums = self._sum(_gradients, self._unstandardized(points, chosen), width + 2)
        sums = self._all_sum(sums) / self._totals[chosen, np.newaxis]
        gradients = sums[:, :-1]
        samples = self._samples
        if samples.means is not None and samples.deviations is not None:
            gradients[:, :width] -= gradients[:, width:] * samples.means[chosen]
            gradients[:, :width] /= samples.deviations[chosen]
        l2, pulls = self._l2[chosen], kernels
        if samples.centers is not None:
            pulls = kernels - samples.centers[chosen]
        gradients[:, :width] += l2[:, np.newaxis] * pulls
        return sums[:, -1] + 0.5 * l2 * np.square(pulls).sum(axis=1), gradients

    def evaluate(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Compute the mean weighted losses, without the penalty, and the accuracies."""
        linear = self._unstandardized(points, list(range(len(points))))
        sums = self._sum(_performance, linear, 3, self._samples.counted)
        losses, right, counts = self._all_sum(sums).T
        return losses / counts, right / counts

    def _unstandardized(self, points: np.ndarray, which: list[int]) -> _Linear:
        """Return the same functions of features that are not standardized."""
        kernels, biases = points[:, :-1], points[:, -1]
        samples = self._samples
        if samples.means is not None and samples.deviations is not None:
            kernels = kernels / samples.deviations[which]
            biases = biases - (kernels * samples.means[which]).sum(axis=1)
        return _Linear(np.ascontiguousarray(kernels.T), biases, which)

    def _sum(
        self, of_chunk: _OfChunk, linear: _Linear, size: int, counted: int | None = None
    ) -> np.ndarray:
        """Sum a function over the chunks, or those of the counted samples, always in order."""
        total = np.zeros((len(linear.which), size))
        pending: deque[Future[np.ndarray]] = deque()
        begin = 0
        for chunk in self._chunks:
            if counted is not None and begin + len(chunk) > counted:
                chunk = chunk[: max(0, counted - begin)]
            if not len(chunk):
                break
            rows = slice(begin, begin + len(chunk))
            begin += len(chunk)
            labels, weights = self._samples.labels[rows], self._samples.weights[rows]
            if len(chunk) == self._samples.inputs.shape[0]:
                return total + of_chunk(chunk, labels, weights, linear)
            pending.append(self._threads.submit(of_chunk, chunk, labels, weights, linear))
            if len(pending) > self._ahead:
                total += pending.popleft().result()
        for task in pending:
            total += task.result()
        return total


@dataclass(frozen=True)
class _Search:
    """The regressions in other coordinates, counted from the centers of their penalties on."""

    regressions: _Regressions
    centers: np.ndarray
    coordinates: Coordinates
    threads: Executor

    def kernels(self, points: np.ndarray, which: Sequence[int]) -> np.ndarray:
        """Return kernels and biases of points of some of the regressions."""
        return self.coordinates.to_kernels(points, self.threads) + self.centers[list(which)]

    def objectives(self, points: np.ndarray, which: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
        """Compute losses and gradients, see `lockstep.Objectives`."""
        values, gradients = self.regressions.objectives(self.kernels(points, which), which)
        return values, self.coordinates.of_gradients(gradients, self.threads)


@dataclass(frozen=True)
class _Linear:
    """Linear functions of the features, those of some regressions.

    Attributes:
        kernels: float64 `(width, k)`.
        biases: float64 `(k,)`.
        which: The numbers of the regressions.
    """

    kernels: np.ndarray
    biases: np.ndarray
    which: list[int]


# From features, labels, weights and functions to `(k, size)` sums.
_OfChunk = Callable[[np.ndarray, np.ndarray, np.ndarray, _Linear], np.ndarray]


def _gradients(
    chunk: np.ndarray, labels: np.ndarray, weights: np.ndarray, linear: _Linear
) -> np.ndarray:
    """Return for each regression the sums of gradients of kernel and bias, and of losses."""
    exact = chunk.astype(np.float64, copy=False)  # the line search needs it
    logits = exact @ linear.kernels + linear.biases
    targets = _targets(labels, linear)
    weights = weights[:, linear.which].astype(np.float64)
    residuals = weights * (expit(logits) - targets)
    losses = weights * (np.logaddexp(0.0, logits) - targets * logits)
    gradients = residuals.T @ exact
    return np.column_stack([gradients, residuals.sum(axis=0), losses.sum(axis=0)])


def _performance(
    chunk: np.ndarray, labels: np.ndarray, weights: np.ndarray, linear: _Linear
) -> np.ndarray:
    """Return for each regression the sums of losses, of right samples and of samples."""
    logits = chunk.astype(np.float64, copy=False) @ linear.kernels + linear.biases
    targets = _targets(labels, linear)
    weights = weights[:, linear.which]
    losses = (weights * (np.logaddexp(0.0, logits) - targets * logits)).sum(axis=0)
    is_part = weights > 0
    right = (((logits > 0) == (targets > 0.5)) & is_part).sum(axis=0)
    return np.column_stack([losses, right, is_part.sum(axis=0)])


def _targets(labels: np.ndarray, linear: _Linear) -> np.ndarray:
    return labels[:, np.newaxis] if labels.ndim == 1 else labels[:, linear.which]


def chunks_of(inputs: Features) -> Iterable[np.ndarray]:
    """Return chunks of features, `(n, width)`, that can be iterated repeatedly."""
    if not isinstance(inputs, np.ndarray):
        return inputs
    rows = max(1, CHUNK_BYTES // (8 * inputs.shape[1]))
    return [inputs[begin : begin + rows] for begin in range(0, len(inputs), rows)]
