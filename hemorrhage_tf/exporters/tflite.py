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
from hemorrhage_tf.exporters.saved_model import served_module
from hemorrhage_tf.exporters.settings import ExportSettings
from hemorrhage_tf.inference.input_types import cast_images

SIGNATURE = "serving_default"

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
_INT8_SCOPE = r"^(?!.*phantomnet.*/(stem|stage1|top\d|evidence)).*$"


def convert(
    classifier: Any,
    image_size: int,
    settings: ExportSettings,
    calibration: Sequence[np.ndarray] = (),
) -> bytes:
    """Convert a classifier to a TFLite model.

    `litert-quantizer` quantizes the float32 model: the converter's own quantization is deprecated,
    slower, and cannot leave operators out.

    Args:
        classifier: The Keras model, from pixels to probability.
        image_size: Side of its input, in pixels.
        settings: The settings of the export.
        calibration: float32 `(size, size, 3)` images in [0, 255] to calibrate int8 on.

    Returns:
        The model, without metadata.

    Raises:
        OptionError: Int8 without images to calibrate on.
    """
    import tensorflow as tf

    if settings.quantize == "int8" and len(calibration) == 0:
        raise OptionError(
            "--quantize int8: there are no slices to calibrate on. Pass --representative DATA."
        )
    module = served_module(classifier)
    count = 1 if settings.batch == "static" else None
    spec = tf.TensorSpec((count, image_size, image_size, 3), settings.input_type, name="image")

    @tf.function(input_signature=[spec])
    def serve(image: Any) -> Any:
        outputs = module.forward(tf.cast(image, tf.float32))
        return outputs if settings.cam else {"probability": outputs["probability"]}

    with tempfile.TemporaryDirectory() as folder, _silence():
        tf.saved_model.save(module, folder, signatures={SIGNATURE: serve})
        converter = tf.lite.TFLiteConverter.from_saved_model(folder, signature_keys=[SIGNATURE])
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
        model = converter.convert()
        if settings.quantize != "none":
            path = Path(folder) / "float32.tflite"
            path.write_bytes(model)
            del model, converter
            model = _quantize(path, settings, calibration)
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
            quantizer.add_weight_only_config(".*", operator, 16, algorithm_key=casting)
        elif settings.quantize == "dynamic":
            quantizer.add_dynamic_config(".*", operator, 8)
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
