"""Shortcut baselines: how well simple models predict the label from image statistics alone.

They see no pixels except a tiny thumbnail, and are cross-validated with groups kept whole.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from hemorrhage_tf.auditing.forest import forest_scores
from hemorrhage_tf.core.errors import DataError
from hemorrhage_tf.core.progress import Progress
from hemorrhage_tf.datasets import splits
from hemorrhage_tf.datasets.image_statistics import ImageStatistics
from hemorrhage_tf.evaluation.areas import area_interval, clustered_variance
from hemorrhage_tf.evaluation.intervals import Interval

FOLDS = 5
REPEATS = 3
TREES = 50
NEIGHBORS = 10

# More slices hardly narrow the intervals of the baselines, and cost minutes.
MOST_SLICES = 2000
_REPEATED_UP_TO = 500  # slices: in larger sets a cross-validation hardly depends on its folds
FOREST = "random forest"
_MOST_THREADS = 16
_ATTEMPTS = 10  # because large groups may leave a fold with one class only

_Fold = tuple[int, np.ndarray, np.ndarray]  # number of the repeat, training and test slices
_CrossValidation = list[tuple[np.ndarray, np.ndarray]]
_Score = Callable[[np.ndarray, np.ndarray, np.ndarray, int], np.ndarray]


@dataclass(frozen=True)
class Shortcut:
    """The performance of a simple model that sees one kind of property only.

    Attributes:
        name: Properties that it sees.
        model: "random forest" or "nearest neighbors".
        features: Number of values that it sees of each slice.
        anatomy: Whether these also depend on the anatomy.
        roc_auc: Out of fold, with its 95 % interval; None if not available.
        reason: Why `roc_auc` is not available, else None.
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


@dataclass(frozen=True)
class _Baseline:
    """A shortcut baseline to cross-validate.

    Attributes:
        name: Properties that it sees.
        model: Name of the model.
        score: Function of training features and labels, test features and a random seed that
            returns the scores of the test features.
        anatomy: Whether the properties also depend on the anatomy.
        columns: `(n, k)`, the properties.
    """

    name: str
    model: str
    score: _Score
    anatomy: bool
    columns: np.ndarray


def sample_slices(count: int, seed: int) -> np.ndarray:
    """Draw the slices that the baselines use: all of them in a set of usual size.

    Args:
        count: Number of slices.
        seed: Random seed.

    Returns:
        Sorted indices, at most `MOST_SLICES`.
    """
    if count <= MOST_SLICES:
        return np.arange(count)
    return np.sort(np.random.default_rng(seed).choice(count, MOST_SLICES, replace=False))


def shortcut_baselines(
    statistics: Sequence[ImageStatistics],
    labels: np.ndarray,
    groups: np.ndarray,
    progress: Progress,
    seed: int,
) -> tuple[Shortcut, ...]:
    """Cross-validate the shortcut baselines, with groups kept whole.

    Args:
        statistics: Of each slice.
        labels: `(n,)`, 0 or 1.
        groups: `(n,)`; slices of one group stay in one fold, and their areas have the wider
            intervals of clustered slices.
        progress: Where to report progress.
        seed: Random seed of the folds and the forests.

    Returns:
        Always the same five, two of which do not depend on the anatomy; none without slices.
    """
    if not statistics:
        return ()
    baselines = _baselines(statistics)
    repeats = REPEATS if len(statistics) <= _REPEATED_UP_TO else 1
    validations = _cross_validations(labels, groups, repeats, seed)
    no_folds = None if validations else _why_no_folds(labels, groups)
    shortcuts = []
    # scikit-learn builds trees without the interpreter's lock.
    threads = ThreadPoolExecutor(min(os.cpu_count() or 1, _MOST_THREADS))
    with threads, progress.track("Fitting shortcut baselines", len(baselines)) as advance:
        for baseline in baselines:
            columns = baseline.columns[:, np.ptp(baseline.columns, axis=0) > 0]
            reason, area = no_folds, None
            if reason is None and not columns.shape[1]:
                reason = "the same in all slices"
            if reason is None:
                # Elsewhere scikit-learn changes the warning filters of the whole process.
                run = threads.map if baseline.model == FOREST else map
                score = partial(_score_fold, baseline, columns, labels, seed)
                scores = _out_of_fold(len(labels), validations, score, run)
                area = _mean_area(labels, groups, scores)
            shortcuts.append(
                Shortcut(
                    name=baseline.name,
                    model=baseline.model,
                    features=columns.shape[1],
                    anatomy=baseline.anatomy,
                    roc_auc=area,
                    reason=reason,
                )
            )
            advance(1)
    return tuple(shortcuts)


