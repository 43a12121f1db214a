"""Files and rows that cannot be used, and files that may not be head CT: one message for all."""

from __future__ import annotations

from collections.abc import Sequence

from hemorrhage_tf.core.errors import DataError, Problem
from hemorrhage_tf.core.progress import Progress

_LISTED = 20  # input warnings that are listed one by one


def raise_or_skip_invalid(
    problems: Sequence[Problem],
    progress: Progress,
    skip_invalid: bool,
    input_warnings: Sequence[Problem] = (),
) -> None:
    """Raise one error for all problems, or warn about them.

    Args:
        problems: Files and rows that cannot be used.
        progress: Where to report warnings.
        skip_invalid: Warn instead of raising.
        input_warnings: Files that may not be slices of a head CT; these never raise. Defaults to
            none.

    Raises:
        DataError: There are problems, and `skip_invalid` is False.
    """
    count, lines = len(input_warnings), _listed(input_warnings)
    if problems and not skip_invalid:
        title = f"These files or rows cannot be used ({len(problems)}):"
        next_step = (
            "Fix or remove them, or pass --skip-invalid (skip_invalid=True) to continue without "
            "them."
        )
        if lines:
            next_step += f"\nThese may not be slices of a head CT ({count}):\n{lines}"
        raise DataError.of_problems(title, problems, next_step)
    if problems:
        progress.warn(f"skipped {len(problems)} invalid files or rows (--skip-invalid).")
    if lines:
        progress.warn(
            f"these may not be axial slices of a whole head CT ({count}); they are used anyway",
            f":\n{lines}",
        )


def _listed(problems: Sequence[Problem]) -> str:
    lines = [f"  {problem.path}: {problem.reason}" for problem in problems[:_LISTED]]
    if len(problems) > _LISTED:
        lines.append(f"  and {len(problems) - _LISTED} more")
    return "\n".join(lines)
