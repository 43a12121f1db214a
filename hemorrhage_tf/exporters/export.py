"""The export: convert, run the result with its own runtime, compare, and only then rename."""

from __future__ import annotations

import csv
import json
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from hemorrhage_tf.core.errors import DataError, ModelError, OptionError, OutputError
from hemorrhage_tf.core.progress import Progress
from hemorrhage_tf.datasets.manifest import read_manifest
from hemorrhage_tf.datasets.records import Manifest
from hemorrhage_tf.datasets.slice_index import build_slice_index
from hemorrhage_tf.exporters.saved_model import write_saved_model
from hemorrhage_tf.exporters.settings import MIN_CALIBRATION_SLICES, ExportSettings
from hemorrhage_tf.exporters.tflite import convert
from hemorrhage_tf.exporters.tflite_metadata import add_metadata, operator_names
from hemorrhage_tf.exporters.verify import TOLERANCES, Verification, check, compare
from hemorrhage_tf.imaging.readers import SliceRef, content_hash, is_display_image, read_slice
from hemorrhage_tf.inference.loading import is_embedded, load, load_classifier
from hemorrhage_tf.models.metadata import ModelMetadata, write_metadata
from hemorrhage_tf.models.run_files import CONFIG_FILE, SPLIT_FILE, is_run_folder
from hemorrhage_tf.pipeline.datasets import input_batches
from hemorrhage_tf.pipeline.model_input import ModelInput
from hemorrhage_tf.reports import content
from hemorrhage_tf.reports.model_card import JSON_FILE, MARKDOWN_FILE
from hemorrhage_tf.synthesis import phantom_set
from hemorrhage_tf.training.features.cache_location import cache_folder

DESCRIPTION = (
    "P(intracranial hemorrhage) of a head-CT slice. Research software, not a medical device."
)
_BATCH_SIZE = 32
# Of the phantoms that the embedded model is verified and calibrated on: seeds that neither its
# training nor a user is likely to have taken.
PHANTOM_SEEDS = {"test": 910_100, "train": 910_064}
VERIFIED_PHANTOMS = 100


@dataclass(frozen=True)
class Export:
    """A verified export.

    Attributes:
        path: the `.tflite` file or SavedModel folder.
        form: "saved_model", or "tflite" with what was quantized, say "tflite int8".
        size_bytes: of the file, or of all files in the folder.
        verifications: how it compares with the model that it was made from, by signature.
    """

    path: Path
    form: str
    size_bytes: int
    verifications: dict[str, Verification]


def export(
    source: Path,
    target: Path,
    settings: ExportSettings,
    progress: Progress,
    verify: str | Path | Manifest | None = None,
    representative: str | Path | Manifest | None = None,
) -> Export:
    """Exports a trained model; see `hemorrhage_tf.api.export`."""
    as_tflite = target.suffix.lower() == ".tflite"
    if not as_tflite and settings.quantize != "none":
        raise OptionError(
            f"--quantize {settings.quantize}: a SavedModel is not quantized. "
            "Name a target that ends in .tflite"
        )
    if target.exists():
        raise OutputError(f"{target}: exists. Name another target, or remove it first.")
    with progress.stage(f"Loading {source}"):
        metadata, classifier = load_classifier(source)
    slices, labels = _slices(
        source, "test", VERIFIED_PHANTOMS, verify, "--verify", progress, metadata
    )
    before = _keras_probabilities(classifier, slices, metadata.model_input, progress)

    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        beside = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    except OSError as error:
        raise OutputError(f"{target}: cannot be written ({error.strerror})") from None
    try:
        draft = beside / target.name
        if as_tflite:
            calibration: list[np.ndarray] = []
            if settings.quantize == "int8":
                count = settings.calibration_slices
                chosen, _ = _slices(
                    *(source, "train", count, representative, "--representative", progress),
                    metadata,
                )
                calibration = _calibration(chosen, metadata.model_input, settings)
            with progress.stage("Converting"):
                model = convert(
                    classifier,
                    metadata.image_size,
                    settings.quantize,
                    settings.input_type,
                    settings.cam,
                    settings.batch,
                    calibration,
                )
            _refuse_foreign_operators(model)
            found = _finish_tflite(draft, model, metadata, settings, slices, labels, before)
            form = f"tflite {settings.quantize}"
        else:
            with progress.stage("Writing the SavedModel"):
                write_saved_model(classifier, draft, metadata, settings.input_type)
            found = _finish_saved_model(draft, metadata, settings, slices, labels, before, progress)
            form = "saved_model"
        size = sum(path.stat().st_size for path in [draft, *draft.rglob("*")] if path.is_file())
        with tempfile.TemporaryDirectory() as folder:
            cards = source
            if is_embedded(source):
                cards = Path(folder)
                on = "phantoms that it was not trained on" if verify is None else "slices"
                content.write_embedded_card(cards, metadata, labels, before, on)
            _write_cards(cards, draft, _description(form.split()[0], settings, found))
        for card in beside.glob("*.model_card.*"):  # of a file, which has no room for them
            card.rename(target.parent / card.name)
        draft.rename(target)
    except OSError as error:
        reason = error.strerror or str(error)
        raise OutputError(f"{target}: cannot be written ({reason}). Nothing was left.") from None
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    return Export(target, form, size, found)


