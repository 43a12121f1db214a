from __future__ import annotations

import numpy as np
import pytest

from hemorrhage_tf.core.errors import OptionError
from hemorrhage_tf.models.backbones import backbone_spec, build_backbone, weights_hash
from hemorrhage_tf.models.classifier import (
    POOLINGS,
    Branch,
    build_classifier,
    build_feature_model,
    build_head,
    check_pooling,
    head_weights,
    logits_model,
    pool,
    select_pooled,
    set_head,
    spread_matrix,
    standardize,
    uncapped_model,
    with_class_activation_map,
)

SIZE = 24


def random_images(count: int = 3, seed: int = 0) -> np.ndarray:
    shape = (count, SIZE, SIZE, 3)
    return np.random.default_rng(seed).uniform(0, 255, shape).astype(np.float32)


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-np.asarray(x, np.float64)))


def pooled_by_hand(feature_map: np.ndarray, pooling: str) -> np.ndarray:
    average, maximum = feature_map.mean(axis=(1, 2)), feature_map.max(axis=(1, 2))
    both = np.concatenate([average, maximum], axis=1)
    return {"avg": average, "max": maximum, "avg_max": both}[pooling]


@pytest.fixture(scope="module")
def backbone():
    return build_backbone("tiny", "none", SIZE)


def trained(backbone, pooling: str = "avg_max", dropout: float = 0.0):
    """Return a classifier with a random head, and the values of the head."""
    width = 64 * (2 if pooling == "avg_max" else 1)
    rng = np.random.default_rng(5)
    mean = rng.normal(0, 0.2, width).astype(np.float32)
    variance = rng.uniform(0.05, 2, width).astype(np.float32)
    kernel = rng.normal(0, 0.3, (width, 1)).astype(np.float32)
    bias = np.array([0.4], np.float32)
    classifier = build_classifier([Branch(backbone_spec("tiny"), backbone)], pooling, dropout)
    set_head(classifier, mean, variance, kernel, bias)
    return classifier, (mean, variance, kernel, bias)


class TestPooling:
    @pytest.mark.parametrize("pooling", POOLINGS)
    def test_equals_numpy(self, pooling):
        import keras

        feature_map = np.random.default_rng(0).normal(size=(2, 3, 5, 4)).astype(np.float32)
        inputs = keras.Input((3, 5, 4))
        model = keras.Model(inputs, pool({"": inputs}, pooling))
        expected = pooled_by_hand(feature_map, pooling)
        np.testing.assert_allclose(model(feature_map), expected, atol=1e-6)

    @pytest.mark.parametrize("pooling", POOLINGS)
    def test_select_pooled_returns_the_same_features(self, pooling):
        feature_map = np.random.default_rng(0).normal(size=(6, 2, 2, 4))
        both = pooled_by_hand(feature_map, "avg_max")
        expected = pooled_by_hand(feature_map, pooling)
        np.testing.assert_array_equal(select_pooled(both, pooling), expected)
        stacked = select_pooled(both.reshape(2, 3, 8), pooling)
        np.testing.assert_array_equal(stacked, expected.reshape(2, 3, -1))

    def test_rejects_an_unknown_pooling_and_lists_the_accepted(self):
        with pytest.raises(OptionError, match="--pooling median: unknown. Pass one of avg, max"):
            check_pooling("median")

    def test_the_classifier_rejects_an_unknown_pooling(self, backbone):
        with pytest.raises(OptionError, match="--pooling median"):
            build_classifier([Branch(backbone_spec("tiny"), backbone)], "median")


class TestFeatureModel:
    def test_is_pooled_backbone_output_in_float32(self, backbone):
        images = random_images()
        model = build_feature_model(backbone, "symmetric")
        features = model(images)
        assert features.dtype == "float32"
        feature_map = backbone(images / 127.5 - 1, training=False).numpy()
        expected = pooled_by_hand(feature_map, "avg_max")
        np.testing.assert_allclose(features, expected, rtol=1e-4, atol=1e-5)


