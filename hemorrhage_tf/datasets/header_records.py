"""TODO docstring."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from hemorrhage_tf.core.errors import Problem, SliceError
from hemorrhage_tf.core.progress import Progress
from hemorrhage_tf.datasets.records import Manifest, Records, _relative
from hemorrhage_tf.datasets.series import scan_key, slice_refs
from hemorrhage_tf.imaging.header import Header
from hemorrhage_tf.imaging.readers import (
    is_display_image,
    read_header,
)


def _with_headers(manifest: Manifest, anonymize: bool, progress: Progress) -> Manifest:
    """Adds what DICOM and NIfTI headers say: slices, patients, scans."""
    if manifest.records.are_display_images:
        return replace(manifest, is_anonymous=anonymize)
    records = Records(root=manifest.root)
    problems: list[Problem] = []
    input_warnings: list[Problem] = []
    headers: dict[Path, Header | None] = {}  # of files that several records may be of
    unnamed: dict[tuple, str] = {}
    instances: dict[str, Path] = {}
    names = _Names(manifest.root)
    level = manifest.level
    with progress.track("Reading headers", len(manifest)) as advance:
        for record in manifest.records:
            advance(1)
            path = record.path
            if is_display_image(path):
                records.append(record)
                continue
            if path in headers:
                header = headers[path]
            else:
                header = _checked_header(path, instances, problems, input_warnings)
                if header is None or len(header) > 1:
                    headers[path] = header
            if header is None:
                continue
            key = scan_key(path, header)
            patient = record.patient or header.patient
            if patient is None:
                patient = unnamed.setdefault(key, f"unnamed-{len(unnamed) + 1:04d}")
            described = replace(record, patient=patient, scan=str(key))
            if anonymize:
                names.learn(path, header)
            if record.frame is not None and record.frame >= len(header):
                problems.append(
                    Problem(str(record.ref), f"the file holds {len(header)} slices, from 0")
                )
            elif record.frame is not None or len(header) == 1:
                records.append(described)
            else:
                level = "scan"
                for ref in slice_refs(path, header):
                    records.append(replace(described, frame=ref.frame))
    records = names.keep_out_of(records)
    shared: list[Problem] = []
    if all(patient is None for patient in manifest.records.patients):
        records, shared = _apart(records, manifest.root)
    return replace(
        manifest,
        records=records,
        problems=(*manifest.problems, *problems),
        input_warnings=(*manifest.input_warnings, *input_warnings, *shared),
        level=level,
        is_anonymous=anonymize,
        root_is_named=anonymize and names.root_is_named,
    )


def _checked_header(
    path: Path,
    instances: dict[str, Path],
    problems: list[Problem],
    input_warnings: list[Problem],
) -> Header | None:
    """Reads a header; None, and a problem more, where the file cannot be used."""
    try:
        header = read_header(path)
    except SliceError as error:
        problems.append(error.problem)
        return None
    first = instances.setdefault(header.instance, path) if header.instance else path
    if first != path:
        problems.append(Problem(str(path), f"the same SOP Instance UID as {first}"))
        return None
    if header.input_warning:
        input_warnings.append(Problem(str(path), header.input_warning))
    return header


def _apart(records: Records, root: Path) -> tuple[Records, list[Problem]]:
    """Takes scans for patients where every file names the same one, as anonymized files often do.

    All slices would be one group otherwise, and nothing could be held out.
    """
    patients = set(records.patients)
    scans = {record.scan for record in records}
    if len(patients) > 1 or len(scans) < 2 or None in scans:
        return records, []
    note = Problem(
        f"{len(scans)} scans",
        "all name the same patient, or were anonymized with one name: each scan counts as a "
        "patient of its own",
    )
    return Records((replace(each, patient=each.scan) for each in records), root), [note]


class _Names:
    """Keeps the names of patients out of the paths that outputs show.

    Args:
        root: the folder that the paths are relative to.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._resolved = str(root.resolve()).casefold()
        self._numbers: dict[str, str] = {}
        self.root_is_named = False

    def learn(self, path: Path, header: Header) -> None:
        """Finds the folders and names in a path that tell whom its header names."""
        tokens = [
            token.casefold()
            for token in (header.patient or "", *header.identifying)
            if len(token) >= 3
        ]
        self.root_is_named |= any(token in self._resolved for token in tokens)
        for part in Path(_relative(path, self._root)).parts:
            if any(token in part.casefold() for token in tokens):
                self._numbers.setdefault(part, f"anonymous-{len(self._numbers) + 1:04d}")

    def keep_out_of(self, records: Records) -> Records:
        """Numbers the named parts of all paths, also of files whose own header tells nothing."""
        if not self._numbers:
            return records
        shown = (replace(record, shown=self._shown(record.path)) for record in records)
        return Records(shown, self._root)

    def _shown(self, path: Path) -> str | None:
        parts = Path(_relative(path, self._root)).parts
        if self._numbers.keys().isdisjoint(parts):
            return None
        return Path(*(self._numbers.get(part, part) for part in parts)).as_posix()
