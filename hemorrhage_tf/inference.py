"""One interface over every form of a trained model: run folder, `.keras`, SavedModel, `.tflite`."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hemorrhage_tf.data.manifest import expand_images
from hemorrhage_tf.data.pipeline import input_batches
from hemorrhage_tf.data.scan import readable
from hemorrhage_tf.errors import ModelError
from hemorrhage_tf.models.metadata import ModelMetadata, read_metadata
from hemorrhage_tf.reporting import Reporter, import_tensorflow, quietly
from hemorrhage_tf.training.run import MODEL_FILE, is_run_folder, training_hashes

BATCH_SIZE = 32

FORMATS = (
    "a run folder (it holds model.keras), a .keras file from one, and what was exported from one: "
    "a SavedModel folder or a .tflite file"
)


@dataclass(frozen=True)
class Finding:
    """What a model says of one slice.

    Attributes:
        path: the image file.
        probability: P(hemorrhage), in [0, 1].
        is_hemorrhage: whether it is at or above the model's threshold.
    """

    path: str
    probability: float
    is_hemorrhage: bool


class Model:
    """A trained classifier of any form, ready to predict.

    Args:
        path: where it was loaded from.
        metadata: what it carries.
        run: from float32 `(n, size, size, 3)` in [0, 255] to float32 probabilities `(n,)`.
        kept: what must live as long as the model does. Default None.
    """

    def __init__(
        self,
        path: Path,
        metadata: ModelMetadata,
        run: Callable[[np.ndarray], np.ndarray],
        kept: Any = None,
    ) -> None:
        self.path = path
        self.metadata = metadata
        self._run = run
        self._kept = kept

    @property
    def threshold(self) -> float:
        """Probabilities at or above it count as hemorrhage."""
        return self.metadata.threshold

    def run(self, images: np.ndarray) -> np.ndarray:
        """Predicts model input.

        Args:
            images: float32 `(n, size, size, 3)`, RGB, in [0, 255].

        Returns:
            float32 `(n,)` in [0, 1].
        """
        return self._run(images)

    def training_hashes(self) -> set[str]:
        """Content hashes of the slices it was trained on; empty where only a file is known."""
        return training_hashes(self.path) if is_run_folder(self.path) else set()

    def probabilities(self, paths: Sequence[Path], reporter: Reporter | None = None) -> np.ndarray:
        """Predicts image files that are known to be readable.

        Args:
            paths: PNG or JPEG files.
            reporter: where progress goes, or None for nowhere.

        Returns:
            float32 `(n,)` in [0, 1].
        """
        reporter = reporter or Reporter(quiet=True)
        found = []
        with reporter.progress("Predicting", len(paths)) as advance:
            for images in input_batches(paths, self.metadata.image_size, BATCH_SIZE):
                found.append(self.run(images))
                advance(len(images))
        return np.concatenate(found) if found else np.empty(0, np.float32)

    def predict(
        self,
        images: str | Path | Iterable[str | Path],
        skip_bad: bool = False,
        reporter: Reporter | None = None,
    ) -> list[Finding]:
        """Predicts files, folders and globs.

        Args:
            images: one of them, or several.
            skip_bad: go on without files that cannot be read. Default False.
            reporter: where progress and notes go, or None for nowhere.

        Returns:
            A finding for each slice, in the order given.

        Raises:
            DataError: files that cannot be read, all in one message; or nothing to predict.
        """
        reporter = reporter or Reporter(quiet=True)
        if isinstance(images, str | Path):
            images = [images]
        paths = readable(expand_images(images), reporter, skip_bad)
        return [
            Finding(str(path), float(probability), bool(probability >= self.threshold))
            for path, probability in zip(paths, self.probabilities(paths, reporter), strict=True)
        ]


def load(path: str | Path, threads: int | None = None) -> Model:
    """Loads a trained model of any form.

    Args:
        path: a run folder, a `.keras` file from one, a SavedModel folder or a `.tflite` file that
            was exported from one.
        threads: threads that a `.tflite` file runs with; None for as many as there are processors.
            The others run with as many as TensorFlow was set up with.

    Returns:
        The model.

    Raises:
        ModelError: nothing is there, or it is no whole model of this package.
    """
    path = Path(path)
    if path.suffix.lower() == ".tflite" and path.is_file():
        return _load_tflite(path, threads)
    if (path / "saved_model.pb").is_file():
        return _load_saved_model(path)
    metadata, classifier = load_classifier(path)
    import tensorflow as tf

    forward = tf.function(lambda images: classifier(images, training=False), reduce_retracing=True)
    return Model(path, metadata, lambda images: forward(tf.constant(images)).numpy()[:, 0])


def load_classifier(path: Path) -> tuple[ModelMetadata, Any]:
    """Loads the Keras model of a run folder or `.keras` file.

    Args:
        path: the run folder, or the file.

    Returns:
        What the model carries, and the Keras model, from `image` to `probability`.

    Raises:
        ModelError: nothing is there, or it is no whole Keras model of this package.
    """
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

    def run(images: np.ndarray) -> np.ndarray:
        return serve(image=tf.constant(as_type(images, dtype.name)))["probability"].numpy()[:, 0]

    return Model(path, metadata, run, kept=loaded)


def _load_tflite(path: Path, threads: int | None) -> Model:
    metadata = read_metadata(path)
    from ai_edge_litert.interpreter import Interpreter

    try:
        with quietly(2):  # it says which delegate it made
            interpreter = Interpreter(str(path), num_threads=threads or os.cpu_count())
            interpreter.allocate_tensors()
        runner = interpreter.get_signature_runner("serving_default")
        details = runner.get_input_details()["image"]
    except (ValueError, RuntimeError, KeyError) as error:
        raise ModelError(f"{path}: cannot be loaded, the file is damaged ({error})") from None
    fixed = details["shape_signature"][0] != -1
    dtype = np.dtype(details["dtype"]).name

    def run(images: np.ndarray) -> np.ndarray:
        images = as_type(images, dtype)
        parts = np.split(images, len(images)) if fixed else [images]
        return np.concatenate([runner(image=part)["probability"][:, 0] for part in parts])

    return Model(path, metadata, run)


def as_type(images: np.ndarray, dtype: str) -> np.ndarray:
    """Brings float32 images in [0, 255] to the type of a model's input; uint8 is rounded."""
    if dtype == "uint8":
        return np.rint(images).clip(0, 255).astype(np.uint8)
    return images.astype(np.float32)