def _forest_scores(
    train: np.ndarray, labels: np.ndarray, test: np.ndarray, seed: int
) -> np.ndarray:
    return forest_scores(train, labels, test, seed, TREES)


def _neighbor_scores(
    train: np.ndarray, labels: np.ndarray, test: np.ndarray, seed: int
) -> np.ndarray:
    from sklearn.neighbors import KNeighborsClassifier

    model = KNeighborsClassifier(min(NEIGHBORS, len(train)), weights="distance", n_jobs=1)
    return model.fit(train, labels).predict_proba(test)[:, 1]


def _baselines(statistics: Sequence[ImageStatistics]) -> list[_Baseline]:
    # The names are part of metrics.json: programs compare them.
    size, border = _size_columns(statistics), _border_columns(statistics)
    levels = _level_columns(statistics)
    everything = np.hstack([size, border, levels])
    thumbnails = np.stack([each.thumbnail for each in statistics])
    forests = (
        ("size, mode and format", False, size),
        ("border", False, border),
        ("gray levels", True, levels),
        ("size, format, border and gray levels", True, everything),
    )
    return [
        *(
            _Baseline(name, FOREST, _forest_scores, anatomy, columns)
            for name, anatomy, columns in forests
        ),
        _Baseline("16 x 16 thumbnail", "nearest neighbors", _neighbor_scores, True, thumbnails),
    ]


def _cross_validations(
    labels: np.ndarray, groups: np.ndarray, repeats: int, seed: int
) -> list[_CrossValidation]:
    """Split the slices into folds several times; with large groups some attempts fail."""
    validations: list[_CrossValidation] = []
    for attempt in range(_ATTEMPTS):
        if len(validations) < repeats:
            with suppress(DataError):
                validations.append(splits.folds(labels, groups, FOLDS, seed + attempt))
    return validations


def _why_no_folds(labels: np.ndarray, groups: np.ndarray) -> str:
    counts = [len(np.unique(groups[labels == label])) for label in (1, 0)]
    if min(counts) < FOLDS:
        return (
            f"needs at least {FOLDS} groups of each class (a group is a patient, or slices that "
            f"are duplicates of each other), but there are {counts[0]} with hemorrhage and "
            f"{counts[1]} without"
        )
    return f"the groups cannot be split into {FOLDS} folds with both classes in each"


def _score_fold(
    baseline: _Baseline, columns: np.ndarray, labels: np.ndarray, seed: int, fold: _Fold
) -> np.ndarray:
    repeat, train, test = fold
    return baseline.score(columns[train], labels[train], columns[test], seed + repeat)


def _out_of_fold(
    count: int,
    validations: Sequence[_CrossValidation],
    score: Callable[[_Fold], np.ndarray],
    run: Callable[..., Iterable[np.ndarray]],
) -> list[np.ndarray]:
    """Return the scores of each repeat."""
    folds = [
        (repeat, train, test) for repeat, folds in enumerate(validations) for train, test in folds
    ]
    scores = [np.empty(count) for _ in validations]
    for (repeat, _, test), of_fold in zip(folds, run(score, folds), strict=True):
        scores[repeat][test] = of_fold
    return scores


def _mean_area(labels: np.ndarray, groups: np.ndarray, repeats: Sequence[np.ndarray]) -> Interval:
    """Average the areas of the repeats, which add no slices and so do not narrow the interval."""
    areas = [clustered_variance(labels, scores, groups) for scores in repeats]
    area, variance = np.mean(areas, axis=0)
    positives, negatives = (len(np.unique(groups[labels == label])) for label in (1, 0))
    interval = area_interval(float(area), float(variance), positives, negatives)
    return replace(interval, n=len(labels))


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
    """Compute ten statistics of the gray levels of each slice."""
    shares = np.array([each.levels for each in statistics])
    levels = np.arange(256)
    mean = shares @ levels
    spread = np.sqrt(np.maximum(shares @ levels**2 - mean**2, 0))
    cumulated = np.cumsum(shares, axis=1)
    quantiles = [(cumulated < share - 1e-9).sum(axis=1) for share in (0.05, 0.25, 0.5, 0.75, 0.95)]
    return np.stack(
        [mean, spread, *quantiles, shares[:, 0], shares[:, 255], (shares > 0).sum(axis=1)], axis=1
    )
