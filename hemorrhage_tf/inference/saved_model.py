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

    def _compute(self, images: np.ndarray, features: bool, cam: bool) -> dict[str, np.ndarray]:
        import tensorflow as tf

        outputs = self._serve(image=tf.constant(cast_images(images, self._dtype)))
        values = {name: output.numpy() for name, output in outputs.items()}
        return {**values, "probability": values["probability"][:, 0]}

    def _compute_scan(self, features: np.ndarray, geometry: np.ndarray) -> ScanOutput:
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
