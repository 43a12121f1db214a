"""The heads of a fit, solved in groups: the trainings of a group share most of their samples."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

import numpy as np

from hemorrhage_tf.core.errors import DataError
from hemorrhage_tf.datasets import splits
from hemorrhage_tf.models.classifier import deviation, standardize
from hemorrhage_tf.training.context import FitContext
from hemorrhage_tf.training.features.table import IN_MEMORY_BYTES, FeatureChunks, FeatureTable
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
from hemorrhage_tf.training.weight_choice import (
    DEFAULT_PHANTOM_WEIGHT,
    PHANTOM_WEIGHTS,
    choose_weight,
)

# Of heads that only serve the choice of a weight, or the training of a scan model. With 1e-4 the
# choice would prefer heavy phantoms: a head that is not at its optimum fits new patients better.
_COARSE_TOLERANCE = 1e-5

Folds = list[tuple[np.ndarray, np.ndarray]]


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
    phantom_weight: float


@dataclass(frozen=True)
class PartHeads:
    """Heads of one training, each solved without a part of its patients.

    They give the logits that a scan model is trained on, because those of the slices that a head
    was trained on are better than those of new ones.

    Attributes:
        mean: float32 `(width,)`, of all slices of the training.
        variance: float32 `(width,)`, likewise.
        part_of: int8, for each slice of the data which of the heads was solved without it; 0 for
            slices outside the training.
        kernels: float32 `(width, parts)`, for features standardized by mean and variance.
        biases: float32 `(parts,)`.
    """

    mean: np.ndarray
    variance: np.ndarray
    part_of: np.ndarray
    kernels: np.ndarray
    biases: np.ndarray

    def standardized_by(
        self, mean: np.ndarray, variance: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return kernels and biases for features that are standardized by others."""
        own = deviation(self.variance)
        kernels = self.kernels * (deviation(variance) / own)[:, np.newaxis]
        return kernels, self.biases + ((mean - self.mean) / own) @ self.kernels


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
        self._groups: list[_Group] = []
        self._has_noted = False

    def plan(self, trainings: Sequence[np.ndarray]) -> None:
        """Group the trainings of a fit.

        Args:
            trainings: The training slices of each, in the order in which they are needed.
        """
        rows, _ = self._features.view_rows(np.unique(np.concatenate(trainings)))
        size = most_together(len(rows))
        self._groups = [
            self._group(trainings[begin : begin + size]) for begin in range(0, len(trainings), size)
        ]

    def solve(self, train: np.ndarray) -> SolvedHead:
        """Return the head of a training.

        Args:
            train: Its training slices. A training that was not planned is solved alone.
        """
        group, number = self._find(train)
        return group.heads()[number]

    def solve_parts(self, train: np.ndarray) -> PartHeads:
        """Return the part heads of a training, as many as its patients allow, up to 5.

        Args:
            train: Its training slices. A training that was not planned is solved alone.

        Raises:
            DataError: There are fewer than two patients of a class.
        """
        group, number = self._find(train)
        return group.parts()[number]

    def _find(self, train: np.ndarray) -> tuple[_Group, int]:
        for group in self._groups:
            for number, training in enumerate(group.trainings):
                if np.array_equal(train, training):
                    return group, number
        self._groups.append(self._group([train]))
        return self._groups[-1], 0

    def _group(self, trainings: Sequence[np.ndarray]) -> _Group:
        return _Group(self._context, self._features, self._anchors, trainings, self._note_once)

    def _note_once(self, message: str) -> None:
        if not self._has_noted:
            self._has_noted = True
            self._context.progress.note(message)


@dataclass(frozen=True)
class _Problem:
    """A head to solve.

    Attributes:
        train: Its training slices.
        phantom_weight: The weight of the phantoms.
        statistics: Mean and variance, float32 `(width,)` each, that features are standardized by.
    """

    train: np.ndarray
    phantom_weight: float
    statistics: tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class _Choice:
    """The choice of the weight of phantoms in a training.

    Attributes:
        weight: The weight.
        parts: The part heads with this weight, if the weight was chosen by them.
    """

    weight: float
    parts: PartHeads | None = None


