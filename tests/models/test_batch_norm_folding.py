from __future__ import annotations

import numpy as np
import pytest

from hemorrhage_tf.models.backbones import backbone_spec, build_backbone, weights_hash
from hemorrhage_tf.models.batch_norm_folding import fold_batch_normalization
from hemorrhage_tf.models.classifier import Branch, build_classifier


def normalizations(model) -> list:
    import keras

    return [layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)]


def randomize(model, seed: int = 0):
    """Set the batch normalizations as if they had been trained."""
    rng = np.random.default_rng(seed)
    for layer in normalizations(model):
        shape = layer.moving_mean.shape
        layer.moving_mean.assign(rng.normal(0, 0.1, shape))
        layer.moving_variance.assign(rng.uniform(0.5, 1.5, shape))
        if layer.scale:
            layer.gamma.assign(rng.normal(1, 0.1, shape))
        if layer.center:
            layer.beta.assign(rng.normal(0, 0.1, shape))
    return model


def random_images(model, count: int = 2) -> np.ndarray:
    shape = (count, *model.input_shape[1:])
    return np.random.default_rng(1).uniform(-1, 1, shape).astype(np.float32)


def relative_error(model, copy) -> float:
    images = random_images(model)
    expected = model(images, training=False).numpy().astype(np.float64)
    folded = copy(images, training=False).numpy().astype(np.float64)
    return np.abs(folded - expected).max() / np.abs(expected).max()


class TestEquality:
    @pytest.mark.parametrize(
        "name",
        [
            "tiny",
            "mobilenet_v2",
            pytest.param("resnet50", marks=pytest.mark.slow),
            pytest.param("densenet169", marks=pytest.mark.slow),
        ],
    )
    def test_computes_the_same_features_and_leaves_the_original_unchanged(self, name):
        backbone = randomize(build_backbone(name, "none", 32))
        before = weights_hash(backbone)
        copy = fold_batch_normalization(backbone, "float32")
        assert relative_error(backbone, copy) < 1e-4
        assert len(normalizations(copy)) < len(normalizations(backbone))
        assert weights_hash(backbone) == before
        # The input layer's name is not preserved.
        names = [[layer.name for layer in model.layers[1:]] for model in (copy, backbone)]
        assert names[0] == names[1]
        assert not copy.trainable_variables

    def test_the_copy_shares_no_weights_with_the_original(self):
        backbone = randomize(build_backbone("tiny", "none", 16))
        copy = fold_batch_normalization(backbone, "float32")
        before = weights_hash(copy)
        backbone.set_weights([np.zeros_like(weight) for weight in backbone.get_weights()])
        assert weights_hash(copy) == before

    def test_tiny_has_no_normalization_left(self):
        copy = fold_batch_normalization(build_backbone("tiny", "none", 16), "float32")
        assert not normalizations(copy)

    def test_folds_a_backbone_that_is_in_use(self):
        backbone = randomize(build_backbone("tiny", "none", 16))
        for _ in range(2):
            build_classifier([Branch(backbone_spec("tiny"), backbone)], "avg")
            fold_batch_normalization(backbone, "float32")
        copy = fold_batch_normalization(backbone, "float32")
        assert not normalizations(copy)
        assert relative_error(backbone, copy) < 1e-5

    @pytest.mark.parametrize("layer", ["block2_convolution", "block2_normalization", "block2_out"])
    def test_backbone_that_ends_at_any_kind_of_layer(self, layer):
        # Up to the convolution, its normalization is not part of the backbone.
        backbone = randomize(build_backbone("tiny", "none", 16, layer))
        assert relative_error(backbone, fold_batch_normalization(backbone, "float32")) < 1e-5


def small(kind: str):
    """Build a functional model with a batch normalization in a special place."""
    import keras

    layers = keras.layers
    inputs = keras.Input((6, 6, 3))
    if kind == "used twice":
        x = layers.Conv2D(4, 3, name="convolution")(inputs)
        x = layers.Add()([layers.BatchNormalization()(x), layers.ReLU()(x)])
    elif kind == "two normalizations":
        x = layers.Conv2D(4, 3, name="convolution")(inputs)
        x = layers.Add()([layers.BatchNormalization()(x), layers.BatchNormalization()(x)])
    elif kind == "shared convolution":
        convolution = layers.Conv2D(3, 3, padding="same", name="convolution")
        x = convolution(layers.BatchNormalization()(convolution(inputs)))
    elif kind == "activated":
        x = layers.Conv2D(4, 3, activation="relu", name="convolution")(inputs)
        x = layers.BatchNormalization()(x)
    elif kind == "other axis":
        x = layers.Conv2D(4, 3, name="convolution")(inputs)
        x = layers.BatchNormalization(axis=1)(x)
    elif kind == "after the input":
        x = layers.Conv2D(4, 3, name="convolution")(layers.BatchNormalization()(inputs))
    elif kind == "with bias":
        x = layers.Conv2D(4, 3, bias_initializer="normal", name="convolution")(inputs)
        x = layers.BatchNormalization()(x)
    elif kind == "no scale":
        x = layers.Conv2D(4, 3, use_bias=False, name="convolution")(inputs)
        x = layers.BatchNormalization(scale=False)(x)
    elif kind == "no center":
        x = layers.Conv2D(4, 3, use_bias=False, name="convolution")(inputs)
        x = layers.BatchNormalization(center=False)(x)
    elif kind == "depthwise":
        x = layers.DepthwiseConv2D(3, depth_multiplier=2, name="convolution")(inputs)
        x = layers.BatchNormalization()(x)
    return randomize(keras.Model(inputs, x))


class TestSpecialPlaces:
    @pytest.mark.parametrize(
        "kind",
        [
            "used twice",
            "two normalizations",
            "shared convolution",
            "activated",
            "other axis",
            "after the input",
        ],
    )
    def test_is_not_folded(self, kind):
        model = small(kind)
        copy = fold_batch_normalization(model, "float32")
        assert len(normalizations(copy)) == len(normalizations(model))
        assert relative_error(model, copy) < 1e-6
        for left, right in zip(
            copy.get_layer("convolution").get_weights(),
            model.get_layer("convolution").get_weights(),
            strict=True,
        ):
            np.testing.assert_array_equal(left, right)

    @pytest.mark.parametrize("kind", ["with bias", "no scale", "no center", "depthwise"])
    def test_is_folded(self, kind):
        model = small(kind)
        copy = fold_batch_normalization(model, "float32")
        assert not normalizations(copy)
        assert relative_error(model, copy) < 1e-5


def test_bfloat16_copy_is_close_and_has_float32_variables():
    backbone = randomize(build_backbone("tiny", "none", 32))
    copy = fold_batch_normalization(backbone, "mixed_bfloat16")
    assert {weight.dtype for weight in copy.weights} == {"float32"}
    assert copy(random_images(backbone)).dtype == "bfloat16"
    assert 0 < relative_error(backbone, copy) < 0.03
