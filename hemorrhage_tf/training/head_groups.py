"""The heads of a fit, solved in groups: the trainings of a group share most of their samples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hemorrhage_tf.models.classifier import deviation
from hemorrhage_tf.training.context import FitContext
from hemorrhage_tf.training.features.table import FeatureChunks, FeatureTable
from hemorrhage_tf.training.head_solver import (
    Solution,
    feature_statistics,
    output_weights,
    solve_first_outputs,
)
from hemorrhage_tf.training.logistic_regressions import Samples, most_together


@dataclass(frozen=True)
class SolvedHead:
    """The solution of the first output of a head, and its standardization.

    Attributes:
        mean: float32 `(width,)`.
        variance: float32 `(width,)`.
        solution: The solution for standardized features.
    """

    mean: np.ndarray
    variance: np.ndarray
    solution: Solution


class HeadGroups:
    """Solves the heads of trainings, a whole group when the first of its heads is needed.

    The groups depend on the trainings of the fit alone, so that a resumed fit, which needs only
    some of them, gets the same bytes.

    Args:
        context: The context of the fit.
        features: The features.
    """

    def __init__(self, context: FitContext, features: FeatureTable) -> None:
        self._context = context
        self._features = features
        self._groups: list[list[np.ndarray]] = []
        self._solved: dict[bytes, SolvedHead] = {}

    def plan(self, trainings: Sequence[np.ndarray]) -> None:
        """Group the trainings of a fit.

        Args:
            trainings: The training slices of each, in the order in which they are needed.
        """
        rows, _ = self._features.view_rows(np.unique(np.concatenate(trainings)))
        size = most_together(len(rows))
        self._groups = [
            list(trainings[begin : begin + size]) for begin in range(0, len(trainings), size)
        ]

    def solve(self, train: np.ndarray) -> SolvedHead:
        """Return the head of a training.

        Args:
            train: Its training slices. A training that was not planned is solved alone.
        """
        key = train.tobytes()
        if key not in self._solved:
            group = next(
                (each for each in self._groups if any(np.array_equal(train, one) for one in each)),
                [train],
            )
            solved = self._solve_group(group)
            self._solved = {one.tobytes(): head for one, head in zip(group, solved, strict=True)}
        return self._solved.pop(key)

    def _solve_group(self, group: Sequence[np.ndarray]) -> list[SolvedHead]:
        context, features = self._context, self._features
        rows, owners = features.view_rows(np.unique(np.concatenate(group)))
        part = context.cluster.part(len(rows))
        own = slice(part.start, part.stop, part.step)
        weights = np.zeros((len(rows), len(group)), np.float32)
        statistics = []
        for number, train in enumerate(group):
            of_training, owners_of_training = features.view_rows(train)
            targets = context.targets[owners_of_training]
            positions = np.searchsorted(rows, of_training)
            kind = context.settings.class_weights
            weights[positions, number] = output_weights(targets, kind)[:, 0]
            statistics.append(feature_statistics(FeatureChunks(features, of_training)))
        means, variances = (np.stack(each) for each in zip(*statistics, strict=True))
        samples = Samples(
            inputs=FeatureChunks(features, rows[own], dtype="float32"),
            labels=context.slices.labels[owners[own]],
            weights=weights[own],
            means=means.astype(np.float64),
            deviations=deviation(variances).astype(np.float64),
        )
        solutions = solve_first_outputs(samples, context.settings.l2, context.cluster.all_sum)
        return [SolvedHead(*each) for each in zip(means, variances, solutions, strict=True)]
