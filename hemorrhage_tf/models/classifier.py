"""The classifier: normalization, frozen backbone, pooling, standardization and a dense head.

Only built-in Keras layers, so that a saved model loads with plain Keras, in safe mode.
"""

from __future__ import annotations

import numpy as np

from hemorrhage_tf.errors import OptionError
from hemorrhage_tf.models.backbones import normalize

POOLINGS = ("avg", "max", "avg_max")

# What a feature's standard deviation is raised to before dividing: a channel that never fires
# would otherwise be divided by zero. The same value as Keras' Normalization layer.
_EPSILON = 1e-7


def check_pooling(pooling: str) -> str:
    """Returns the pooling's name; raises OptionError for an unknown one."""
    if pooling not in POOLINGS:
        raise OptionError(f"--pooling {pooling}: accepted are {', '.join(POOLINGS)}")
    return pooling


def pool(feature_map, pooling: str):
    """Adds global pooling to a functional model: `(batch, h, w, c)` to `(batch, c or 2c)`."""
    import keras

    pooled = []
    if pooling in ("avg", "avg_max"):
        pooled.append(keras.layers.GlobalAveragePooling2D(name="average_pooling")(feature_map))
    if pooling in ("max", "avg_max"):
        pooled.append(keras.layers.GlobalMaxPooling2D(name="max_pooling")(feature_map))
    return pooled[0] if len(pooled) == 1 else keras.layers.Concatenate(name="pooling")(pooled)


def select_pooled(features: np.ndarray, pooling: str) -> np.ndarray:
    """Takes what one pooling gives out of features that were pooled both ways.

    Args:
        features: `(..., 2 * channels)`, average and max pooled, as `build_feature_model` gives.
        pooling: "avg", "max" or "avg_max".

    Returns:
        `(..., channels)`, or all of them for "avg_max".
    """
    channels = features.shape[-1] // 2
    if pooling == "avg":
        return features[..., :channels]
    if pooling == "max":
        return features[..., channels:]
    return features


def build_feature_model(backbone, normalization: str):
    """Builds the model from pixels to features pooled both ways.

    Args:
        backbone: from `build_backbone`.
        normalization: the backbone's, see `BackboneSpec`.

    Returns:
        A `keras.Model` from `(batch, size, size, 3)` in [0, 255] to float32
        `(batch, 2 * channels)`, average and max pooled.
    """
    import keras

    images = keras.Input(backbone.input_shape[1:], name="image")
    feature_map = backbone(normalize(images, normalization), training=False)
    return keras.Model(images, keras.ops.cast(pool(feature_map, "avg_max"), "float32"))


def standardize(features: np.ndarray, mean: np.ndarray, variance: np.ndarray) -> np.ndarray:
    """Computes what the classifier's standardization layer does, on an array.

    Args:
        features: `(n, width)`.
        mean: `(width,)`.
        variance: `(width,)`.

    Returns:
        float32 `(n, width)`.
    """
    deviation = np.maximum(np.sqrt(variance), np.float32(_EPSILON))
    return ((features - mean) / deviation).astype(np.float32)


def build_head(width: int, dropout: float):
    """Builds the trainable part: dropout and one dense unit that gives the logit.

    The dense unit starts from zeros: the problem is convex, so that a random start would only add
    noise to the result.

    Args:
        width: number of pooled features.
        dropout: share of features dropped in training, in [0, 1).

    Returns:
        A `keras.Model` from standardized `(batch, width)` to logits `(batch, 1)`.
    """
    import keras

    features = keras.Input((width,), name="features")
    x = keras.layers.Dropout(dropout, name="dropout")(features) if dropout else features
    logits = keras.layers.Dense(1, kernel_initializer="zeros", name="logit")(x)
    return keras.Model(features, logits, name="head")


