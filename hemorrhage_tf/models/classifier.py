"""The classifier: normalization, frozen backbones, pooling, standardization and a dense head.

The features of several backbones stand side by side. There are only built-in Keras layers, so that
a saved model loads with plain Keras, in safe mode.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hemorrhage_tf.core.errors import OptionError
from hemorrhage_tf.models.backbones import BackboneSpec, normalize

POOLINGS = ("avg", "max", "avg_max")

# What a feature's standard deviation is raised to before dividing: a channel that never fires
# would otherwise be divided by zero. The same value as Keras' Normalization layer.
_EPSILON = 1e-7


@dataclass(frozen=True)
class Branch:
    """One of the backbones that a classifier sees a picture through.

    Attributes:
        spec: its registry entry.
        backbone: the Keras model, from `build_backbone`.
    """

    spec: BackboneSpec
    backbone: Any


def check_pooling(pooling: str) -> str:
    """Returns the pooling's name; raises OptionError for an unknown one."""
    if pooling not in POOLINGS:
        raise OptionError(f"--pooling {pooling}: accepted are {', '.join(POOLINGS)}")
    return pooling


def pool(feature_maps: Mapping[str, Any], pooling: str):
    """Adds global pooling to a functional model.

    Args:
        feature_maps: Keras tensors `(batch, height, width, channels)`, by what the names of their
            layers begin with.
        pooling: "avg", "max" or "avg_max".

    Returns:
        Keras tensor `(batch, width)`: of each feature map in turn its averages, its maxima, or
        both.
    """
    import keras

    pooled = []
    for prefix, feature_map in feature_maps.items():
        if pooling in ("avg", "avg_max"):
            average = keras.layers.GlobalAveragePooling2D(name=f"{prefix}average_pooling")
            pooled.append(average(feature_map))
        if pooling in ("max", "avg_max"):
            pooled.append(keras.layers.GlobalMaxPooling2D(name=f"{prefix}max_pooling")(feature_map))
    return pooled[0] if len(pooled) == 1 else keras.layers.Concatenate(name="pooling")(pooled)


def _feature_map(images, backbone, normalization: str, prefix: str = ""):
    """Adds a backbone to a functional model, with what brings the pictures to it."""
    import keras

    side = backbone.input_shape[1]
    if images.shape[1] != side:
        # Without antialiasing, which no TFLite operator has. From 224 to 192 pixels that is also
        # the better way: 25 of the Kaggle slices then differ from slices brought to 192 at once by
        # 1.8 gray levels (root mean square), with an antialiased triangle filter by 2.4.
        images = keras.layers.Resizing(side, side, "bilinear", name=f"{prefix}resizing")(images)
    return backbone(normalize(images, normalization, prefix), training=False)


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


def build_feature_model(backbone, normalization: str, image_size: int | None = None):
    """Builds the model from pixels to features pooled both ways.

    Args:
        backbone: from `build_backbone`.
        normalization: the backbone's, see `BackboneSpec`.
        image_size: side of the pictures, which are resized to the backbone's own; None for that.

    Returns:
        A `keras.Model` from `(batch, size, size, 3)` in [0, 255] to float32
        `(batch, 2 * channels)`, average and max pooled.
    """
    import keras

    side = backbone.input_shape[1] if image_size is None else image_size
    images = keras.Input((side, side, 3), name="image")
    feature_map = _feature_map(images, backbone, normalization)
    return keras.Model(images, keras.ops.cast(pool({"": feature_map}, "avg_max"), "float32"))


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


