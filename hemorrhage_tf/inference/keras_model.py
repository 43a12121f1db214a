"""A model of a run folder or a `.keras` file, run by Keras."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from hemorrhage_tf.core.errors import ModelError
from hemorrhage_tf.core.native_output import import_tensorflow
from hemorrhage_tf.imaging.readers import SliceRef
from hemorrhage_tf.inference.forms import FORMS, is_embedded
from hemorrhage_tf.inference.hub import check_files, fetch, is_hub_folder
from hemorrhage_tf.inference.model import BATCH_SIZE, Model
from hemorrhage_tf.inference.predictions import ScanOutput
from hemorrhage_tf.models.classifier import outputs_of, with_class_activation_map
from hemorrhage_tf.models.embedded_model import build_embedded_classifier, build_embedded_scan_model
from hemorrhage_tf.models.metadata import ModelMetadata, read_metadata
from hemorrhage_tf.models.run_files import MODEL_FILE, SCAN_MODEL_FILE
from hemorrhage_tf.pipeline.datasets import input_batches
from hemorrhage_tf.pipeline.model_input import ModelInput


class KerasModel(Model):
    """A Keras classifier.

    Args:
        path: The run folder or the `.keras` file.
        metadata: What the file carries.
        classifier: The Keras model, from `image` to `probability`.
    """

    has_cam = True

    def __init__(self, path: Path, metadata: ModelMetadata, classifier: Any) -> None:
        super().__init__(path, metadata)
        self._classifier = classifier
        self._forwards: dict[tuple[bool, bool], Any] = {}
        self.has_scan_model = metadata.scan_model is not None

    def _forward(self, features: bool, cam: bool) -> Any:
        """Return the function from images to the needed outputs; each is traced once."""
        if (features, cam) not in self._forwards:
            import keras
            import tensorflow as tf

            classifier = self._classifier
            outputs = dict(outputs_of(classifier))
            if cam:
                outputs = dict(with_class_activation_map(classifier).output)
            if features:
                outputs["features"] = classifier.get_layer("standardization").output
            model = keras.Model(classifier.input, outputs)
            images_of_any_number = tf.TensorSpec(classifier.input.shape, tf.float32)
            self._forwards[features, cam] = tf.function(
                lambda images: model(images, training=False),
                input_signature=[images_of_any_number],
                autograph=False,
            )
        return self._forwards[features, cam]

    def _compute(self, images: np.ndarray, features: bool, cam: bool) -> dict[str, np.ndarray]:
        import tensorflow as tf

        outputs = self._forward(features, cam)(tf.constant(images, tf.float32))
        values = {name: output.numpy() for name, output in outputs.items()}
        return {**values, "probability": values["probability"][:, 0]}

    @cached_property
    def _scan_forward(self) -> Any:
        import tensorflow as tf

        model = load_scan_model(self.path)
        return tf.function(
            lambda inputs: model(inputs, training=False), reduce_retracing=True, autograph=False
        )

    def _compute_scan(self, features: np.ndarray, geometry: np.ndarray) -> ScanOutput:
        import tensorflow as tf

        inputs = {
            "features": tf.constant(features[np.newaxis]),
            "geometry": tf.constant(geometry[np.newaxis]),
            "mask": tf.ones((1, len(features)), tf.float32),
        }
        outputs = self._scan_forward(inputs)
        return ScanOutput(
            probability=float(outputs["probability"].numpy()[0, 0]),
            slice_probabilities=outputs["slice_probability"].numpy()[0],
        )

    def standardized(
        self, slices: Sequence[SliceRef | Path], model_input: ModelInput | None = None
    ) -> np.ndarray | None:
        """Return the standardized features of slices; see `Model.standardized`."""
        batches = input_batches(slices, model_input or self.metadata.model_input, BATCH_SIZE)
        outputs = (self._compute(images, features=True, cam=False) for images in batches)
        return np.concatenate([one["features"] for one in outputs])


def load_scan_model(path: Path) -> Any:
    """Load the scan model beside a `model.keras`, or that of the embedded model.

    Args:
        path: The run folder, its `model.keras`, or `phantomnet`.

    Returns:
        The Keras model, see `models.scan_model.build_scan_model`.

    Raises:
        ModelError: There is none, or it is damaged.
    """
    if is_embedded(path):
        import_tensorflow()
        return build_embedded_scan_model()
    path = fetch(path)
    file = (path if path.is_dir() else path.parent) / SCAN_MODEL_FILE
    if not file.is_file():
        raise ModelError(
            f"{path}: its scan model is missing ({file}), which predicts whole scans. Copy it "
            "there, or pass the run folder."
        )
    return _load_keras(file)


def _load_keras(file: Path) -> Any:
    import_tensorflow()
    import keras

    try:
        return keras.saving.load_model(file, compile=False, safe_mode=True)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(
            f"{file}: the file is damaged and cannot be loaded ({error}). Copy it again, or train "
            "the model again."
        ) from None


def _keras_file(path: Path) -> Path:
    """Return what Keras loads: the file, or a hub folder, whose files are checked."""
    if is_hub_folder(path):
        check_files(path)
        return path
    file = path / MODEL_FILE if path.is_dir() else path
    if not file.is_file():
        raise ModelError(f"{path}: there is no model. Pass {FORMS}.")
    if file.suffix.lower() != ".keras":
        raise ModelError(f"{path}: not a known form of a model. Pass {FORMS}.")
    return file


def load_classifier(path: Path) -> tuple[ModelMetadata, Any]:
    """Load the Keras model of a run folder, a `.keras` file or the embedded model.

    Args:
        path: The run folder, the file, a hub folder, `hf://user/name`, or `phantomnet`.

    Returns:
        The metadata, and the Keras model from `image` to `probability`.

    Raises:
        ModelError: There is no model, or it is not a complete Keras model of this package.
    """
    if is_embedded(path):
        import_tensorflow()
        return build_embedded_classifier()
    file = _keras_file(fetch(path))
    metadata = read_metadata(file)
    classifier = _load_keras(file)
    expected = (None, metadata.image_size, metadata.image_size, 3)
    shapes = {name: tuple(output.shape) for name, output in outputs_of(classifier).items()}
    wanted = {"probability": (None, 1)}
    if metadata.subtypes:
        wanted["subtypes"] = (None, len(metadata.subtypes))
    if tuple(classifier.input_shape) != expected or shapes != wanted:
        raise ModelError(
            f"{file}: the model maps {classifier.input_shape} to {shapes}; it must map {expected} "
            f"to {wanted}. Pass a model that hemorrhage-tf wrote."
        )
    return metadata, classifier
