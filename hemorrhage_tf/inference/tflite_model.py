"""A model exported as a `.tflite` file, run by LiteRT without TensorFlow."""

from __future__ import annotations

import os
from pathlib import Path

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

    def _compute(self, images: np.ndarray, features: bool, cam: bool) -> dict[str, np.ndarray]:
        images = cast_images(images, self._dtype)
        batches = [images] if self._takes_batches else np.split(images, len(images))
        parts = [self._runner(image=batch) for batch in batches]
        outputs = {name: np.concatenate([one[name] for one in parts]) for name in parts[0]}
        return {**outputs, "probability": outputs["probability"][:, 0]}

    def _compute_scan(self, features: np.ndarray, geometry: np.ndarray) -> ScanOutput:
        outputs = self._scan_runner(features=features[np.newaxis], geometry=geometry[np.newaxis])
        return ScanOutput(
            probability=float(outputs["probability"][0, 0]),
            slice_probabilities=outputs["slice_probability"][0],
        )
