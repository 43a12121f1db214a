"""Load a trained model of any form."""

from __future__ import annotations

import glob
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hemorrhage_tf.core.errors import ModelError, OptionError
from hemorrhage_tf.core.native_output import import_tensorflow, silence_native_output
from hemorrhage_tf.inference.model import Explained, Model, cast_images
from hemorrhage_tf.models.classifier import with_class_activation_map
from hemorrhage_tf.models.embedded_model import build_embedded_classifier
from hemorrhage_tf.models.metadata import ModelMetadata, read_metadata
from hemorrhage_tf.models.pretrained_files import EMBEDDED_MODEL, TFLITE_FILE, embedded_file
from hemorrhage_tf.models.run_files import MODEL_FILE

# What a model may be; the embedded one is named, the others are paths.
RUN_FOLDER, KERAS, SAVED_MODEL, TFLITE = "run folder", "keras", "saved_model", "tflite"


EMBEDDED = "embedded"


FORMATS = (
    "a run folder (it holds model.keras), a .keras file from one, and what was exported from one: "
    f"a SavedModel folder or a .tflite file; or {EMBEDDED_MODEL}, the embedded model"
)


def is_embedded(path: str | Path) -> bool:
    """Says whether the embedded model is named; a file or folder of that name goes before it."""
    return str(path) == EMBEDDED_MODEL and not Path(path).exists()


def model_form(path: str | Path) -> str | None:
    """Says which form of a model a path is, without loading it.

    Returns:
        "run folder", "keras", "saved_model", "tflite" or "embedded"; None for what is no model.
    """
    if is_embedded(path):
        return EMBEDDED
    path = Path(path)
    if (path / MODEL_FILE).is_file():
        return RUN_FOLDER
    if (path / "saved_model.pb").is_file():
        return SAVED_MODEL
    if path.is_file() and path.suffix.lower() in (".keras", ".tflite"):
        return path.suffix.lower().removeprefix(".")
    return None


def model_and_images(
    arguments: Sequence[str | Path],
) -> tuple[str | Path | None, list[str | Path]]:
    """Tells the model among arguments from the images.

    Args:
        arguments: images, or a model of any form before them.

    Returns:
        The model, None where none is named and the embedded one is meant, and the images.

    Raises:
        OptionError: nothing is named, no image is, or a model stands behind an image.
        ModelError: the first is neither.
    """
    if not arguments:
        raise OptionError("no images are named. Name files, folders or globs")
    first, *others = arguments
    for other in others:
        if model_form(other) is not None:
            raise OptionError(f"{other}: a model. Name one model, before the images")
    if model_form(first) is None:
        # What is to be a pattern is told of with the images.
        if not Path(first).exists() and not glob.has_magic(str(first)):
            raise ModelError(
                f"{first}: neither a model nor an image is there. Accepted as a model: {FORMATS}. "
                f"Without one the embedded model, {EMBEDDED_MODEL}, is used"
            )
        return None, [first, *others]
    if not others:
        raise OptionError(f"{first}: a model, and no images. Name images behind it")
    return first, others


def load(path: str | Path, threads: int | None = None) -> Model:
    """Loads a trained model of any form.

    Args:
        path: a run folder, a `.keras` file from one, a SavedModel folder or a `.tflite` file that
            was exported from one; or "phantomnet", the embedded model, where no file or folder has
            that name.
        threads: threads that a `.tflite` file runs with; None for as many as there are processors.
            The others run with as many as TensorFlow was set up with.

    Returns:
        The model.

    Raises:
        ModelError: nothing is there, or it is no whole model of this package.
    """
    path = Path(path)
    if is_embedded(path):
        return load_embedded(threads)
    if path.suffix.lower() == ".tflite" and path.is_file():
        return _load_tflite(path, threads)
    if (path / "saved_model.pb").is_file():
        return _load_saved_model(path)
    metadata, classifier = load_classifier(path)
    import tensorflow as tf

    forward = tf.function(lambda images: classifier(images, training=False), reduce_retracing=True)

    def explain() -> Explained:
        with_map = with_class_activation_map(classifier)
        both = tf.function(lambda images: with_map(images, training=False), reduce_retracing=True)
        return lambda images: _both(both(tf.constant(images)))

    def run(images: np.ndarray) -> np.ndarray:
        return forward(tf.constant(images)).numpy()[:, 0]

    return Model(path, metadata, run, explain, classifier=classifier)


