"""A model exported as an `.onnx` file, run by ONNX Runtime without TensorFlow."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from hemorrhage_tf.core.errors import ModelError
from hemorrhage_tf.inference.input_types import cast_images
from hemorrhage_tf.inference.model import Model
from hemorrhage_tf.inference.predictions import ScanOutput
from hemorrhage_tf.models.metadata import METADATA_FILE, parse_metadata

_TYPES = {"tensor(float)": "float32", "tensor(uint8)": "uint8"}


def scan_file(path: Path) -> Path:
    """Return the path of the scan model that belongs to an `.onnx` file: `NAME.scan.onnx`."""
    return path.with_suffix(f".scan{path.suffix}")


class OnnxModel(Model):
    """An exported `.onnx` file, and the file of its scan model beside it.

    Args:
        path: The file.
        threads: Threads to run with; None for all processors.

    Raises:
        ModelError: The file is damaged, hemorrhage-tf did not write it, or the file of its scan
            model or ONNX Runtime is missing.
    """

    def __init__(self, path: Path, threads: int | None = None) -> None:
        self._session = _create_session(path, threads)
        values = self._session.get_modelmeta().custom_metadata_map
        if METADATA_FILE not in values:
            raise ModelError(
                f"{path}: an .onnx file not written by hemorrhage-tf, because it has no "
                f"{METADATA_FILE}. Pass a model that hemorrhage-tf wrote."
            )
        super().__init__(path, parse_metadata(path, values[METADATA_FILE]))
        (image,) = self._session.get_inputs()
        self._dtype = _TYPES[image.type]
        self._names = [output.name for output in self._session.get_outputs()]
        self.has_cam = "cam" in self._names
        self.has_scan_model = self.metadata.scan_model is not None
        if self.has_scan_model:
            file = scan_file(path)
            if not file.is_file():
                raise ModelError(
                    f"{path}: its scan model is missing ({file}), which predicts whole scans. "
                    "Copy it there."
                )
            self._scan_session = _create_session(file, threads)

    def _compute(self, images: np.ndarray, features: bool, cam: bool) -> dict[str, np.ndarray]:
        needed = {"probability", "subtypes"}
        needed |= ({"features"} if features else set()) | ({"cam"} if cam else set())
        names = [name for name in self._names if name in needed]
        outputs = self._session.run(names, {"image": cast_images(images, self._dtype)})
        values = dict(zip(names, outputs, strict=True))
        return {**values, "probability": values["probability"][:, 0]}

    def _compute_scan(self, features: np.ndarray, geometry: np.ndarray) -> ScanOutput:
        inputs = {
            "features": features[np.newaxis],
            "geometry": geometry[np.newaxis],
            "mask": np.ones((1, len(features)), np.float32),
        }
        names = ["probability", "slice_probability"]
        probability, slices = self._scan_session.run(names, inputs)
        return ScanOutput(probability=float(probability[0, 0]), slice_probabilities=slices[0])


def _create_session(path: Path, threads: int | None) -> Any:
    try:
        import onnxruntime
    except ImportError:
        raise ModelError(
            f"{path}: running an .onnx file needs onnxruntime. Install it with "
            "pip install 'hemorrhage_tf[onnx]'."
        ) from None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or os.cpu_count() or 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 3  # errors only
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    # ONNX Runtime's errors have no other common base class.
    except Exception as error:
        first = str(error).splitlines()[0][:200]
        raise ModelError(
            f"{path}: the file is damaged and cannot be loaded ({first}). Export the model again."
        ) from None
