"""What a model file carries besides its weights, so that it can be used and traced on its own."""

from __future__ import annotations

import json
import zipfile
import zlib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from hemorrhage_tf.core.errors import ModelError
from hemorrhage_tf.pipeline.model_input import ModelInput

FORMAT_VERSION = 4
LABELS = ("normal", "hemorrhage")

# A member of the .keras file, which is a ZIP archive of which Keras reads its own members; of the
# ZIP archive at the end of a .tflite file; and a file in a SavedModel folder.
METADATA_FILE = "hemorrhage_tf.json"


@dataclass(frozen=True)
class ModelMetadata:
    """Labels, input, provenance.

    Attributes:
        image_size: side of the input, in pixels.
        threshold: probabilities at or above it count as hemorrhage.
        backbone: its name in the registry, or several joined by `+`.
        feature_layer: where the backbone was cut, or None; of several `NAME=LAYER` with commas.
        pooling: "avg", "max" or "avg_max".
        weights_hash: of the weights of all backbones before fine-tuning.
        data_hash: of the slices and labels of the fit.
        versions: of the package and of what it ran on.
        window: names of the window, or of three, that Hounsfield units are shown through; None
            where it was trained on pictures.
        crop_head: whether slices are cut to the head first, see `imaging.head_crop`.
        upright: whether sideways heads are turned upright.
        scan_threshold: a scan of which the mean of the three highest probabilities is at or above
            it counts as hemorrhage; None where it is `threshold`, too.
        operating_point: how the threshold was chosen, such as `sensitivity=0.95`.
        scan_operating_point: how that of scans was chosen; None where there is none.
        temperature: what the logits were divided by to calibrate them; it is part of the weights.
        labels: the names of 0 and 1.
        input_range: lowest and highest value of the input.
        format_version: raised when the meaning of these fields changes.
        export: of an exported model its form, and how it compared with the one it was made from;
            else None.
    """

    image_size: int
    threshold: float
    backbone: str
    feature_layer: str | None
    pooling: str
    weights_hash: str
    data_hash: str
    versions: dict[str, str]
    # As models of format version 1 were, which do not say.
    window: tuple[str, ...] | None = None
    crop_head: bool = False
    upright: bool = False
    # As models of format version 2 were, which do not say.
    scan_threshold: float | None = None
    scan_operating_point: str | None = None
    operating_point: str = "threshold=0.5"
    temperature: float = 1.0
    labels: tuple[str, str] = LABELS
    input_range: tuple[float, float] = (0.0, 255.0)
    format_version: int = FORMAT_VERSION
    export: dict[str, Any] | None = None

    @property
    def model_input(self) -> ModelInput:
        """What slices are brought to for it."""
        return ModelInput(self.image_size, self.window, self.crop_head, self.upright)

    def to_dict(self) -> dict[str, Any]:
        """Gives plain values for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> ModelMetadata:
        """Takes back what `to_dict` gave, of this format or an older one, after JSON made lists."""
        values = dict(values)
        if "canonical" in values:  # the name up to format version 3
            values["crop_head"] = values.pop("canonical")
        window = values.get("window")
        tuples = {
            "labels": tuple(values["labels"]),
            "input_range": tuple(values["input_range"]),
            "window": None if window is None else tuple(window),
            "format_version": FORMAT_VERSION,  # as it will be written
        }
        return cls(**{**values, **tuples})


def versions() -> dict[str, str]:
    """Lists the versions that a result depends on."""
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
    """Adds the metadata to a `.keras` file, or writes it into a SavedModel folder."""
    text = json.dumps(metadata.to_dict(), indent=2, sort_keys=True) + "\n"
    if path.is_dir():
        (path / METADATA_FILE).write_text(text, encoding="utf-8")
        return
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(METADATA_FILE, text)


def read_values(path: Path) -> dict[str, Any]:
    """Reads the metadata of a model file as plain values. Needs no TensorFlow.

    Args:
        path: a `.keras` file, a `.tflite` file or a SavedModel folder.

    Returns:
        The values, as JSON keeps them: tuples are lists.

    Raises:
        ModelError: it is missing, damaged, not one of this package, or of a newer version.
    """
    form = "SavedModel folder" if path.is_dir() else f"{path.suffix.lower()} file"
    foreign = f"that hemorrhage-tf did not write: there is no {METADATA_FILE} in it"
    try:
        if path.is_dir():
            text = (path / METADATA_FILE).read_bytes()
        else:
            with zipfile.ZipFile(path) as archive:
                text = archive.read(METADATA_FILE)
    except KeyError:
        raise ModelError(f"{path}: a {form} {foreign}") from None
    # RuntimeError is what zipfile raises where a damaged header tells of encryption.
    except (OSError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
        raise ModelError(
            f"{path}: not a whole {form}, or one {foreign} ({error}). "
            "Copy it again, or name another one."
        ) from None
    try:
        values = json.loads(text)
        found = values["format_version"]
        is_newer = found > FORMAT_VERSION
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ModelError(f"{path}: its metadata is damaged ({error})") from None
    if is_newer:
        raise ModelError(
            f"{path}: written by a newer hemorrhage_tf (metadata version {found}, this one reads "
            f"{FORMAT_VERSION}). Upgrade hemorrhage_tf."
        )
    return values


def read_metadata(path: Path) -> ModelMetadata:
    """Reads the metadata of a `.keras` file, a `.tflite` file or a SavedModel folder.

    Raises:
        ModelError: it is missing, damaged, not one of this package, or of a newer version.
    """
    values = read_values(path)
    try:
        return ModelMetadata.from_dict(values)
    except (KeyError, TypeError) as error:
        raise ModelError(f"{path}: its metadata is damaged ({error})") from None
