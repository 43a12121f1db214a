"""The export: convert, run the result in its own runtime, compare, and only then publish it."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from hemorrhage_tf.core.errors import ModelError, OptionError, OutputError
from hemorrhage_tf.core.progress import Progress
from hemorrhage_tf.datasets.records import Manifest
from hemorrhage_tf.exporters.export_card import write_export_card
from hemorrhage_tf.exporters.onnx_file import (
    convert_classifier,
    convert_scan_model,
    require_onnx,
    write_onnx,
)
from hemorrhage_tf.exporters.reference_slices import (
    CALIBRATION,
    calibration_images,
    select_slices,
)
from hemorrhage_tf.exporters.saved_model import write_saved_model
from hemorrhage_tf.exporters.settings import FULL_INT8, ONNX_QUANTIZATIONS, ExportSettings
from hemorrhage_tf.exporters.stored_size import stored_size
from hemorrhage_tf.exporters.tflite import convert, convert_to_integers
from hemorrhage_tf.exporters.tflite_metadata import add_metadata, operator_names
from hemorrhage_tf.exporters.trained_model import DYNAMIC_SHAPES, Signatures, TrainedModel
from hemorrhage_tf.exporters.verify import TOLERANCES, Tolerance, Verification, check
from hemorrhage_tf.imaging.readers import is_display_image
from hemorrhage_tf.inference.forms import ONNX, SAVED_MODEL, TFLITE, is_embedded
from hemorrhage_tf.inference.loading import load
from hemorrhage_tf.inference.model import Model
from hemorrhage_tf.inference.onnx_model import scan_file
from hemorrhage_tf.inference.tflite_model import SLICE_SIGNATURE, FixedShapeTFLiteModel
from hemorrhage_tf.models.metadata import ModelMetadata, write_metadata
from hemorrhage_tf.models.scan_model import PADDED_SCAN_SIGNATURE, PADDED_SCAN_SLICES
from hemorrhage_tf.reports.run_card import write_embedded_card

DESCRIPTION = (
    "P(intracranial hemorrhage) of a head-CT slice. Research software, not a medical device."
)

FIXED_SHAPES = Signatures(SLICE_SIGNATURE, PADDED_SCAN_SIGNATURE, PADDED_SCAN_SLICES)


@dataclass(frozen=True)
class Export:
    """A verified export, the result of `export`.

    Attributes:
        path: The `.tflite` or `.onnx` file or SavedModel folder.
        form: "saved_model"; or "tflite" or "onnx" with the quantization, such as "tflite int8".
        size_bytes: Size of the file (of an `.onnx` file with that of its scan model), or of all
            files in the folder, in bytes.
        verifications: Comparison with the trained model, by signature.

    Example:
        >>> import hemorrhage_tf as htf
        >>> export = htf.export("runs/first", "runs/first.tflite", quiet=True)
        >>> export.form
        'tflite none'
        >>> export.verifications["serving_default"].changed
        0
    """

    path: Path
    form: str
    size_bytes: int
    verifications: dict[str, Verification]


def target_form(target: str | Path) -> str:
    """Return the form of an export, which the ending of the target's name decides.

    Returns:
        "tflite" for a name that ends with `.tflite`, "onnx" for `.onnx`, "saved_model" for one
        without an ending or with a final `/`.

    Raises:
        OptionError: Another ending.
    """
    name = os.fspath(target)
    ending = Path(name).suffix.lower()
    if not ending or name.endswith(("/", os.sep)):
        return SAVED_MODEL
    if ending in (f".{TFLITE}", f".{ONNX}"):
        return ending.removeprefix(".")
    raise OptionError(
        f"{name}: the ending {ending} is not supported. Pass a name that ends with .tflite or "
        ".onnx for such a file, or a name without an ending (or with a / at the end) for a "
        "SavedModel folder."
    )


def _check_target(form: str, target: Path, settings: ExportSettings) -> None:
    """Check that the settings fit the target, and that the target does not exist yet."""
    if form == SAVED_MODEL and settings.quantize != "none":
        raise OptionError(
            f"--quantize {settings.quantize}: a SavedModel cannot be quantized. "
            "Pass a target that ends with .tflite or .onnx."
        )
    if form == ONNX:
        require_onnx()
        if settings.quantize not in ONNX_QUANTIZATIONS:
            raise OptionError(
                f"--quantize {settings.quantize}: not supported in an .onnx file. Pass one of "
                f"{', '.join(ONNX_QUANTIZATIONS)}, or a target that ends with .tflite."
            )
    for path in [target, scan_file(target)] if form == ONNX else [target]:
        if path.exists():
            raise OutputError(f"{path}: already exists. Pass another target, or remove it first.")


def export(
    source: Path,
    target: str | Path,
    settings: ExportSettings,
    progress: Progress,
    verify: str | Path | Manifest | None = None,
    representative: str | Path | Manifest | None = None,
) -> Export:
    """Export a trained model; the public face is `verbs.export.export`.

    Args:
        source: A run folder, its `.keras` file, or "phantomnet".
        target: See `target_form`. It must not exist.
        settings: The settings of the export.
        progress: Receives progress.
        verify: Labeled slices to compare on; None for those of the run, or phantoms.
        representative: Labeled slices to calibrate int8 on; None for the training slices of the
            run, or other phantoms.

    Raises:
        ModelError: The source is not a model, or the exported one differs too much from it.
        OptionError: Settings that do not fit the target or the model.
        DataError: The slices are missing, changed or too few.
        OutputError: The target exists or is not writable.
    """
    form, target = target_form(target), Path(target)
    _check_target(form, target, settings)
    trained = TrainedModel.load(source, verify, progress)
    if settings.quantize == FULL_INT8 and trained.scan_model is not None:
        trained = trained.without_scan_model()
        progress.note(
            "An accelerator runs slices alone, so the file has no scan model: a scan is predicted "
            "by the mean of its three highest slices, with the threshold for slices."
        )
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    except OSError as error:
        raise OutputError(
            f"{target}: cannot be written ({error.strerror}). Pass another target."
        ) from None
    try:
        draft = partial / target.name
        images = images_to_calibrate_on(source, trained, settings, representative, progress)
        verifications = write_form(form, draft, trained, settings, images, progress)
        name = SAVED_MODEL if form == SAVED_MODEL else f"{form} {settings.quantize}"
        size = stored_size(partial)
        described = _description(form, settings, verifications)
        write_card(source, draft, trained, described, is_default=verify is None)
        # Beside a file: its card, and the scan model of an .onnx file.
        for path in set(partial.iterdir()) - {draft}:
            path.rename(target.parent / path.name)
        draft.rename(target)
    except OSError as error:
        reason = error.strerror or str(error)
        raise OutputError(
            f"{target}: cannot be written ({reason}). Nothing was left behind. Pass another target."
        ) from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return Export(target, name, size, verifications)


def write_form(
    form: str,
    draft: Path,
    trained: TrainedModel,
    settings: ExportSettings,
    calibration: Sequence[np.ndarray],
    progress: Progress,
) -> dict[str, Verification]:
    """Write and verify one form of a model.

    Args:
        form: "tflite", "onnx" or "saved_model".
        draft: The file or folder to write.
        trained: The model.
        settings: The settings of the export.
        calibration: float32 `(size, size, 3)` images in [0, 255] to calibrate int8 on.
        progress: Receives progress.

    Raises:
        ModelError: What was written differs too much from the model.
    """
    if form == SAVED_MODEL:
        return _write_saved_model(draft, trained, settings, progress)
    write = _write_tflite if form == TFLITE else _write_onnx
    return write(draft, trained, settings, calibration, progress)


def images_to_calibrate_on(
    source: Path,
    trained: TrainedModel,
    settings: ExportSettings,
    representative: str | Path | Manifest | None,
    progress: Progress,
) -> list[np.ndarray]:
    """Return the images to calibrate int8 on; none for another quantization.

    Raises:
        DataError: There are too few.
    """
    if not settings.needs_calibration:
        return []
    count, model_input = settings.calibration_slices, trained.metadata.model_input
    slices = select_slices(source, model_input, CALIBRATION, representative, count, progress)
    return calibration_images(slices.refs, model_input, count)


def _write_tflite(
    draft: Path,
    trained: TrainedModel,
    settings: ExportSettings,
    calibration: Sequence[np.ndarray],
    progress: Progress,
) -> dict[str, Verification]:
    """Write and verify a TFLite file, then write it again with the verification inside."""
    metadata = trained.metadata
    with progress.stage("Converting"):
        if settings.quantize == FULL_INT8:
            model = convert_to_integers(trained.classifier, settings, calibration)
        else:
            model = convert(
                trained.classifier, metadata.image_size, settings, calibration, trained.scan_model
            )
    _reject_custom_operators(model)

    def write(values: ModelMetadata) -> None:
        draft.write_bytes(
            add_metadata(
                model, values=values.to_dict(), labels=values.labels, description=DESCRIPTION
            )
        )

    write(metadata)
    form = f"{TFLITE}, --quantize {settings.quantize}"
    verifications = _verify(trained, load(draft), form, settings, progress)
    if settings.batch == "dynamic" or trained.scan_model is not None:
        fixed = FixedShapeTFLiteModel(draft)
        verifications |= _verify(trained, fixed, form, settings, progress, FIXED_SHAPES)
    write(replace(metadata, export=_description(TFLITE, settings, verifications)))
    return verifications


def _write_onnx(
    draft: Path,
    trained: TrainedModel,
    settings: ExportSettings,
    calibration: Sequence[np.ndarray],
    progress: Progress,
) -> dict[str, Verification]:
    """Write and verify an ONNX file, then write it again with the verification inside."""
    metadata, scan_model = trained.metadata, trained.scan_model
    with progress.stage("Converting"):
        model = convert_classifier(
            trained.classifier, metadata.image_size, settings, calibration, scan_model
        )
        if scan_model is not None:
            scans = convert_scan_model(trained.classifier, scan_model)
            write_onnx(scan_file(draft), scans, metadata, DESCRIPTION)
    write_onnx(draft, model, metadata, DESCRIPTION)
    form = f"{ONNX}, --quantize {settings.quantize}"
    verifications = _verify(trained, load(draft), form, settings, progress)
    described = _description(ONNX, settings, verifications)
    write_onnx(draft, model, replace(metadata, export=described), DESCRIPTION)
    return verifications


def _write_saved_model(
    draft: Path, trained: TrainedModel, settings: ExportSettings, progress: Progress
) -> dict[str, Verification]:
    """Write a SavedModel folder and verify each of its signatures."""
    import tensorflow as tf

    metadata, refs = trained.metadata, trained.slices.refs
    with progress.stage("Writing the SavedModel"):
        write_saved_model(
            trained.classifier, draft, metadata, settings.input_type, trained.scan_model
        )
    verifications = _verify(trained, load(draft), "SavedModel", settings, progress)
    # This signature decodes PNG and JPEG only; DICOM and NIfTI are read outside of the graph.
    images = [index for index, ref in enumerate(refs) if is_display_image(ref.path)]
    if images and metadata.model_input.takes_display_images:
        serve = tf.saved_model.load(str(draft)).signatures["serve_bytes"]
        outputs = [
            serve(image_bytes=tf.constant([refs[index].path.read_bytes()])) for index in images
        ]
        probabilities = np.array([output["probability"].numpy()[0, 0] for output in outputs])
        verifications["serve_bytes"] = trained.compare(probabilities, images)
        check(verifications["serve_bytes"], "SavedModel, serve_bytes", TOLERANCES["serve_bytes"])
        if trained.metadata.subtypes:
            subtypes = np.array([output["subtypes"].numpy()[0] for output in outputs])
            for subtype, each in trained.compare_subtypes(subtypes, images).items():
                check(each, f"SavedModel, serve_bytes, {subtype}", TOLERANCES["serve_bytes"])
    described = _description(SAVED_MODEL, settings, verifications)
    write_metadata(draft, replace(metadata, export=described))
    return verifications


def _verify(
    trained: TrainedModel,
    exported: Model,
    name: str,
    settings: ExportSettings,
    progress: Progress,
    signatures: Signatures = DYNAMIC_SHAPES,
) -> dict[str, Verification]:
    """Compare an exported model with the trained one, output by output.

    Raises:
        ModelError: They differ too much.
    """
    tolerance = _tolerance(SAVED_MODEL if name == "SavedModel" else settings.quantize, settings)
    verifications = trained.compare_all(exported, progress, signatures)
    for part, verification in verifications.items():
        check(verification, f"{name}, {part}", tolerance)
    return verifications


def _tolerance(name: str, settings: ExportSettings) -> Tolerance:
    tolerance = TOLERANCES[name]
    if settings.input_type == "uint8" and tolerance.probability is not None:
        # Rounding pixels changes probabilities more than a float format does.
        return replace(tolerance, probability=max(tolerance.probability, 2e-2), changed=0.01)
    return tolerance


def _description(
    form: str, settings: ExportSettings, verifications: dict[str, Verification]
) -> dict[str, Any]:
    return {
        "form": form,
        "quantize": settings.quantize,
        "input_type": settings.input_type,
        "verification": {name: each.to_dict() for name, each in verifications.items()},
    }


def _reject_custom_operators(model: bytes) -> None:
    custom = sorted(name for name in operator_names(model) if name.startswith("custom:"))
    if custom:
        raise ModelError(
            "the converted model needs operators that TFLite runtimes do not include: "
            f"{', '.join(custom)}. Nothing was written. Train with another --backbone."
        )


def write_card(
    source: Path, draft: Path, trained: TrainedModel, described: dict[str, Any], is_default: bool
) -> None:
    """Write the model card of an export; that of the embedded model is created first."""
    with tempfile.TemporaryDirectory() as folder:
        cards = source
        if is_embedded(source):
            cards = Path(folder)
            write_embedded_card(
                cards,
                trained.metadata,
                trained.slices.labels,
                trained.probabilities,
                "phantoms that it was not trained on" if is_default else "slices",
            )
        write_export_card(cards, draft, described)
