"""The plan of a fit: which slices each training trains on and which it is tested on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hemorrhage_tf.core.errors import DataError, OptionError, Problem
from hemorrhage_tf.core.progress import Progress
from hemorrhage_tf.datasets import splits
from hemorrhage_tf.datasets.slice_index import SliceIndex
from hemorrhage_tf.training.settings import FitSettings


@dataclass(frozen=True)
class Fold:
    """One training and its test part.

    Attributes:
        repeat: number of the repeat, from 1.
        number: number of the fold within the repeat, from 1.
        train: sorted indices of what is trained on.
        test: sorted indices of what is tested on.
        leaks: what stands on both sides of a split of the user's own that was let pass.
    """

    repeat: int
    number: int
    train: np.ndarray
    test: np.ndarray
    leaks: tuple[str, ...] = ()


def make_plan(slices: SliceIndex, settings: FitSettings, progress: Progress) -> list[Fold]:
    """Splits the slices as the settings or the manifest say.

    Args:
        slices: all of them.
        settings: of the fit.
        progress: where near-duplicates across the user's own split are told.

    Returns:
        One fold for a single split, or repeats * folds of them.

    Raises:
        DataError: one class only, too few groups, or a split of the user's own that leaks.
        OptionError: folds asked for where the manifest has a split of its own.
    """
    labels, groups = slices.labels, slices.groups
    splits.check_classes(labels)
    given = np.array([record.split or "" for record in slices.manifest.records])
    if given[0]:
        if settings.folds:
            raise OptionError(
                f"--folds {settings.folds}: the manifest has a split column of its own. "
                "Leave out one of them."
            )
        return [_given_split(slices, given, progress, settings.allow_leak)]
    if not settings.folds:
        train, test = splits.holdout(labels, groups, settings.test_fraction, settings.seed)
        return [Fold(1, 1, train, test)]
    return [
        Fold(repeat + 1, number + 1, train, test)
        for repeat in range(settings.repeats)
        for number, (train, test) in enumerate(
            splits.folds(labels, groups, settings.folds, _repeat_seed(settings.seed, repeat))
        )
    ]


def _repeat_seed(seed: int, repeat: int) -> int:
    return int(np.random.SeedSequence([seed, repeat]).generate_state(1)[0])


def _given_split(
    slices: SliceIndex, given: np.ndarray, progress: Progress, allow_leak: bool
) -> Fold:
    train, test = np.flatnonzero(given == "train"), np.flatnonzero(given == "test")
    for part, name in ((train, "train"), (test, "test")):
        if len(np.unique(slices.labels[part])) < 2:
            raise DataError(
                f"the split column must give both classes to both parts. Received: {len(part)} "
                f"slices for {name}, {int(slices.labels[part].sum())} of them with hemorrhage"
            )
    names = slices.names
    problems = [
        Problem(names[j], f"the same picture as {names[i]}, which is on the other side")
        for i, j in slices.exact_pairs
        if given[i] != given[j]
    ]
    side: dict[str, tuple[str, str]] = {}
    for record, name, part in zip(slices.manifest.records, names, given, strict=True):
        if record.patient is not None:
            first_part, first_name = side.setdefault(record.patient, (part, name))
            if first_part != part:
                problems.append(
                    Problem(name, f"of the same patient as {first_name}, on the other side")
                )
    if problems and not allow_leak:
        raise DataError.of_problems(
            "the split column puts what belongs together on both sides:",
            problems,
            "Move each to one side, or leave the split column out. To go on all the same: "
            "--allow-leak, and then every report says so.",
        )
    if problems:
        progress.warn(
            f"{len(problems)} slices stand on one side of the split column and their patient or "
            "twin on the other (--allow-leak): the figures flatter the model"
        )
    near = [f"{names[i]} and {names[j]}" for i, j, _ in slices.near_pairs if given[i] != given[j]]
    if near:
        progress.warn(
            f"{len(near)} pairs of near-duplicates stand on both sides of the split column, so "
            "the figures may flatter the model",
            f": {', '.join(near[:5])}",
        )
    leaks = tuple(f"{problem.path}: {problem.reason}" for problem in problems)
    return Fold(1, 1, train, test, leaks)
