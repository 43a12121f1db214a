"""TFLite: conversion to one file of builtin operators, with optional quantization."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from hemorrhage_tf.exporters.converter_output import silence_converter
from hemorrhage_tf.exporters.integer_classifier import integer_classifier
from hemorrhage_tf.exporters.saved_model import (
    image_function,
    padded_scan_function,
    scan_function,
    served_module,
)
from hemorrhage_tf.exporters.settings import ExportSettings
from hemorrhage_tf.exporters.tflite_converter import (
    convert_signature_to_integers,
    convert_signatures,
)
from hemorrhage_tf.exporters.tflite_metadata import rename_signatures
from hemorrhage_tf.inference.input_types import cast_images
from hemorrhage_tf.inference.tflite_model import SIGNATURE, SLICE_SIGNATURE
from hemorrhage_tf.models.classifier import shift_logits
from hemorrhage_tf.models.scan_model import PADDED_SCAN_SIGNATURE, SCAN_SIGNATURE

# The converter sorts signatures by name, and an interpreter that is used without signatures runs
# the first one. So the others are converted under names that come after `serving_default`.
_NAMES = {
    "serving_scan": SCAN_SIGNATURE,
    "serving_scan_padded": PADDED_SCAN_SIGNATURE,
    "serving_slice": SLICE_SIGNATURE,
}

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
        and `serve_scan` takes those of any number of slices of one scan. Runtimes without dynamic
        shapes, such as LiteRT.js, use `serve_padded_scan` instead, and for a file with dynamic
        batches `serve_slice`, which takes one slice. All signatures share their weights.

    Raises:
        OptionError: Int8 without images to calibrate on.
    """
    import tensorflow as tf

    settings.require_calibration(calibration)
    module = served_module(classifier, scan_model)

    def serve_images(count: int | None) -> Any:
        spec = tf.TensorSpec((count, image_size, image_size, 3), settings.input_type, name="image")
        return image_function(module, spec, settings.cam)

    signatures = {SIGNATURE: serve_images(1 if settings.batch == "static" else None)}
    if settings.batch == "dynamic":
        signatures["serving_slice"] = serve_images(1)
    if scan_model is not None:
        signatures["serving_scan"] = scan_function(module, scan_model, batch=1)
        signatures["serving_scan_padded"] = padded_scan_function(module, scan_model)
    with silence_converter():
        model = convert_signatures(module, signatures)
        if settings.quantize != "none":
            model = _quantize(model, settings, calibration)
    return rename_signatures(model, _NAMES)


def convert_to_integers(
    classifier: Any, settings: ExportSettings, calibration: Sequence[np.ndarray]
) -> bytes:
    """Convert a classifier to a TFLite model that computes in integers from the first layer on.

    The converter quantizes here, because `litert-quantizer` does it badly for pooling and head, see
    docs/decisions.md. Rounding shifts the logits; the mean shift over the images to calibrate on is
    subtracted again.

    Args:
        classifier: The Keras model, from pixels to probability.
        settings: The settings of the export.
        calibration: float32 `(size, size, 3)` images in [0, 255] to calibrate on.

    Returns:
        The model, without metadata. Its only signature is `serving_default`, for one slice.

    Raises:
        OptionError: There are no images to calibrate on.

    Reference:
        M. Nagel et al., Data-free quantization through weight equalization and bias correction,
        ICCV 2019, section 4.2.
    """
    import tensorflow as tf

    settings.require_calibration(calibration)
    model = integer_classifier(classifier)
    module = tf.Module()
    module.variables_of_model = [weight.value for weight in model.weights]

    def convert_outputs(names: Sequence[str]) -> bytes:
        @tf.function(input_signature=[tf.TensorSpec((1, *model.input_shape[1:]), name="image")])
        def serve(image: Any) -> Any:
            outputs = model(image, training=False)
            return {name: outputs[name] for name in names}

        with silence_converter():
            return convert_signature_to_integers(
                module, SIGNATURE, serve, calibration, settings.input_type
            )

    rounded = _run_logits(convert_outputs(["logits"]), calibration, settings.input_type)
    exact = model.predict(np.stack(calibration), verbose=0)["logits"]
    shift_logits(model.get_layer("head"), np.mean(exact - rounded, axis=0))
    return convert_outputs([name for name in model.output if name != "logits"])


def _run_logits(model: bytes, images: Sequence[np.ndarray], input_type: str) -> np.ndarray:
    """Run a TFLite model on images; float32 `(n, outputs)`."""
    from ai_edge_litert.interpreter import Interpreter

    with silence_converter():  # the runtime reports its delegate
        runner = Interpreter(model_content=model).get_signature_runner(SIGNATURE)
        return np.concatenate(
            [runner(image=cast_images(one[np.newaxis], input_type))["logits"] for one in images]
        )


def _quantize(model: bytes, settings: ExportSettings, calibration: Sequence[np.ndarray]) -> bytes:
    from litert_quantizer import Quantizer
    from litert_quantizer.algorithm_manager import AlgorithmName
    from litert_quantizer.qtyping import TFLOperationName

    quantizer = Quantizer(bytearray(model))
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
        names = [SIGNATURE, *(["serving_slice"] if settings.batch == "dynamic" else [])]
        ranges = quantizer.calibrate({name: samples for name in names})
    return bytes(quantizer.quantize(ranges).quantized_model)
