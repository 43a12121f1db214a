"""The errors that a user's mistake raises, and the list of what is wrong with which file.

Each message names the file or option, what was received, what is accepted, and the next step. The
CLI prints it without a traceback and leaves with the error's `exit_code`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


class HemorrhageError(Exception):
    """Base of every error that this package raises on purpose."""

    exit_code = 1


class OptionError(HemorrhageError):
    """An option's value, or a pair of options, that cannot be used."""

    exit_code = 2


class DataError(HemorrhageError):
    """Slices, labels or groups that cannot be trained or evaluated on."""

    @classmethod
    def of_problems(cls, title: str, problems: Sequence[Problem], next_step: str) -> DataError:
        """Makes one error of all the problems, a line each."""
        lines = [title, *(f"  {problem.path}: {problem.reason}" for problem in problems), next_step]
        return cls("\n".join(lines))


class SliceError(DataError):
    """One file that cannot be read as a slice."""

    def __init__(self, path: object, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.problem = Problem(str(path), reason)


class WeightsError(HemorrhageError):
    """Backbone weights that cannot be had or do not fit."""


class ModelError(HemorrhageError):
    """A path that holds no model of this package, or a damaged one."""


class OutputError(HemorrhageError):
    """A place that cannot be written: it exists, it is full, it is forbidden."""


class ClusterError(HemorrhageError):
    """Workers that train together and do not find each other, differ, or were lost."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong with one file.

    Attributes:
        path: the file, as the user would name it.
        reason: what is wrong with it, a clause without a full stop.
    """

    path: str
    reason: str
