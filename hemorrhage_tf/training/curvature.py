"""The curvature of the loss of a fit's heads, with which L-BFGS takes fewer passes.

Features are strongly correlated, so the loss is steep in some directions and nearly flat in others.
The second moments of the features tell these directions. They need no labels, and are about the
same for all parts of the slices: one estimate serves every head of a fit.
"""

from __future__ import annotations

from concurrent.futures import Executor
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from hemorrhage_tf.models.classifier import standardize
from hemorrhage_tf.training.features.table import FeatureChunks, FeatureTable
from hemorrhage_tf.training.head_solver import feature_statistics

# A variance p (1 - p) of the label at a typical slice. Its exact value hardly matters.
_LABEL_VARIANCE = 0.1

_BLOCKS = 8  # of rows or columns, each multiplied by one thread
_MOST_FEATURES = 5_000  # the matrix grows with their square
_LEAST_PENALTY = 1e-4

# The moments are estimated on this many rows for each feature. On fewer than one they say little.
_ROWS_OF_A_FEATURE = 2


@dataclass(frozen=True)
class Curvature:
    """Coordinates in which the loss of a head curves about equally in all directions.

    Attributes:
        directions: float64 `(width, width)`, upper triangular: the kernel, in standardized
            features, of each unit vector.
    """

    directions: np.ndarray

    @classmethod
    def of_features(
        cls, features: FeatureTable, phantoms: FeatureTable | None, l2: float
    ) -> Curvature | None:
        """Estimate the curvature from the features of a fit.

        Args:
            features: The features of all slices.
            phantoms: The features of the phantoms, which count as much as all slices; or None.
            l2: Strength of the penalty.

        Returns:
            The estimate, the same on each worker and on any number of cores; None for fewer rows
            than features, or more than 5,000 features.
        """
        from scipy.linalg import cholesky
        from scipy.linalg.lapack import dtrtri
        from threadpoolctl import threadpool_limits

        width = features.width
        if len(features) < width or width > _MOST_FEATURES:
            return None
        mean, variance = feature_statistics(_some_rows(features))
        with threadpool_limits(1, "blas"):
            moments = _moments(features, mean, variance)
            if phantoms is not None:
                moments += _moments(phantoms, mean, variance)
                moments /= 2
            moments *= _LABEL_VARIANCE
            moments[np.diag_indices(width)] += max(l2, _LEAST_PENALTY)
            # Both are computed in place: the matrix is symmetric, so its transpose is the same.
            root = cholesky(moments.T, overwrite_a=True, check_finite=False)
            directions, _ = dtrtri(root, overwrite_c=True)
        return cls(directions)

    def to_kernels(self, points: np.ndarray, threads: Executor) -> np.ndarray:
        """Return kernels and biases, `(k, width + 1)`, from points in these coordinates."""

        def part(block: slice) -> np.ndarray:
            # Below the diagonal there is nothing to add.
            return points[:, block.start : -1] @ self.directions[block, block.start :].T

        biases = points[:, -1:] * _LABEL_VARIANCE**-0.5
        return np.concatenate([*threads.map(part, self._blocks), biases], axis=1)

    def of_gradients(self, gradients: np.ndarray, threads: Executor) -> np.ndarray:
        """Return the gradients in these coordinates, `(k, width + 1)`, from those of kernels."""

        def part(block: slice) -> np.ndarray:
            return gradients[:, : block.stop] @ self.directions[: block.stop, block]

        biases = gradients[:, -1:] * _LABEL_VARIANCE**-0.5
        return np.concatenate([*threads.map(part, self._blocks), biases], axis=1)

    @property
    def _blocks(self) -> list[slice]:
        # Always the same, so that the sums do not depend on the number of cores.
        width = len(self.directions)
        ends = np.linspace(0, width, min(width, _BLOCKS) + 1).astype(int).tolist()
        return [slice(*each) for each in pairwise(ends)]


def _some_rows(features: FeatureTable) -> FeatureChunks:
    step = max(1, len(features) // (_ROWS_OF_A_FEATURE * features.width))
    return FeatureChunks(features, np.arange(0, len(features), step))


def _moments(features: FeatureTable, mean: np.ndarray, variance: np.ndarray) -> np.ndarray:
    """Return the mean products of each pair of standardized features."""
    rows = _some_rows(features)
    total = np.zeros((features.width, features.width))
    for chunk in rows:
        standardized = standardize(chunk, mean, variance).astype(np.float64)
        total += standardized.T @ standardized
    total /= rows.shape[0]
    return total