class TestStandardize:
    def test_equals_numpy(self):
        rng = np.random.default_rng(0)
        features = rng.normal(3, 2, (50, 4)).astype(np.float32)
        mean, variance = features.mean(axis=0), features.var(axis=0)
        standard = standardize(features, mean, variance)
        assert standard.dtype == np.float32
        np.testing.assert_allclose(standard.mean(axis=0), 0, atol=1e-5)
        np.testing.assert_allclose(standard.std(axis=0), 1, atol=1e-5)

    def test_equals_the_layer_of_the_classifier(self, backbone):
        classifier, (mean, variance, _, _) = trained(backbone)
        layer = classifier.get_layer("standardization")
        features = np.random.default_rng(1).normal(0, 3, (10, 128)).astype(np.float32)
        np.testing.assert_allclose(
            standardize(features, mean, variance), layer(features), rtol=1e-5, atol=1e-5
        )

    def test_a_channel_that_never_varies_stays_finite(self, backbone):
        classifier, (mean, variance, kernel, bias) = trained(backbone)
        variance = variance.copy()
        variance[:3] = 0
        set_head(classifier, mean, variance, kernel, bias)
        features = np.tile(mean, (2, 1))
        standard = standardize(features, mean, variance)
        assert np.isfinite(standard).all() and not standard.any()
        layer = classifier.get_layer("standardization")
        np.testing.assert_allclose(layer(features), standard, atol=1e-6)


@pytest.fixture(scope="module")
def branches():
    """Two backbones with different input sizes, feature grids and widths."""
    tiny = build_backbone("tiny", "none", SIZE, "block2_out")
    phantomnet = build_backbone("phantomnet", "none", 32)
    return [Branch(backbone_spec("tiny"), tiny), Branch(backbone_spec("phantomnet"), phantomnet)]


class TestSeveralBackbones:
    IMAGES = np.random.default_rng(2).uniform(0, 255, (3, 32, 32, 3)).astype(np.float32)

    def trained(self, branches, pooling):
        classifier = build_classifier(branches, pooling)
        width = classifier.get_layer("logit").input.shape[-1]
        rng = np.random.default_rng(4)
        kernel = rng.normal(0, 0.3, (width, 1)).astype(np.float32)
        values = rng.normal(0, 0.2, width), rng.uniform(0.05, 2, width), kernel
        set_head(classifier, *values, np.array([-0.3], np.float32))
        return classifier, values

    def feature_maps(self, branches):
        import tensorflow as tf

        resized = tf.image.resize(self.IMAGES, (SIZE, SIZE))
        inputs = [resized, self.IMAGES]
        return [
            branch.backbone(images / 127.5 - 1).numpy()
            for branch, images in zip(branches, inputs, strict=True)
        ]

    @pytest.mark.parametrize("pooling", POOLINGS)
    def test_features_are_concatenated_in_order(self, branches, pooling):
        classifier, (mean, variance, kernel) = self.trained(branches, pooling)
        assert classifier.input_shape == (None, 32, 32, 3)
        maps = self.feature_maps(branches)
        features = np.concatenate([pooled_by_hand(each, pooling) for each in maps], axis=1)
        expected = sigmoid((features - mean) / np.sqrt(variance) @ kernel - 0.3)
        assert np.ptp(expected) > 1e-3
        np.testing.assert_allclose(classifier(self.IMAGES), expected, atol=1e-5)

    def test_each_backbones_features_equal_its_feature_model(self, branches):
        maps = self.feature_maps(branches)
        for branch, feature_map in zip(branches, maps, strict=True):
            model = build_feature_model(branch.backbone, branch.spec.normalization, 32)
            expected = pooled_by_hand(feature_map, "avg_max")
            np.testing.assert_allclose(model(self.IMAGES), expected, rtol=1e-4, atol=1e-5)

    @pytest.mark.parametrize(
        "pooling, order", [("avg", 1), ("max", 1), ("avg_max", 1), ("avg_max", -1)]
    )
    def test_mean_of_the_class_activation_map_is_the_logit(
        self, branches, pooling, order, tmp_path
    ):
        import keras

        classifier, _ = self.trained(branches[::order], pooling)
        classifier.save(tmp_path / "model.keras")
        classifier = keras.saving.load_model(tmp_path / "model.keras", safe_mode=True)
        cam = with_class_activation_map(classifier)(self.IMAGES)["cam"].numpy()
        assert cam.shape == (3, 6, 6)  # of 6 x 6 and 4 x 4
        logits = keras.Model(classifier.input, classifier.get_layer("logit").output)(self.IMAGES)
        np.testing.assert_allclose(cam.mean(axis=(1, 2)), logits[:, 0], atol=1e-5)

    def test_the_class_activation_map_averages_over_overlapping_cells(self, branches):
        classifier, (_, variance, kernel) = self.trained(branches, "avg")
        mean = np.zeros_like(variance)
        set_head(classifier, mean, variance, kernel, np.zeros(1))
        cam = with_class_activation_map(classifier)(self.IMAGES)["cam"].numpy()
        fine, coarse = self.feature_maps(branches)
        weights = (kernel[:, 0] / np.sqrt(variance)).astype(np.float32)
        # A grid that both grids divide.
        parts = np.repeat(np.repeat(fine @ weights[:32], 2, 1), 2, 2)
        parts += np.repeat(np.repeat(coarse @ weights[32:], 3, 1), 3, 2)
        expected = parts.reshape(3, 6, 2, 6, 2).mean(axis=(2, 4))
        np.testing.assert_allclose(cam, expected, atol=1e-5)


