"""The metadata of a model file: all that is needed, besides the weights, to use and trace it."""

from __future__ import annotations

import json
import zipfile
import zlib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from hemorrhage_tf.core.errors import ModelError
from hemorrhage_tf.pipeline.model_input import ModelInput

FORMAT_VERSION = 5
LABELS = ("normal", "hemorrhage")

# A file in a SavedModel folder and in a hub folder, a property of an .onnx file, and a member of
# the ZIP archive that a .keras file is and that a .tflite file has at its end.
METADATA_FILE = "hemorrhage_tf.json"


@dataclass(frozen=True)
class ModelMetadata:
    """Labels, input, operating points and provenance of a model.

    Attributes:
        image_size: Side of the input, in pixels.
        threshold: A slice with at least this probability counts as hemorrhage.
        backbone: Its name in the registry, or several joined by `+`.
        feature_layer: Last layer of the backbone, or None for all layers; for several backbones
            `NAME=LAYER` pairs separated by commas.
        pooling: "avg", "max" or "avg_max".
        weights_hash: Hash of the weights of all backbones before fine-tuning.
        data_hash: Hash of the slices and labels of the training.
        versions: Versions of the package and its dependencies.
        window: Name of the window, or of three, for Hounsfield units; None if the model was trained
            on display images. Defaults to None.
        crop_head: Whether slices are cropped to the head first, see `imaging.head_crop`. Default
            False.
        upright: Whether sideways heads are turned upright. Defaults to False.
        scan_threshold: A scan whose probability (without a scan model: whose score, see
            `scan_score`) is at least this counts as hemorrhage; None if `threshold` applies to
            scans, too. Defaults to None.
        scan_operating_point: How the scan threshold was chosen; None if there is none. Default
            None.
        operating_point: How the threshold was chosen, such as `sensitivity=0.95`. Default
            "threshold=0.5".
        temperature: Divisor of the logits, from calibration; already part of the weights. Default
            1.
        scan_model: Kind of the scan model that belongs to the model, see `scan_model`; None if it
            has none. Defaults to None.
        slice_in_scan_threshold: With a scan model, a slice with at least this probability in its
            scan counts as hemorrhage; None if `threshold` applies. Defaults to None.
        offset: Added to the logits after their division by `temperature`, from calibration; already
            part of the weights. Defaults to 0.
        subtypes: Names of the subtypes that the model predicts, in the order of its output. Default
            none.
        subtype_thresholds: For each subtype the probability from which on a slice counts as showing
            it. Defaults to none.
        recalibrated_on: Hash of the slices and labels that calibration and thresholds were fitted
            on after the training; None if they were not. Defaults to None.
        labels: The names of 0 and 1. Defaults to "normal" and "hemorrhage".
        input_range: Lowest and highest value of the input. Defaults to 0 and 255.
        format_version: Increased when the meaning of these fields changes.
        export: The form of an exported model and its verification; None for other models. Default
            None.
    """

    image_size: int
    threshold: float
    backbone: str
    feature_layer: str | None
    pooling: str
    weights_hash: str
    data_hash: str
    versions: dict[str, str]
    # Fields that format version 1 lacks; the defaults apply to its models.
    window: tuple[str, ...] | None = None
    crop_head: bool = False
    upright: bool = False
    # Fields that format version 2 lacks.
    scan_threshold: float | None = None
    scan_operating_point: str | None = None
    operating_point: str = "threshold=0.5"
    temperature: float = 1.0
    # Fields that format version 4 lacks.
    scan_model: str | None = None
    slice_in_scan_threshold: float | None = None
    offset: float = 0.0
    subtypes: tuple[str, ...] = ()
    subtype_thresholds: tuple[float, ...] = ()
    recalibrated_on: str | None = None
    labels: tuple[str, str] = LABELS
    input_range: tuple[float, float] = (0.0, 255.0)
    format_version: int = FORMAT_VERSION
    export: dict[str, Any] | None = None

    @property
    def model_input(self) -> ModelInput:
        """The preprocessing of slices for the model."""
        return ModelInput(self.image_size, self.window, self.crop_head, self.upright)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> ModelMetadata:
        """Build the metadata from values of `to_dict` after JSON, of this or an older format."""
        values = dict(values)
        if "canonical" in values:  # the key up to format version 3
            values["crop_head"] = values.pop("canonical")
        window = values.get("window")
        tuples = {
            "labels": tuple(values["labels"]),
            "input_range": tuple(values["input_range"]),
            "window": None if window is None else tuple(window),
            "subtypes": tuple(values.get("subtypes", ())),
            "subtype_thresholds": tuple(values.get("subtype_thresholds", ())),
            "format_version": FORMAT_VERSION,  # as it will be written
        }
        return cls(**{**values, **tuples})


