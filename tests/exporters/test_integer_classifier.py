from __future__ import annotations

import keras
import numpy as np
import pytest

from hemorrhage_tf.exporters.integer_classifier import integer_classifier
from hemorrhage_tf.models.backbones import backbone_spec, build_backbone
from hemorrhage_tf.models.classifier import (
    Branch,
    build_classifier,
    outputs_of,
    set_head,
    shift_logits,
)


def draw_images(side):
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (4, side, side, 3)).astype(np.float32)


@pytest.mark.parametrize("pooling", ["avg", "max", "avg_max"])
def test_every_pooling_predicts_the_same(trained_classifier, pooling):
    classifier, images = trained_classifier(pooling), draw_images(32)
    expected = classifier(images, training=False).numpy()
    assert np.ptp(expected) > 1e-3
    rebuilt = integer_classifier(classifier)(images, training=False)
    np.testing.assert_allclose(rebuilt["probability"], expected, atol=1e-6)


def test_several_backbones_and_subtypes_predict_the_same():
    names, rng = ("tiny", "phantomnet"), np.random.default_rng(1)
    branches = [Branch(backbone_spec(name), build_backbone(name, "none", 64)) for name in names]
    classifier = build_classifier(branches, "avg_max", subtypes=5)
    width = classifier.get_layer("standardization").output.shape[-1]
    mean, variance = rng.normal(size=width), rng.uniform(0.1, 4, width)
    set_head(classifier, mean, variance, rng.normal(0, 0.05, (width, 6)), rng.normal(size=6))
    images = draw_images(classifier.input_shape[1])
    expected = keras.Model(classifier.input, outputs_of(classifier))(images, training=False)
    rebuilt = integer_classifier(classifier)
    found = rebuilt(images, training=False)
    assert expected.keys() == {"probability", "subtypes"}
    assert found.keys() == {*expected, "logits"}
    for name, values in expected.items():
        np.testing.assert_allclose(found[name], values, atol=1e-5)
    layers = rebuilt._flatten_layers()
    assert not any(isinstance(each, keras.layers.UpSampling2D) for each in layers)


def test_the_head_is_a_copy_and_the_backbone_is_not(trained_classifier):
    classifier, images = trained_classifier("avg_max"), draw_images(32)
    before = classifier(images, training=False).numpy()
    rebuilt = integer_classifier(classifier)
    logits = rebuilt(images, training=False)["logits"].numpy()
    shift_logits(rebuilt.get_layer("head"), np.array([0.5], np.float32))
    shifted = rebuilt(images, training=False)["logits"].numpy()
    np.testing.assert_allclose(shifted, logits + 0.5, atol=1e-6)
    np.testing.assert_array_equal(classifier(images, training=False), before)