class TestSpreadMatrix:
    @pytest.mark.parametrize("source, target", [(1, 1), (5, 5), (3, 6), (14, 20), (7, 20), (1, 9)])
    def test_preserves_constant_maps_and_means(self, source, target):
        matrix = spread_matrix(source, target)
        assert matrix.shape == (target, source) and (matrix >= 0).all()
        np.testing.assert_allclose(matrix.sum(axis=1), 1, atol=1e-6)
        np.testing.assert_allclose(matrix.sum(axis=0), target / source, atol=1e-5)

    def test_repeats_cells_if_the_sizes_divide(self):
        expected = np.repeat(np.eye(3), 4, axis=0)
        np.testing.assert_array_equal(spread_matrix(3, 12), expected)


class TestHead:
    @pytest.mark.parametrize("dropout", [0.0, 0.5])
    def test_is_linear_and_starts_from_zeros(self, dropout):
        head = build_head(4, dropout)
        x = np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32)
        assert not head(x).numpy().any()
        kernel, bias = np.arange(4, dtype=np.float32)[:, np.newaxis], np.array([2.0], np.float32)
        head.get_layer("logit").set_weights([kernel, bias])
        np.testing.assert_allclose(head(x, training=False), x @ kernel + bias, rtol=1e-5)


class TestClassifier:
    @pytest.mark.parametrize("pooling", POOLINGS)
    def test_is_sigmoid_of_the_head_on_the_features(self, backbone, pooling):
        images = random_images(5)
        classifier, (mean, variance, kernel, bias) = trained(backbone, pooling)
        features = build_feature_model(backbone, "symmetric")(images).numpy()
        standard = (select_pooled(features, pooling) - mean) / np.sqrt(variance)
        expected = sigmoid(standard @ kernel + bias)
        np.testing.assert_allclose(classifier(images), expected, atol=1e-5)
        assert np.ptp(expected) > 1e-3  # the images differ

    def test_contract_of_input_and_output(self, backbone):
        classifier, _ = trained(backbone)
        assert [tensor.name for tensor in classifier.inputs] == ["image"]
        assert classifier.output_names == ["probability"]
        assert classifier.input_shape == (None, SIZE, SIZE, 3)
        assert classifier.inputs[0].dtype == "float32"
        output = classifier(random_images(4)).numpy()
        assert output.shape == (4, 1) and output.dtype == np.float32
        assert ((output >= 0) & (output <= 1)).all()

    def test_probability_stays_in_range_for_extreme_logits(self, backbone):
        classifier, (mean, variance, kernel, _) = trained(backbone)
        for bias in (-1e4, 1e4):
            set_head(classifier, mean, variance, kernel, np.array([bias], np.float32))
            assert classifier(random_images(1)).numpy().item() == float(bias > 0)

    def test_untrained_predicts_one_half(self, backbone):
        classifier = build_classifier([Branch(backbone_spec("tiny"), backbone)], "avg")
        np.testing.assert_allclose(classifier(random_images()), 0.5)

    def test_batch_norm_statistics_do_not_move_in_training(self):
        backbone = build_backbone("tiny", "none", SIZE)
        before = weights_hash(backbone)
        classifier, _ = trained(backbone, dropout=0.5)
        for seed in range(3):
            classifier(random_images(8, seed), training=True)
        assert weights_hash(backbone) == before

    def test_a_frozen_backbones_own_dropout_is_off_in_training(self):
        # EfficientNetV2 drops whole residual branches in training.
        import keras

        backbone = build_backbone("efficientnet_v2_b0", "none", 32)
        branch = Branch(backbone_spec("efficientnet_v2_b0"), backbone)
        classifier = build_classifier([branch], "avg")
        features = keras.Model(classifier.input, classifier.get_layer("average_pooling").output)
        images = np.random.default_rng(0).uniform(0, 255, (4, 32, 32, 3)).astype(np.float32)
        expected = features(images, training=False).numpy()
        training = features(images, training=True).numpy()
        np.testing.assert_allclose(training, expected, atol=1e-3 * np.abs(expected).max())

    def test_dropout_is_on_in_training_only(self, backbone):
        plain, _ = trained(backbone)
        dropping, _ = trained(backbone, dropout=0.5)
        images = random_images()
        np.testing.assert_allclose(dropping(images, training=False), plain(images), atol=1e-6)
        assert not np.allclose(dropping(images, training=True), plain(images), atol=1e-4)

    def test_saved_model_loads_with_plain_keras_in_safe_mode(self, backbone, tmp_path):
        import keras

        classifier, _ = trained(backbone, dropout=0.2)
        images = random_images(4)
        classifier.save(tmp_path / "model.keras")
        loaded = keras.saving.load_model(tmp_path / "model.keras", safe_mode=True)
        np.testing.assert_allclose(loaded(images), classifier(images), atol=1e-6)
        layers = [*loaded.layers, *loaded.get_layer("tiny").layers]
        # All are built in, so that a program needs Keras alone to load the file.
        assert {type(layer).__module__.split(".")[0] for layer in layers} == {"keras"}