def _write_cards(source: Path, draft: Path, export: dict[str, Any]) -> None:
    """Gives an export the model card at the source, with what the export's verification found.

    It lies in a SavedModel folder, or beside a file under the file's name.
    """
    folder, prefix = (draft, "") if draft.is_dir() else (draft.parent, f"{draft.stem}.")
    cards = [source / name for name in (MARKDOWN_FILE, JSON_FILE)]
    if not all(card.is_file() for card in cards):
        return
    values = {**json.loads(cards[1].read_text(encoding="utf-8")), "export": export}
    (folder / f"{prefix}{JSON_FILE}").write_text(
        json.dumps(values, indent=2, sort_keys=True) + "\n", encoding="utf-8"
    )
    lines = [
        cards[0].read_text(encoding="utf-8").rstrip(),
        f"\n## Export\n\nForm: {export['form']}, quantize {export['quantize']}, input "
        f"{export['input_type']}. Compared with the trained model:\n",
        "| signature | slices | largest difference of probability | changed decisions |",
        "|---|---|---|---|",
    ]
    lines += [
        f"| {name} | {one['slices']} | {one['largest_difference']:.1e} | {one['changed']} |"
        for name, one in export["verification"].items()
    ]
    text = "\n".join(lines) + "\n"
    (folder / f"{prefix}{MARKDOWN_FILE}").write_text(text, encoding="utf-8")


def _finish_tflite(draft, model, metadata, settings, slices, labels, before):
    """Verifies a draft and writes it once more with the figures inside."""

    def write(values: ModelMetadata) -> None:
        draft.write_bytes(
            add_metadata(
                model, values=values.to_dict(), labels=values.labels, description=DESCRIPTION
            )
        )

    write(metadata)
    exported = load(draft)
    after = exported.probabilities(slices)
    found = {"serving_default": compare(before, after, labels, metadata.threshold)}
    del exported
    name = settings.quantize
    check(found["serving_default"], f"tflite, --quantize {name}", _tolerance(name, settings))
    write(replace(metadata, export=_description("tflite", settings, found)))
    return found


def _finish_saved_model(draft, metadata, settings, slices, labels, before, progress):
    import tensorflow as tf

    exported = load(draft)
    after = exported.probabilities(slices, progress)
    found = {"serving_default": compare(before, after, labels, metadata.threshold)}
    check(found["serving_default"], "SavedModel", _tolerance("saved_model", settings))
    # It takes encoded pictures; DICOM and NIfTI are read outside the graph.
    pictures = [index for index, ref in enumerate(slices) if is_display_image(ref.path)]
    if pictures and metadata.model_input.takes_display_images:
        served = tf.saved_model.load(str(draft)).signatures["serve_bytes"]
        after_bytes = [
            served(image_bytes=tf.constant([slices[index].path.read_bytes()])) for index in pictures
        ]
        after = np.array([answer["probability"].numpy()[0, 0] for answer in after_bytes])
        found["serve_bytes"] = compare(
            before[pictures], after, labels[pictures], metadata.threshold
        )
        check(found["serve_bytes"], "SavedModel, serve_bytes", TOLERANCES["serve_bytes"])
    write_metadata(draft, replace(metadata, export=_description("saved_model", settings, found)))
    return found


