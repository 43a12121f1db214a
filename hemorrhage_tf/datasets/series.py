"""Series: the slices that files hold, grouped into scans and sorted from the neck to the vertex."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from hemorrhage_tf.core.errors import DataError, Problem, SliceError
from hemorrhage_tf.core.progress import Progress
from hemorrhage_tf.datasets.slice_gaps import describe_gaps
from hemorrhage_tf.imaging.header import Header
from hemorrhage_tf.imaging.readers import (
    FORMATS,
    SliceRef,
    is_display_image,
    is_slice_path,
    read_header,
)

# Equal for all slices of one scan.
ScanKey = tuple[str, Path] | tuple[str, Path, str | None, str | None]


@dataclass(frozen=True)
class Scan:
    """The slices of one volume or series.

    Attributes:
        name: The name that outputs show.
        members: The positions of its slices in the listing, from the neck to the vertex.
    """

    name: str
    members: tuple[int, ...]


@dataclass(frozen=True)
class Listing:
    """The slices of some files.

    Attributes:
        slices: The location of each slice; those of a scan are consecutive.
        positions: float64 `(n,)`, the position of each slice in its scan in mm, growing from the
            neck to the vertex; NaN where unknown.
        scans: The volumes and series of more than one slice.
        problems: Files that cannot be used.
        input_warnings: Files that may not be axial slices of a head CT, and scans with gaps.
    """

    slices: tuple[SliceRef, ...]
    positions: np.ndarray
    scans: tuple[Scan, ...]
    problems: tuple[Problem, ...]
    input_warnings: tuple[Problem, ...]


def find_slice_files(folder: Path, max_depth: int | None = None) -> list[Path]:
    """Find the files with slices in a folder.

    Args:
        folder: The folder. Hidden files and folders are left out.
        max_depth: How many folders below it to search. Defaults to None: all.

    Returns:
        The paths, sorted.
    """
    return [Path(path) for path in slice_paths(folder, max_depth)]


def slice_paths(folder: Path, max_depth: int | None = None) -> list[str]:
    """Find the same files as `find_slice_files`, as text, which needs less memory.

    Args:
        folder: The folder. Hidden files and folders are left out.
        max_depth: How many folders below it to search. Defaults to None: all.

    Returns:
        The paths, sorted.
    """
    paths: list[str] = []
    stack = [(str(folder), 0)]
    while stack:
        current, depth = stack.pop()
        with os.scandir(current) as entries:
            for entry in entries:
                if entry.name.startswith((".", "__MACOSX")):
                    continue
                # Like `Path`, without a leading "./".
                path = entry.path if current != "." else entry.name
                if entry.is_dir() and not entry.is_symlink():
                    if max_depth is None or depth < max_depth:
                        stack.append((path, depth + 1))
                elif is_slice_path(entry.name, path):
                    paths.append(path)
    # In the order of `Path`: the files of a folder "a" precede those of a folder "a1".
    return sorted(paths, key=lambda path: path.replace(os.sep, "\0"))


def expand_paths(arguments: Iterable[str | Path]) -> list[Path]:
    """Expand files, folders and glob patterns to files with slices.

    Args:
        arguments: Files, folders (searched at every depth) and patterns such as `scans/*.png`.

    Returns:
        The paths in the order of the arguments, each once; those of a folder or pattern are sorted.

    Raises:
        DataError: An argument is no file, and no folder or pattern that contains a slice.
    """
    paths: dict[Path, None] = {}
    problems: list[Problem] = []
    for argument in arguments:
        path = Path(argument)
        if path.is_dir():
            files = find_slice_files(path)
            reason = f"the folder contains no slices ({FORMATS})"
        elif path.exists():
            files, reason = [path], ""
        else:
            matches = sorted(Path(match) for match in glob.glob(str(argument), recursive=True))
            files = [match for match in matches if match.is_file() and is_slice_path(match)]
            reason = "no such file or folder, and no slice matches it as a pattern"
        if not files:
            problems.append(Problem(str(argument), reason))
        paths.update(dict.fromkeys(files))
    if problems:
        raise DataError.of_problems(
            "These arguments contain no slices:",
            problems,
            f"Pass {FORMATS} files, folders or globs.",
        )
    return list(paths)


@dataclass
class HeaderReader:
    """Reads headers, and collects the files that cannot be used.

    Attributes:
        problems: Unreadable headers, and copies of a file that was read before.
        input_warnings: Files whose tags do not fit axial slices of a head CT.
    """

    problems: list[Problem] = field(default_factory=list)
    input_warnings: list[Problem] = field(default_factory=list)
    _instances: dict[str, Path] = field(default_factory=dict)

    def read(self, path: Path) -> Header | None:
        """Return the header of a file, None if the file cannot be used."""
        try:
            header = read_header(path)
        except SliceError as error:
            self.problems.append(error.problem)
            return None
        first = self._instances.setdefault(header.instance, path) if header.instance else path
        if first != path:
            self.problems.append(Problem(str(path), f"has the same SOP Instance UID as {first}"))
            return None
        if header.input_warning:
            self.input_warnings.append(Problem(str(path), header.input_warning))
        return header


@dataclass(slots=True)
class _Entry:
    """One slice while scans are assembled."""

    ref: SliceRef
    position: float | None
    number: int | None


def list_slices(paths: Sequence[Path], progress: Progress) -> Listing:
    """Read the headers of files, group their slices into scans and sort each scan.

    A volume or a multi-frame file is a scan. So are the DICOM files of one folder with the same
    Patient ID and Series Instance UID (without UIDs, all of the folder). The slices of a scan are
    sorted by their position along the slice normal if each has one, else by Instance Number.

    Args:
        paths: Files of any format.
        progress: Where to report progress.

    Returns:
        The listing. Each scan stands where its first file does.
    """
    groups: dict[ScanKey, list[_Entry]] = {}
    headers = HeaderReader()
    with progress.track("Reading headers", len(paths)) as advance:
        for path in paths:
            advance(1)
            header = headers.read(path)
            if header is None:
                continue
            entries = groups.setdefault(scan_key(path, header), [])
            entries += [
                _Entry(ref, position, header.number)
                for ref, position in zip(slice_refs(path, header), header.positions, strict=True)
            ]

    slices: list[SliceRef] = []
    positions: list[float | None] = []
    scans: list[Scan] = []
    gaps: list[Problem] = []
    names = _name_scans(groups)
    for key, entries in groups.items():
        entries = _sorted(entries)
        gaps += _find_gaps(entries, names[key])
        if len(entries) > 1:
            members = range(len(slices), len(slices) + len(entries))
            scans.append(Scan(names[key], tuple(members)))
        slices += [entry.ref for entry in entries]
        positions += [entry.position for entry in entries]
    return Listing(
        slices=tuple(slices),
        positions=np.array(positions, np.float64),
        scans=tuple(scans),
        problems=tuple(headers.problems),
        input_warnings=(*headers.input_warnings, *gaps),
    )


def slice_refs(path: Path, header: Header) -> list[SliceRef]:
    """Return the location of each slice of a file, in the order of the file."""
    if len(header) == 1:
        return [SliceRef(path)]
    return [SliceRef(path, frame) for frame in range(len(header))]


def scan_key(path: Path, header: Header) -> ScanKey:
    """Return a key that is equal for all slices of one scan."""
    if len(header) > 1 or is_display_image(path):
        return ("file", path)
    return ("series", path.parent, header.patient, header.series)


def _name_scans(keys: Iterable[ScanKey]) -> dict[ScanKey, str]:
    """Name scans by file or folder. UIDs are not shown, since they identify a patient's scan."""
    names = {key: str(key[1]) for key in keys}
    in_folder: dict[Path, list[ScanKey]] = {}
    for key in names:
        if key[0] == "series":
            in_folder.setdefault(key[1], []).append(key)
    for folder, series in in_folder.items():
        if len(series) > 1:
            for number, key in enumerate(series, start=1):
                names[key] = f"{folder} (series {number} of {len(series)})"
    return names


def _sorted(entries: list[_Entry]) -> list[_Entry]:
    for values in (
        [entry.position for entry in entries],
        [entry.number for entry in entries],
    ):
        known = [value for value in values if value is not None]
        if len(known) == len(entries):
            order = sorted(range(len(entries)), key=known.__getitem__)
            return [entries[index] for index in order]
    return entries


def _short_name(ref: SliceRef) -> str:
    return str(SliceRef(Path(ref.path.name), ref.frame))


def _find_gaps(entries: Sequence[_Entry], name: str) -> list[Problem]:
    """Report where slices of a sorted scan seem to be missing."""
    positions = [entry.position for entry in entries if entry.position is not None]
    if len(positions) < len(entries):
        return []
    gaps = describe_gaps(
        positions,
        [entry.number for entry in entries],
        lambda index: _short_name(entries[index].ref),
    )
    return [] if gaps is None else [Problem(name, gaps)]
