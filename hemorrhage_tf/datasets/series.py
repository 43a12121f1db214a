"""Series: the slices that files hold, grouped into scans and sorted from the neck to the vertex."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from hemorrhage_tf.core.errors import DataError, Problem, SliceError
from hemorrhage_tf.core.progress import Progress
from hemorrhage_tf.datasets.series_choice import (
    LeftOutSeries,
    SeriesCollector,
    SeriesSummary,
    choose_series,
    describe_choice,
)
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
        input_warnings: Files that may not be axial slices of a head CT, and scans with gaps or
            repeated positions.
        left_out: The series that were not used, see `series_choice`. Defaults to none.
    """

    slices: tuple[SliceRef, ...]
    positions: np.ndarray
    scans: tuple[Scan, ...]
    problems: tuple[Problem, ...]
    input_warnings: tuple[Problem, ...]
    left_out: tuple[LeftOutSeries, ...] = ()


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
    return list(find_sources(arguments))


def find_sources(arguments: Iterable[str | Path]) -> dict[Path, str | None]:
    """Expand arguments to files with slices, and keep where each file was found.

    Args:
        arguments: Files, folders and patterns, see `expand_paths`.

    Returns:
        By path, in the order of the arguments, the folder or pattern that the file was found in;
        None for a file that is an argument itself.

    Raises:
        DataError: An argument is no file, and no folder or pattern that contains a slice.
    """
    paths: dict[Path, str | None] = {}
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
        for file in files:
            is_named = file == path
            paths[file] = None if is_named else paths.get(file, str(argument))
    if problems:
        raise DataError.of_problems(
            "These arguments contain no slices:",
            problems,
            f"Pass {FORMATS} files, folders or globs.",
        )
    return paths


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


@dataclass(slots=True)
class _Group:
    """The slices of one scan while scans are assembled, and the tags of its files.

    Attributes:
        series: What is equal for all slices of its DICOM series: Patient ID, Study and Series
            Instance UID; None for other formats and files without these.
        source: The folder or pattern that its first file was found in, or None.
        collector: What tells it from the other series of its study.
        entries: Its slices.
    """

    series: tuple[str | None, str | None, str] | None
    source: str | None
    collector: SeriesCollector
    entries: list[_Entry] = field(default_factory=list)


def list_slices(
    paths: Sequence[Path],
    progress: Progress,
    sources: Mapping[Path, str | None] | None = None,
    series: Sequence[str] = (),
) -> Listing:
    """Read the headers of files, group their slices into scans and sort each scan.

    A volume or a multi-frame file is a scan. So are the DICOM files of one folder with the same
    Patient ID and Series Instance UID (without UIDs, all of the folder). The slices of a scan are
    sorted by their position along the slice normal if each has one, else by Instance Number.

    Args:
        paths: Files of any format.
        progress: Where to report progress.
        sources: From `find_sources`, to use one series of each study in each folder or pattern, see
            `series_choice`. Defaults to None, to use all.
        series: Series to use instead, see `series_choice.choose_series`. Defaults to none.

    Returns:
        The listing. Each scan stands where its first file does.

    Raises:
        OptionError: A requested series does not exist, or several fit.
    """
    groups: dict[ScanKey, _Group] = {}
    headers = HeaderReader()
    with progress.track("Reading headers", len(paths)) as advance:
        for path in paths:
            advance(1)
            header = headers.read(path)
            if header is None:
                continue
            key = scan_key(path, header)
            if key not in groups:
                source = None if sources is None else sources.get(path)
                groups[key] = _Group(_series_key(header), source, SeriesCollector(str(key[1])))
            _add_file(groups[key], path, header)

    names = _name_scans(groups)
    left_out: tuple[LeftOutSeries, ...] = ()
    if sources is not None:
        groups, left_out = _choose(groups, series, progress)
    return _assemble(groups, names, headers, left_out)


def list_images(
    images: str | Path | Iterable[str | Path],
    series: str | int | Iterable[str | int],
    progress: Progress,
) -> Listing:
    """List the slices of files, folders and patterns, and choose one series of each study.

    Args:
        images: One or several, see `expand_paths`.
        series: The series to use instead, see `series_choice.choose_series`; may be empty.
        progress: Where to report progress, and which series are left out.

    Raises:
        DataError: An argument contains no slice.
        OptionError: A requested series does not exist, or several fit.
    """
    sources = find_sources([images] if isinstance(images, str | Path) else images)
    requested = [series] if isinstance(series, str | int) else series
    return list_slices(list(sources), progress, sources, [str(one) for one in requested])


