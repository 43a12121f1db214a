"""Shortcuts: how well simple models tell the classes apart that never look at the brain, or hardly.

They see the statistics of the slices, no pixels, and are cross-validated with groups whole.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from hemorrhage_tf.core.errors import DataError
from hemorrhage_tf.core.progress import Progress
from hemorrhage_tf.datasets import splits
from hemorrhage_tf.datasets.image_statistics import ImageStatistics
from hemorrhage_tf.evaluation.intervals import Interval, area_interval, delong_variance

FOLDS = 5
REPEATS = 3
TREES = 50
NEIGHBORS = 10

# More slices sharpen the intervals of the shortcuts little, and cost minutes.
MOST_SLICES = 2000
_REPEATED_UP_TO = 500  # slices: beyond it a cross-validation hardly depends on how it is dealt
_DEALS = 10  # tries, where large groups leave folds with one class only


@dataclass(frozen=True)
class Shortcut:
    """How well a simple model does that sees one kind of property only.

    Attributes:
        name: what it sees.
        model: "random forest" or "nearest neighbors".
        features: how many numbers it sees.
        anatomy: whether these say something of the anatomy too.
        roc_auc: out-of-fold, with its 95 % interval; None where there is none.
        reason: why there is none, else None.
    """

    name: str
    model: str
    features: int
    anatomy: bool
    roc_auc: Interval | None
    reason: str | None = None

    @property
    def above_chance(self) -> bool:
        """Whether the interval lies above 0.5."""
        return self.roc_auc is not None and self.roc_auc.low > 0.5


def sample(count: int, seed: int) -> np.ndarray:
    """Draws the slices that the baselines rest on: all of them in a set of usual size.

    Args:
        count: how many slices there are.
        seed: of the draw.

    Returns:
        Sorted indices, at most `MOST_SLICES`.
    """
    if count <= MOST_SLICES:
        return np.arange(count)
    return np.sort(np.random.default_rng(seed).choice(count, MOST_SLICES, replace=False))


def _forest(count: int, seed: int) -> Any:
    from sklearn.ensemble import RandomForestClassifier

    # Leaves of three keep a forest from learning single slices by heart: on the Kaggle set its
    # area from size and mode is 0.78 with them and 0.76 without.
    return RandomForestClassifier(TREES, min_samples_leaf=3, n_jobs=1, random_state=seed)


def _neighbors(count: int, seed: int) -> Any:
    from sklearn.neighbors import KNeighborsClassifier

    return KNeighborsClassifier(min(NEIGHBORS, count), weights="distance", n_jobs=1)


def shortcuts(
    statistics: Sequence[ImageStatistics],
    labels: np.ndarray,
    groups: np.ndarray,
    progress: Progress,
    seed: int,
) -> tuple[Shortcut, ...]:
    """Cross-validates the shortcut baselines, with groups whole.

    Args:
        statistics: of each slice.
        labels: `(n,)`, 0 or 1.
        groups: `(n,)`; slices with one number stay in one fold, and count as less than as many
            slices of their own would.
        progress: where progress goes.
        seed: of the folds and of the forests.

    Returns:
        Always the same five, two of which see nothing of the anatomy; none without slices.
    """
    if not statistics:
        return ()
    size, border, levels = (
        _size_columns(statistics),
        _border_columns(statistics),
        _level_columns(statistics),
    )
    thumbnails = np.stack([each.thumbnail for each in statistics])
    forest, neighbors = ("random forest", _forest), ("nearest neighbors", _neighbors)
    kinds = [
        ("size, mode and format", *forest, False, size),
        ("border", *forest, False, border),
        ("gray levels", *forest, True, levels),
        ("size, format, border and gray levels", *forest, True, np.hstack([size, border, levels])),
        ("16 x 16 thumbnail", *neighbors, True, thumbnails),
    ]
    kinds = [(*rest, columns[:, np.ptp(columns, axis=0) > 0]) for *rest, columns in kinds]
    parts = _dealt(labels, groups, REPEATS if len(statistics) <= _REPEATED_UP_TO else 1, seed)
    reason = None if parts else _reason(labels, groups)
    found = []
    # One after the other: threads would gain nothing here, and scikit-learn changes the process's
    # warning filters while it works, which threads would leave in each other's state.
    with progress.track("Trying shortcuts", len(kinds)) as advance:
        for name, model, make, anatomy, columns in kinds:
            why, area = reason, None
            if not columns.shape[1]:
                why = why or "the same in all slices"
            if why is None:
                scores = [
                    _out_of_fold(labels, make, columns, dealt, seed + repeat)
                    for repeat, dealt in enumerate(parts)
                ]
                area = _area(labels, groups, scores)
            found.append(Shortcut(name, model, columns.shape[1], anatomy, area, why))
            advance(1)
    return tuple(found)


def _dealt(
    labels: np.ndarray, groups: np.ndarray, repeats: int, seed: int
) -> list[list[tuple[np.ndarray, np.ndarray]]]:
    """Deals the slices into folds several times; with large groups not every deal is a good one."""
    found: list[list[tuple[np.ndarray, np.ndarray]]] = []
    for attempt in range(_DEALS):
        if len(found) < repeats:
            with suppress(DataError):
                found.append(splits.folds(labels, groups, FOLDS, seed + attempt))
    return found


def _reason(labels: np.ndarray, groups: np.ndarray) -> str:
    counts = [len(np.unique(groups[labels == label])) for label in (1, 0)]
    if min(counts) < FOLDS:
        return (
            f"needs at least {FOLDS} groups of each class (a group is a patient, or slices that "
            f"are duplicates of each other), but there are {counts[0]} with hemorrhage and "
            f"{counts[1]} without"
        )
    return f"the groups cannot be dealt into {FOLDS} folds with both classes in each"


def _out_of_fold(
    labels: np.ndarray,
    make: Callable[[int, int], Any],
    columns: np.ndarray,
    parts: Sequence[tuple[np.ndarray, np.ndarray]],
    seed: int,
) -> np.ndarray:
    scores = np.empty(len(labels))
    for train, test in parts:
        model = make(len(train), seed).fit(columns[train], labels[train])
        scores[test] = model.predict_proba(columns[test])[:, 1]
    return scores


def _area(labels: np.ndarray, groups: np.ndarray, repeats: Sequence[np.ndarray]) -> Interval:
    """Averages the areas of the repeats, which add no slices and so do not narrow the interval."""
    found = [_clustered_variance(labels, scores, groups) for scores in repeats]
    area, variance = np.mean(found, axis=0)
    positives, negatives = (len(np.unique(groups[labels == label])) for label in (1, 0))
    interval = area_interval(float(area), float(variance), positives, negatives)
    return replace(interval, n=len(labels))


def _clustered_variance(
    labels: np.ndarray, scores: np.ndarray, groups: np.ndarray
) -> tuple[float, float]:
    """Computes an area under the ROC curve, and its variance where slices come in groups.

    Where each slice is a group of its own this is DeLong's.

    Reference:
        N. A. Obuchowski, Nonparametric analysis of clustered ROC curve data, Biometrics 53 (1997),
        567-578.
    """
    area, variance = delong_variance(labels, scores)
    _, cluster = np.unique(groups, return_inverse=True)
    count = cluster.max() + 1
    if count == len(labels):
        return area, variance
    positive = labels == 1
    m, n = int(positive.sum()), int((~positive).sum())
    above = (scores[positive, None] > scores[~positive]) + 0.5 * (
        scores[positive, None] == scores[~positive]
    )
    ones = np.bincount(cluster[positive], above.mean(axis=1) - area, count)
    zeros = np.bincount(cluster[~positive], above.mean(axis=0) - area, count)
    with_ones, with_zeros = (len(np.unique(cluster[each])) for each in (positive, ~positive))
    if min(with_ones, with_zeros) < 2:
        return area, math.nan
    variance = (
        with_ones / (with_ones - 1) * np.sum(ones**2) / m**2
        + with_zeros / (with_zeros - 1) * np.sum(zeros**2) / n**2
        + 2 * count / (count - 1) * np.sum(ones * zeros) / (m * n)
    )
    return area, float(variance)


def _size_columns(statistics: Sequence[ImageStatistics]) -> np.ndarray:
    modes = sorted({each.mode for each in statistics})
    formats = sorted({each.file_format for each in statistics})
    return np.array(
        [
            (
                each.width,
                each.height,
                modes.index(each.mode),
                formats.index(each.file_format),
                each.bits,
                each.jpeg_quality or 0,
            )
            for each in statistics
        ],
        np.float64,
    )


def _border_columns(statistics: Sequence[ImageStatistics]) -> np.ndarray:
    return np.array([(*each.border.ravel(), each.marks, each.mark_share) for each in statistics])


def _level_columns(statistics: Sequence[ImageStatistics]) -> np.ndarray:
    """Gives ten statistics of the gray levels of each slice."""
    shares = np.array([each.levels for each in statistics])
    levels = np.arange(256)
    mean = shares @ levels
    spread = np.sqrt(np.maximum(shares @ levels**2 - mean**2, 0))
    cumulated = np.cumsum(shares, axis=1)
    quantiles = [(cumulated < share - 1e-9).sum(axis=1) for share in (0.05, 0.25, 0.5, 0.75, 0.95)]
    return np.stack(
        [mean, spread, *quantiles, shares[:, 0], shares[:, 255], (shares > 0).sum(axis=1)], axis=1
    )
