"""The classifier: normalization, frozen backbones, pooling, standardization and a dense head.

The features of several backbones are concatenated. All layers are built into Keras, so that a saved
model loads with plain Keras, in safe mode. Training the head is the business of `training`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hemorrhage_tf.core.errors import OptionError
from hemorrhage_tf.models.backbones import BackboneSpec, normalize

POOLINGS = ("avg", "max", "avg_max")
CLASSIFIER = "hemorrhage_classifier"
SUBTYPE_LOGITS = "subtype_logits"  # the name of the dense layer

# Lower bound of a feature's standard deviation, which is 0 for a channel that never fires. The same
# value as in Keras' Normalization layer.
_EPSILON = 1e-7


@dataclass(frozen=True)
class Branch:
    """One of the backbones of a classifier.

    Attributes:
        spec: Its registry entry.
        backbone: The Keras model, from `build_backbone`.
    """

    spec: BackboneSpec
    backbone: Any


def check_pooling(pooling: str) -> str:
    """Check the name of a pooling.

    Returns:
        The name.

    Raises:
        OptionError: An unknown name; the message lists the accepted names.
    """
    if pooling not in POOLINGS:
        raise OptionError(f"--pooling {pooling}: unknown. Pass one of {', '.join(POOLINGS)}.")
    return pooling


def pool(feature_maps: Mapping[str, Any], pooling: str) -> Any:
    """Add global pooling to a functional model.

    Args:
        feature_maps: Keras tensors `(batch, height, width, channels)`, by the prefix of the layer
            names.
        pooling: "avg", "max" or "avg_max".

    Returns:
        Keras tensor `(batch, width)`: for each feature map in turn its averages, its maxima, or
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


def _feature_map(images: Any, backbone: Any, normalization: str, prefix: str = "") -> Any:
    """Add resizing, normalization and a backbone to a functional model."""
    import keras

    side = backbone.input_shape[1]
    if images.shape[1] != side:
        # Without antialiasing: TFLite has no operator for it, see docs/decisions.md.
        images = keras.layers.Resizing(side, side, "bilinear", name=f"{prefix}resizing")(images)
    return backbone(normalize(images, normalization, prefix), training=False)


def select_pooled(features: np.ndarray, pooling: str) -> np.ndarray:
    """Select the features of one pooling from features that were pooled both ways.

    Args:
        features: `(..., 2 * channels)`, average and max pooled, from `build_feature_model`.
        pooling: "avg", "max" or "avg_max".

    Returns:
        `(..., channels)`, or all `(..., 2 * channels)` for "avg_max".
    """
    channels = features.shape[-1] // 2
    if pooling == "avg":
        return features[..., :channels]
    if pooling == "max":
        return features[..., channels:]
    return features


