"""Batch-norm folding: a copy of a frozen backbone that computes the same features faster.

In inference a batch normalization multiplies and shifts each channel, which the preceding
convolution can do at no cost. The copy only computes features; model files hold the original
backbone. Timings: see docs/decisions.md.
"""

from __future__ import annotations

from typing import Any

import numpy as np


def fold_batch_normalization(backbone: Any, policy: str) -> Any:
    """Copy a functional backbone with its batch normalizations folded into convolutions.

    Args:
        backbone: A functional `keras.Model` that runs in inference only.
        policy: The Keras dtype policy of the copy, such as "mixed_bfloat16". Its variables are
            float32 in any case.

    Returns:
        A `keras.Model` with the same inputs, outputs and layer names (except the input layer's). A
        batch normalization that does not directly follow a convolution, or whose convolution has
        another consumer, is copied unchanged.
    """
    import keras

    normalization_after = {
        convolution.name: layer
        for layer in backbone.layers
        if isinstance(layer, keras.layers.BatchNormalization)
        and (convolution := _convolution_before(layer)) is not None
    }
    folded = {layer.name for layer in normalization_after.values()}

    def copy(layer: Any) -> Any:
        if layer.name in folded:
            return keras.layers.Activation("linear", name=layer.name, dtype=policy)
        config = layer.get_config()
        config["dtype"] = policy
        if layer.name in normalization_after:
            config["use_bias"] = True
        # The values are set below, so that random initialization would be wasted time.
        config.update({key: "zeros" for key in config if key.endswith("_initializer")})
        return layer.__class__.from_config(config)

    def call(layer: Any, *arguments: Any, **keywords: Any) -> Any:
        keywords.pop("mask", None)  # cloning passes it, and not every layer accepts it
        return layer(*arguments, **keywords)

    copied = keras.models.clone_model(backbone, clone_function=copy, call_function=call)
    for layer in backbone.layers:
        if layer.weights and layer.name not in folded:
            normalization = normalization_after.get(layer.name)
            weights = layer.get_weights()
            copied.get_layer(layer.name).set_weights(
                weights if normalization is None else _folded_weights(layer, normalization)
            )
    copied.trainable = False
    return copied


def _convolution_before(normalization: Any) -> Any | None:
    """Return the convolution whose only consumer is this normalization, if there is one."""
    import keras

    convolution = normalization.input._keras_history.operation
    if not isinstance(convolution, keras.layers.Conv2D | keras.layers.DepthwiseConv2D):
        return None
    linear = convolution.activation is keras.activations.linear
    alone = len(convolution._outbound_nodes) == 1 and len(convolution._inbound_nodes) == 1
    last_axis = normalization.axis in (-1, 3)
    return convolution if linear and alone and last_axis else None


def _folded_weights(convolution: Any, normalization: Any) -> list[np.ndarray]:
    import keras

    kernel, *rest = convolution.get_weights()
    bias = rest[0] if rest else 0.0
    mean = normalization.moving_mean.numpy()
    scale = 1.0 / np.sqrt(normalization.moving_variance.numpy() + normalization.epsilon)
    if normalization.scale:
        scale = scale * normalization.gamma.numpy()
    shift = normalization.beta.numpy() if normalization.center else 0.0
    # A depthwise kernel has the shape (height, width, channels, multiplier), and the output
    # channels have the same order.
    depthwise = isinstance(convolution, keras.layers.DepthwiseConv2D)
    factor = scale.reshape(kernel.shape[2:]) if depthwise else scale
    return [kernel * factor, (bias - mean) * scale + shift]
