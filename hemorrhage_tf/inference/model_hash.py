"""The hash of a model: it changes with every weight, threshold and option of preprocessing."""

from __future__ import annotations

import hashlib
from pathlib import Path

from hemorrhage_tf.core.errors import ModelError
from hemorrhage_tf.inference.model import Model
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
    if path.is_dir() and not is_run_folder(path):  # a SavedModel
        paths = sorted(one for one in path.rglob("*") if one.is_file())
        return [(one.relative_to(path).as_posix(), one) for one in paths]
    if path.is_dir():
        path = path / MODEL_FILE
    files = [("model", path)]
    # A scan model beside a `.keras` file belongs to it; other files hold theirs.
    scan_model = path.with_name(SCAN_MODEL_FILE)
    if model.has_scan_model and path.name == MODEL_FILE and scan_model.is_file():
        files.append(("scan model", scan_model))
    return files