def _tolerance(name: str, settings: ExportSettings):
    tolerance = TOLERANCES[name]
    if settings.input_type == "uint8" and tolerance.probability is not None:
        # Pixels are rounded on the way in, which moves a probability more than a float format does.
        return replace(tolerance, probability=max(tolerance.probability, 2e-2), changed=0.01)
    return tolerance


def _description(form: str, settings: ExportSettings, found) -> dict[str, Any]:
    return {
        "form": form,
        "quantize": settings.quantize,
        "input_type": settings.input_type,
        "verification": {name: figures.to_dict() for name, figures in found.items()},
    }


def _refuse_foreign_operators(model: bytes) -> None:
    foreign = sorted(name for name in operator_names(model) if name.startswith("custom:"))
    if foreign:
        raise ModelError(
            f"the converted model needs operators that no device has built in: "
            f"{', '.join(foreign)}. Nothing was written. Choose another --backbone."
        )


def _keras_probabilities(classifier, slices, model_input, progress) -> np.ndarray:
    import tensorflow as tf

    forward = tf.function(lambda images: classifier(images, training=False), reduce_retracing=True)
    found = []
    with progress.track("Predicting with the trained model", len(slices)) as advance:
        for images in input_batches(slices, model_input, _BATCH_SIZE):
            found.append(forward(tf.constant(images)).numpy()[:, 0])
            advance(len(images))
    return np.concatenate(found)


def _slices(
    source: Path,
    part: str,
    phantoms: int,
    data: str | Path | Manifest | None,
    option: str,
    progress: Progress,
    metadata: ModelMetadata,
) -> tuple[list[SliceRef], np.ndarray]:
    """Gives slices and labels: of the data where given, else of a part of the model's own slices.

    Those of a run are in its `split.csv`; those of the embedded model are drawn.
    """
    if data is not None:
        slices = build_slice_index(read_manifest(data, progress=progress), progress)
        if not metadata.model_input.takes_display_images and not slices.is_hounsfield.all():
            raise OptionError(
                f"{option} {data}: holds pictures, and the model takes Hounsfield units through "
                f"{', '.join(metadata.window)}. Name DICOM or NIfTI"
            )
        return slices.refs, slices.labels
    if is_embedded(source):
        with progress.stage("Drawing phantoms"):
            folder = phantom_set(cache_folder() / "phantoms", phantoms, PHANTOM_SEEDS[part])
        manifest = read_manifest(folder)
        return [record.ref for record in manifest.records], manifest.labels
    if not is_run_folder(source):
        raise OptionError(f"{source}: not a run folder, so name the slices with {option} DATA")
    rows = list(csv.DictReader((source / SPLIT_FILE).read_text(encoding="utf-8").splitlines()))
    # After a cross-validation the model was trained on all, and all were held out once.
    chosen = [row for row in rows if row["part"] == part] or rows
    root = json.loads((source / CONFIG_FILE).read_text(encoding="utf-8"))["data"]["root"]
    if root is None:
        raise DataError(
            f"{source}: does not say where its slices are, since their folder names a patient. "
            f"Name slices with {option} DATA"
        )
    refs = [
        SliceRef(Path(root) / row["path"], int(row["frame"]) if row["frame"] else None)
        for row in chosen
    ]
    for ref, row in zip(refs, chosen, strict=True):
        if not ref.path.is_file() or content_hash(read_slice(ref)) != row["content_hash"]:
            raise DataError(
                f"{ref}: the run's slice is gone, was changed, or its name was kept out of the "
                f"run. Name slices with {option} DATA"
            )
    return refs, np.array([int(row["label"]) for row in chosen])


def _calibration(
    slices: Sequence[SliceRef], model_input: ModelInput, settings: ExportSettings
) -> list[np.ndarray]:
    """Reads evenly spaced slices, so that both classes and all sources have their share."""
    if len(slices) < MIN_CALIBRATION_SLICES:
        raise DataError(
            f"int8 needs at least {MIN_CALIBRATION_SLICES} slices to calibrate on. Received: "
            f"{len(slices)}. Name more with --representative DATA"
        )
    count = min(len(slices), settings.calibration_slices)
    chosen = [slices[index] for index in np.linspace(0, len(slices) - 1, count).astype(int)]
    return [image for batch in input_batches(chosen, model_input, _BATCH_SIZE) for image in batch]
