"""What a model file carries besides its weights, so that it can be used and traced on its own."""

from __future__ import annotations

import json
import zipfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from hemorrhage_tf.errors import ModelError

FORMAT_VERSION = 1
LABELS = ("normal", "hemorrhage")

# A member of the .keras file, which is a ZIP archive; Keras reads its own members and ignores it.
_MEMBER = "hemorrhage_tf.json"


@dataclass(frozen=True)
class ModelMetadata:
    """Labels, input, provenance.

    Attributes:
        image_size: side of the input, in pixels.
        threshold: probabilities at or above it count as hemorrhage.
        backbone: its name in the registry.
        feature_layer: where the backbone was cut, or None.
        pooling: "avg", "max" or "avg_max".
        weights_hash: of the backbone's weights before fine-tuning.
        data_hash: of the slices and labels of the fit.
        versions: of the package and of what it ran on.
        labels: the names of 0 and 1.
        input_range: lowest and highest value of the input.
        format_version: raised when the meaning of these fields changes.
    """

    image_size: int
    threshold: float
    backbone: str
    feature_layer: str | None
    pooling: str
    weights_hash: str
    data_hash: str
    versions: dict[str, str]
    labels: tuple[str, str] = LABELS
    input_range: tuple[float, float] = (0.0, 255.0)
    format_version: int = FORMAT_VERSION

    def to_dict(self) -> dict[str, Any]:
        """Gives plain values for JSON."""
        return asdict(self)


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
    """Adds the metadata to a `.keras` file."""
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(_MEMBER, json.dumps(metadata.to_dict(), indent=2, sort_keys=True))


def read_metadata(path: Path) -> ModelMetadata:
    """Reads the metadata of a `.keras` file.

    Raises:
        ModelError: the file is no `.keras` file, not one of this package, or of a newer version.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            values = json.loads(archive.read(_MEMBER))
    except (OSError, zipfile.BadZipFile) as error:
        raise ModelError(f"{path}: not a whole .keras file ({error})") from None
    except KeyError:
        raise ModelError(
            f"{path}: a .keras file that hemorrhage-tf did not write: it carries no metadata"
        ) from None
    except ValueError as error:
        raise ModelError(f"{path}: its metadata is damaged ({error})") from None
    try:
        found = values["format_version"]
        if found > FORMAT_VERSION:
            raise ModelError(
                f"{path}: written by a newer hemorrhage_tf (metadata version {found}, this one "
                f"reads {FORMAT_VERSION}). Upgrade hemorrhage_tf."
            )
        values["labels"] = tuple(values["labels"])
        values["input_range"] = tuple(values["input_range"])
        return ModelMetadata(**values)
    except (KeyError, TypeError) as error:
        raise ModelError(f"{path}: its metadata is damaged ({error})") from None
