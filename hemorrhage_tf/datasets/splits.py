"""Splits: which slices train and which test, stratified by label and never splitting a group."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np

from hemorrhage_tf.core.errors import DataError, OptionError

MAX_DENOMINATOR = 20


def check_classes(labels: np.ndarray) -> None:
    """Raises a DataError unless both classes occur."""
    positives = int(np.sum(labels))
    if positives in (0, len(labels)):
        raise DataError(
            "training and testing need slices of both classes. Received: "
            f"{positives} with hemorrhage, {len(labels) - positives} without."
        )


def folds(
    labels: np.ndarray, groups: np.ndarray, count: int, seed: int
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Makes the folds of one cross-validation.

    Args:
        labels: `(n,)`, 0 or 1.
        groups: `(n,)`; slices with one number stay in one fold.
        count: how many folds, at least 2.
        seed: the same seed gives the same folds.

    Returns:
        `count` pairs of index arrays, train and test. The tests are disjoint and cover all slices.

    Raises:
        DataError: one class only, or a class with fewer groups than folds.

    Reference:
        The folds are those of scikit-learn 1.9's `StratifiedGroupKFold`, shuffled.
    """
    labels, groups = np.asarray(labels), np.asarray(groups)
    check_classes(labels)
    for label, name in ((1, "with hemorrhage"), (0, "without hemorrhage")):
        available = len(np.unique(groups[labels == label]))
        if available < count:
            raise DataError(
                f"{count} folds need at least {count} groups of slices {name} (a group is a "
                f"patient, or slices that are duplicates of each other). Received: {available}. "
                f"Ask for at most {available} folds, or add slices."
            )
    fold_of = _deal(labels, groups, count, seed)
    made = [
        (np.flatnonzero(fold_of != fold), np.flatnonzero(fold_of == fold)) for fold in range(count)
    ]
    for train, test in made:
        for part in (train, test):
            if len(np.unique(labels[part])) < 2:
                raise DataError(
                    f"{count} folds that keep the groups whole leave a part with one class only, "
                    "because groups hold many slices. Add groups (patients), or ask for fewer "
                    "folds or another --seed."
                )
    return made


def _deal(labels: np.ndarray, groups: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Deals the groups one by one, the most unequal first, each to the fold that it evens out most.

    It makes every step of scikit-learn's `StratifiedGroupKFold`, down to the rounding, which takes
    a minute for 100,000 groups: here all folds are tried in one go for each group.

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
    dealt = np.empty(total, np.int64)
    held = np.zeros((count, 2))
    class_sizes = of_class.sum(axis=1)
    # For each fold, the shares of the classes in all folds if it were given the group.
    tried = np.zeros((count, count, 2))
    own = np.einsum("iic->ic", tried)
    means, deviations = np.empty((count, 1, 2)), np.empty((count, 2))
    for group in np.argsort(-np.std(sizes, axis=1), kind="stable"):
        size = sizes[group]
        own[...] = (held + size) / class_sizes
        np.divide(np.add.reduce(tried, axis=1, keepdims=True, out=means), count, out=means)
        strays = tried - means
        np.multiply(strays, strays, out=strays)
        np.sqrt(np.add.reduce(strays, axis=1, out=deviations) / count, out=deviations)
        unevenness = ((deviations[:, 0] + deviations[:, 1]) / 2).tolist()
        slices = (held[:, 0] + held[:, 1]).tolist()
        best, least, fewest = 0, math.inf, math.inf
        for fold in range(count):
            # Within the tolerance of NumPy's `isclose` the smaller fold is better.
            closeness = 1e-8 + 1e-5 * least if least < math.inf else -1.0
            if unevenness[fold] < least or (
                abs(unevenness[fold] - least) <= closeness and slices[fold] < fewest
            ):
                best, least, fewest = fold, unevenness[fold], slices[fold]
        held[best] += size
        tried[:, best] = held[best] / class_sizes
        dealt[order[group]] = best
    return dealt[inverse]


def holdout(
    labels: np.ndarray, groups: np.ndarray, test_fraction: float, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Splits once into a training and a test part.

    The slices are dealt into q folds of which p become the test part, where p/q is the fraction.

    Args:
        labels: `(n,)`, 0 or 1.
        groups: `(n,)`; slices with one number stay in one part.
        test_fraction: share of the slices to test on, in (0, 1); taken to the nearest fraction with
            a denominator of at most 20.
        seed: the same seed gives the same split.

    Returns:
        Sorted index arrays, train and test.

    Raises:
        DataError: one class only, or a class with too few groups.
        OptionError: a fraction outside (0, 1).
    """
    if not 0 < test_fraction < 1:
        raise OptionError(f"the test fraction must lie between 0 and 1. Received: {test_fraction}")
    fraction = Fraction(test_fraction).limit_denominator(MAX_DENOMINATOR)
    fraction = min(
        max(fraction, Fraction(1, MAX_DENOMINATOR)), Fraction(MAX_DENOMINATOR - 1, MAX_DENOMINATOR)
    )
    try:
        parts = folds(labels, groups, fraction.denominator, seed)
    except DataError as error:
        raise DataError(
            f"a test fraction of {test_fraction:g} is dealt as {fraction.numerator} of "
            f"{fraction.denominator} folds. {error}"
        ) from None
    test = np.sort(np.concatenate([parts[k][1] for k in range(fraction.numerator)]))
    return np.setdiff1d(np.arange(len(labels)), test), test
