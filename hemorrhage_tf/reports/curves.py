"""ROC and precision-recall curves with bootstrap bands, as numbers."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from hemorrhage_tf.evaluation.resampling import Resamples

_GRID = np.linspace(0.0, 1.0, 201)


@dataclass(frozen=True, eq=False)
class Curve:
    """A curve with its pointwise confidence band.

    Attributes:
        x: `(k,)`, increasing from 0 to 1.
        y: `(k,)`, in [0, 1].
        low: `(k,)`, lower edge of the band.
        high: `(k,)`, upper edge of the band.
    """

    x: np.ndarray
    y: np.ndarray
    low: np.ndarray
    high: np.ndarray


def curves(labels: np.ndarray, repeats: np.ndarray, resamples: Resamples) -> tuple[Curve, Curve]:
    """Compute the ROC and the precision-recall curve with pointwise 95 % bootstrap bands.

    With several repeats each point is the mean over them, so that the area under the ROC curve is
    the mean area.

    Args:
        labels: `(n,)`, 0 or 1, both present.
        repeats: `(repeats, n)` scores, higher for hemorrhage.
        resamples: Bootstrap resamples of patients or of slices.

    Returns:
        Sensitivity over 1 - specificity, and precision over recall.
    """
    functions = [_curves_on_grid(labels, scores) for scores in repeats]

    def mean_curves(weights: np.ndarray) -> np.ndarray:
        return np.mean([function(weights) for function in functions], axis=0)

    estimate = mean_curves(np.ones((1, len(labels))))[0]
    drawn = np.concatenate(
        [mean_curves(weights) for weights in resamples.weights(3 * len(repeats))]
    )
    is_finite = np.isfinite(drawn).all(axis=(1, 2))
    drawn = drawn[is_finite] if is_finite.any() else estimate[None]
    low, high = np.percentile(drawn, [2.5, 97.5], axis=0)
    # With few slices a curve may leave its own percentile band by a step.
    low, high = np.minimum(low, estimate), np.maximum(high, estimate)
    roc, pr = (np.stack([estimate[k], low[k], high[k]]) for k in range(2))
    # The ROC curve starts at 0 and rises to the sensitivity that costs no false positive.
    roc = np.concatenate([np.zeros((3, 1)), roc], axis=1)
    return (
        Curve(x=np.append(0.0, _GRID), y=roc[0], low=roc[1], high=roc[2]),
        Curve(x=_GRID, y=pr[0], low=pr[1], high=pr[2]),
    )


def _curves_on_grid(labels: np.ndarray, scores: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """Return a function that maps weights `(b, n)` to both curves, `(b, 2, k)`."""
    order = np.argsort(-scores, kind="stable")
    ends = np.append(np.flatnonzero(np.diff(scores[order])), len(scores) - 1)
    positive = (labels[order] == 1).astype(np.float64)

    def evaluate(weights: np.ndarray) -> np.ndarray:
        drawn = weights[:, order]
        predicted_counts = np.cumsum(drawn, axis=1)[:, ends]
        hit_counts = np.cumsum(drawn * positive, axis=1)[:, ends]
        values = np.full((len(weights), 2, len(_GRID)), math.nan)
        for row, (predicted, hits) in enumerate(zip(predicted_counts, hit_counts, strict=True)):
            positives, negatives = hits[-1], predicted[-1] - hits[-1]
            if positives == 0 or negatives == 0:
                continue
            recall = hits / positives
            false_positive_rate = (predicted - hits) / negatives
            values[row, 0] = np.interp(
                _GRID, np.append(0.0, false_positive_rate), np.append(0.0, recall)
            )
            # Precision is taken where the recall is first reached: joining points by lines would
            # be optimistic.
            first = np.searchsorted(recall, np.maximum(_GRID, 1e-9) - 1e-9)
            with np.errstate(invalid="ignore", divide="ignore"):
                values[row, 1] = (hits / predicted)[first]
        return values

    return evaluate
