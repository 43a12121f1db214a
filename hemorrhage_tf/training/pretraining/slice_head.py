"""The head of slices, solved on the slices of whole phantom scans.

Scans show each level as often as real scans do. Single phantoms do not: half of them have a
hemorrhage, and few lie below the skull base.
"""

from __future__ import annotations

import numpy as np

from hemorrhage_tf.models.classifier import standardize
from hemorrhage_tf.training.head_solver import (
    HeadWeights,
    class_weight,
    feature_statistics,
    solve_head,
)
from hemorrhage_tf.training.pretraining.scan_samples import ScanFeatures


def folds_of_scans(scans: ScanFeatures, folds: int, seed: int) -> np.ndarray:
    """Assign each scan to a fold: int64 `(m,)`. Both scans of a head are in the same one."""
    first = [members[0] for members in scans.members]
    heads, head_of_scan = np.unique(scans.scans[first] // 2, return_inverse=True)
    fold_of_head = np.random.default_rng(seed).permutation(len(heads)) % folds
    return fold_of_head[head_of_scan]


def solve_slice_head(features: np.ndarray, labels: np.ndarray, l2: float) -> HeadWeights:
    """Solve standardization and head.

    Args:
        features: float32 `(n, width)`, pooled.
        labels: uint8 `(n,)`, 1 for a hemorrhage in the slice.
        l2: Strength of the penalty, see `head_solver.solve_head`.
    """
    mean, variance = feature_statistics(features)
    inputs = standardize(features, mean, variance)
    targets = labels.astype(np.int64)
    solution = solve_head(inputs, targets, class_weight(targets, "none"), l2)
    return HeadWeights(mean, variance, solution.kernel, solution.bias)


def cross_fitted_logits(scans: ScanFeatures, l2: float, folds: int, seed: int) -> np.ndarray:
    """Compute the logit of each slice by a head that saw no slice of its phantom head.

    Args:
        scans: The scans.
        l2: Strength of the penalty, see `head_solver.solve_head`.
        folds: Number of heads, each solved without one fold.
        seed: Random seed of the folds.

    Returns:
        float32 `(n,)`.
    """
    fold_of_scan = folds_of_scans(scans, folds, seed)
    fold = np.repeat(fold_of_scan, [len(members) for members in scans.members])
    logits = np.zeros(len(scans), np.float32)
    for number in range(folds):
        own = fold == number
        head = solve_slice_head(scans.features[~own], scans.labels[~own], l2)
        logits[own] = head.logits(scans.features[own])[:, 0]
    return logits
