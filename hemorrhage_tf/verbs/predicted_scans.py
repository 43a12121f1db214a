"""What follows the prediction of scans: their DICOM objects, and the audit trail."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from hemorrhage_tf.core.errors import DataError, OptionError, Problem
from hemorrhage_tf.core.progress import Progress
from hemorrhage_tf.datasets.series import Listing
from hemorrhage_tf.dicom_results.audit_trail import log_scans
from hemorrhage_tf.dicom_results.source_scan import SourceScan, find_source_scans
from hemorrhage_tf.inference.input_choice import input_through
from hemorrhage_tf.inference.model import Model
from hemorrhage_tf.inference.predictions import Prediction

if TYPE_CHECKING:  # it needs highdicom
    from hemorrhage_tf.dicom_results.writing import WrittenScan


@dataclass(frozen=True)
class DicomOutput:
    """Where DICOM results go.

    Attributes:
        folder: The folder.
        anonymize: Whether they are de-identified. Defaults to False.

    Raises:
        OptionError: highdicom is not installed.
    """

    folder: Path
    anonymize: bool = False

    def __post_init__(self) -> None:
        if find_spec("highdicom") is None:
            raise OptionError(
                "--dicom-out needs highdicom. Install it with pip install 'hemorrhage_tf[dicom]'."
            )


def find_sources(
    listing: Listing, output: DicomOutput, progress: Progress, skip_invalid: bool
) -> dict[str, SourceScan]:
    """Return the scans that will have DICOM results, before anything is predicted.

    Raises:
        DataError: There is no scan; or a scan cannot have results, and `skip_invalid` is False.
    """
    if not listing.scans:
        raise DataError(
            "--dicom-out: there is no scan, only single slices. Pass the folder of a DICOM series."
        )
    sources, problems = find_source_scans(listing, output.anonymize)
    _raise_or_warn(problems, progress, skip_invalid)
    if not sources:
        raise DataError(
            "--dicom-out: no scan can have DICOM results. Leave out --dicom-out to predict alone."
        )
    return sources


def write_dicom(
    prediction: Prediction,
    sources: Mapping[str, SourceScan],
    model: Model,
    window: str | Sequence[str] | None,
    output: DicomOutput,
    progress: Progress,
    skip_invalid: bool,
) -> list[WrittenScan]:
    """Write the DICOM objects of a prediction, and note what was written.

    Raises:
        DataError: No slice of a scan looks like a head CT, and `skip_invalid` is False.
        OutputError: The folder cannot be written.
    """
    from hemorrhage_tf.dicom_results.writing import find_headless, scan_results, write_results

    model_input = input_through(model.metadata, window)
    results = scan_results(prediction, sources, model, model_input)
    headless = find_headless(results)
    _raise_or_warn(headless, progress, skip_invalid)
    names = {one.path for one in headless}
    results = [one for one in results if one.source.name not in names]
    written = write_results(results, output.folder, model, model_input, progress)
    for result, one in zip(results, written, strict=True):
        if result.source.left_empty:
            empty = ", ".join(result.source.left_empty)
            progress.note(f"Left empty, because DICOM does not allow their values: {empty}.")
        progress.note(
            f"Wrote {len(one.files)} DICOM objects (report, summary page and "
            f"{len(result.flagged)} flagged slices)",
            f" to {one.folder}",
        )
    if written and output.anonymize:
        progress.note(
            "They are de-identified by the Basic Application Level Confidentiality Profile of "
            "DICOM PS3.15: UIDs are replaced, names, numbers and dates removed."
        )
    elif written:
        progress.note("They carry the patient's identity, as the images do.")
    return written


def write_audit_trail(
    prediction: Prediction,
    listing: Listing,
    sources: Mapping[str, SourceScan],
    model: Model,
    written: Sequence[WrittenScan],
    progress: Progress,
) -> None:
    """Write which scan had which result into the event log, without identity.

    Args:
        prediction: The prediction.
        listing: What was predicted.
        sources: From `find_sources`; empty if no DICOM results were written.
        model: The model that predicted.
        written: From `write_dicom`.
        progress: Writes the events.
    """
    if not sources:
        sources, _ = find_source_scans(listing, anonymize=True)
    objects = {one.scan: one.instances for one in written}
    log_scans(prediction, sources, model, objects, progress)


def _raise_or_warn(problems: Sequence[Problem], progress: Progress, skip_invalid: bool) -> None:
    if not problems:
        return
    title = f"These scans cannot have DICOM results ({len(problems)}):"
    if not skip_invalid:
        raise DataError.of_problems(
            title,
            problems,
            "Leave them out, or pass --skip-invalid (skip_invalid=True) to write the others. "
            "--anonymize replaces UIDs and names, and so accepts invalid ones.",
        )
    progress.warn(title, "".join(f"\n  {one.path}: {one.reason}" for one in problems))
