"""ROC curve, precision-recall curve and decision curve with bootstrap bands, as numbers."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from hemorrhage_tf.evaluation.resampling import Resamples

GRID = np.linspace(0.0, 1.0, 201)
# Thresholds of the decision curve; at 1 a false positive would weigh infinitely.
DECISION_THRESHOLDS = np.arange(1, 100) / 100
# A band follows at most so many thresholds in each class: its error is below their inverse.
_BAND_THRESHOLDS = 2000


@dataclass(frozen=True, eq=False)
class Curve:
    """A curve with its pointwise confidence band.

    Attributes:
        x: `(k,)`, increasing from 0 to 1.
        y: `(k,)`, in [0, 1].
        grid: `(m,)`, where the band is known; increasing from 0 to 1.
        low: `(m,)`, lower edge of the band.
        high: `(m,)`, upper edge of the band.
    """

    x: np.ndarray
    y: np.ndarray
    grid: np.ndarray
    low: np.ndarray
    high: np.ndarray


@dataclass(frozen=True, eq=False)
class DecisionCurve:
    """Net benefits with their pointwise confidence band.

    Attributes:
        thresholds: `(k,)`, threshold probabilities in (0, 1).
        benefit: `(k,)`, net benefit of the model per slice.
        low: `(k,)`, lower edge of the band.
        high: `(k,)`, upper edge of the band.
        treat_all: `(k,)`, net benefit where every slice is predicted hemorrhage.
    """

    thresholds: np.ndarray
    benefit: np.ndarray
    low: np.ndarray
    high: np.ndarray
    treat_all: np.ndarray


def roc_curve(labels: np.ndarray, repeats: np.ndarray, resamples: Resamples) -> Curve:
    """Compute the ROC curve, sensitivity over 1 - specificity, with a pointwise 95 % band.

    Args:
        labels: `(n,)`, 0 or 1, both present.
        repeats: `(repeats, n)` scores, higher for hemorrhage. With several, each point is the mean
            over them on a grid, so that the area under the curve is the mean area.
        resamples: Bootstrap resamples of patients or of slices.
    """
    low, high, mean = _band(labels, repeats, resamples, _roc_on_grid)
    # The curve starts at 0 and rises to the sensitivity that costs no false positive.
    grid, low, high, mean = (np.append(0.0, each) for each in (GRID, low, high, mean))
    if len(repeats) > 1:
        return Curve(grid, mean, grid, low, high)
    hits, false = _counts(labels, repeats[0])
    x, y = np.append(0.0, false / false[-1]), np.append(0.0, hits / hits[-1])
    return Curve(x, y, grid, low, high)


def precision_recall_curve(labels: np.ndarray, repeats: np.ndarray, resamples: Resamples) -> Curve:
    """Compute the precision-recall curve, precision over recall, with a pointwise 95 % band.

    The precision of a recall is that where the recall is first reached: between two points the
    curve has the precision of the right one. Joining points by lines would be optimistic.

    Args:
        labels: `(n,)`, 0 or 1, both present.
        repeats: `(repeats, n)` scores, higher for hemorrhage; with several, means on a grid.
        resamples: Bootstrap resamples of patients or of slices.

    Reference:
        J. Davis and M. Goadrich, The relationship between precision-recall and ROC curves, ICML
        (2006).
    """
    low, high, mean = _band(labels, repeats, resamples, _precision_on_grid)
    if len(repeats) > 1:
        return Curve(GRID, mean, GRID, low, high)
    hits, false = _counts(labels, repeats[0])
    recall, precision = hits / hits[-1], hits / (hits + false)
    first = np.flatnonzero(np.diff(recall, prepend=0.0))
    x, y = np.append(0.0, recall[first]), precision[first]
    return Curve(x, np.append(y[0], y), GRID, low, high)


def decision_curve(
    labels: np.ndarray,
    repeats: np.ndarray,
    resamples: Resamples,
    thresholds: np.ndarray = DECISION_THRESHOLDS,
) -> DecisionCurve:
    """Compute net benefits: true positives less weighted false positives, per slice.

    At a threshold probability p, a false positive weighs p / (1 - p).

    Args:
        labels: `(n,)`, 0 or 1.
        repeats: `(repeats, n)` probabilities; the net benefit is the mean over the repeats.
        resamples: Bootstrap resamples of patients or of slices.
        thresholds: `(k,)`, increasing, in (0, 1). Defaults to 0.01, 0.02, ..., 0.99.

    Reference:
        A. J. Vickers and E. B. Elkin, Decision curve analysis: a novel method for evaluating
        prediction models, Medical Decision Making 26 (2006), 565-574.
    """
    odds = thresholds / (1 - thresholds)
    bins = [np.searchsorted(thresholds, scores, side="right") for scores in repeats]
    gain = np.where(labels == 1, 1.0, 0.0)

    def benefits(weights: np.ndarray) -> np.ndarray:
        total = np.zeros((len(weights), len(thresholds)))
        for row, weight in enumerate(weights):
            for bin_of_each in bins:
                positives, negatives = (
                    np.bincount(bin_of_each, weight * part, len(thresholds) + 1)
                    for part in (gain, 1 - gain)
                )
                # A score in bin k reaches the first k thresholds.
                reached = [np.cumsum(each[:0:-1])[::-1] for each in (positives, negatives)]
                total[row] += (reached[0] - odds * reached[1]) / weight.sum()
        return total / len(bins)

    estimate = benefits(np.ones((1, len(labels))))[0]
    drawn = np.concatenate([benefits(weights) for weights in resamples.weights()])
    low, high = _percentiles(drawn, estimate)
    prevalence = float(np.mean(labels == 1))
    return DecisionCurve(thresholds, estimate, low, high, prevalence - odds * (1 - prevalence))


def _band(
    labels: np.ndarray,
    repeats: np.ndarray,
    resamples: Resamples,
    on_grid: Callable[[np.ndarray, np.ndarray], np.ndarray],
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the edges of a band, and the mean curve over the repeats, on the grid."""
    thresholds = [_Thresholds(labels, scores) for scores in repeats]

    def mean_curves(weights: np.ndarray) -> np.ndarray:
        return np.mean(
            [
                [on_grid(hits, false) for hits, false in zip(*each.counts(weights), strict=True)]
                for each in thresholds
            ],
            axis=0,
        )

    estimate = np.mean([on_grid(*_counts(labels, scores)) for scores in repeats], axis=0)
    drawn = np.concatenate(
        [mean_curves(weights) for weights in resamples.weights(3 * len(repeats))]
    )
    low, high = _percentiles(drawn, estimate)
    return low, high, estimate