def build_feature_model(backbone: Any, normalization: str, image_size: int | None = None) -> Any:
    """Build the model from pixels to features pooled both ways.

    Args:
        backbone: From `build_backbone`.
        normalization: The backbone's, see `BackboneSpec`.
        image_size: Side of the input, in pixels, which is resized to the backbone's own; None for
            the backbone's own. Defaults to None.

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
    """Standardize features like the classifier's standardization layer.

    Args:
        features: `(n, width)`.
        mean: `(width,)`.
        variance: `(width,)`.

    Returns:
        float32 `(n, width)`.
    """
    return ((features - mean) / deviation(variance)).astype(np.float32)


def deviation(variance: np.ndarray) -> np.ndarray:
    """Return the standard deviations that the standardization layer divides by."""
    return np.maximum(np.sqrt(variance), np.float32(_EPSILON))


def build_head(width: int, dropout: float, outputs: int = 1) -> Any:
    """Build the trainable part: dropout and dense units, whose outputs are the logits.

    The dense units start from zeros: the problem is convex, so a random start would only add noise
    to the result.

    Args:
        width: Number of pooled features.
        dropout: Share of features to drop in training, in [0, 1).
        outputs: Number of logits: that of any hemorrhage, and one for each subtype. Defaults to 1.

    Returns:
        A `keras.Model` from standardized `(batch, width)` to logits `(batch, outputs)`.
    """
    import keras

    features = keras.Input((width,), name="features")
    x = keras.layers.Dropout(dropout, name="dropout")(features) if dropout else features
    logits = _dense(x, 1, "logit")
    if outputs > 1:
        logits = _join_logits(logits, _dense(x, outputs - 1, SUBTYPE_LOGITS))
    return keras.Model(features, logits, name="head")


def _dense(x: Any, units: int, name: str) -> Any:
    import keras

    return keras.layers.Dense(units, kernel_initializer="zeros", name=name)(x)


def _join_logits(logit: Any, subtype_logits: Any) -> Any:
    import keras

    return keras.layers.Concatenate(name="logits")([logit, subtype_logits])


def build_classifier(
    branches: Sequence[Branch], pooling: str, dropout: float = 0.0, subtypes: int = 0
) -> Any:
    """Build the whole model, from pixels to probability.

    The side of its input is that of its largest backbone; for the others the model resizes it.

    Args:
        branches: The backbones, in the order of their features. Their batch-norm statistics do not
            move in training, because those layers are not trainable, also while other layers are
            fine-tuned.
        pooling: "avg", "max" or "avg_max".
        dropout: Share of features to drop in training, in [0, 1). Defaults to 0.
        subtypes: Number of subtypes with an output of their own. Defaults to 0.

    Returns:
        A `keras.Model` from `image`, float32 `(batch, size, size, 3)` in [0, 255], to
        `probability`, float32 `(batch, 1)` in [0, 1]. With subtypes it returns a dictionary of
        `probability` and `subtypes`, float32 `(batch, subtypes)` in [0, 1]: the lower one of the
        subtype's own probability and that of any hemorrhage. Standardization and head are
        untrained; see `set_head`.

    Raises:
        OptionError: An unknown pooling.
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
    probability = keras.layers.Activation("sigmoid", name="probability")(_dense(x, 1, "logit"))
    if not subtypes:
        return keras.Model(images, probability, name=CLASSIFIER)
    own = keras.layers.Activation("sigmoid", name="subtype_probabilities")(
        _dense(x, subtypes, SUBTYPE_LOGITS)
    )
    capped = keras.layers.Minimum(name="subtypes")([own, probability])
    return keras.Model(images, {"probability": probability, "subtypes": capped}, name=CLASSIFIER)


def outputs_of(classifier: Any) -> dict[str, Any]:
    """Return the outputs of a classifier by name.

    Args:
        classifier: From `build_classifier`, or loaded from a file.

    Returns:
        Keras tensors: `probability` `(batch, 1)`, and `subtypes` `(batch, subtypes)` if it has any.
    """
    outputs = classifier.output
    return outputs if isinstance(outputs, dict) else {"probability": outputs}


def logits_model(classifier: Any) -> Any:
    """Return the model from `image` to logits `(batch, outputs)`, as `build_head` orders them."""
    import keras

    logits = classifier.get_layer("logit").output
    if "subtypes" in outputs_of(classifier):
        logits = _join_logits(logits, classifier.get_layer(SUBTYPE_LOGITS).output)
    return keras.Model(classifier.input, logits)


def uncapped_model(classifier: Any) -> Any:
    """Return the model from `image` to `(batch, outputs)`: any hemorrhage, then each subtype alone.

    Its subtypes are not capped at any hemorrhage.
    """
    import keras

    outputs = outputs_of(classifier)
    joined = outputs["probability"]
    if "subtypes" in outputs:
        own = classifier.get_layer("subtype_probabilities").output
        joined = keras.layers.Concatenate(name="uncapped")([joined, own])
    return keras.Model(classifier.input, joined)


