"""TFLite: one file of builtin ops, quantized where asked, with its metadata inside."""

from __future__ import annotations

import contextlib
import logging
import os
import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from hemorrhage_tf.core.errors import OptionError
from hemorrhage_tf.core.native_output import silence_native_output
from hemorrhage_tf.exporters.saved_model import served_module
from hemorrhage_tf.inference.model import cast_images

SIGNATURE = "serving_default"

# What is quantized is the backbone. Pooling, standardization and the dense unit stay in float32;
# they are under a thousandth of the work. With all of ResNet152 (to conv4, avg_max pooled) in
# int8, 32 of the 200 Kaggle slices changed side; so, none, at the same size and speed. Dynamic
# quantization leaves depthwise convolutions alone too: MobileNetV2 then takes 2.8 ms instead of
# 16.4 (3.6 in float32), for a tenth of a megabyte.
_OPERATORS = {
    "float16": ("CONV_2D", "DEPTHWISE_CONV_2D"),
    "dynamic": ("CONV_2D",),
    "int8": ("CONV_2D", "DEPTHWISE_CONV_2D", "ADD", "MAX_POOL_2D", "PAD"),
}
# Where int8 is not taken: PhantomNet's first layers, which see thin lines of few gray levels, and
# its way back up, whose evidence decides. Of 100 phantoms 6 changed side with all of it in int8,
# and 1 so, for 0.45 MB.
_INT8_SCOPE = r"^(?!.*phantomnet.*/(stem|stage1|top\d|evidence)).*$"


def convert(
    classifier,
    image_size: int,
    quantize: str = "none",
    input_type: str = "float32",
    cam: bool = False,
    batch: str = "static",
    representative: Sequence[np.ndarray] = (),
) -> bytes:
    """Converts a classifier to a TFLite model.

    Quantized by `litert-quantizer`, on the finished float32 model. The converter's own way is
    deprecated, quantizes all or nothing, and took 44 s instead of 14 s for int8 of ResNet152.

    Args:
        classifier: the Keras model, from pixels to probability.
        image_size: side of its input, in pixels.
        quantize: "none", "float16" (weights), "dynamic" (int8 weights, activations quantized while
            running) or "int8" (weights per channel and activations of the backbone).
        input_type: "float32" or "uint8", of `image`, in [0, 255].
        cam: also give the class activation map.
        batch: "static" for batches of one, or "dynamic".
        representative: float32 `(size, size, 3)` slices to calibrate int8 on.

    Returns:
        The model, without metadata.
    """
    import tensorflow as tf

    if quantize == "int8" and not representative:
        raise OptionError("--quantize int8 needs slices to calibrate on: --representative DATA")
    module = served_module(classifier)
    count = 1 if batch == "static" else None
    spec = tf.TensorSpec((count, image_size, image_size, 3), input_type, name="image")

    @tf.function(input_signature=[spec])
    def serve(image):
        outputs = module.forward(tf.cast(image, tf.float32))
        return outputs if cam else {"probability": outputs["probability"]}

    with tempfile.TemporaryDirectory() as folder, _quiet():
        tf.saved_model.save(module, folder, signatures={SIGNATURE: serve})
        converter = tf.lite.TFLiteConverter.from_saved_model(folder, signature_keys=[SIGNATURE])
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
        model = converter.convert()
        if quantize != "none":
            path = Path(folder) / "float32.tflite"
            path.write_bytes(model)
            del model, converter
            model = _quantize(path, quantize, input_type, representative)
    return model


def _quantize(
    path: Path, quantize: str, input_type: str, representative: Sequence[np.ndarray]
) -> bytes:
    from litert_quantizer import Quantizer
    from litert_quantizer.algorithm_manager import AlgorithmName
    from litert_quantizer.qtyping import TFLOperationName

    quantizer = Quantizer(str(path))
    for name in _OPERATORS[quantize]:
        operator = TFLOperationName[name]
        if quantize == "float16":
            casting = AlgorithmName.FLOAT_CASTING
            quantizer.add_weight_only_config(".*", operator, 16, algorithm_key=casting)
        elif quantize == "dynamic":
            quantizer.add_dynamic_config(".*", operator, 8)
        else:
            quantizer.add_static_config(_INT8_SCOPE, operator, 8, 8)
    calibration = None
    if quantizer.need_calibration:
        samples = [
            {"image": cast_images(image[np.newaxis], input_type)} for image in representative
        ]
        calibration = quantizer.calibrate({SIGNATURE: samples})
    return bytes(quantizer.quantize(calibration).quantized_model)


@contextlib.contextmanager
def _quiet():
    """Keeps the converter's and the quantizer's own talk, of three kinds, off the terminal."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with silence_native_output(1, 2), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with open(os.devnull, "w") as nowhere:
                with contextlib.redirect_stdout(nowhere), contextlib.redirect_stderr(nowhere):
                    yield
    finally:
        logging.disable(before)