def versions() -> dict[str, str]:
    """Return the versions of the package, Python and the libraries that affect a result."""
    from importlib.metadata import version
    from platform import python_version

    from hemorrhage_tf.version import __version__

    names = ("tensorflow", "keras", "keras-cv", "numpy", "pillow", "scikit-learn", "scipy")
    return {
        "hemorrhage_tf": __version__,
        "python": python_version(),
        **{name: version(name) for name in names},
    }


def write_metadata(path: Path, metadata: ModelMetadata) -> None:
    """Add the metadata to a `.keras` file, or write it into a SavedModel folder."""
    text = json.dumps(metadata.to_dict(), indent=2, sort_keys=True) + "\n"
    if path.is_dir():
        (path / METADATA_FILE).write_text(text, encoding="utf-8")
        return
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(METADATA_FILE, text)


def read_metadata_values(path: Path) -> dict[str, Any]:
    """Read the metadata of a model file as plain values. Imports no TensorFlow.

    Args:
        path: A `.keras` file, a `.tflite` file or a SavedModel folder.

    Returns:
        The values from JSON: tuples are lists.

    Raises:
        ModelError: The metadata is missing, damaged or of a newer version.
    """
    form = "model folder" if path.is_dir() else f"{path.suffix.lower()} file"
    foreign = f"not written by hemorrhage-tf, because it has no {METADATA_FILE}"
    try:
        if path.is_dir():
            text = (path / METADATA_FILE).read_bytes()
        else:
            with zipfile.ZipFile(path) as archive:
                text = archive.read(METADATA_FILE)
    except KeyError:
        raise ModelError(
            f"{path}: a {form} {foreign}. Pass a model that hemorrhage-tf wrote."
        ) from None
    # zipfile raises RuntimeError if a damaged header declares encryption.
    except (OSError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
        raise ModelError(
            f"{path}: not a complete {form}, or {foreign} ({error}). "
            "Copy it again, or pass another model."
        ) from None
    return _checked_values(path, text)


def _checked_values(path: Path, text: str | bytes) -> dict[str, Any]:
    """Parse metadata, and check that this version can read it."""
    try:
        values = json.loads(text)
        version = values["format_version"]
        is_newer = version > FORMAT_VERSION
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise _damaged(path, error) from None
    if is_newer:
        raise ModelError(
            f"{path}: written by a newer hemorrhage_tf (metadata version {version}; this one reads "
            f"up to {FORMAT_VERSION}). Upgrade hemorrhage_tf."
        )
    return values


def read_metadata(path: Path) -> ModelMetadata:
    """Read the metadata of a `.keras` file, a `.tflite` file or a SavedModel folder.

    Raises:
        ModelError: The metadata is missing, damaged or of a newer version.
    """
    return _metadata(path, read_metadata_values(path))


def parse_metadata(path: Path, text: str) -> ModelMetadata:
    """Parse the metadata that an `.onnx` file carries in a property.

    Args:
        path: The file, for messages.
        text: The JSON.

    Raises:
        ModelError: The metadata is damaged or of a newer version.
    """
    return _metadata(path, _checked_values(path, text))


def _metadata(path: Path, values: dict[str, Any]) -> ModelMetadata:
    try:
        return ModelMetadata.from_dict(values)
    except (KeyError, TypeError) as error:
        raise _damaged(path, error) from None


def _damaged(path: Path, error: Exception) -> ModelError:
    return ModelError(
        f"{path}: its metadata is damaged ({error}). Copy it again, or pass another model."
    )
