"""The listing: which slices files hold, in which scans, sorted from the neck to the vertex."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from hemorrhage_tf.core.errors import DataError, Problem, SliceError
from hemorrhage_tf.core.progress import Progress
from hemorrhage_tf.imaging.header import Header
from hemorrhage_tf.imaging.readers import (
    FORMATS,
    SliceRef,
    is_display_image,
    is_slice_path,
    read_header,
)

# A gap between two slices that is so much wider than both its neighbors is taken for missing ones.
WIDE_GAP = 1.5


@dataclass(frozen=True)
class Scan:
    """Slices that belong to one volume or series.

    Attributes:
        name: as outputs show it.
        members: where its slices stand in the listing, from the neck to the vertex.
    """

    name: str
    members: tuple[int, ...]


@dataclass(frozen=True)
class Listing:
    """What files hold.

    Attributes:
        slices: every slice; those of a scan follow each other.
        scans: the volumes and series of more than one slice.
        problems: files that cannot be used.
        input_warnings: what does not look like axial slices of a head CT, and scans with gaps.
    """

    slices: tuple[SliceRef, ...]
    scans: tuple[Scan, ...]
    problems: tuple[Problem, ...]
    input_warnings: tuple[Problem, ...]


def find_slice_files(folder: Path, max_depth: int | None = None) -> list[Path]:
    """Finds the files with slices below a folder, sorted, hidden files and folders left out.

    Args:
        folder: where to look.
        max_depth: how many folders below it; None for all. Default None.
    """
    return [Path(path) for path in slice_paths(folder, max_depth)]


def slice_paths(folder: Path, max_depth: int | None = None) -> list[str]:
    """Finds what `find_slice_files` does, as text, which takes less memory than paths do.

    Args:
        folder: where to look.
        max_depth: how many folders below it; None for all. Default None.
    """
    found: list[str] = []
    stack = [(str(folder), 0)]
    while stack:
        current, depth = stack.pop()
        with os.scandir(current) as entries:
            for entry in entries:
                if entry.name.startswith((".", "__MACOSX")):
                    continue
                # As `Path` writes it, without a leading "./".
                path = entry.path if current != "." else entry.name
                if entry.is_dir() and not entry.is_symlink():
                    if max_depth is None or depth < max_depth:
                        stack.append((path, depth + 1))
                elif is_slice_path(entry.name, path):
                    found.append(path)
    # In the order of paths: a folder's files before those of a folder of a longer name.
    return sorted(found, key=lambda path: path.replace(os.sep, "\0"))


def expand_paths(arguments: Iterable[str | Path]) -> list[Path]:
    """Turns files, folders and glob patterns into files with slices.

    Args:
        arguments: files, folders (searched at every depth) and patterns such as `scans/*.png`.

    Returns:
        The paths in the order of the arguments, each once; a folder's or pattern's are sorted.

    Raises:
        DataError: an argument is no file, and no folder or pattern with a slice in it.
    """
    paths: dict[Path, None] = {}
    problems: list[Problem] = []
    for argument in arguments:
        path = Path(argument)
        if path.is_dir():
            found = find_slice_files(path)
            reason = f"the folder holds no slice ({FORMATS})"
        elif path.exists():
            found, reason = [path], ""
        else:
            found = sorted(Path(match) for match in glob.glob(str(argument), recursive=True))
            found = [match for match in found if match.is_file() and is_slice_path(match)]
            reason = "no such file or folder, and no slice matches it as a pattern"
        if not found:
            problems.append(Problem(str(argument), reason))
        paths.update(dict.fromkeys(found))
    if problems:
        raise DataError.of_problems(
            "These arguments name no slice:", problems, f"Give {FORMATS} files, folders or globs."
        )
    return list(paths)


@dataclass(slots=True)
class _Entry:
    """One slice while scans are put together."""

    ref: SliceRef
    position: float | None
    number: int | None


def list_slices(paths: Sequence[Path], progress: Progress) -> Listing:
    """Reads the headers of files, groups their slices into scans and sorts each of these.

    A volume or a multi-frame file is a scan; so are the DICOM files of one folder with one Patient
    ID and Series Instance UID (or, without UIDs, all of one folder). Slices are sorted by their
    position along the normal of the slices, where every one has it, else by Instance Number.

    Args:
        paths: files of any format.
        progress: where progress goes.

    Returns:
        The listing. Scans stand where their first file does.
    """
    groups: dict[tuple, list[_Entry]] = {}
    problems: list[Problem] = []
    input_warnings: list[Problem] = []
    instances: dict[str, Path] = {}
    with progress.track("Reading headers", len(paths)) as advance:
        for path in paths:
            advance(1)
            try:
                header = read_header(path)
            except SliceError as error:
                problems.append(error.problem)
                continue
            first = instances.setdefault(header.instance, path) if header.instance else path
            if first != path:
                problems.append(Problem(str(path), f"the same SOP Instance UID as {first}"))
                continue
            if header.input_warning:
                input_warnings.append(Problem(str(path), header.input_warning))
            entries = groups.setdefault(scan_key(path, header), [])
            entries += [
                _Entry(ref, position, header.number)
                for ref, position in zip(slice_refs(path, header), header.positions, strict=True)
            ]

    slices: list[SliceRef] = []
    scans: list[Scan] = []
    names = _names(groups)
    for key, entries in groups.items():
        _sort(entries)
        input_warnings += _gaps(entries, names[key])
        if len(entries) > 1:
            members = range(len(slices), len(slices) + len(entries))
            scans.append(Scan(names[key], tuple(members)))
        slices += [entry.ref for entry in entries]
    return Listing(tuple(slices), tuple(scans), tuple(problems), tuple(input_warnings))


def slice_refs(path: Path, header: Header) -> list[SliceRef]:
    """Names the slices of a file, in its own order."""
    if len(header) == 1:
        return [SliceRef(path)]
    return [SliceRef(path, frame) for frame in range(len(header))]


def scan_key(path: Path, header: Header) -> tuple:
    """Gives what the slices of one scan have in common."""
    if len(header) > 1 or is_display_image(path):
        return ("file", path)
    return ("series", path.parent, header.patient, header.series)


def _names(groups: dict[tuple, list[_Entry]]) -> dict[tuple, str]:
    """Names scans by file or folder. A UID identifies a patient's scan, so it is not shown."""
    in_folder: dict[Path, list[tuple]] = {}
    for key in groups:
        if key[0] == "series":
            in_folder.setdefault(key[1], []).append(key)
    names = {key: str(key[1]) for key in groups}
    for folder, keys in in_folder.items():
        if len(keys) > 1:
            for number, key in enumerate(keys, start=1):
                names[key] = f"{folder} (series {number} of {len(keys)})"
    return names


