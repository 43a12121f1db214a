"""The forms of a trained model, and how to recognize them without loading anything."""

from __future__ import annotations

from pathlib import Path

from hemorrhage_tf.inference.hub import hub_name, is_hub_folder
from hemorrhage_tf.models.pretrained_files import EMBEDDED_MODEL
from hemorrhage_tf.models.run_files import MODEL_FILE

RUN_FOLDER, KERAS, SAVED_MODEL, TFLITE = "run folder", "keras", "saved_model", "tflite"
ONNX, HUB_FOLDER = "onnx", "hub folder"
EMBEDDED = "embedded"
FORMS = (
    "a run folder, its model.keras, an exported SavedModel folder, .tflite or .onnx file, a hub "
    f"folder or hf://USER/NAME, or {EMBEDDED_MODEL} (the embedded model)"
)


def is_embedded(path: str | Path) -> bool:
    """Return whether the embedded model is meant; an existing path of that name has priority."""
    return str(path) == EMBEDDED_MODEL and not Path(path).exists()


def model_form(path: str | Path) -> str | None:
    """Return the form of the model at a path, without loading it.

    Args:
        path: A path, `hf://user/name` or `phantomnet`.

    Returns:
        "run folder", "keras", "saved_model", "tflite", "onnx", "hub folder" or "embedded"; None if
        it is not a model.
    """
    if is_embedded(path):
        return EMBEDDED
    if hub_name(path) is not None:
        return HUB_FOLDER
    path = Path(path)
    if (path / MODEL_FILE).is_file():
        return RUN_FOLDER
    if (path / "saved_model.pb").is_file():
        return SAVED_MODEL
    if is_hub_folder(path):
        return HUB_FOLDER
    if path.is_file() and path.suffix.lower() in (".keras", ".tflite", ".onnx"):
        return path.suffix.lower().removeprefix(".")
    return None