def head_weights(model: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return the weights of all dense units.

    Args:
        model: From `build_classifier`, `build_head` or `logits_model`.

    Returns:
        Kernel `(width, outputs)` and bias `(outputs,)`.
    """
    layers = _dense_layers(model)
    kernels, biases = zip(*(layer.get_weights() for layer in layers), strict=True)
    return np.concatenate(kernels, axis=1), np.concatenate(biases)


def _dense_layers(model: Any) -> list[Any]:
    names = {layer.name for layer in model.layers}
    return [model.get_layer(name) for name in ("logit", SUBTYPE_LOGITS) if name in names]


def _outputs_of_layers(model: Any) -> Iterator[tuple[Any, slice]]:
    """Yield each dense layer of a head with its part of the outputs, in their order."""
    begin = 0
    for dense in _dense_layers(model):
        yield dense, slice(begin, begin + dense.units)
        begin += dense.units


def set_head(
    classifier: Any, mean: np.ndarray, variance: np.ndarray, kernel: np.ndarray, bias: np.ndarray
) -> None:
    """Set the standardization and the head of a classifier.

    Args:
        classifier: From `build_classifier`.
        mean: `(width,)`, of the training features.
        variance: `(width,)`, of the training features.
        kernel: `(width, outputs)`, of the dense units.
        bias: `(outputs,)`, of the dense units.
    """
    layer = classifier.get_layer("standardization")
    layer.adapt_mean.assign(np.reshape(mean, layer.adapt_mean.shape))
    layer.adapt_variance.assign(np.reshape(variance, layer.adapt_variance.shape))
    layer.finalize_state()
    for dense, own in _outputs_of_layers(classifier):
        dense.set_weights([kernel[:, own], bias[own]])


def shift_logits(model: Any, shift: np.ndarray) -> None:
    """Add a constant to each logit, in the order of `build_head`.

    Args:
        model: A model with the dense units of a head.
        shift: `(outputs,)`.
    """
    for dense, own in _outputs_of_layers(model):
        dense.bias.assign_add(shift[own])


def pooling_layers(classifier: Any) -> list[Any]:
    """Return the pooling layers of a classifier, in the order of its features."""
    import keras

    pooled = classifier.get_layer("standardization").input
    previous = pooled._keras_history.operation
    tensors = previous.input if isinstance(previous, keras.layers.Concatenate) else [pooled]
    return [tensor._keras_history.operation for tensor in tensors]


def with_class_activation_map(classifier: Any) -> Any:
    """Add the class activation map to a classifier.

    The head is linear in the pooled features, so its logit is a sum over the positions of the
    feature map: an average distributes a feature's share over all positions, a maximum assigns it
    to the positions that attain it. The map is scaled so that its mean over all positions is the
    logit. The maps of several backbones are added on the finest grid, see `spread_matrix`.

    Args:
        classifier: A trained classifier, from `build_classifier` or loaded from a file.

    Returns:
        A `keras.Model` from `image` to a dictionary of the classifier's outputs and `cam`, float32
        `(batch, height, width)`, on the feature map's grid; it explains any hemorrhage.

    Reference:
        B. Zhou et al., Learning deep features for discriminative localization, CVPR 2016.
    """
    import keras

    standardization = classifier.get_layer("standardization")
    kernel, bias = classifier.get_layer("logit").get_weights()
    deviations = deviation(standardization.adapt_variance.numpy())
    weights = (kernel[:, 0] / deviations).astype(np.float32)
    offset = float(bias[0] - standardization.adapt_mean.numpy() @ weights)

    pools = pooling_layers(classifier)
    ends = np.cumsum([layer.output.shape[-1] for layer in pools])
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
    outputs = {**outputs_of(classifier), "cam": cam}
    return keras.Model(classifier.input, outputs, name="hemorrhage_classifier_with_cam")


def spread_matrix(source: int, target: int) -> np.ndarray:
    """Compute the matrix that resamples values from a coarse grid to a finer one by area.

    A cell of the finer grid averages the cells of the coarser one, weighted by overlap. So a
    constant map stays constant and every map keeps its mean, which interpolation does not guarantee
    if the sizes do not divide.

    Args:
        source: Cells of the coarser grid along one side.
        target: Cells of the finer grid along one side.

    Returns:
        float32 `(target, source)`; each row sums to 1, each column to target / source.
    """
    fine, coarse = np.arange(target)[:, np.newaxis], np.arange(source)
    # In units of 1 / (source * target) all edges are whole numbers.
    overlap = np.minimum((fine + 1) * source, (coarse + 1) * target)
    overlap = overlap - np.maximum(fine * source, coarse * target)
    return (np.maximum(overlap, 0) / source).astype(np.float32)
