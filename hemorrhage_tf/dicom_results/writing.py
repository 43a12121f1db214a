"""Write the results of a prediction as DICOM files, a folder for each scan."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image
from pydicom.dataset import Dataset

from hemorrhage_tf.core.atomic_files import atomic_folder, describe_os_error
from hemorrhage_tf.core.errors import OutputError, Problem
from hemorrhage_tf.core.progress import Progress
from hemorrhage_tf.dicom_results.captures import create_slice_capture, create_summary_capture
from hemorrhage_tf.dicom_results.drawings import draw_slice_capture, draw_summary, slices_to_show
from hemorrhage_tf.dicom_results.key_objects import create_key_objects
from hemorrhage_tf.dicom_results.measurement_report import create_report
from hemorrhage_tf.dicom_results.scan_result import AlgorithmFacts, ScanResult
from hemorrhage_tf.dicom_results.slice_views import stream_views
from hemorrhage_tf.dicom_results.source_scan import SourceScan
from hemorrhage_tf.inference.model import Model
from hemorrhage_tf.inference.model_hash import model_hash
from hemorrhage_tf.inference.predictions import Prediction
from hemorrhage_tf.pipeline.model_input import ModelInput

REPORT_FILE = "report.dcm"
KEY_SLICES_FILE = "key-slices.dcm"
SUMMARY_FILE = "summary.dcm"


@dataclass(frozen=True)
class WrittenScan:
    """The files of one scan.

    Attributes:
        scan: The name of the scan.
        folder: The folder with its files.
        files: The files, the structured report first.
        instances: Their SOP Instance UIDs.
    """

    scan: str
    folder: Path
    files: tuple[Path, ...]
    instances: tuple[str, ...]


def scan_results(
    prediction: Prediction,
    sources: Mapping[str, SourceScan],
    model: Model,
    model_input: ModelInput,
) -> list[ScanResult]:
    """Combine a prediction with the scans that its results refer to.

    Args:
        prediction: The prediction.
        sources: From `find_source_scans`.
        model: The model that predicted.
        model_input: How it saw the slices.
    """
    algorithm = _describe(model, model_input)
    results = []
    for scan in prediction.scans:
        slices = tuple(one for one in prediction if one.scan == scan.scan)
        if scan.scan in sources:
            source = sources[scan.scan].take([one.path for one in slices])
            results.append(ScanResult(source, scan, slices, algorithm))
    return results


def find_headless(results: Sequence[ScanResult]) -> list[Problem]:
    """Return the scans of which no slice looks like a head CT: they must not have a result."""
    return [
        Problem(one.source.name, "no slice looks like a head CT")
        for one in results
        if all(each.warning for each in one.slices)
    ]


def write_results(
    results: Sequence[ScanResult],
    folder: Path,
    model: Model,
    model_input: ModelInput,
    progress: Progress,
) -> list[WrittenScan]:
    """Write the DICOM objects of some results.

    Args:
        results: From `scan_results`.
        folder: The folder for their folders; created if missing. The same result replaces itself.
        model: The model that predicted.
        model_input: How it saw the slices.
        progress: Shows the progress.

    Raises:
        OutputError: The folder cannot be written.
    """
    written = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with progress.track(
            "Writing DICOM", sum(1 + len(one.flagged) for one in results)
        ) as advance:
            for result in results:
                place = folder / result.folder_name
                with atomic_folder(place, overwrite=True) as partial:
                    instances = _write_scan(result, partial, model, model_input, advance)
                names = sorted(instances, key=_order)
                written.append(
                    WrittenScan(
                        scan=result.source.name,
                        folder=place,
                        files=tuple(place / name for name in names),
                        instances=tuple(instances[name] for name in names),
                    )
                )
    except OSError as error:
        raise OutputError(
            f"--dicom-out {folder}: cannot be written ({describe_os_error(error)}). Make room or "
            "name another folder."
        ) from None
    return written


def _write_scan(
    result: ScanResult,
    folder: Path,
    model: Model,
    model_input: ModelInput,
    advance: Callable[[int], None],
) -> dict[str, str]:
    """Write the files of one scan, and return their SOP Instance UIDs by name."""
    instances: dict[str, str] = {}

    def save(dataset: Dataset, name: str) -> None:
        dataset.save_as(folder / name, enforce_file_format=True)
        instances[name] = str(dataset.SOPInstanceUID)

    save(create_report(result), REPORT_FILE)
    if result.flagged:
        save(create_key_objects(result), KEY_SLICES_FILE)
    flagged, shown = set(result.flagged), set(slices_to_show(result))
    views: dict[int, Image.Image] = {}
    for index, view in stream_views(result, sorted(flagged | shown), model, model_input):
        if index in flagged:
            pixels = draw_slice_capture(result, index, view)
            save(create_slice_capture(result, index, pixels), f"slice-{index + 1:04d}.dcm")
            advance(1)
        if index in shown:
            views[index] = view
    page = draw_summary(result, views, _notes(result))
    save(create_summary_capture(result, sorted(views), page), SUMMARY_FILE)
    advance(1)
    return instances


def _order(name: str) -> tuple[int, str]:
    """Return a key that sorts the files of a scan: the report first, the slices last."""
    files = (REPORT_FILE, KEY_SLICES_FILE, SUMMARY_FILE)
    return (files.index(name) if name in files else len(files), name)


def _notes(result: ScanResult) -> list[str]:
    warned = sum(1 for one in result.slices if one.warning)
    notes = [f"Operating point: {result.algorithm.parameters[0]}"]
    if result.scan.disagreement is not None:
        notes.append(result.scan.disagreement)
    if warned:
        notes.append(f"{warned} of {len(result.slices)} slices do not look like a head CT.")
    return notes


def _describe(model: Model, model_input: ModelInput) -> AlgorithmFacts:
    metadata = model.metadata
    scan_point = metadata.scan_operating_point or metadata.operating_point
    return AlgorithmFacts(
        name=metadata.backbone,
        model_hash=model_hash(model),
        parameters=(
            f"{scan_point} for scans, {metadata.operating_point} for slices alone",
            f"window {','.join(model_input.window or ())}",
            "scan model" if model.has_scan_model else "mean of the three highest probabilities",
            "test-time augmentation" if model.uses_tta else "no test-time augmentation",
        ),
        slice_threshold=model.slice_in_scan_threshold if model.has_scan_model else model.threshold,
    )
