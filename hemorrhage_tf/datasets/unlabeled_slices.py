"""Unlabeled slices: files to predict, read once before the model runs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hemorrhage_tf.core.errors import DataError, Problem, SliceError
from hemorrhage_tf.core.progress import Progress
from hemorrhage_tf.datasets.invalid_files import raise_or_skip_invalid
from hemorrhage_tf.datasets.series import expand_paths, list_slices
from hemorrhage_tf.datasets.slice_reading import THREADS
from hemorrhage_tf.imaging.input_checks import check_input
from hemorrhage_tf.imaging.readers import SliceRef, read_slice

_AHEAD = 1024  # slices; one task per slice for a whole set would take much memory


@dataclass(frozen=True)
class UnlabeledSlices:
    """Unlabeled slices that were read once and can be predicted.

    Attributes:
        slices: The locations of the `n` slices. Those of a scan are consecutive, from the neck to
            the vertex.
        is_hounsfield: bool `(n,)`: whether a slice is in HU; the others are display images.
        scans: The name of the volume or series of each slice; None for a single slice.
        warnings: Why each slice may not be one of a head CT, or None.
    """

    slices: tuple[SliceRef, ...]
    is_hounsfield: np.ndarray
    scans: tuple[str | None, ...]
    warnings: tuple[str | None, ...]

    def __len__(self) -> int:
        return len(self.slices)


def index_unlabeled_slices(
    arguments: str | Path | Iterable[str | Path], progress: Progress, skip_invalid: bool = False
) -> UnlabeledSlices:
    """Find the slices that arguments name, and read each once.

    Args:
        arguments: Files of any format, folders and glob patterns, one or several.
        progress: Where to report progress and warnings.
        skip_invalid: Leave out unusable files instead of raising. Defaults to False.

    Returns:
        The usable slices.

    Raises:
        DataError: Files cannot be read, all listed in one message; or none is left.
    """
    if isinstance(arguments, str | Path):
        arguments = [arguments]
    listing = list_slices(expand_paths(arguments), progress)
    checks = _check_each(listing.slices, progress)
    problems = [*listing.problems, *(each for each in checks if isinstance(each, Problem))]
    usable = [(index, each) for index, each in enumerate(checks) if isinstance(each, _Check)]
    input_warnings = [
        *listing.input_warnings,
        *(
            Problem(str(listing.slices[index]), check.input_warning)
            for index, check in usable
            if check.input_warning
        ),
    ]
    raise_or_skip_invalid(problems, progress, skip_invalid, input_warnings)
    if not usable:
        raise DataError("no usable slice is left. Pass at least one readable file.")
    scan_of = {index: scan.name for scan in listing.scans for index in scan.members}
    return UnlabeledSlices(
        slices=tuple(listing.slices[index] for index, _ in usable),
        is_hounsfield=np.array([check.is_hounsfield for _, check in usable]),
        scans=tuple(scan_of.get(index) for index, _ in usable),
        warnings=tuple(check.input_warning for _, check in usable),
    )


@dataclass(frozen=True, slots=True)
class _Check:
    is_hounsfield: bool
    input_warning: str | None


def _check(ref: SliceRef) -> _Check | Problem:
    try:
        pixels = read_slice(ref)
    except SliceError as error:
        return error.problem
    return _Check(pixels.dtype != np.uint8, check_input(pixels))


def _check_each(slices: Sequence[SliceRef], progress: Progress) -> list[_Check | Problem]:
    checks: list[_Check | Problem] = []
    pool = ThreadPoolExecutor(THREADS)
    try:
        with progress.track("Reading slices", len(slices)) as advance:
            for begin in range(0, len(slices), _AHEAD):
                for check in pool.map(_check, slices[begin : begin + _AHEAD]):
                    checks.append(check)
                    advance(1)
    finally:
        pool.shutdown(cancel_futures=True)  # so that Ctrl-C does not wait for the rest
    return checks