def _percentiles(drawn: np.ndarray, estimate: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the 2.5 and the 97.5 % percentile of the resamples that have every class."""
    is_finite = np.isfinite(drawn).all(axis=1)
    drawn = drawn[is_finite] if is_finite.any() else estimate[None]
    low, high = np.percentile(drawn, [2.5, 97.5], axis=0)
    # With few slices a curve may leave its own percentile band by a step.
    return np.minimum(low, estimate), np.maximum(high, estimate)


def _counts(labels: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return true and false positives at each distinct score, from the highest down."""
    order = np.argsort(-scores, kind="stable")
    ends = _ends(scores[order])
    positive = np.cumsum((labels[order] == 1).astype(np.float64))[ends]
    return positive, ends + 1 - positive


def _ends(falling: np.ndarray) -> np.ndarray:
    return np.append(np.flatnonzero(np.diff(falling)), len(falling) - 1)


class _Thresholds:
    """The thresholds of one set of scores, and the weighted counts at them."""

    def __init__(self, labels: np.ndarray, scores: np.ndarray) -> None:
        self._order = np.argsort(-scores, kind="stable")
        positive = labels[self._order] == 1
        ends = _ends(scores[self._order])
        if len(ends) > 2 * _BAND_THRESHOLDS:
            ends = ends[_evenly_spaced(positive, ends)]
        self._starts = np.append(0, ends[:-1] + 1)
        self._positive = positive.astype(np.float64)

    def counts(self, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return true and false positives `(b, k)` for weights `(b, n)`."""
        drawn = weights[:, self._order]
        predicted = np.cumsum(np.add.reduceat(drawn, self._starts, axis=1), axis=1)
        drawn *= self._positive
        hits = np.cumsum(np.add.reduceat(drawn, self._starts, axis=1), axis=1)
        return hits, predicted - hits


def _evenly_spaced(positive: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """Choose thresholds between which about equally many slices of each class lie."""
    chosen = [np.array([0, len(ends) - 1])]
    for part in (positive, ~positive):
        count = np.cumsum(part)[ends]
        levels = np.linspace(0, count[-1], _BAND_THRESHOLDS)
        chosen.append(np.minimum(np.searchsorted(count, levels), len(ends) - 1))
    return np.unique(np.concatenate(chosen))


def _roc_on_grid(hits: np.ndarray, false: np.ndarray) -> np.ndarray:
    if hits[-1] == 0 or false[-1] == 0:
        return np.full(len(GRID), math.nan)
    rate, recall = false / false[-1], hits / hits[-1]
    return np.interp(GRID, np.append(0.0, rate), np.append(0.0, recall))


def _precision_on_grid(hits: np.ndarray, false: np.ndarray) -> np.ndarray:
    if hits[-1] == 0 or false[-1] == 0:
        return np.full(len(GRID), math.nan)
    # Rounding must not skip a recall; at 0 the curve has the precision of the first hit.
    first = np.searchsorted(hits / hits[-1], np.maximum(GRID - 1e-9, 1e-12))
    return hits[first] / (hits[first] + false[first])
