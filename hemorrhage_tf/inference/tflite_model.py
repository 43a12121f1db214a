"""A model exported as a `.tflite` file, run by LiteRT without TensorFlow."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from hemorrhage_tf.core.errors import ModelError
from hemorrhage_tf.core.native_output import silence_native_output
from hemorrhage_tf.inference.input_types import cast_images
from hemorrhage_tf.inference.model import Model
from hemorrhage_tf.inference.predictions import ScanOutput
from hemorrhage_tf.models.metadata import read_metadata
from hemorrhage_tf.models.scan_model import SCAN_SIGNATURE


class TFLiteModel(Model):
    """An exported `.tflite` file.

    Args:
        path: The file.
        threads: Threads to run with; None for all processors.

    Raises:
        ModelError: The file is damaged, or hemorrhage-tf did not write it.
    """

    def __init__(self, path: Path, threads: int | None = None) -> None:
        super().__init__(path, read_metadata(path))
        from ai_edge_litert.interpreter import Interpreter

        try:
            with silence_native_output(2):  # LiteRT prints which delegate it created
                interpreter = Interpreter(str(path), num_threads=threads or os.cpu_count())
                interpreter.allocate_tensors()
            self._runner = interpreter.get_signature_runner("serving_default")
            details = self._runner.get_input_details()["image"]
            self.has_scan_model = SCAN_SIGNATURE in interpreter.get_signature_list()
            if self.has_scan_model:
                self._scan_runner = interpreter.get_signature_runner(SCAN_SIGNATURE)
        except (ValueError, RuntimeError, KeyError) as error:
            raise ModelError(
                f"{path}: the file is damaged and cannot be loaded ({error}). Export the model "
                "again."
            ) from None
        self._takes_batches = details["shape_signature"][0] == -1
        self._dtype = np.dtype(details["dtype"]).name
        self.has_cam = "cam" in self._runner.get_output_details()

    def run(self, images: np.ndarray) -> np.ndarray:
        """Predict model input; see `Model.run`."""
        outputs = self._outputs(images)
        return np.concatenate([one["probability"][:, 0] for one in outputs])

    def run_with_cam(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Predict model input with class activation maps; see `Model.run_with_cam`."""
        if not self.has_cam:
            return super().run_with_cam(images)
        outputs = self._outputs(images)
        probabilities = np.concatenate([one["probability"][:, 0] for one in outputs])
        return probabilities, np.concatenate([one["cam"] for one in outputs])

    def run_with_features(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Predict model input with the features; see `Model.run_with_features`."""
        if not self.has_scan_model:
            return super().run_with_features(images)
        outputs = self._outputs(images)
        probabilities = np.concatenate([one["probability"][:, 0] for one in outputs])
        return probabilities, np.concatenate([one["features"] for one in outputs])

    def run_outputs(
        self, images: np.ndarray, *, features: bool = False, cam: bool = False
    ) -> dict[str, np.ndarray]:
        """Predict model input with all outputs; see `Model.run_outputs`."""
        if features and not self.has_scan_model or cam and not self.has_cam:
            return super().run_outputs(images, features=features, cam=cam)  # raises the error
        parts = self._outputs(images)
        outputs = {name: np.concatenate([one[name] for one in parts]) for name in parts[0]}
        return {**outputs, "probability": outputs["probability"][:, 0]}

    def run_scan(self, features: np.ndarray, geometry: np.ndarray) -> ScanOutput:
        """Predict a scan; see `Model.run_scan`."""
        if not self.has_scan_model:
            return super().run_scan(features, geometry)
        inputs = {"features": features[np.newaxis], "geometry": geometry[np.newaxis]}
        outputs = self._scan_runner(**inputs)
        return ScanOutput(
            probability=float(outputs["probability"][0, 0]),
            slice_probabilities=outputs["slice_probability"][0],
        )

    def _outputs(self, images: np.ndarray) -> list[dict[str, Any]]:
        images = cast_images(images, self._dtype)
        batches = [images] if self._takes_batches else np.split(images, len(images))
        return [self._runner(image=batch) for batch in batches]
