"""What the headers of DICOM and NIfTI files add to a manifest: slices, patients and scans.

Names of patients are kept out of the paths that outputs show.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from hemorrhage_tf.core.errors import Problem
from hemorrhage_tf.core.progress import Progress
from hemorrhage_tf.datasets.records import Manifest, Record, Records, relative_path
from hemorrhage_tf.datasets.series import HeaderReader, ScanKey, scan_key, slice_refs
from hemorrhage_tf.imaging.header import Header
from hemorrhage_tf.imaging.readers import is_display_image


def add_headers(manifest: Manifest, anonymize: bool, progress: Progress) -> Manifest:
    """Read the headers of a manifest's files, and complete its records.

    A file of several slices becomes one record per slice. The Patient ID becomes the patient of a
    record without one.

    Args:
        manifest: The manifest as its tables and folders define it.
        anonymize: Whether to keep names of patients out of paths.
        progress: Where to report progress.
    """
    if manifest.records.are_display_images:
        return replace(manifest, is_anonymous=anonymize)
    reader = _RecordReader()
    names = _PatientNames(manifest.root)
    records = Records()
    with progress.track("Reading headers", len(manifest)) as advance:
        for record in manifest.records:
            advance(1)
            if is_display_image(record.path):
                records.append(record)
                continue
            header = reader.header_of(record.path)
            if header is None:
                continue
            if anonymize:
                names.learn(record.path, header)
            for each in reader.expand(record, header):
                records.append(each)
    records = names.hide_in(records)
    notes: list[Problem] = []
    if all(patient is None for patient in manifest.records.patients):
        records, notes = _separate_scans(records)
    headers = reader.headers
    return replace(
        manifest,
        records=records,
        problems=(*manifest.problems, *headers.problems),
        input_warnings=(*manifest.input_warnings, *headers.input_warnings, *notes),
        level="scan" if reader.has_whole_files else manifest.level,
        is_anonymous=anonymize,
        root_is_named=anonymize and names.root_is_named,
    )


class _RecordReader:
    """Completes records from the headers of their files.

    Attributes:
        headers: Reads the headers, and collects their problems.
        has_whole_files: Whether a record stood for all slices of a file.
    """

    def __init__(self) -> None:
        self.headers = HeaderReader()
        self.has_whole_files = False
        self._known: dict[Path, Header | None] = {}  # files that several records may refer to
        self._unnamed: dict[ScanKey, str] = {}

    def header_of(self, path: Path) -> Header | None:
        """Return the header of a file, None if the file cannot be used."""
        if path in self._known:
            return self._known[path]
        header = self.headers.read(path)
        if header is None or len(header) > 1:
            self._known[path] = header
        return header

    def expand(self, record: Record, header: Header) -> Iterator[Record]:
        """Yield the record of each slice that a record stands for."""
        key = scan_key(record.path, header)
        patient = record.patient or header.patient
        if patient is None:
            patient = self._unnamed.setdefault(key, f"unnamed-{len(self._unnamed) + 1:04d}")
        completed = replace(record, patient=patient, scan=str(key))
        if record.frame is not None and record.frame >= len(header):
            reason = f"has no frame {record.frame}: it holds {len(header)}, numbered from 0"
            self.headers.problems.append(Problem(str(record.ref), reason))
        elif record.frame is not None or len(header) == 1:
            yield completed
        else:
            self.has_whole_files = True
            for ref in slice_refs(record.path, header):
                yield replace(completed, frame=ref.frame)


def _separate_scans(records: Records) -> tuple[Records, list[Problem]]:
    """Treat scans as patients if all files name the same one, as anonymized files often do.

    Otherwise all slices would be one group, and nothing could be held out.
    """
    scans = set(records.scans)
    if len(set(records.patients)) > 1 or len(scans) < 2 or None in scans:
        return records, []
    note = Problem(
        f"{len(scans)} scans",
        "all have the same patient ID, perhaps from anonymization; each scan counts as a separate "
        "patient",
    )
    return Records(replace(each, patient=each.scan) for each in records), [note]


class _PatientNames:
    """Keeps names of patients out of the paths that outputs show.

    Args:
        root: The folder that paths are relative to.

    Attributes:
        root_is_named: Whether the path of the root itself names a patient.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._resolved = str(root.resolve()).casefold()
        self._replacements: dict[str, str] = {}
        self.root_is_named = False

    def learn(self, path: Path, header: Header) -> None:
        """Find the parts of a path that name the patient of its header."""
        tokens = [
            token.casefold()
            for token in (header.patient or "", *header.identifying)
            if len(token) >= 3
        ]
        self.root_is_named |= any(token in self._resolved for token in tokens)
        for part in self._parts(path):
            if any(token in part.casefold() for token in tokens):
                number = len(self._replacements) + 1
                self._replacements.setdefault(part, f"anonymous-{number:04d}")

    def hide_in(self, records: Records) -> Records:
        """Replace these parts in all paths, also of files without a name in their header."""
        if not self._replacements:
            return records
        return Records(replace(each, display_path=self._hidden(each.path)) for each in records)

    def _hidden(self, path: Path) -> str | None:
        parts = self._parts(path)
        if self._replacements.keys().isdisjoint(parts):
            return None
        return Path(*(self._replacements.get(part, part) for part in parts)).as_posix()

    def _parts(self, path: Path) -> tuple[str, ...]:
        return Path(relative_path(path, self._root)).parts
