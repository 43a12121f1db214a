"""The hash of a model: it changes with every weight, threshold and option of preprocessing."""

from __future__ import annotations

import hashlib
from pathlib import Path

from hemorrhage_tf.core.errors import ModelError
from hemorrhage_tf.inference.forms import KERAS, ONNX, model_form
from hemorrhage_tf.inference.model import Model
from hemorrhage_tf.inference.onnx_model import scan_file
from hemorrhage_tf.models.pretrained_files import TFLITE_FILE, embedded_file
from hemorrhage_tf.models.run_files import MODEL_FILE, SCAN_MODEL_FILE, is_run_folder


def model_hash(model: Model) -> str:
    """Hash the files that a model consists of.

    Args:
        model: A model of any form.

    Returns:
        64 hexadecimal digits: SHA-256 over the names and contents of its files. Of a run folder,
        these are the model and its scan model, not the metrics and predictions beside them.

    Raises:
        ModelError: A file cannot be read.
    """
    digest = hashlib.sha256()
    try:
        for name, path in _files(model):
            with open(path, "rb") as file:
                content = hashlib.file_digest(file, "sha256").digest()
            digest.update(f"{name}\0".encode() + content)
    except OSError as error:
        raise ModelError(
            f"{model.path}: cannot be read ({error.strerror or error}). Copy the model again."
        ) from None
    return digest.hexdigest()


def _files(model: Model) -> list[tuple[str, Path]]:
    """Return the files of a model with the names that they are hashed under."""
    path = model.path
    if model.is_embedded:
        return [("model", embedded_file(TFLITE_FILE))]
    if path.is_dir() and not is_run_folder(path):  # a SavedModel or a hub folder
        paths = sorted(one for one in path.rglob("*") if one.is_file())
        return [(one.relative_to(path).as_posix(), one) for one in paths]
    if path.is_dir():
        path = path / MODEL_FILE
    files = [("model", path)]
    # Beside a `.keras` and an `.onnx` file lies their scan model; a `.tflite` file holds its own.
    beside = {KERAS: path.with_name(SCAN_MODEL_FILE), ONNX: scan_file(path)}
    scan_model = beside.get(model_form(path) or "")
    if model.has_scan_model and scan_model is not None and scan_model.is_file():
        files.append(("scan model", scan_model))
    return files
