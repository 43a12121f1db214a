"""A classifier whose operators all have an int8 form that keeps its decisions."""

from __future__ import annotations

from typing import Any

import numpy as np

from hemorrhage_tf.models.classifier import deviation, logits_model, outputs_of, pooling_layers


def integer_classifier(classifier: Any) -> Any:
    """Rebuild a classifier for integers: the same outputs up to rounding in float32.

    - The standardization becomes a convolution of 1 x 1 per channel before the pooling. A
      convolution has a scale of its own for the weight of each channel, a multiplication only one
      for all; and the average over the positions removes most of the rounding.
    - A global maximum becomes a maximum over a window of the whole feature map, and nearest
      upsampling a resizing, because the others have no int8 operators on accelerators.

    Args:
        classifier: A trained classifier, from `build_classifier` or loaded from a file.

    Returns:
        A `keras.Model` from `image` to a dictionary of the classifier's outputs and `logits`
        `(batch, outputs)`. Its layer `head` is a copy; the backbone is the classifier's own.
    """
    import keras

    standardization = classifier.get_layer("standardization")
    pools = pooling_layers(classifier)
    ends = np.cumsum([layer.output.shape[-1] for layer in pools])[:-1]
    means = np.split(standardization.adapt_mean.numpy().ravel(), ends)
    deviations = np.split(deviation(standardization.adapt_variance.numpy()).ravel(), ends)
    images = keras.Input(classifier.input_shape[1:], name="image")
    pooled = []
    for layer, feature_map, mean, scale in zip(
        pools, _feature_maps(classifier, pools)(images), means, deviations, strict=True
    ):
        standardize = keras.layers.DepthwiseConv2D(1, name=f"standardize_{layer.name}")
        standardized = standardize(feature_map)
        standardize.set_weights([(1 / scale).reshape(1, 1, -1, 1), -mean / scale])
        if isinstance(layer, keras.layers.GlobalMaxPooling2D):
            whole = feature_map.shape[1:3]
            highest = keras.layers.MaxPooling2D(whole, name=f"window_{layer.name}")(standardized)
            pooled.append(keras.layers.Flatten(name=f"flat_{layer.name}")(highest))
        else:
            average = keras.layers.GlobalAveragePooling2D(name=f"mean_{layer.name}")
            pooled.append(average(standardized))
    features = pooled[0] if len(pooled) == 1 else keras.layers.Concatenate(name="joined")(pooled)
    return keras.Model(images, _copy_head(classifier)(features))


def _copy_head(classifier: Any) -> Any:
    """Return the model from standardized features to outputs and logits, with its own weights."""
    import keras

    outputs = {**outputs_of(classifier), "logits": logits_model(classifier).output}
    head = keras.Model(classifier.get_layer("standardization").output, outputs, name="head")
    copy = keras.models.clone_model(head)
    copy.set_weights(head.get_weights())
    return copy


def _feature_maps(classifier: Any, pools: list[Any]) -> Any:
    """Return the model from images to a list with the input of each pooling layer."""
    import keras

    def replace(layer: Any) -> Any:
        if isinstance(layer, keras.layers.UpSampling2D):
            _, height, width, _ = layer.output.shape
            return keras.layers.Resizing(height, width, "nearest", name=layer.name)
        return layer  # with its weights

    trunk = keras.Model(classifier.input, [layer.input for layer in pools])
    return keras.models.clone_model(trunk, clone_function=replace, recursive=True)
