"""The errors that a user's mistake raises.

A message names the file or option, what was received, the rule, and the next step. The CLI prints
it without a traceback and exits with the error's `exit_code`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


class HemorrhageError(Exception):
    """Base class of every error that this package raises on purpose.

    Attributes:
        exit_code: The exit code of the command line: 1 for data and files, 2 for options.

    Example:
        >>> import hemorrhage_tf as htf
        >>> try:
        ...     htf.FitSettings(folds=1)
        ... except htf.HemorrhageError as error:
        ...     print(type(error).__name__, error.exit_code)
        OptionError 2
    """

    exit_code = 1


class OptionError(HemorrhageError):
    """An invalid option, or options that contradict each other."""

    exit_code = 2


class DataError(HemorrhageError):
    """Slices, labels or groups that cannot be used for training or evaluation."""

    @classmethod
    def of_problems(cls, title: str, problems: Sequence[Problem], next_step: str) -> DataError:
        """Create one error that lists all problems, one per line.

        Args:
            title: The first line.
            problems: What is wrong with which file.
            next_step: The last line: what to do next.
        """
        lines = [title, *(f"  {problem.path}: {problem.reason}" for problem in problems), next_step]
        return cls("\n".join(lines))


class SliceError(DataError):
    """A file that cannot be read as a slice."""

    def __init__(self, path: object, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.problem = Problem(str(path), reason)


class WeightsError(HemorrhageError):
    """Backbone weights that are not available or do not fit."""


class ModelError(HemorrhageError):
    """A path that holds no model of this package, or a damaged model."""


class OutputError(HemorrhageError):
    """An output path that cannot be written: it exists, the disk is full, access is denied."""


class ArchiveError(HemorrhageError):
    """An archive that cannot be reached, that refuses a request, or lacks what is asked for."""


class ClusterError(HemorrhageError):
    """Workers that cannot reach each other, that differ, or that were lost."""


@dataclass(frozen=True, slots=True)
class Problem:
    """A problem with one file.

    Attributes:
        path: The file, as the user would name it.
        reason: What is wrong with it: a clause without a period.
    """

    path: str
    reason: str
