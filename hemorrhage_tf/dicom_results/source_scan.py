"""Source scans: the images, the study and the patient that results refer to.

Everything is checked before a model runs, so that no prediction is lost to a header.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from hemorrhage_tf.core.errors import Problem, SliceError
from hemorrhage_tf.datasets.series import Listing, Scan
from hemorrhage_tf.dicom_results.derived_uids import anonymous_uid, derive_name
from hemorrhage_tf.dicom_results.source_tags import IDENTITY, SourceTags, read_source_tags
from hemorrhage_tf.imaging.dicom.parse import is_dicom
from hemorrhage_tf.imaging.readers import SliceRef


@dataclass(frozen=True)
class SourceSlice:
    """One slice that a result refers to.

    Attributes:
        ref: Where it is.
        sop_class: The SOP Class UID of its file.
        instance: The SOP Instance UID of its file.
        frame: Its number in a file of several, from 1; None for a file of one.
        rows: Height in pixels.
        columns: Width in pixels.
    """

    ref: SliceRef
    sop_class: str
    instance: str
    frame: int | None
    rows: int
    columns: int


@dataclass(frozen=True)
class SourceScan:
    """A scan that results refer to.

    Attributes:
        name: The name of the scan in outputs.
        identity: What results say of the patient and the study, by keyword.
        left_empty: The keywords of `identity` that are empty because DICOM does not allow their
            values.
        study: The Study Instance UID.
        series: The Series Instance UID.
        frame_of_reference: The Frame of Reference UID; None if unknown.
        number: The Series Number; 0 if unknown.
        date: The date of the images; "" if unknown.
        time: The time of the images; "" if unknown.
        slices: Its slices, from the neck to the vertex.
        is_anonymous: Whether it is de-identified. Defaults to False.
    """

    name: str
    identity: Mapping[str, str]
    left_empty: tuple[str, ...]
    study: str
    series: str
    frame_of_reference: str | None
    number: int
    date: str
    time: str
    slices: tuple[SourceSlice, ...]
    is_anonymous: bool = False

    def take(self, refs: Sequence[str]) -> SourceScan:
        """Return the scan with some of its slices only, named as `str(ref)`."""
        wanted = set(refs)
        return replace(self, slices=tuple(one for one in self.slices if str(one.ref) in wanted))


def find_source_scans(
    listing: Listing, anonymize: bool
) -> tuple[dict[str, SourceScan], tuple[Problem, ...]]:
    """Read what results will say of the scans of a listing.

    Args:
        listing: The slices and scans to predict.
        anonymize: Whether to de-identify them, see `deidentify`.

    Returns:
        The scans by name, and why the others cannot have results.
    """
    sources: dict[str, SourceScan] = {}
    problems: list[Problem] = []
    for scan in listing.scans:
        try:
            source = _read_scan(scan, [listing.slices[index] for index in scan.members], anonymize)
        except SliceError as error:
            problems.append(error.problem)
        else:
            sources[scan.name] = deidentify(source) if anonymize else source
    return sources, tuple(problems)


def _read_scan(scan: Scan, refs: Sequence[SliceRef], anonymize: bool) -> SourceScan:
    if not is_dicom(refs[0].path):
        raise SliceError(scan.name, "not DICOM, so it has no study to refer to")
    tags: dict[Path, SourceTags] = {}
    for ref in refs:
        if ref.path not in tags:
            tags[ref.path] = read_source_tags(ref.path, anonymize)
    files = list(tags.values())
    first = files[0]
    _check_agreement(scan, files, anonymize)
    dated = max(files, key=lambda one: (one.date, one.time))
    return SourceScan(
        name=scan.name,
        identity=first.identity,
        left_empty=first.left_empty,
        study=first.study,
        series=first.series,
        frame_of_reference=first.frame_of_reference,
        number=first.number or 0,
        date=dated.date,
        time=dated.time,
        slices=tuple(_source_slice(ref, tags[ref.path]) for ref in refs),
    )


def _source_slice(ref: SliceRef, tags: SourceTags) -> SourceSlice:
    return SourceSlice(
        ref=ref,
        sop_class=tags.sop_class,
        instance=tags.instance,
        frame=None if ref.frame is None else ref.frame + 1,
        rows=tags.rows,
        columns=tags.columns,
    )


def _check_agreement(scan: Scan, files: Sequence[SourceTags], anonymize: bool) -> None:
    """Check that the files of a scan are of one patient, study and orientation."""
    if len({one.study for one in files}) > 1:
        raise SliceError(scan.name, "its files are of different studies")
    names = {(one.identity["PatientName"], one.identity["PatientID"]) for one in files}
    if len(names) > 1:
        raise SliceError(scan.name, "its files name different patients")
    if len(frozenset[object]().union(*(one.orientations for one in files))) > 1:
        raise SliceError(
            scan.name, "its slices have different orientations, so their order means nothing"
        )
    if anonymize and any(one.may_show_names for one in files):
        raise SliceError(
            scan.name,
            "texts in its pixels may name the patient (Burned In Annotation), and --anonymize does "
            "not change pixels",
        )


def deidentify(source: SourceScan) -> SourceScan:
    """Return a scan whose results do not identify the patient.

    The Basic Application Level Confidentiality Profile is applied to what results repeat: every UID
    of an instance is replaced (the same one always by the same), names, numbers and dates are
    emptied, and descriptions are removed. The Patient ID is one that belongs to the study. Who has
    the images can compute these values again; nobody else can trace them back.

    Args:
        source: The scan.

    Reference:
        DICOM PS3.15, annex E, table E.1-1 (actions U, Z and X).
    """
    identity = dict.fromkeys(IDENTITY, "")
    identity["PatientName"] = "Anonymous"
    identity["PatientID"] = f"ANON-{derive_name('patient', source.study)}"
    frame = source.frame_of_reference
    return replace(
        source,
        identity=identity,
        left_empty=(),
        study=anonymous_uid(source.study),
        series=anonymous_uid(source.series),
        frame_of_reference=None if frame is None else anonymous_uid(frame),
        date="",
        time="",
        slices=tuple(replace(one, instance=anonymous_uid(one.instance)) for one in source.slices),
        is_anonymous=True,
    )
