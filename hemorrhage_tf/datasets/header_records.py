"""What the headers of DICOM and NIfTI files add to a manifest: slices, patients and scans.

Names of patients are kept out of the paths that outputs show.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from hemorrhage_tf.core.errors import Problem
from hemorrhage_tf.core.progress import Progress
from hemorrhage_tf.datasets.layouts.base import CQ500
from hemorrhage_tf.datasets.records import Manifest, Record, Records, relative_path
from hemorrhage_tf.datasets.series import HeaderReader, ScanKey, scan_key, slice_refs
from hemorrhage_tf.datasets.study_series import StudySeries
from hemorrhage_tf.imaging.header import Header
from hemorrhage_tf.imaging.readers import is_display_image


def add_headers(manifest: Manifest, anonymize: bool, progress: Progress) -> Manifest:
    """Read the headers of a manifest's files, and complete its records.

    A file of several slices becomes one record per slice. The Patient ID becomes the patient of a
    record without one, and the volume or series becomes its scan unless the manifest names one. Of
    CQ500, whose labels belong to studies, one series of each study is kept, see `StudySeries`.

    Args:
        manifest: The manifest as its tables and folders define it.
        anonymize: Whether to keep names of patients out of paths.
        progress: Where to report progress.
    """
    if manifest.records.are_display_images:
        return replace(manifest, is_anonymous=anonymize)
    reader = _RecordReader(manifest.root if manifest.layout == "class folders" else None)
    names = _PatientNames(manifest.root)
    records = Records()
    studies = StudySeries() if manifest.layout == CQ500 else None
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
                if names.has_patient(record.scan_name, header):
                    record = replace(record, scan_name=None)
            for each in reader.expand(record, header):
                if studies is not None and each.frame in (None, 0):
                    studies.add(each, header)
                records.append(each)
    if studies is not None:
        records = studies.keep_chosen(records, progress)
        used = {str(record.path) for record in records}
        warnings = reader.headers.input_warnings
        warnings[:] = [one for one in warnings if one.path in used]
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
        level=manifest.level if records.has_slice_label.all() else "scan",
        is_anonymous=anonymize,
        root_is_named=anonymize and names.root_is_named,
    )


class _RecordReader:
    """Completes records from the headers of their files.

    Args:
        class_root: The folder that holds the class folders; None for other layouts.

    Attributes:
        headers: Reads the headers, and collects their problems.
    """

    def __init__(self, class_root: Path | None) -> None:
        self._class_root = class_root
        self.headers = HeaderReader()
        self._known: dict[Path, Header | None] = {}  # files that several records may refer to
        self._unnamed: dict[str, str] = {}

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
        key = record.scan or str(self._scan_key(record.path, header))
        patient = record.patient or header.patient
        if patient is None:
            patient = self._unnamed.setdefault(key, f"unnamed-{len(self._unnamed) + 1:04d}")
        completed = replace(
            record, patient=patient, scan=key, number=header.number, thickness=header.thickness
        )
        if record.frame is not None and record.frame >= len(header):
            reason = f"has no frame {record.frame}: it holds {len(header)}, numbered from 0"
            self.headers.problems.append(Problem(str(record.ref), reason))
        elif record.frame is not None or len(header) == 1:
            position = header.positions[record.frame or 0]
            yield completed if position is None else replace(completed, position=position)
        elif record.scan_label not in (None, record.label):
            reason = f"is a whole scan with the label {record.label}"
            reason += f" and the scan_label {record.scan_label}"
            self.headers.problems.append(Problem(str(record.path), reason))
        else:
            completed = replace(completed, has_slice_label=False, scan_label=record.label)
            for ref, position in zip(
                slice_refs(record.path, header), header.positions, strict=True
            ):
                yield replace(completed, frame=ref.frame, position=position)

    def _scan_key(self, path: Path, header: Header) -> ScanKey:
        """Return a key that is equal for all slices of one scan.

        The slices of one scan may be in both class folders.
        """
        key = scan_key(path, header)
        is_identified = header.patient is not None and header.series is not None
        if self._class_root is None or key[0] == "file" or not is_identified:
            return key
        within_class = path.parent.relative_to(self._class_root).parts[1:]
        return ("series", self._class_root.joinpath(*within_class), header.patient, header.series)


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


def _identifying_tokens(header: Header) -> list[str]:
    return [
        token.casefold() for token in (header.patient or "", *header.identifying) if len(token) >= 3
    ]


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
        tokens = _identifying_tokens(header)
        self.root_is_named |= any(token in self._resolved for token in tokens)
        for part in self._parts(path):
            if any(token in part.casefold() for token in tokens):
                number = len(self._replacements) + 1
                self._replacements.setdefault(part, f"anonymous-{number:04d}")

    def has_patient(self, text: str | None, header: Header) -> bool:
        """Return whether a text names the patient of a header."""
        return text is not None and any(
            token in text.casefold() for token in _identifying_tokens(header)
        )

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
