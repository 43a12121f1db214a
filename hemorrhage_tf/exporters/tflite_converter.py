"""The conversion of a TensorFlow module to a float32 TFLite model: the only use of `tf.lite`.

A coming release of TensorFlow leaves `tf.lite` out. Only this file has to change then: what it
returns is quantized, renamed and described by other packages. The plan is in docs/decisions.md.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from typing import Any

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

    if not hasattr(tf, "lite"):
        raise ModelError(
            f"TensorFlow {tf.__version__} has no TFLite converter. Install one that has: "
            "pip install 'tensorflow<2.22'."
        )
    with tempfile.TemporaryDirectory() as folder:
        tf.saved_model.save(module, folder, signatures=dict(signatures))
        converter = tf.lite.TFLiteConverter.from_saved_model(
            folder, signature_keys=list(signatures)
        )
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
        return bytes(converter.convert())
