"""Labels with the probabilities that were predicted for them, and the checks of both."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from hemorrhage_tf.core.errors import DataError

DEFAULT_THRESHOLD = 0.5


@dataclass(frozen=True)
class LabeledPredictions:
    """Predictions to evaluate: one set, or the repeated out-of-fold sets of a cross-validation.

    Attributes:
        labels: `(n,)`, 0 or 1.
        repeats: For each repeat the probabilities of all slices, `(n,)` in [0, 1].
        threshold: Probabilities at or above it are predicted hemorrhage. Default 0.5.
        decisions: For each repeat bool `(n,)`, True for predicted hemorrhage, where folds have
            thresholds of their own; None to apply `threshold`. Defaults to None.
        groups: `(n,)`, equal for slices of one patient; None for independent slices. Defaults to
            None.
        unit: What the `n` are, "slices" or "scans". Default "slices".
    """

    labels: np.ndarray
    repeats: Sequence[np.ndarray]
    threshold: float = DEFAULT_THRESHOLD
    decisions: Sequence[np.ndarray] | None = None
    groups: np.ndarray | None = None
    unit: str = "slices"

    def check(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Check the predictions and return them as arrays.

        Returns:
            Labels, int64 `(n,)`; probabilities, float64 `(repeats, n)`; and predicted hemorrhage,
            bool `(repeats, n)`.

        Raises:
            DataError: No predictions, different lengths, or values outside [0, 1].
        """
        if len(self.repeats) == 0:
            raise DataError(_NO_PREDICTIONS)
        checked = [check_predictions(self.labels, repeat) for repeat in self.repeats]
        scores = np.stack([probabilities for _, probabilities in checked])
        if self.decisions is None:
            predicted = scores >= self.threshold
        else:
            predicted = np.stack(self.decisions).astype(bool)
        return checked[0][0], scores, predicted

    def select(self, members: np.ndarray) -> LabeledPredictions:
        """Return the predictions of some of the slices or scans, a mask `(n,)` or indices."""
        return replace(
            self,
            labels=np.asarray(self.labels)[members],
            repeats=[np.asarray(repeat)[members] for repeat in self.repeats],
            decisions=None
            if self.decisions is None
            else [np.asarray(each)[members] for each in self.decisions],
            groups=None if self.groups is None else np.asarray(self.groups)[members],
        )


_NO_PREDICTIONS = (
    "there are no predictions to evaluate: at least one is needed. Pass labels and probabilities."
)


def check_predictions(
    labels: np.ndarray, probabilities: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Check labels and one set of probabilities.

    Args:
        labels: `(n,)`, 0 or 1.
        probabilities: `(n,)` in [0, 1].

    Returns:
        Both as int64 and float64 arrays.

    Raises:
        DataError: No predictions, different lengths, a label other than 0 and 1, or a probability
            that is not a number in [0, 1].
    """
    labels, probabilities = np.asarray(labels), np.asarray(probabilities, np.float64)
    n = len(labels)
    if probabilities.shape != (n,):
        raise DataError(
            f"{len(probabilities)} predictions for {n} labels: each label needs one prediction. "
            "Pass arrays of the same length."
        )
    if n == 0:
        raise DataError(_NO_PREDICTIONS)
    bad = int(np.sum(~np.isfinite(probabilities)))
    if bad:
        raise DataError(
            f"{bad} of {n} predictions are not numbers: predictions must be probabilities in "
            "[0, 1]. Check the model, or leave these slices out."
        )
    outside = probabilities[(probabilities < 0) | (probabilities > 1)]
    if len(outside):
        raise DataError(
            f"{len(outside)} of {n} predictions are outside [0, 1], the first is {outside[0]:g}: "
            "predictions must be probabilities. Apply the sigmoid to logits first."
        )
    other = labels[(labels != 0) & (labels != 1)]
    if len(other):
        more = f" and {len(other) - 1} more" if len(other) > 1 else ""
        raise DataError(
            f"label {other[0]}{more}: labels must be 1 (hemorrhage) or 0 (normal). Convert them "
            "first."
        )
    return labels.astype(np.int64), probabilities
