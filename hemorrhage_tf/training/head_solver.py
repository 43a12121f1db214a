"""Solve for the dense head on standardized features: L-BFGS to the optimum."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from scipy.special import expit

from hemorrhage_tf.models.classifier import (
    standardize,
)
from hemorrhage_tf.training.distributed.single_process import SINGLE
from hemorrhage_tf.training.features.table import (
    FeatureChunks,
)

MAX_ITERATIONS = 1000  # of L-BFGS; on the Kaggle set it takes 60 to 80


# The largest entry of the gradient where L-BFGS stops. On the Kaggle set probabilities are then
# within 1e-5 of the optimum's; scikit-learn's own 1e-4 left them 0.02 away.
_GRADIENT_TOLERANCE = 1e-8


Chunks = np.ndarray | FeatureChunks


# Features that hardly vary are not blown up by standardizing: their variance counts as at least
# this share of the mean variance.
_VARIANCE_FLOOR = 1e-6


@dataclass(frozen=True)
class HeadWeights:
    """A trained standardization and dense unit.

    Attributes:
        mean: float32 `(width,)`, of the pooled training features.
        variance: float32 `(width,)`.
        kernel: float32 `(width, 1)`.
        bias: float32 `(1,)`.
    """

    mean: np.ndarray
    variance: np.ndarray
    kernel: np.ndarray
    bias: np.ndarray

    def probabilities(self, pooled: np.ndarray) -> np.ndarray:
        """Applies standardization, dense unit and sigmoid.

        Args:
            pooled: `(n, width)` pooled features.

        Returns:
            float32 `(n,)` in [0, 1].
        """
        logits = standardize(pooled, self.mean, self.variance) @ self.kernel + self.bias
        return (1.0 / (1.0 + np.exp(-logits[:, 0].astype(np.float64)))).astype(np.float32)


def class_weight(labels: np.ndarray, kind: str) -> np.ndarray:
    """Weighs samples so that both classes weigh the same.

    Args:
        labels: `(n,)`, 0 or 1.
        kind: "balanced": n / (2 * count of the sample's class), as scikit-learn has it; or "none".

    Returns:
        float32 `(n,)`.
    """
    if kind == "none":
        return np.ones(len(labels), np.float32)
    counts = np.bincount(labels, minlength=2)
    return (len(labels) / (2.0 * np.maximum(counts, 1)))[labels].astype(np.float32)


def feature_statistics(features: Chunks) -> tuple[np.ndarray, np.ndarray]:
    """Gives mean and floored variance of `(n, width)` features, float32 `(width,)` each."""
    count = features.shape[0]
    mean = sum(chunk.sum(axis=0, dtype=np.float64) for chunk in _chunks_of(features)) / count
    variance = sum(np.square(chunk - mean).sum(axis=0) for chunk in _chunks_of(features)) / count
    floor = max(float(variance.mean()) * _VARIANCE_FLOOR, float(np.finfo(np.float32).tiny))
    return mean.astype(np.float32), np.maximum(variance, floor).astype(np.float32)


@dataclass(frozen=True)
class Solution:
    """A logistic regression's optimum.

    Attributes:
        kernel: float32 `(width, 1)`.
        bias: float32 `(1,)`.
        loss: mean weighted loss on what was trained on, without the penalty.
        accuracy: share of it on the right side.
        iterations: how many it took.
        converged: False where the iterations ran out.
    """

    kernel: np.ndarray
    bias: np.ndarray
    loss: float
    accuracy: float
    iterations: int
    converged: bool


def solve_head(
    inputs: Chunks,
    labels: np.ndarray,
    weights: np.ndarray,
    l2: float,
    all_sum: Callable[[np.ndarray], np.ndarray] = SINGLE.all_sum,
) -> Solution:
    """Finds the one minimum of mean(weights * loss) + l2 / 2 * |kernel|^2 by L-BFGS.

    The loss and its gradient are summed chunk by chunk, so that the features need not fit in
    memory. The settings of the search are those of scikit-learn's `LogisticRegression`.

    Args:
        inputs: `(n, width)` standardized features, or their chunks.
        labels: `(n,)`, 0 or 1, both of them present.
        weights: `(n,)`, of the samples; with a mean of one.
        l2: strength of the penalty, which leaves the bias out.
        all_sum: sums an array over the workers that each have a part of the samples, and gives all
            of them the same. Default for one process that has all.

    Returns:
        The solution; the same bytes each time, and on any number of cores or replicas.
    """
    from scipy.optimize import minimize
    from threadpoolctl import threadpool_limits

    width = inputs.shape[1]
    total = all_sum(np.array([weights.sum(dtype=np.float64)]))[0]

    def forward(parameters: np.ndarray) -> Iterator[tuple[np.ndarray, slice, np.ndarray]]:
        begin = 0
        for chunk in _chunks_of(inputs):
            exact = chunk.astype(np.float64, copy=False)
            part = slice(begin, begin + len(chunk))
            begin += len(chunk)
            yield exact, part, exact @ parameters[:-1] + parameters[-1]

    def objective(parameters: np.ndarray) -> tuple[float, np.ndarray]:
        sums = np.zeros(width + 2)  # of the gradient and the loss
        for exact, part, logits in forward(parameters):
            signs = weights[part].astype(np.float64)
            sums[-1] += signs @ _losses(logits, labels[part])
            pulls = signs * (expit(logits) - labels[part])
            sums[:width] += pulls @ exact
            sums[width] += pulls.sum()
        sums = all_sum(sums) / total
        kernel = parameters[:-1]
        sums[:width] += l2 * kernel
        return float(sums[-1] + 0.5 * l2 * (kernel @ kernel)), sums[:-1]

    # In float32 the line search stops short of the optimum. A second thread has next to nothing to
    # do: on two busy cores it made 0.2 seconds into 4.
    with threadpool_limits(1, "blas"):
        found = minimize(
            objective,
            np.zeros(width + 1),
            method="L-BFGS-B",
            jac=True,
            options={
                "maxiter": MAX_ITERATIONS,
                "maxls": 50,
                "gtol": _GRADIENT_TOLERANCE,
                "ftol": 64 * np.finfo(float).eps,
            },
        )
        sums = np.zeros(3)
        for _, part, logits in forward(found.x):
            sums += (
                float((weights[part] * _losses(logits, labels[part])).sum()),
                float(((logits > 0) == (labels[part] > 0.5)).sum()),
                len(logits),
            )
        loss, right, count = all_sum(sums)
    return Solution(
        found.x[:-1, np.newaxis].astype(np.float32),
        found.x[-1:].astype(np.float32),
        float(loss / count),
        float(right / count),
        int(found.nit),
        found.status != 1,
    )


def _losses(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    return np.logaddexp(0.0, logits) - labels * logits


def _chunks_of(features: Chunks) -> Iterable[np.ndarray]:
    return [features] if isinstance(features, np.ndarray) else features