def load_embedded(threads: int | None = None) -> Model:
    """Loads the model that comes with the package, to be run by its TFLite file.

    Args:
        threads: see `load`.

    Returns:
        The model.

    Raises:
        ModelError: its file is missing or damaged.
    """
    model = _load_tflite(embedded_file(TFLITE_FILE), threads)
    model.path, model.is_embedded = Path(EMBEDDED_MODEL), True
    return model


def load_classifier(path: Path) -> tuple[ModelMetadata, Any]:
    """Loads the Keras model of a run folder, a `.keras` file or the embedded model.

    Args:
        path: the run folder, the file, or "phantomnet".

    Returns:
        What the model carries, and the Keras model, from `image` to `probability`.

    Raises:
        ModelError: nothing is there, or it is no whole Keras model of this package.
    """
    if is_embedded(path):
        import_tensorflow()
        return build_embedded_classifier()
    file = path / MODEL_FILE if path.is_dir() else path
    if not file.is_file():
        raise ModelError(f"{path}: no model there. Accepted: {FORMATS}")
    if file.suffix.lower() != ".keras":
        raise ModelError(f"{path}: not a known model format. Accepted: {FORMATS}")
    metadata = read_metadata(file)
    import_tensorflow()
    import keras

    try:
        classifier = keras.saving.load_model(file, compile=False, safe_mode=True)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(f"{file}: cannot be loaded, the file is damaged ({error})") from None
    expected = (None, metadata.image_size, metadata.image_size, 3)
    if tuple(classifier.input_shape) != expected or tuple(classifier.output_shape) != (None, 1):
        raise ModelError(
            f"{file}: a model from {classifier.input_shape} to {classifier.output_shape}, where "
            f"{expected} to (None, 1) was expected"
        )
    return metadata, classifier


def _load_saved_model(path: Path) -> Model:
    metadata = read_metadata(path)
    import_tensorflow()
    import tensorflow as tf

    try:
        loaded = tf.saved_model.load(str(path))
        serve = loaded.signatures["serving_default"]
        dtype = serve.structured_input_signature[1]["image"].dtype
    except (OSError, KeyError, ValueError, tf.errors.OpError) as error:
        raise ModelError(f"{path}: cannot be loaded, the folder is damaged ({error})") from None

    def explained(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return _both(serve(image=tf.constant(cast_images(images, dtype.name))))

    return Model(
        path, metadata, lambda images: explained(images)[0], lambda: explained, kept=loaded
    )


def _load_tflite(path: Path, threads: int | None) -> Model:
    metadata = read_metadata(path)
    from ai_edge_litert.interpreter import Interpreter

    try:
        with silence_native_output(2):  # it says which delegate it made
            interpreter = Interpreter(str(path), num_threads=threads or os.cpu_count())
            interpreter.allocate_tensors()
        runner = interpreter.get_signature_runner("serving_default")
        details = runner.get_input_details()["image"]
    except (ValueError, RuntimeError, KeyError) as error:
        raise ModelError(f"{path}: cannot be loaded, the file is damaged ({error})") from None
    fixed = details["shape_signature"][0] != -1
    dtype = np.dtype(details["dtype"]).name

    def run(images: np.ndarray) -> np.ndarray:
        images = cast_images(images, dtype)
        parts = np.split(images, len(images)) if fixed else [images]
        return np.concatenate([runner(image=part)["probability"][:, 0] for part in parts])

    def explained(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        images = cast_images(images, dtype)
        parts = np.split(images, len(images)) if fixed else [images]
        found = [runner(image=part) for part in parts]
        probabilities = np.concatenate([each["probability"][:, 0] for each in found])
        return probabilities, np.concatenate([each["cam"] for each in found])

    has_cam = "cam" in runner.get_output_details()
    return Model(path, metadata, run, (lambda: explained) if has_cam else None)


def _both(outputs: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    return outputs["probability"].numpy()[:, 0], outputs["cam"].numpy()