def build_classifier(branches: Sequence[Branch], pooling: str, dropout: float = 0.0):
    """Builds the whole model, from pixels to probability.

    The side of its input is that of its largest backbone; for the others it resizes the pictures.

    Args:
        branches: the backbones, in the order of their features. Their batch-norm statistics do not
            move in training, because those layers are not trainable, also while others are
            fine-tuned.
        pooling: "avg", "max" or "avg_max".
        dropout: share of features dropped in training. Default 0.

    Returns:
        A `keras.Model` from `image`, float32 `(batch, size, size, 3)` in [0, 255], to
        `probability`, float32 `(batch, 1)` in [0, 1]. Its standardization and head are still
        those of an untrained model; see `set_head`.
    """
    import keras

    side = max(branch.backbone.input_shape[1] for branch in branches)
    images = keras.Input((side, side, 3), name="image")
    feature_maps = {}
    for branch in branches:
        prefix = f"{branch.spec.name}_" if len(branches) > 1 else ""
        feature_maps[prefix] = _feature_map(
            images, branch.backbone, branch.spec.normalization, prefix
        )
    x = pool(feature_maps, check_pooling(pooling))
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
    have it. The map is scaled so that its mean over all places is the logit. Those of several
    backbones are added up on the finest grid, see `spread_matrix`.

    Args:
        classifier: from `build_classifier`, trained; or one read back from a file.

    Returns:
        A `keras.Model` from `image` to a dictionary of `probability`, float32 `(batch, 1)`, and
        `cam`, float32 `(batch, height, width)`, on the feature map's grid.

    Reference:
        B. Zhou et al., Learning deep features for discriminative localization, CVPR 2016.
    """
    import keras

    standardization = classifier.get_layer("standardization")
    kernel, bias = classifier.get_layer("logit").get_weights()
    deviation = np.maximum(np.sqrt(standardization.adapt_variance.numpy()), np.float32(_EPSILON))
    weights = (kernel[:, 0] / deviation).astype(np.float32)
    offset = float(bias[0] - standardization.adapt_mean.numpy() @ weights)

    before = standardization.input._keras_history.operation
    beside = isinstance(before, keras.layers.Concatenate)
    pooled = before.input if beside else [standardization.input]
    ends = np.cumsum([tensor.shape[-1] for tensor in pooled])
    pools = [tensor._keras_history.operation for tensor in pooled]
    finest = max((layer.input.shape[1:3] for layer in pools), key=np.prod)
    cams = {finest: offset}
    for layer, part in zip(pools, np.split(weights, ends[:-1]), strict=True):
        feature_map = layer.input
        grid = feature_map.shape[1:3]
        share = feature_map
        if isinstance(layer, keras.layers.GlobalMaxPooling2D):
            peak = keras.ops.max(feature_map, axis=(1, 2), keepdims=True)
            at_peak = keras.ops.cast(keras.ops.equal(feature_map, peak), "float32")
            count = keras.ops.sum(at_peak, axis=(1, 2), keepdims=True)
            share = feature_map * at_peak * (grid[0] * grid[1] / count)
        share = keras.ops.sum(share * part, axis=-1)
        cams[grid] = cams[grid] + share if grid in cams else share
    cam = cams.pop(finest)
    for (height, width), coarse in cams.items():
        down = spread_matrix(height, finest[0])
        across = spread_matrix(width, finest[1]).T
        cam = cam + keras.ops.matmul(keras.ops.matmul(down, coarse), across)
    cam = keras.layers.Activation("linear", name="cam")(cam)
    outputs = {"probability": classifier.output, "cam": cam}
    return keras.Model(classifier.input, outputs, name="hemorrhage_classifier_with_cam")


def spread_matrix(source: int, target: int) -> np.ndarray:
    """Makes the matrix that spreads values on a coarse grid over a finer one.

    A place of the finer grid takes from each place of the coarser one by how much of it that
    covers. So a map that is the same everywhere stays so, and every map keeps its mean, which
    interpolation would not where the sizes do not divide.

    Args:
        source: places of the coarser grid along one side.
        target: places of the finer one.

    Returns:
        float32 `(target, source)`; each row adds up to 1, each column to target / source.
    """
    fine, coarse = np.arange(target)[:, np.newaxis], np.arange(source)
    # In units of 1 / (source * target) all edges are whole numbers.
    overlap = np.minimum((fine + 1) * source, (coarse + 1) * target)
    overlap = overlap - np.maximum(fine * source, coarse * target)
    return (np.maximum(overlap, 0) / source).astype(np.float32)
