"""The curvature of the loss of a fit's heads, with which L-BFGS takes fewer passes.

Features are strongly correlated, so the loss is steep in some directions and nearly flat in others.
The directions are about the same for all heads of a fit, which are trained on parts of the same
slices: one estimate serves them all. It changes the way to an optimum, not the optimum.
"""

from __future__ import annotations

import os
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from scipy.special import expit

from hemorrhage_tf.training.head_solver import Solution, solve_first_outputs
from hemorrhage_tf.training.logistic_regressions import Samples, chunks_of

# Rows for each feature that the curvature is estimated from.
ROWS_OF_A_FEATURE = 2

_MOST_FEATURES = 5_000  # the matrix grows with their square
_BLOCKS = 8  # of rows or columns, each multiplied by one thread

# A variance p (1 - p) of the label at a typical slice, while no head is known. Its exact value
# hardly matters.
_LABEL_VARIANCE = 0.1

_LEAST_VARIANCE = 1e-3  # of a label whose head is sure: other heads are less sure
_LEAST_PENALTY = 1e-4
_PILOT_TOLERANCE = 1e-3  # of the head that tells the variances


@dataclass(frozen=True)
class Curvature:
    """Coordinates in which the loss of a head curves about equally in all directions.

    Attributes:
        directions: float64 `(width + 1, width + 1)`, upper triangular: kernel and bias, in
            standardized features, of each unit vector.
    """

    directions: np.ndarray

    def to_kernels(self, points: np.ndarray, threads: Executor) -> np.ndarray:
        """Return kernels and biases, `(k, width + 1)`, from points in these coordinates."""

        def part(block: slice) -> np.ndarray:
            # Below the diagonal there is nothing to add.
            return points[:, block.start :] @ self.directions[block, block.start :].T

        return np.concatenate(list(threads.map(part, _blocks(len(self.directions)))), axis=1)

    def of_gradients(self, gradients: np.ndarray, threads: Executor) -> np.ndarray:
        """Return the gradients in these coordinates, `(k, width + 1)`, from those of kernels."""

        def part(block: slice) -> np.ndarray:
            return gradients[:, : block.stop] @ self.directions[: block.stop, block]

        return np.concatenate(list(threads.map(part, _blocks(len(self.directions)))), axis=1)


def can_estimate(rows: int, width: int) -> bool:
    """Say whether so many rows suffice for so many features: not fewer, and at most 5,000."""
    return width <= rows and width <= _MOST_FEATURES


def estimate_curvature(samples: Samples, l2: np.ndarray) -> Curvature:
    """Estimate the curvature at the optimum of a pilot, a head like those to be solved.

    Args:
        samples: The samples of the pilot, a single regression.
        l2: Strength of its penalty, `(1,)`.

    Returns:
        The estimate, the same on each worker and on any number of cores.
    """
    typical = _curvature_at(samples, l2, None)
    (pilot,) = solve_first_outputs(
        replace(samples, curvature=typical), l2, tolerance=_PILOT_TOLERANCE
    )
    return _curvature_at(samples, l2, pilot)


def _curvature_at(samples: Samples, l2: np.ndarray, head: Solution | None) -> Curvature:
    """Factor the second derivatives of the loss at a head, or at typical variances of labels."""
    from scipy.linalg import cholesky
    from scipy.linalg.lapack import dtrtri
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1, "blas"):
        curving = _second_derivatives(samples, head)
        curving[np.diag_indices(len(curving))] += max(float(l2[0]), _LEAST_PENALTY)
        # Both are computed in place. Transposed, the matrix is stored by columns as they need it.
        root = cholesky(curving.T, overwrite_a=True, check_finite=False)
        directions, _ = dtrtri(root, overwrite_c=True)
    return Curvature(directions)


def _second_derivatives(samples: Samples, head: Solution | None) -> np.ndarray:
    """Return those of the mean loss by kernel and bias, on and below the diagonal."""
    assert samples.means is not None and samples.deviations is not None
    width = samples.inputs.shape[1]
    total = np.zeros((width + 1, width + 1))
    begin = 0
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        for chunk in chunks_of(samples.inputs):
            weights = samples.weights[begin : begin + len(chunk), 0].astype(np.float64)
            begin += len(chunk)
            inputs = np.ones((len(chunk), width + 1))
            inputs[:, :-1] = (chunk - samples.means[0]) / samples.deviations[0]
            variance: float | np.ndarray = _LABEL_VARIANCE
            if head is not None:
                probabilities = expit(inputs[:, :-1] @ head.kernel[:, 0] + head.bias[0])
                variance = np.maximum(probabilities * (1 - probabilities), _LEAST_VARIANCE)
            inputs *= np.sqrt(weights * variance)[:, np.newaxis]
            _add_products(total, inputs, threads)
    return total / samples.weights.sum(dtype=np.float64)


def _add_products(total: np.ndarray, inputs: np.ndarray, threads: Executor) -> None:
    """Add the products of all pairs of columns, those on and below the diagonal."""

    def add(block: slice) -> None:
        total[block.start :, block] += inputs[:, block.start :].T @ inputs[:, block]

    list(threads.map(add, _blocks(len(total))))


def _blocks(size: int) -> list[slice]:
    # Always the same, so that the sums do not depend on the number of cores.
    ends = np.linspace(0, size, min(size, _BLOCKS) + 1).astype(int).tolist()
    return [slice(*each) for each in pairwise(ends)]