class _Group:
    """Trainings whose heads are solved together, when the first of them is needed.

    Args:
        context: The context of the fit.
        features: The features.
        anchors: What the heads are held to.
        trainings: The training slices of each.
        note: Is told why a weight is not chosen.
    """

    def __init__(
        self,
        context: FitContext,
        features: FeatureTable,
        anchors: Anchors,
        trainings: Sequence[np.ndarray],
        note: Callable[[str], None],
    ) -> None:
        self._context = context
        self._features = features
        self._anchors = anchors
        self.trainings = trainings
        self._note = note
        # Workers meet in what follows, which a `cached_property` of Python 3.11 would lock.
        self._heads: list[SolvedHead] = []
        self._parts: list[PartHeads] = []
        self._choices: list[_Choice] = []

    def heads(self) -> list[SolvedHead]:
        """Return the head of each training."""
        self._heads = self._heads or self._solve_heads()
        return self._heads

    def parts(self) -> list[PartHeads]:
        """Return the part heads of each training."""
        self._parts = self._parts or self._solve_parts()
        return self._parts

    def _choose_weights(self) -> list[_Choice]:
        """Return the weight of phantoms in each training, chosen on its own slices alone."""
        self._choices = self._choices or self._make_choices()
        return self._choices

    def _solve_heads(self) -> list[SolvedHead]:
        problems = [
            _Problem(train, choice.weight, statistics)
            for train, choice, statistics in zip(
                self.trainings, self._choose_weights(), self._statistics, strict=True
            )
        ]
        solutions = self._solve(problems, GRADIENT_TOLERANCE)
        return [
            SolvedHead(*problem.statistics, solution, problem.phantom_weight)
            for problem, solution in zip(problems, solutions, strict=True)
        ]

    def _solve_parts(self) -> list[PartHeads]:
        choices = self._choose_weights()
        parts = [choice.parts for choice in choices]
        missing = [number for number, each in enumerate(parts) if each is None]
        folds = [self._part_folds(self.trainings[number]) for number in missing]
        problems = [
            _Problem(
                self.trainings[number][others],
                choices[number].weight,
                self._statistics[number],
            )
            for number, of_training in zip(missing, folds, strict=True)
            for others, _ in of_training
        ]
        # Features that fit in memory suffice for heads that only serve the training.
        solutions = iter(self._solve(problems, _COARSE_TOLERANCE, IN_MEMORY_BYTES))
        for number, of_training in zip(missing, folds, strict=True):
            parts[number] = self._part_heads(
                number, of_training, [next(solutions) for _ in of_training]
            )
        return [each for each in parts if each is not None]

    @functools.cached_property
    def _statistics(self) -> list[tuple[np.ndarray, np.ndarray]]:
        return [
            feature_statistics(
                FeatureChunks(self._features, self._features.view_rows(train)[0], dtype="float32")
            )
            for train in self.trainings
        ]

    def _make_choices(self) -> list[_Choice]:
        given = self._context.settings.phantom_weight
        if not self._anchors.has_phantoms or given is not None:
            return [_Choice(given or 0.0) for _ in self.trainings]
        folds = [self._choice_folds(train) for train in self.trainings]
        problems = [
            _Problem(train[others], weight, statistics)
            for train, of_training, statistics in zip(
                self.trainings, folds, self._statistics, strict=True
            )
            for weight in PHANTOM_WEIGHTS
            for others, _ in of_training
        ]
        solutions = iter(self._solve(problems, _COARSE_TOLERANCE))
        return [
            self._choose(
                number,
                of_training,
                [[next(solutions) for _ in of_training] for _ in PHANTOM_WEIGHTS],
            )
            for number, of_training in enumerate(folds)
        ]

    def _choice_folds(self, train: np.ndarray) -> Folds:
        """Return the folds of a training, or none if it has too few groups."""
        slices = self._context.slices
        try:
            return splits.folds(
                slices.labels[train],
                slices.groups[train],
                INNER_FOLDS,
                self._context.settings.seed,
            )
        except DataError as error:
            self._note(f"The weight of phantoms is {DEFAULT_PHANTOM_WEIGHT:g}, not chosen: {error}")
            return []

    def _part_folds(self, train: np.ndarray) -> Folds:
        """Return as many folds of a training as its groups allow."""
        slices, seed = self._context.slices, self._context.settings.seed
        labels, groups = slices.labels[train], slices.groups[train]
        for count in range(INNER_FOLDS, 2, -1):
            with suppress(DataError):
                return splits.folds(labels, groups, count, seed)
        return splits.folds(labels, groups, 2, seed)

    def _choose(self, number: int, folds: Folds, solutions: list[list[Solution]]) -> _Choice:
        """Choose a weight of phantoms.

        Args:
            number: The training.
            folds: Its folds; none leave the default weight.
            solutions: For each weight, those of the folds' heads.
        """
        if not folds:
            return _Choice(DEFAULT_PHANTOM_WEIGHT)
        train, slices = self.trainings[number], self._context.slices
        labels = slices.labels[train]
        losses = np.empty((len(train), len(PHANTOM_WEIGHTS)))
        for fold, (_, test) in enumerate(folds):
            features = standardize(
                self._features.take(self._features.first_rows(train[test])),
                *self._statistics[number],
            )
            for column, of_weight in enumerate(solutions):
                solution = of_weight[fold]
                logits = (features @ solution.kernel)[:, 0].astype(np.float64)
                logits += float(solution.bias[0])
                losses[test, column] = np.logaddexp(0.0, logits) - labels[test] * logits
        weights = class_weight(labels, self._context.settings.class_weights)
        weight = choose_weight(PHANTOM_WEIGHTS, losses, weights, slices.groups[train])
        chosen = solutions[PHANTOM_WEIGHTS.index(weight)]
        return _Choice(weight, self._part_heads(number, folds, chosen))

    def _part_heads(self, number: int, folds: Folds, solutions: list[Solution]) -> PartHeads:
        part_of = np.zeros(len(self._context.slices.labels), np.int8)
        for part, (_, test) in enumerate(folds):
            part_of[self.trainings[number][test]] = part
        return PartHeads(
            *self._statistics[number],
            part_of=part_of,
            kernels=np.concatenate([solution.kernel for solution in solutions], axis=1),
            biases=np.concatenate([solution.bias for solution in solutions]),
        )

    def _solve(
        self, problems: Sequence[_Problem], tolerance: float, most_bytes: int | None = None
    ) -> list[Solution]:
        """Solve any number of heads.

        Args:
            problems: The heads.
            tolerance: The largest entry of the gradient at which L-BFGS stops.
            most_bytes: Of the features, of which every second, third, ... row is left otherwise;
                None for all rows. Defaults to None.
        """
        if not problems:
            return []
        used = np.zeros(len(self._context.slices.labels), bool)
        used[np.concatenate([problem.train for problem in problems])] = True
        rows, _ = self._features.view_rows(np.flatnonzero(used))
        size = most_together(len(rows))
        # Heads with the same weight of phantoms take about as many passes.
        order = sorted(range(len(problems)), key=lambda number: problems[number].phantom_weight)
        solutions: dict[int, Solution] = {}
        for begin in range(0, len(order), size):
            numbers = order[begin : begin + size]
            batch = [problems[number] for number in numbers]
            found = self._solve_together(batch, tolerance, most_bytes)
            solutions.update(zip(numbers, found, strict=True))
        return [solutions[number] for number in range(len(problems))]

    def _solve_together(
        self, problems: Sequence[_Problem], tolerance: float, most_bytes: int | None
    ) -> list[Solution]:
        context, features = self._context, self._features
        is_trained_on = np.zeros((len(context.slices.labels), len(problems)), bool)
        for number, problem in enumerate(problems):
            is_trained_on[problem.train, number] = True
        rows, owners = features.view_rows(np.flatnonzero(is_trained_on.any(axis=1)))
        if most_bytes is not None:
            step = -(-4 * len(rows) * features.width // most_bytes)
            rows, owners = rows[::step], owners[::step]
        weights = np.zeros((len(rows), len(problems)), np.float32)
        for number in range(len(problems)):
            is_used = is_trained_on[owners, number]
            targets = context.targets[owners[is_used]]
            weights[is_used, number] = output_weights(targets, context.settings.class_weights)[:, 0]
        part = context.cluster.part(len(rows))
        own = slice(part.start, part.stop, part.step)
        means, variances = (
            np.stack(each)
            for each in zip(*(problem.statistics for problem in problems), strict=True)
        )
        samples, l2 = self._anchors.hold(
            Samples(
                inputs=FeatureChunks(features, rows[own], dtype="float32"),
                labels=context.slices.labels[owners[own]],
                weights=weights[own],
                means=means.astype(np.float64),
                deviations=deviation(variances).astype(np.float64),
            ),
            [problem.train for problem in problems],
            np.array([problem.phantom_weight for problem in problems]),
            context.cluster,
        )
        samples = replace(samples, curvature=self._anchors.curvature)
        return solve_first_outputs(samples, l2, context.cluster.all_sum, tolerance)
