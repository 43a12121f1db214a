"""A model exported as a SavedModel folder, run by TensorFlow."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from hemorrhage_tf.core.errors import ModelError
from hemorrhage_tf.core.native_output import import_tensorflow
from hemorrhage_tf.inference.input_types import cast_images
from hemorrhage_tf.inference.model import Model
from hemorrhage_tf.inference.predictions import ScanOutput
from hemorrhage_tf.models.metadata import read_metadata
from hemorrhage_tf.models.scan_model import SCAN_SIGNATURE


class SavedModel(Model):
    """An exported SavedModel folder.

    Args:
        path: The folder.

    Raises:
        ModelError: The folder is damaged, or hemorrhage-tf did not write it.
    """

    has_cam = True

    def __init__(self, path: Path) -> None:
        super().__init__(path, read_metadata(path))
        import_tensorflow()
        import tensorflow as tf

        try:
            self._loaded = tf.saved_model.load(str(path))  # the signature does not keep it alive
            self._serve: Any = self._loaded.signatures["serving_default"]
            self._dtype: str = self._serve.structured_input_signature[1]["image"].dtype.name
            self._serve_scan: Any = self._loaded.signatures.get(SCAN_SIGNATURE)
        except (OSError, KeyError, ValueError, tf.errors.OpError) as error:
            raise ModelError(
                f"{path}: the folder is damaged and cannot be loaded ({error}). Export the model "
                "again."
            ) from None
        self.has_scan_model = self._serve_scan is not None

    def run(self, images: np.ndarray) -> np.ndarray:
        """Predict model input; see `Model.run`."""
        return self.run_with_cam(images)[0]

    def run_with_cam(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Predict model input with class activation maps; see `Model.run_with_cam`."""
        outputs = self._outputs(images)
        return outputs["probability"].numpy()[:, 0], outputs["cam"].numpy()

    def run_with_features(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Predict model input with the features; see `Model.run_with_features`."""
        if not self.has_scan_model:
            return super().run_with_features(images)
        outputs = self._outputs(images)
        return outputs["probability"].numpy()[:, 0], outputs["features"].numpy()

    def run_outputs(
        self, images: np.ndarray, *, features: bool = False, cam: bool = False
    ) -> dict[str, np.ndarray]:
        """Predict model input with all outputs; see `Model.run_outputs`."""
        outputs = {name: output.numpy() for name, output in self._outputs(images).items()}
        return {**outputs, "probability": outputs["probability"][:, 0]}

    def run_scan(self, features: np.ndarray, geometry: np.ndarray) -> ScanOutput:
        """Predict a scan; see `Model.run_scan`."""
        if not self.has_scan_model:
            return super().run_scan(features, geometry)
        import tensorflow as tf

        outputs = self._serve_scan(
            features=tf.constant(features[np.newaxis]),
            geometry=tf.constant(geometry[np.newaxis]),
            mask=tf.ones((1, len(features))),
        )
        return ScanOutput(
            probability=float(outputs["probability"].numpy()[0, 0]),
            slice_probabilities=outputs["slice_probability"].numpy()[0],
        )

    def _outputs(self, images: np.ndarray) -> dict[str, Any]:
        import tensorflow as tf

        return self._serve(image=tf.constant(cast_images(images, self._dtype)))
