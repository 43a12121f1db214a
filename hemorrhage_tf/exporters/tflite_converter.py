"""The conversion of a TensorFlow module to a TFLite model: the only use of `tf.lite`.

A coming release of TensorFlow leaves `tf.lite` out. Only this file has to change then: what it
returns is quantized, renamed and described by other packages. The plan is in docs/decisions.md.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from hemorrhage_tf.core.errors import ModelError


def convert_signatures(module: Any, signatures: Mapping[str, Any]) -> bytes:
    """Convert the signatures of a module to one TFLite model of builtin operators.

    Args:
        module: A `tf.Module` that holds the variables.
        signatures: `tf.function`s by name, each with an input signature. The names sort in the
            order of the model's subgraphs.

    Returns:
        A float32 model, whose signatures share their weights.

    Raises:
        ModelError: The installed TensorFlow has no converter.
    """
    import tensorflow as tf

    with _converter(module, signatures) as converter:
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
        return bytes(converter.convert())


def convert_signature_to_integers(
    module: Any, name: str, function: Any, calibration: Sequence[np.ndarray], input_type: str
) -> bytes:
    """Convert one signature to a TFLite model whose operators have int8 inputs and outputs.

    Args:
        module: A `tf.Module` that holds the variables.
        name: The name of the signature.
        function: The `tf.function`, with an input signature of one float32 tensor and a batch of 1.
        calibration: float32 inputs without the batch, to measure the ranges of activations on.
        input_type: "float32", which a first operator quantizes, or "uint8".

    Returns:
        The model. Its outputs are float32: a last operator converts the int8 results.

    Raises:
        ModelError: The installed TensorFlow has no converter.
    """
    import tensorflow as tf

    with _converter(module, {name: function}) as converter:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.representative_dataset = lambda: ([one[np.newaxis]] for one in calibration)
        converter.inference_input_type = tf.as_dtype(input_type)
        return bytes(converter.convert())


@contextmanager
def _converter(module: Any, signatures: Mapping[str, Any]) -> Iterator[Any]:
    """Yield the converter of some signatures."""
    import tensorflow as tf

    if not hasattr(tf, "lite"):
        raise ModelError(
            f"TensorFlow {tf.__version__} has no TFLite converter. Install one that has: "
            "pip install 'tensorflow<2.22'."
        )
    with tempfile.TemporaryDirectory() as folder:
        tf.saved_model.save(module, folder, signatures=dict(signatures))
        yield tf.lite.TFLiteConverter.from_saved_model(folder, signature_keys=list(signatures))
