"""A model exported as a `.tflite` file, run by LiteRT without TensorFlow.

LiteRT's own threads wait for each other at every layer. A batch is faster if each thread runs whole
slices by itself, with an interpreter of its own; the results are the same.
"""

from __future__ import annotations

import os
import queue
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from hemorrhage_tf.core.errors import ModelError
from hemorrhage_tf.core.native_output import silence_native_output
from hemorrhage_tf.inference.input_types import cast_images
from hemorrhage_tf.inference.model import Model
from hemorrhage_tf.inference.predictions import ScanOutput
from hemorrhage_tf.models.metadata import read_metadata
from hemorrhage_tf.models.scan_model import (
    PADDED_SCAN_SIGNATURE,
    PADDED_SCAN_SLICES,
    SCAN_SIGNATURE,
)

SIGNATURE = "serving_default"
# The same for one slice in a file with dynamic batches, for runtimes without dynamic shapes.
SLICE_SIGNATURE = "serve_slice"

# Each interpreter keeps a copy of the weights, so those of larger files are shared by all threads.
MAX_BYTES_PER_THREAD = 32 << 20


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
        self._file = path
        self._threads = threads or os.cpu_count() or 1
        try:
            interpreter = _create_interpreter(path, self._threads)
            self._runner = interpreter.get_signature_runner(SIGNATURE)
            details = self._runner.get_input_details()["image"]
            self.has_scan_model = SCAN_SIGNATURE in interpreter.get_signature_list()
            if self.has_scan_model:
                self._scan_runner = interpreter.get_signature_runner(SCAN_SIGNATURE)
        except (ValueError, RuntimeError, KeyError) as error:
            raise _damaged(path, error) from None
        self._takes_batches = details["shape_signature"][0] == -1
        self._dtype = np.dtype(details["dtype"]).name
        self.has_cam = "cam" in self._runner.get_output_details()
        self._workers: _Workers | None = None
        self._is_small = path.stat().st_size <= MAX_BYTES_PER_THREAD

    def _compute(self, images: np.ndarray, features: bool, cam: bool) -> dict[str, np.ndarray]:
        images = cast_images(images, self._dtype)
        if len(images) > 1 and self._threads > 1 and self._is_small:
            self._workers = self._workers or _Workers(self._file, self._threads)
            parts = self._workers.run(images)
        else:
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


class FixedShapeTFLiteModel(Model):
    """An exported `.tflite` file, run as runtimes without dynamic shapes run it.

    Slices pass one by one, and scans are padded to `PADDED_SCAN_SLICES`. An export is verified so,
    too: LiteRT.js cannot run the other signatures.

    Args:
        path: The file.

    Raises:
        ModelError: The file is damaged, hemorrhage-tf did not write it, or it has only dynamic
            shapes.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path, read_metadata(path))
        interpreter = _create_interpreter(path, os.cpu_count() or 1)
        names = interpreter.get_signature_list()
        self._runner = interpreter.get_signature_runner(
            SLICE_SIGNATURE if SLICE_SIGNATURE in names else SIGNATURE
        )
        details = self._runner.get_input_details()["image"]
        has_padded_scan = PADDED_SCAN_SIGNATURE in names
        if -1 in details["shape_signature"] or has_padded_scan != (SCAN_SIGNATURE in names):
            raise ModelError(
                f"{path}: it lacks the signatures of fixed shapes, which older versions of "
                "hemorrhage_tf did not write. Export the model again."
            )
        self._dtype = np.dtype(details["dtype"]).name
        self.has_cam = "cam" in self._runner.get_output_details()
        self.has_scan_model = has_padded_scan
        if self.has_scan_model:
            self._scan_runner = interpreter.get_signature_runner(PADDED_SCAN_SIGNATURE)

    def _compute(self, images: np.ndarray, features: bool, cam: bool) -> dict[str, np.ndarray]:
        images = cast_images(images, self._dtype)
        parts = [self._runner(image=images[i : i + 1]) for i in range(len(images))]
        outputs = {name: np.concatenate([one[name] for one in parts]) for name in parts[0]}
        return {**outputs, "probability": outputs["probability"][:, 0]}

    def _compute_scan(self, features: np.ndarray, geometry: np.ndarray) -> ScanOutput:
        count = len(features)
        if count > PADDED_SCAN_SLICES:
            raise ModelError(
                f"{self.path}: {PADDED_SCAN_SIGNATURE} takes at most {PADDED_SCAN_SLICES} slices, "
                f"and the scan has {count}. Run {SCAN_SIGNATURE}."
            )
        inputs = {"features": features, "geometry": geometry, "mask": np.ones(count, np.float32)}
        padded = {
            name: np.concatenate(
                [each, np.zeros((PADDED_SCAN_SLICES - count, *each.shape[1:]), np.float32)]
            )
            for name, each in inputs.items()
        }
        outputs = self._scan_runner(**{name: each[np.newaxis] for name, each in padded.items()})
        return ScanOutput(
            probability=float(outputs["probability"][0, 0]),
            slice_probabilities=outputs["slice_probability"][0, :count],
        )


class _Workers:
    """Threads with an interpreter each, which run the slices of a batch one by one.

    Args:
        path: The file.
        count: The number of threads.
    """

    def __init__(self, path: Path, count: int) -> None:
        self._pool = ThreadPoolExecutor(count, "hemorrhage-tf slices")
        self._idle: queue.SimpleQueue[_SliceRunner] = queue.SimpleQueue()
        for _ in range(count):
            self._idle.put(_SliceRunner(path))

    def run(self, images: np.ndarray) -> list[dict[str, np.ndarray]]:
        """Return the outputs of each image."""
        futures = [self._pool.submit(self._run_one, images[i : i + 1]) for i in range(len(images))]
        return [future.result() for future in futures]

    def _run_one(self, image: np.ndarray) -> dict[str, np.ndarray]:
        with self._interpreter() as run:
            return run(image)

    @contextmanager
    def _interpreter(self) -> Iterator[_SliceRunner]:
        runner = self._idle.get()
        try:
            yield runner
        finally:
            self._idle.put(runner)


class _SliceRunner:
    """An interpreter for one slice at a time, in one thread.

    Memory is allocated here only: the runner of a signature allocates it in each call, which is
    slower, and failed once while another thread ran.

    Args:
        path: The file.
    """

    def __init__(self, path: Path) -> None:
        self._interpreter = _create_interpreter(path, 1)
        signature = self._interpreter.get_signature_runner(SIGNATURE)
        (image,) = signature.get_input_details().values()
        self._input = image["index"]
        self._outputs = {
            name: details["index"] for name, details in signature.get_output_details().items()
        }

    def __call__(self, image: np.ndarray) -> dict[str, np.ndarray]:
        """Return the outputs of one image, `(1, size, size, 3)`."""
        self._interpreter.set_tensor(self._input, image)
        self._interpreter.invoke()
        return {name: self._interpreter.get_tensor(at) for name, at in self._outputs.items()}


def _create_interpreter(path: Path, threads: int) -> Any:
    from ai_edge_litert.interpreter import Interpreter

    try:
        with silence_native_output(2):  # LiteRT prints which delegate it created
            interpreter = Interpreter(str(path), num_threads=threads)
            interpreter.allocate_tensors()
    except (ValueError, RuntimeError) as error:
        raise _damaged(path, error) from None
    return interpreter


def _damaged(path: Path, error: Exception) -> ModelError:
    return ModelError(
        f"{path}: the file is damaged and cannot be loaded ({error}). Export the model again."
    )