def _assemble(
    groups: Mapping[ScanKey, _Group],
    names: Mapping[ScanKey, str],
    headers: HeaderReader,
    left_out: tuple[LeftOutSeries, ...],
) -> Listing:
    """Sort the slices of each scan, and number them."""
    slices: list[SliceRef] = []
    positions: list[float | None] = []
    scans: list[Scan] = []
    gaps: list[Problem] = []
    for key, group in groups.items():
        entries = _sorted(group.entries)
        gaps += [*_find_gaps(entries, names[key]), *_find_repeats(entries, names[key])]
        if len(entries) > 1:
            members = range(len(slices), len(slices) + len(entries))
            scans.append(Scan(names[key], tuple(members)))
        slices += [entry.ref for entry in entries]
        positions += [entry.position for entry in entries]
    used = {str(ref.path) for ref in slices}
    return Listing(
        slices=tuple(slices),
        positions=np.array(positions, np.float64),
        scans=tuple(scans),
        problems=tuple(headers.problems),
        input_warnings=(*(one for one in headers.input_warnings if one.path in used), *gaps),
        left_out=left_out,
    )


def _series_key(header: Header) -> tuple[str | None, str | None, str] | None:
    tags = header.series_tags
    return (
        None if tags is None or not header.series else (header.patient, tags.study, header.series)
    )


def _add_file(group: _Group, path: Path, header: Header) -> None:
    group.entries += [
        _Entry(ref, position, header.number)
        for ref, position in zip(slice_refs(path, header), header.positions, strict=True)
    ]
    group.collector.add(header)


def _choose(
    groups: dict[ScanKey, _Group], requested: Sequence[str], progress: Progress
) -> tuple[dict[ScanKey, _Group], tuple[LeftOutSeries, ...]]:
    """Leave out the series that are not used, and note which."""
    members: dict[tuple[str | None, str | None, str], list[ScanKey]] = {}
    for key, group in groups.items():
        if group.series is not None:
            members.setdefault(group.series, []).append(key)
    series = [_summary([groups[key] for key in keys]) for keys in members.values()]
    choice = choose_series(series, requested)
    if choice.left_out:
        progress.note(*describe_choice(series, choice))
    keys = list(members.values())
    unused = {key for index in choice.unused for key in keys[index]}
    return {key: group for key, group in groups.items() if key not in unused}, choice.left_out


def _summary(groups: Sequence[_Group]) -> SeriesSummary:
    """Summarize the groups of one series, which may be in several folders."""
    first, *others = groups
    assert first.series is not None
    patient, study, uid = first.series
    for other in others:
        first.collector.update(other.collector)
    # Series that were named themselves are used, and so are files without a study.
    is_free = study is None or None in {group.source for group in groups}
    key = None if is_free else (str(first.source), str(patient), str(study))
    return first.collector.summary(key, uid)


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


def _name_scans(groups: Mapping[ScanKey, _Group]) -> dict[ScanKey, str]:
    """Name scans by file or folder, and by their Series Numbers where a folder holds several.

    UIDs are not shown, since they identify a patient's scan.
    """
    names = {key: str(key[1]) for key in groups}
    in_folder: dict[Path, list[ScanKey]] = {}
    for key in names:
        if key[0] == "series":
            in_folder.setdefault(key[1], []).append(key)
    for folder, series in in_folder.items():
        if len(series) == 1:
            continue
        tags = [groups[key].collector.tags.most_common(1) for key in series]
        numbers = [counted[0][0].number if counted else None for counted in tags]
        are_names = None not in numbers and len(set(numbers)) == len(numbers)
        for count, (key, number) in enumerate(zip(series, numbers, strict=True), start=1):
            suffix = f"series {number}" if are_names else f"series {count} of {len(series)}"
            names[key] = f"{folder} ({suffix})"
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


def _find_repeats(entries: Sequence[_Entry], name: str) -> list[Problem]:
    """Report slices of a scan that lie where another one does, as in a repeated scan."""
    positions = [entry.position for entry in entries if entry.position is not None]
    repeated = len(positions) - len(set(positions))
    if not repeated:
        return []
    noun = "slice has" if repeated == 1 else "slices have"
    return [Problem(name, f"{repeated} {noun} the position of another slice")]
