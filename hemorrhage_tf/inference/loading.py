"""Load a trained model of any form."""

from __future__ import annotations

from pathlib import Path

from hemorrhage_tf.inference.embedded import EmbeddedModel
from hemorrhage_tf.inference.forms import EMBEDDED, ONNX, SAVED_MODEL, TFLITE, model_form
from hemorrhage_tf.inference.hub import fetch
from hemorrhage_tf.inference.model import Model
from hemorrhage_tf.inference.tflite_model import TFLiteModel


def load(path: str | Path, threads: int | None = None) -> Model:
    """Load a trained model of any form.

    Args:
        path: A run folder, its `.keras` file, an exported SavedModel folder, `.tflite` or `.onnx`
            file; a hub folder, or `hf://user/name` of the Hugging Face Hub; or "phantomnet", the
            embedded model, unless a file or folder has that name.
        threads: Threads for a `.tflite` or `.onnx` file; None for all processors. Other forms use
            TensorFlow's own settings.

    Returns:
        The model.

    Raises:
        ModelError: There is no model, or it is not a complete model of this package.

    Example:
        >>> import hemorrhage_tf as htf
        >>> htf.load("phantomnet").is_embedded
        True
    """
    form = model_form(path)
    if form == EMBEDDED:
        return EmbeddedModel(threads)
    path = fetch(path)
    if form == TFLITE:
        return TFLiteModel(path, threads)
    # Late: they import much that a `.tflite` file does not need.
    if form == ONNX:
        from hemorrhage_tf.inference.onnx_model import OnnxModel

        return OnnxModel(path, threads)
    if form == SAVED_MODEL:
        from hemorrhage_tf.inference.saved_model import SavedModel

        return SavedModel(path)
    from hemorrhage_tf.inference.keras_model import KerasModel, load_classifier

    metadata, classifier = load_classifier(path)
    return KerasModel(path, metadata, classifier)