def build_classifier(backbone, normalization: str, pooling: str, dropout: float = 0.0):
    """Builds the whole model, from pixels to probability.

    Args:
        backbone: from `build_backbone`. Its batch-norm statistics do not move in training, because
            those layers are not trainable, also while others are fine-tuned.
        normalization: the backbone's, see `BackboneSpec`.
        pooling: "avg", "max" or "avg_max".
        dropout: share of features dropped in training. Default 0.

    Returns:
        A `keras.Model` from `image`, float32 `(batch, size, size, 3)` in [0, 255], to
        `probability`, float32 `(batch, 1)` in [0, 1]. Its standardization and head are still
        those of an untrained model; see `set_head`.
    """
    import keras

    images = keras.Input(backbone.input_shape[1:], name="image")
    x = pool(backbone(normalize(images, normalization), training=False), check_pooling(pooling))
    x = keras.layers.Normalization(name="standardization")(x)
    if dropout:
        x = keras.layers.Dropout(dropout, name="dropout")(x)
    logits = keras.layers.Dense(1, kernel_initializer="zeros", name="logit")(x)
    probability = keras.layers.Activation("sigmoid", name="probability")(logits)
    return keras.Model(images, probability, name="hemorrhage_classifier")


def set_head(
    classifier, mean: np.ndarray, variance: np.ndarray, kernel: np.ndarray, bias: np.ndarray
) -> None:
    """Puts a trained standardization and head into a classifier.

    Args:
        classifier: from `build_classifier`.
        mean: `(width,)`, of the training features.
        variance: `(width,)`.
        kernel: `(width, 1)`.
        bias: `(1,)`.
    """
    layer = classifier.get_layer("standardization")
    layer.adapt_mean.assign(np.reshape(mean, layer.adapt_mean.shape))
    layer.adapt_variance.assign(np.reshape(variance, layer.adapt_variance.shape))
    layer.finalize_state()
    classifier.get_layer("logit").set_weights([kernel, bias])


def with_class_activation_map(classifier):
    """Adds the class activation map to a classifier.

    The head is linear over the pooled features, so its logit is a sum over places of the feature
    map: an average spreads a feature's share over all places, a maximum gives it to the places that
    have it. The map is scaled so that its mean over all places is the logit.

    Args:
        classifier: from `build_classifier`, trained; or one read back from a file.

    Returns:
        A `keras.Model` from `image` to a dictionary of `probability`, float32 `(batch, 1)`, and
        `cam`, float32 `(batch, height, width)`, on the feature map's grid.

    Reference:
        B. Zhou et al., Learning deep features for discriminative localization, CVPR 2016.
    """
    import keras

    names = [layer.name for layer in classifier.layers]
    pools = [name for name in ("average_pooling", "max_pooling") if name in names]
    feature_map = classifier.get_layer(pools[0]).input
    standardization = classifier.get_layer("standardization")
    kernel, bias = classifier.get_layer("logit").get_weights()
    deviation = np.maximum(np.sqrt(standardization.adapt_variance.numpy()), np.float32(_EPSILON))
    weights = (kernel[:, 0] / deviation).astype(np.float32)
    offset = float(bias[0] - standardization.adapt_mean.numpy() @ weights)
    places = feature_map.shape[1] * feature_map.shape[2]

    cam = offset
    for name, part in zip(pools, np.split(weights, len(pools)), strict=True):
        share = feature_map
        if name == "max_pooling":
            peak = keras.ops.max(feature_map, axis=(1, 2), keepdims=True)
            at_peak = keras.ops.cast(keras.ops.equal(feature_map, peak), "float32")
            count = keras.ops.sum(at_peak, axis=(1, 2), keepdims=True)
            share = feature_map * at_peak * (places / count)
        cam = cam + keras.ops.sum(share * part, axis=-1)
    cam = keras.layers.Activation("linear", name="cam")(cam)
    outputs = {"probability": classifier.output, "cam": cam}
    return keras.Model(classifier.input, outputs, name="hemorrhage_classifier_with_cam")