def _sort(entries: list[_Entry]) -> None:
    if all(entry.position is not None for entry in entries):
        entries.sort(key=lambda entry: entry.position)
    elif all(entry.number is not None for entry in entries):
        entries.sort(key=lambda entry: entry.number)


def _short(ref: SliceRef) -> str:
    return str(SliceRef(Path(ref.path.name), ref.frame))


def _gaps(entries: list[_Entry], name: str) -> list[Problem]:
    """Tells where slices of a sorted scan seem to be missing.

    Scans are often thin below and thick above, so a gap is compared with both its neighbors; and
    consecutive Instance Numbers say that nothing is missing, however wide it is.
    """
    positions = [entry.position for entry in entries]
    if len(entries) < 4 or any(position is None for position in positions):
        return []
    gaps = [after - before for before, after in zip(positions, positions[1:], strict=False)]
    found = []
    for index, gap in enumerate(gaps):
        neighbors = gaps[max(index - 1, 0) : index] + gaps[index + 1 : index + 2]
        before, after = entries[index].number, entries[index + 1].number
        consecutive = before is not None and after is not None and abs(after - before) == 1
        if not consecutive and all(gap > WIDE_GAP * neighbor > 0 for neighbor in neighbors):
            found.append(
                f"{gap:.1f} mm between {_short(entries[index].ref)} and "
                f"{_short(entries[index + 1].ref)}"
            )
    if not found:
        return []
    usual = sorted(gaps)[len(gaps) // 2]
    return [
        Problem(name, f"slices seem to be missing: {'; '.join(found)} (usually {usual:.1f} mm)")
    ]
