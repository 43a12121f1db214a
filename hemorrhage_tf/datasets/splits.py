"""Splits: training and test slices, stratified by label and without splitting a group."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np

from hemorrhage_tf.core.errors import DataError, OptionError

MAX_DENOMINATOR = 20


def check_classes(labels: np.ndarray) -> None:
    """Raise a DataError unless both classes occur.

    Args:
        labels: `(n,)`, 0 or 1.
    """
    positives = int(np.sum(labels))
    if positives in (0, len(labels)):
        raise DataError(
            "training and testing need slices of both classes. Received: "
            f"{positives} with hemorrhage, {len(labels) - positives} without. "
            "Add slices of the other class."
        )


def folds(
    labels: np.ndarray, groups: np.ndarray, count: int, seed: int
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Split the slices into the folds of one cross-validation.

    Args:
        labels: `(n,)`, 0 or 1.
        groups: `(n,)`; slices with the same number stay in one fold.
        count: The number of folds, at least 2.
        seed: The random seed. Equal seeds give equal folds.

    Returns:
        `count` pairs of index arrays, train and test. The test parts are disjoint and cover all
        slices.

    Raises:
        DataError: There is only one class, or a class has fewer groups than folds.

    Reference:
        The folds are those of `StratifiedGroupKFold` of scikit-learn 1.9, shuffled.
    """
    labels, groups = np.asarray(labels), np.asarray(groups)
    check_classes(labels)
    for label, name in ((1, "with hemorrhage"), (0, "without hemorrhage")):
        available = len(np.unique(groups[labels == label]))
        if available < count:
            raise DataError(
                f"{count} folds need at least {count} groups of slices {name} (a group is a "
                f"patient, or slices that are duplicates of each other). Received: {available}. "
                f"Use at most {available} folds, or add slices."
            )
    fold_of = _assign_folds(labels, groups, count, seed)
    parts = [
        (np.flatnonzero(fold_of != fold), np.flatnonzero(fold_of == fold)) for fold in range(count)
    ]
    for part in (part for pair in parts for part in pair):
        if len(np.unique(labels[part])) < 2:
            raise DataError(
                f"{count} folds with whole groups leave a part with one class only, because groups "
                "hold many slices. Add groups (patients), or use fewer folds or another --seed."
            )
    return parts


def repeat_seed(seed: int, repeat: int) -> int:
    """Return the random seed of one repeat of a cross-validation, counted from 0."""
    return int(np.random.SeedSequence([seed, repeat]).generate_state(1)[0])


def _assign_folds(labels: np.ndarray, groups: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Assign groups to folds one by one, the most unequal first, each where it balances most.

    This repeats every step of scikit-learn's `StratifiedGroupKFold`, including its rounding, but
    evaluates all folds for a group at once: the original takes a minute for 100,000 groups.

    Returns:
        int64 `(n,)`: the fold of each slice, from 0.
    """
    _, inverse = np.unique(groups, return_inverse=True)
    total = int(inverse.max()) + 1
    of_class = np.stack(
        [np.bincount(inverse[labels == label], minlength=total) for label in (0, 1)]
    )
    order = np.arange(total)
    np.random.RandomState(seed).shuffle(order)
    sizes = of_class.T[order].astype(np.float64)
    assigned = np.empty(total, np.int64)
    fold_sizes = np.zeros((count, 2))
    class_sizes = of_class.sum(axis=1)
    # For each fold, the shares of the classes in all folds if that one received the group.
    shares = np.zeros((count, count, 2))
    own = np.einsum("iic->ic", shares)
    means, deviations = np.empty((count, 1, 2)), np.empty((count, 2))
    for group in np.argsort(-np.std(sizes, axis=1), kind="stable"):
        size = sizes[group]
        own[...] = (fold_sizes + size) / class_sizes
        np.divide(np.add.reduce(shares, axis=1, keepdims=True, out=means), count, out=means)
        squares = shares - means
        np.multiply(squares, squares, out=squares)
        np.sqrt(np.add.reduce(squares, axis=1, out=deviations) / count, out=deviations)
        imbalance = ((deviations[:, 0] + deviations[:, 1]) / 2).tolist()
        slices = (fold_sizes[:, 0] + fold_sizes[:, 1]).tolist()
        best, least, fewest = 0, math.inf, math.inf
        for fold in range(count):
            # Within the tolerance of NumPy's `isclose` the smaller fold is better.
            tolerance = 1e-8 + 1e-5 * least if least < math.inf else -1.0
            if imbalance[fold] < least or (
                abs(imbalance[fold] - least) <= tolerance and slices[fold] < fewest
            ):
                best, least, fewest = fold, imbalance[fold], slices[fold]
        fold_sizes[best] += size
        shares[:, best] = fold_sizes[best] / class_sizes
        assigned[order[group]] = best
    return assigned[inverse]


def holdout(
    labels: np.ndarray, groups: np.ndarray, test_fraction: float, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Split the slices once into a training and a test part.

    The test part is p of q folds, where p/q is the fraction.

    Args:
        labels: `(n,)`, 0 or 1.
        groups: `(n,)`; slices with the same number stay in one part.
        test_fraction: The share of test slices, in (0, 1), rounded to a fraction with a denominator
            of at most 20.
        seed: The random seed. Equal seeds give equal splits.

    Returns:
        Sorted index arrays, train and test.

    Raises:
        DataError: There is only one class, or a class has too few groups.
        OptionError: The fraction is outside (0, 1).
    """
    if not 0 < test_fraction < 1:
        raise OptionError(
            f"--test-fraction {test_fraction}: out of range. Pass a number between 0 and 1."
        )
    fraction = Fraction(test_fraction).limit_denominator(MAX_DENOMINATOR)
    fraction = min(
        max(fraction, Fraction(1, MAX_DENOMINATOR)), Fraction(MAX_DENOMINATOR - 1, MAX_DENOMINATOR)
    )
    try:
        parts = folds(labels, groups, fraction.denominator, seed)
    except DataError as error:
        raise DataError(
            f"--test-fraction {test_fraction:g}: the test part is {fraction.numerator} of "
            f"{fraction.denominator} folds, but {error}"
        ) from None
    test = np.sort(np.concatenate([parts[k][1] for k in range(fraction.numerator)]))
    return np.setdiff1d(np.arange(len(labels)), test), test
