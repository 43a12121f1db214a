"""The heads of a fit, solved in groups: the trainings of a group share most of their samples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from hemorrhage_tf.core.errors import DataError
from hemorrhage_tf.datasets import splits
from hemorrhage_tf.models.classifier import deviation, standardize
from hemorrhage_tf.training.context import FitContext
from hemorrhage_tf.training.features.table import FeatureChunks, FeatureTable
from hemorrhage_tf.training.folds import INNER_FOLDS
from hemorrhage_tf.training.head_solver import (
    GRADIENT_TOLERANCE,
    Solution,
    class_weight,
    feature_statistics,
    output_weights,
    solve_first_outputs,
)
from hemorrhage_tf.training.known_head import Anchors
from hemorrhage_tf.training.logistic_regressions import Samples, most_together
from hemorrhage_tf.training.weight_choice import choose_weight

# Of these the weight of phantoms is chosen, and the middle one is used where there are too few
# slices to choose. See docs/decisions.md.
PHANTOM_WEIGHTS = (0.25, 1.0, 4.0)
DEFAULT_PHANTOM_WEIGHT = 1.0

# Of heads that only serve the choice of a weight.
_COARSE_TOLERANCE = 1e-5


@dataclass(frozen=True)
class SolvedHead:
    """The solution of the first output of a head, and its standardization.

    Attributes:
        mean: float32 `(width,)`.
        variance: float32 `(width,)`.
        solution: The solution for standardized features.
        phantom_weight: The weight of the phantoms; 0 without phantoms.
    """

    mean: np.ndarray
    variance: np.ndarray
    solution: Solution
    phantom_weight: float = 0.0


class HeadGroups:
    """Solves the heads of trainings, a whole group when the first of its heads is needed.

    The groups depend on the trainings of the fit alone, so that a resumed fit, which needs only
    some of them, gets the same bytes.

    Args:
        context: The context of the fit.
        features: The features.
        anchors: What the heads are held to.
    """

    def __init__(self, context: FitContext, features: FeatureTable, anchors: Anchors) -> None:
        self._context = context
        self._features = features
        self._anchors = anchors
        self._has_noted = False
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
        weights = np.zeros(len(group))
        if self._anchors.has_phantoms:
            given = self._context.settings.phantom_weight
            weights[:] = [self._choose(train) if given is None else given for train in group]
        heads = self._solve_together(group, weights, GRADIENT_TOLERANCE)
        return [
            replace(head, phantom_weight=float(weight))
            for head, weight in zip(heads, weights, strict=True)
        ]

    def _choose(self, train: np.ndarray) -> float:
        """Choose the weight of the phantoms for a training, on its own slices alone."""
        slices, settings = self._context.slices, self._context.settings
        labels, groups = slices.labels[train], slices.groups[train]
        try:
            folds = splits.folds(labels, groups, INNER_FOLDS, settings.seed)
        except DataError as error:
            if not self._has_noted:
                self._has_noted = True
                self._context.progress.note(
                    f"The weight of phantoms is {DEFAULT_PHANTOM_WEIGHT:g}, not chosen: {error}"
                )
            return DEFAULT_PHANTOM_WEIGHT
        losses = np.empty((len(train), len(PHANTOM_WEIGHTS)))
        heads = self._solve_together(
            [train[others] for others, _ in folds for _ in PHANTOM_WEIGHTS],
            np.tile(PHANTOM_WEIGHTS, len(folds)),
            _COARSE_TOLERANCE,
        )
        for fold, (_, test) in enumerate(folds):
            features = self._features.take(self._features.first_rows(train[test]))
            for number in range(len(PHANTOM_WEIGHTS)):
                head = heads[fold * len(PHANTOM_WEIGHTS) + number]
                logits = standardize(features, head.mean, head.variance) @ head.solution.kernel
                logits = logits[:, 0].astype(np.float64) + float(head.solution.bias[0])
                losses[test, number] = np.logaddexp(0.0, logits) - labels[test] * logits
        weights = class_weight(labels, settings.class_weights)
        return choose_weight(PHANTOM_WEIGHTS, losses, weights, groups)

    def _solve_together(
        self, trainings: Sequence[np.ndarray], phantom_weights: np.ndarray, tolerance: float
    ) -> list[SolvedHead]:
        context, features = self._context, self._features
        rows, owners = features.view_rows(np.unique(np.concatenate(trainings)))
        part = context.cluster.part(len(rows))
        own = slice(part.start, part.stop, part.step)
        weights = np.zeros((len(rows), len(trainings)), np.float32)
        statistics: dict[bytes, tuple[np.ndarray, np.ndarray]] = {}
        keys = [train.tobytes() for train in trainings]
        for number, (key, train) in enumerate(zip(keys, trainings, strict=True)):
            of_training, owners_of_training = features.view_rows(train)
            targets = context.targets[owners_of_training]
            positions = np.searchsorted(rows, of_training)
            kind = context.settings.class_weights
            weights[positions, number] = output_weights(targets, kind)[:, 0]
            if key not in statistics:
                statistics[key] = feature_statistics(FeatureChunks(features, of_training))
        means, variances = (
            np.stack(each) for each in zip(*(statistics[key] for key in keys), strict=True)
        )
        samples, l2 = self._anchors.hold(
            Samples(
                inputs=FeatureChunks(features, rows[own], dtype="float32"),
                labels=context.slices.labels[owners[own]],
                weights=weights[own],
                means=means.astype(np.float64),
                deviations=deviation(variances).astype(np.float64),
            ),
            trainings,
            phantom_weights,
            context.cluster,
        )
        solutions = solve_first_outputs(samples, l2, context.cluster.all_sum, tolerance)
        return [SolvedHead(*each) for each in zip(means, variances, solutions, strict=True)]