class TestSubtypes:
    """A classifier with an output for each subtype, capped at any hemorrhage."""

    @pytest.fixture(scope="class")
    @classmethod
    def both(cls, backbone):
        """A classifier with three subtypes, and one without them but the same first unit."""
        single, (mean, variance, kernel, bias) = trained(backbone)
        rng = np.random.default_rng(1)
        kernels = np.hstack([kernel, rng.normal(0, 0.3, (len(kernel), 3))]).astype(np.float32)
        biases = np.append(bias, [0.3, -0.2, 3.0]).astype(np.float32)
        branch = Branch(backbone_spec("tiny"), backbone)
        several = build_classifier([branch], "avg_max", subtypes=3)
        set_head(several, mean, variance, kernels, biases)
        return several, single

    def test_subtypes_are_their_own_probabilities_but_at_most_that_of_any(self, both):
        several, single = both
        images = random_images(6)
        outputs = several(images)
        any_hemorrhage = single(images).numpy()
        np.testing.assert_array_equal(outputs["probability"], any_hemorrhage)
        own = uncapped_model(several)(images).numpy()
        np.testing.assert_array_equal(own[:, :1], any_hemorrhage)
        np.testing.assert_array_equal(outputs["subtypes"], np.minimum(own[:, 1:], any_hemorrhage))
        assert (own[:, 1:] > any_hemorrhage).any()  # so that the cap does something
        np.testing.assert_allclose(sigmoid(logits_model(several)(images)), own, atol=1e-6)

    def test_the_weights_of_all_dense_units_are_read_as_they_were_set(self, both):
        several, single = both
        kernel, bias = head_weights(several)
        assert kernel.shape == (128, 4) and bias[3] == np.float32(3.0)
        np.testing.assert_array_equal(kernel[:, :1], head_weights(single)[0])
        head = build_head(128, 0.0, 4)
        assert head.output_shape == (None, 4)
        np.testing.assert_array_equal(head_weights(head)[0], 0)

    def test_the_map_explains_any_hemorrhage_and_the_file_loads_in_safe_mode(self, both, tmp_path):
        import keras

        several, single = both
        images = random_images(2)
        several.save(tmp_path / "model.keras")
        loaded = keras.saving.load_model(tmp_path / "model.keras", compile=False, safe_mode=True)
        explained = with_class_activation_map(loaded)(images)
        expected = with_class_activation_map(single)(images)
        assert set(explained) == {"probability", "subtypes", "cam"}
        np.testing.assert_allclose(explained["cam"], expected["cam"], atol=1e-5)
        np.testing.assert_allclose(explained["subtypes"], several(images)["subtypes"], atol=1e-6)
