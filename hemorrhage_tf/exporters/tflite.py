"""TFLite: conversion to one file of builtin operators, with optional quantization."""

from __future__ import annotations

import contextlib
import logging
import os
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hemorrhage_tf.core.errors import OptionError
from hemorrhage_tf.core.native_output import silence_native_output
from hemorrhage_tf.exporters.saved_model import scan_function, served_module
from hemorrhage_tf.exporters.settings import ExportSettings
from hemorrhage_tf.exporters.tflite_metadata import rename_signature
from hemorrhage_tf.inference.input_types import cast_images
from hemorrhage_tf.models.scan_model import SCAN_SIGNATURE

SIGNATURE = "serving_default"
# The converter sorts signatures by name, and an interpreter that is used without signatures runs
# the first one. So the scan model is converted under a name that comes after that of slices.
_SCAN_NAME = "serving_scan"

# Only the backbone is quantized. Pooling, standardization and the dense unit stay in float32: they
# are a tiny share of the work, and int8 there changes decisions. "dynamic" leaves out depthwise
# convolutions, which it slows down. See docs/decisions.md.
_OPERATORS = {
    "float16": ("CONV_2D", "DEPTHWISE_CONV_2D"),
    "dynamic": ("CONV_2D",),
    "int8": ("CONV_2D", "DEPTHWISE_CONV_2D", "ADD", "MAX_POOL_2D", "PAD"),
}
# PhantomNet's first layers, which see thin lines of few gray levels, and its decoder, which outputs
# the evidence, stay in float32 for int8, too. See docs/decisions.md.
# So does the scan model, which takes a tiny share of the time.
_INT8_SCOPE = r"^(?!.*phantomnet.*/(stem|stage1|top\d|evidence))(?!.*scan_model).*$"
_SCOPE = r"^(?!.*scan_model).*$"


def convert(
    classifier: Any,
    image_size: int,
    settings: ExportSettings,
    calibration: Sequence[np.ndarray] = (),
    scan_model: Any = None,
) -> bytes:
    """Convert a classifier, and its scan model, to a TFLite model.

    `litert-quantizer` quantizes the float32 model: the converter's own quantization is deprecated,
    slower, and cannot leave operators out.

    Args:
        classifier: The Keras model, from pixels to probability.
        image_size: Side of its input, in pixels.
        settings: The settings of the export.
        calibration: float32 `(size, size, 3)` images in [0, 255] to calibrate int8 on.
        scan_model: The Keras model from `build_scan_model`; None if there is none. Defaults to
            None.

    Returns:
        The model, without metadata. With a scan model `serving_default` also outputs `features`,
        and `serve_scan` takes those of any number of slices of one scan.

    Raises:
        OptionError: Int8 without images to calibrate on.
    """
    import tensorflow as tf

    if settings.quantize == "int8" and len(calibration) == 0:
        raise OptionError(
            "--quantize int8: there are no slices to calibrate on. Pass --representative DATA."
        )
    module = served_module(classifier, scan_model)
    count = 1 if settings.batch == "static" else None
    spec = tf.TensorSpec((count, image_size, image_size, 3), settings.input_type, name="image")

    @tf.function(input_signature=[spec])
    def serve(image: Any) -> Any:
        outputs = dict(module.forward(tf.cast(image, tf.float32)))
        if not settings.cam:
            del outputs["cam"]
        return outputs

    signatures = {SIGNATURE: serve}
    if scan_model is not None:
        signatures[_SCAN_NAME] = scan_function(module, scan_model, batch=1)
    with tempfile.TemporaryDirectory() as folder, _silence():
        tf.saved_model.save(module, folder, signatures=signatures)
        keys = list(signatures)
        converter = tf.lite.TFLiteConverter.from_saved_model(folder, signature_keys=keys)
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
        model = converter.convert()
        if settings.quantize != "none":
            path = Path(folder) / "float32.tflite"
            path.write_bytes(model)
            del model, converter
            model = _quantize(path, settings, calibration)
        if scan_model is not None:
            model = rename_signature(model, _SCAN_NAME, SCAN_SIGNATURE)
    return model


def _quantize(path: Path, settings: ExportSettings, calibration: Sequence[np.ndarray]) -> bytes:
    from litert_quantizer import Quantizer
    from litert_quantizer.algorithm_manager import AlgorithmName
    from litert_quantizer.qtyping import TFLOperationName

    quantizer = Quantizer(str(path))
    for name in _OPERATORS[settings.quantize]:
        operator = TFLOperationName[name]
        if settings.quantize == "float16":
            casting = AlgorithmName.FLOAT_CASTING
            quantizer.add_weight_only_config(_SCOPE, operator, 16, algorithm_key=casting)
        elif settings.quantize == "dynamic":
            quantizer.add_dynamic_config(_SCOPE, operator, 8)
        else:
            quantizer.add_static_config(_INT8_SCOPE, operator, 8, 8)
    ranges = None
    if quantizer.need_calibration:
        samples = [
            {"image": cast_images(image[np.newaxis], settings.input_type)} for image in calibration
        ]
        ranges = quantizer.calibrate({SIGNATURE: samples})
    return bytes(quantizer.quantize(ranges).quantized_model)


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Keep log lines, warnings and prints of converter and quantizer off the terminal."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with silence_native_output(1, 2), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with open(os.devnull, "w") as nowhere:
                with contextlib.redirect_stdout(nowhere), contextlib.redirect_stderr(nowhere):
                    yield
    finally:
        logging.disable(level)
