from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from plain_phantoms import draw_phantom

from hemorrhage_tf.core.errors import OptionError
from hemorrhage_tf.core.progress import Progress
from hemorrhage_tf.datasets.manifest import read_manifest
from hemorrhage_tf.datasets.slice_index import build_slice_index
from hemorrhage_tf.imaging.readers import read_slice
from hemorrhage_tf.models.backbones import backbone_spec, build_backbone, weights_hash
from hemorrhage_tf.models.classifier import build_feature_model
from hemorrhage_tf.pipeline.model_input import ModelInput
from hemorrhage_tf.training.distributed.single_process import SINGLE
from hemorrhage_tf.training.features.extraction import FeatureSource
from hemorrhage_tf.training.fine_tuning import layers_from
from hemorrhage_tf.training.head_solver import (
    HeadWeights,
    class_weight,
    feature_statistics,
    solve_head,
)
from hemorrhage_tf.training.settings import FitSettings
from hemorrhage_tf.training.trainer import Part, Trainer, make_part

SIZE = 16
INPUT = ModelInput(SIZE)
COUNT = 20
NONE = np.array([], np.int64)
TRAIN, TEST = np.arange(12), np.arange(12, COUNT)


@pytest.fixture(scope="module")
def slices(tmp_path_factory):
    folder = tmp_path_factory.mktemp("slices")
    for index in range(COUNT):
        path = folder / ("normal", "hemorrhage")[index % 2] / f"{index:02d}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(draw_phantom(3, index, index % 2)).save(path)
    # Both classes in each part, whatever the order of the folders.
    manifest = read_manifest(folder)
    records = sorted(manifest.records, key=lambda record: record.path.name)
    return build_slice_index(
        type(manifest)(tuple(records), folder, "class folders"), Progress(quiet=True)
    )


def make_trainer(slices, cache: Path, policy: str = "float32", quiet: bool = True, **settings):

    values = {"backbone": "tiny", "image_size": SIZE, "views": 2, "solver": "adam", "epochs": 3}
    chosen = FitSettings(**{**values, "batch_size": 5, "learning_rate": 0.01, **settings})
    backbone = build_backbone("tiny", "none", SIZE, None, 0)
    spec = backbone_spec("tiny")
    source = FeatureSource(spec, backbone, weights_hash(backbone), None, INPUT, "float32")
    progress = Progress(quiet=quiet)
    trainer = Trainer(slices, chosen, [source], [policy], SINGLE, progress, cache)
    everything = np.arange(len(slices))
    trainer.prepare(everything, everything)
    return trainer, backbone


def train(trainer, train_on=TRAIN, test=TEST, seed=0, advance=lambda steps: None):
    return trainer.train(Part(train_on, NONE, seed), test, advance)


def predict_files(model, slices, indices) -> np.ndarray:
    paths = [slices.manifest.records[index].path for index in indices]
    return model(np.stack([INPUT(read_slice(path)) for path in paths])).numpy()[:, 0]


class TestClassWeight:
    @pytest.mark.parametrize("positives", [1, 7, 20, 39])
    def test_is_that_of_scikit_learn(self, positives):
        from sklearn.utils.class_weight import compute_sample_weight

        labels = np.random.default_rng(0).permutation(np.arange(40) < positives).astype(np.int64)
        found = class_weight(labels, "balanced")
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, compute_sample_weight("balanced", labels), rtol=1e-6)
        sums = [found[labels == label].sum() for label in (0, 1)]
        np.testing.assert_allclose(sums[0], sums[1], rtol=1e-5)

    def test_none(self):
        np.testing.assert_array_equal(class_weight(np.array([0, 1, 1]), "none"), [1, 1, 1])

    def test_one_class_only_is_finite(self):
        assert np.isfinite(class_weight(np.ones(3, np.int64), "balanced")).all()


class TestFeatureStatistics:
    def test_against_numpy(self):
        x = np.random.default_rng(0).normal(5, 3, (50, 4)).astype(np.float32)
        mean, variance = feature_statistics(x)
        assert mean.dtype == variance.dtype == np.float32
        np.testing.assert_allclose(mean, x.mean(axis=0), rtol=1e-5)
        np.testing.assert_allclose(variance, x.var(axis=0), rtol=1e-4)

    def test_a_large_offset_does_not_eat_the_variance(self):
        x = np.random.default_rng(0).normal(0, 1, (1000, 2)) + 1000
        _, variance = feature_statistics(x.astype(np.float32))
        np.testing.assert_allclose(variance, x.var(axis=0), rtol=1e-2)

    def test_floor(self):
        rng = np.random.default_rng(0)
        x = np.stack([rng.normal(0, 10, 100), np.full(100, 3.0), rng.normal(0, 1e-6, 100)], axis=1)
        _, variance = feature_statistics(x)
        floor = x.var(axis=0).mean() * 1e-6
        np.testing.assert_allclose(variance[1:], floor, rtol=1e-5)
        np.testing.assert_allclose(variance[0], x[:, 0].var(), rtol=1e-5)

    def test_features_that_never_vary(self):
        _, variance = feature_statistics(np.ones((4, 3), np.float32))
        assert (variance > 0).all() and np.isfinite(1 / np.sqrt(variance)).all()


class TestHead:
    def test_probabilities(self):
        rng = np.random.default_rng(0)
        x, mean, kernel = rng.normal(size=(6, 3)), rng.normal(size=3), rng.normal(size=(3, 1))
        variance, bias = rng.uniform(0.5, 2, 3), np.array([0.3])
        found = HeadWeights(mean, variance, kernel, bias).probabilities(x)
        expected = 1 / (1 + np.exp(-(((x - mean) / np.sqrt(variance)) @ kernel + bias)[:, 0]))
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, expected, rtol=1e-5)

    @pytest.mark.parametrize("bias", [-1e4, 1e4])
    def test_extreme_logits_stay_in_range(self, bias):
        head = HeadWeights(np.zeros(1), np.ones(1), np.ones((1, 1)), np.array([bias]))
        with np.errstate(over="ignore"):
            assert head.probabilities(np.zeros((1, 1))).item() == float(bias > 0)


def sigmoid(logits: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-logits))


class TestSolveHead:
    @staticmethod
    def problem(count: int, width: int, seed: int = 0):
        """Gives inputs, labels of which a fourth is 1, and balanced weights."""
        rng = np.random.default_rng(seed)
        inputs = rng.normal(size=(count, width)).astype(np.float32)
        score = inputs[:, 0] + rng.normal(0, 0.5, count)
        labels = (score > np.quantile(score, 0.75)).astype(np.int64)
        return inputs, labels, class_weight(labels, "balanced")

    @pytest.mark.parametrize("count, width", [(200, 5), (60, 60), (40, 300)])
    @pytest.mark.parametrize("l2", [1e-3, 1 / 64, 1.0])
    def test_the_gradient_of_what_is_minimized_vanishes(self, count, width, l2):
        inputs, labels, weights = self.problem(count, width)
        found = solve_head(inputs, labels, weights, l2)
        assert found.converged and found.iterations > 1
        assert found.kernel.shape == (width, 1) and found.bias.shape == (1,)
        assert found.kernel.dtype == found.bias.dtype == np.float32

        kernel, bias = found.kernel[:, 0].astype(np.float64), float(found.bias[0])
        residuals = weights * (sigmoid(inputs @ kernel + bias) - labels)
        np.testing.assert_allclose(inputs.T @ residuals / count + l2 * kernel, 0, atol=1e-6)
        assert np.mean(residuals) == pytest.approx(0, abs=1e-6)  # the bias is not penalized

    def test_loss_and_accuracy_are_those_of_what_was_trained_on(self):
        from sklearn.metrics import accuracy_score, log_loss

        inputs, labels, weights = self.problem(200, 5)
        found = solve_head(inputs, labels, weights, 0.1)
        probabilities = sigmoid(inputs @ found.kernel + found.bias)[:, 0].astype(np.float64)
        expected = log_loss(labels, probabilities, sample_weight=weights)
        assert found.loss == pytest.approx(expected, abs=1e-5)
        assert found.accuracy == accuracy_score(labels, probabilities > 0.5)

    def test_a_sample_of_weight_two_is_two_samples(self):
        inputs, labels, _ = self.problem(80, 10)
        times = np.random.default_rng(1).integers(1, 4, 80)
        # The penalty is on the mean loss, so weights are scaled to a mean of one.
        weights = (times / times.mean()).astype(np.float32)
        found = solve_head(inputs, labels, weights, 0.05)
        repeated = (np.repeat(part, times, axis=0) for part in (inputs, labels))
        expected = solve_head(*repeated, np.ones(times.sum(), np.float32), 0.05)
        np.testing.assert_allclose(found.kernel, expected.kernel, atol=1e-5)
        np.testing.assert_allclose(found.bias, expected.bias, atol=1e-5)

    @pytest.mark.parametrize("l2", [5e-324, 1e-12, 1e12, 1.7e308])
    def test_an_extreme_penalty_gives_a_finite_head(self, l2):
        found = solve_head(*self.problem(40, 100), l2)
        assert np.isfinite(found.kernel).all() and np.isfinite(found.bias).all()
        assert np.isfinite(found.loss)


class TestMakePart:
    def test_without_early_stopping_all_is_trained_on(self, slices):
        part = make_part(slices, TRAIN, FitSettings(backbone="tiny"), 3)
        np.testing.assert_array_equal(part.train, TRAIN)
        assert not len(part.validation) and part.seed == 3

    def test_with_early_stopping_a_fifth_is_held_out(self, slices):
        settings = FitSettings(backbone="tiny", early_stopping=2)
        everything = np.arange(COUNT)
        part = make_part(slices, everything, settings, 0)
        assert len(part.validation) == COUNT // 5
        both = np.concatenate([part.train, part.validation])
        np.testing.assert_array_equal(np.sort(both), everything)
        assert not set(slices.groups[part.train]) & set(slices.groups[part.validation])
        assert set(slices.labels[part.validation]) == {0, 1}

    def test_held_out_are_indices_of_all_slices(self, slices):
        settings = FitSettings(backbone="tiny", early_stopping=2)
        part = make_part(slices, np.arange(8, COUNT), settings, 0)
        both = np.concatenate([part.train, part.validation])
        np.testing.assert_array_equal(np.sort(both), np.arange(8, COUNT))


class TestLayersFrom:
    def test_leaves_batch_normalization_out(self):
        backbone = build_backbone("tiny", "none", SIZE)
        names = [layer.name for layer in layers_from(backbone, "block2_convolution")]
        assert names == ["block2_convolution", "block2_out", "block3_convolution", "block3_out"]

    def test_unknown_layer_lists_the_last_ones(self):
        backbone = build_backbone("tiny", "none", SIZE)
        with pytest.raises(OptionError, match="--fine-tune-from block9: .*no such layer.*block3_o"):
            layers_from(backbone, "block9")

    @pytest.mark.parametrize("name", ["block3_normalization", "block3_out"])
    def test_nothing_to_train(self, name):
        backbone = build_backbone("tiny", "none", SIZE)
        with pytest.raises(OptionError, match=f"--fine-tune-from {name}: .*Name an earlier layer"):
            layers_from(backbone, name)

    def test_is_checked_before_anything_is_computed(self, slices, cache):
        with pytest.raises(OptionError, match="--fine-tune-from nowhere"):
            make_trainer(slices, cache, fine_tune_from="nowhere", fine_tune_epochs=1)
        assert not list(cache.iterdir())


class TestFrozen:
    def test_learns_and_leaves_the_backbone(self, slices, cache):
        trainer, backbone = make_trainer(slices, cache, epochs=30, learning_rate=0.03)
        before = weights_hash(backbone)
        found, history = train(trainer, np.arange(COUNT), np.arange(COUNT))
        assert np.mean((found > 0.5) == slices.labels) > 0.8
        assert history[-1]["loss"] < history[0]["loss"]
        assert weights_hash(backbone) == before

    @pytest.mark.parametrize("pooling", ["avg", "max", "avg_max"])
    @pytest.mark.parametrize("solver", ["adam", "lbfgs"])
    def test_the_classifier_gives_the_probabilities_that_were_evaluated(
        self, slices, cache, pooling, solver
    ):
        trainer, _ = make_trainer(slices, cache, pooling=pooling, solver=solver)
        found, _ = train(trainer)
        assert np.ptp(found) > 1e-3
        expected = predict_files(trainer.classifier(), slices, TEST)
        np.testing.assert_allclose(found, expected, atol=1e-4)

    def test_also_where_augmented_views_are_computed_in_bfloat16(self, slices, cache):
        trainer, _ = make_trainer(slices, cache, policy="mixed_bfloat16")
        found, _ = train(trainer)
        expected = predict_files(trainer.classifier(), slices, TEST)
        np.testing.assert_allclose(found, expected, atol=1e-4)

    @pytest.mark.parametrize("dropout", [0.0, 0.5])
    def test_a_training_does_not_depend_on_those_before(self, slices, cache, dropout):
        trainer, _ = make_trainer(slices, cache, dropout=dropout)
        first, first_history = train(trainer)
        train(trainer, np.arange(8, COUNT), np.arange(8), seed=5)
        again, again_history = train(trainer)
        np.testing.assert_array_equal(again, first)
        assert again_history == first_history

    def test_the_order_of_the_samples_follows_from_the_seed(self, slices, cache):
        trainer, _ = make_trainer(slices, cache)
        assert not np.array_equal(train(trainer, seed=0)[0], train(trainer, seed=1)[0])

    def test_no_test_part(self, slices, cache):
        trainer, _ = make_trainer(slices, cache)
        found, history = train(trainer, np.arange(COUNT), NONE)
        assert len(found) == 0 and len(history) == 3

    def test_early_stopping_reports_every_epoch(self, slices, cache):
        trainer, _ = make_trainer(slices, cache, epochs=40, learning_rate=0.5, early_stopping=1)
        advanced: list[int] = []
        part = Part(TRAIN, TEST, 0)
        _, history = trainer.train(part, NONE, advanced.append)
        assert len(history) < 40
        assert sum(advanced) == trainer.epochs == 40
        assert "validation_loss" in history[0]


class TestLbfgs:
    @pytest.mark.parametrize("class_weights", ["balanced", "none"])
    @pytest.mark.parametrize("l2", [1 / 64, 0.5])
    def test_is_the_logistic_regression_of_another_solver(self, slices, cache, class_weights, l2):
        from sklearn.linear_model import LogisticRegression

        settings = {"class_weights": class_weights, "l2": l2, "views": 1, "image_size": SIZE}
        trainer, backbone = make_trainer(slices, cache, solver="lbfgs", **settings)
        # Four of the nine with hemorrhage are left out, so that weights make a difference.
        train_on = np.setdiff1d(np.arange(18), [1, 3, 5, 7])
        found, _ = train(trainer, train_on, np.arange(COUNT))

        paths = [record.path for record in slices.manifest.records]
        model = build_feature_model(backbone, backbone_spec("tiny").normalization)
        features = model(np.stack([INPUT(read_slice(path)) for path in paths])).numpy()
        features = features.astype(np.float64)
        mean, variance = features[train_on].mean(axis=0), features[train_on].var(axis=0)
        inputs = (features - mean) / np.sqrt(np.maximum(variance, variance.mean() * 1e-6))
        expected = LogisticRegression(
            C=1 / (l2 * len(train_on)),
            class_weight=None if class_weights == "none" else class_weights,
            solver="newton-cholesky",
            tol=1e-10,
        )
        expected.fit(inputs[train_on], slices.labels[train_on])
        probabilities = expected.predict_proba(inputs)[:, 1]
        assert np.ptp(found) > 0.1
        np.testing.assert_allclose(found, probabilities, atol=1e-4)

    def test_class_weights_matter_where_classes_differ_in_size(self, slices, cache):
        train_on = np.setdiff1d(np.arange(18), [1, 3, 5, 7])
        means = {}
        settings = {"solver": "lbfgs", "l2": 1.0, "views": 1}
        for kind in ("balanced", "none"):
            trainer, _ = make_trainer(slices, cache, class_weights=kind, **settings)
            means[kind] = train(trainer, train_on, train_on)[0].mean()
        # A free bias makes the mean probability the share of the slices with hemorrhage.
        assert means["none"] == pytest.approx(slices.labels[train_on].mean(), abs=1e-4)
        assert means["balanced"] > means["none"] + 0.05

    def test_is_the_same_each_time_whatever_was_before_and_whatever_the_seed(self, slices, cache):
        trainer, _ = make_trainer(slices, cache, solver="lbfgs")
        first, first_history = train(trainer)
        train(trainer, np.arange(8, COUNT), np.arange(8), seed=5)
        again, again_history = train(trainer, seed=7)
        other, _ = make_trainer(slices, cache, solver="lbfgs", seed=0)
        np.testing.assert_array_equal(again, first)
        np.testing.assert_array_equal(train(other)[0], first)
        assert again_history == first_history

    def test_the_order_of_the_slices_does_not_matter(self, slices, cache):
        trainer, _ = make_trainer(slices, cache, solver="lbfgs")
        expected, _ = train(trainer)
        found, _ = train(trainer, np.random.default_rng(0).permutation(TRAIN))
        np.testing.assert_allclose(found, expected, atol=1e-5)

    def test_history_is_one_row_and_progress_ends(self, slices, cache):
        trainer, backbone = make_trainer(slices, cache, solver="lbfgs")
        before = weights_hash(backbone)
        advanced: list[int] = []
        found, (row,) = train(trainer, TRAIN, TRAIN, advance=advanced.append)
        assert row.keys() == {"stage", "epoch", "loss", "accuracy"}
        assert row["stage"] == "head"
        assert isinstance(row["epoch"], int) and 1 < row["epoch"] < 1000
        assert 0 < row["loss"] < np.log(2) and 0.5 < row["accuracy"] <= 1
        assert sum(advanced) == trainer.epochs == 3
        assert weights_hash(backbone) == before

    def test_ends_lower_than_adam(self, slices, cache):
        losses = {}
        for solver in ("adam", "lbfgs"):
            trainer, _ = make_trainer(slices, cache, solver=solver, l2=1e-4)
            losses[solver] = train(trainer)[1][-1]["loss"]
        assert losses["lbfgs"] < losses["adam"]

    def test_auto_solves(self, slices, cache):
        automatic = {"solver": "auto", "epochs": 10, "batch_size": 32, "learning_rate": 1e-3}
        found, history = train(make_trainer(slices, cache, **automatic)[0])
        expected, _ = train(make_trainer(slices, cache, solver="lbfgs")[0])
        np.testing.assert_array_equal(found, expected)
        assert len(history) == 1

    def test_no_convergence_is_told_once(self, slices, cache, monkeypatch, capsys):
        monkeypatch.setattr("hemorrhage_tf.training.trainer.MAX_ITERATIONS", 2)
        trainer, _ = make_trainer(slices, cache, quiet=False, solver="lbfgs")
        for _ in range(2):
            found, history = train(trainer)
            assert history[0]["epoch"] == 2 and np.isfinite(found).all()
        told = capsys.readouterr().err
        assert told.count("L-BFGS did not converge in 2 iterations with --l2 0.015625") == 1

    def test_convergence_is_not_worth_a_word(self, slices, cache, capsys):
        trainer, _ = make_trainer(slices, cache, quiet=False, solver="lbfgs")
        train(trainer)
        assert "converge" not in capsys.readouterr().err


class TestFineTuning:
    SETTINGS = {
        "epochs": 1,
        "fine_tune_from": "block3_convolution",
        "fine_tune_epochs": 2,
        "fine_tune_learning_rate": 1e-3,
    }

    def test_changes_the_named_layers_only_and_starts_over_each_time(self, slices, cache):
        trainer, backbone = make_trainer(slices, cache, **self.SETTINGS)
        before = {weight.path: weight.numpy() for weight in backbone.weights}
        advanced: list[int] = []
        first, history = train(trainer, advance=advanced.append)
        changed = {
            weight.path
            for weight in backbone.weights
            if not np.array_equal(weight.numpy(), before[weight.path])
        }
        assert changed == {"block3_convolution/kernel"}
        assert not backbone.trainable_variables
        assert [row["stage"] for row in history] == ["head", "fine-tune", "fine-tune"]
        assert sum(advanced) == trainer.epochs == 3

        expected = predict_files(trainer.classifier(), slices, TEST)
        np.testing.assert_allclose(first, expected, atol=1e-5)

        train(trainer, np.arange(8, COUNT), np.arange(8), seed=5)
        again, again_history = train(trainer)
        np.testing.assert_allclose(again, first, atol=1e-6)
        for row, expected_row in zip(again_history, history, strict=True):
            assert row == pytest.approx(expected_row, abs=1e-5)

    def test_starts_from_a_solved_head(self, slices, cache):
        settings = {**self.SETTINGS, "solver": "lbfgs", "fine_tune_learning_rate": 1e-12}
        trainer, _ = make_trainer(slices, cache, **settings)
        advanced: list[int] = []
        found, history = train(trainer, advance=advanced.append)
        assert [row["stage"] for row in history] == ["head", "fine-tune", "fine-tune"]
        assert sum(advanced) == trainer.epochs == 3
        expected, _ = train(make_trainer(slices, cache, solver="lbfgs")[0])
        np.testing.assert_allclose(found, expected, atol=1e-4)


class TestStreaming:
    def test_trains_and_is_reproducible(self, slices, cache):
        found = []
        for _ in range(2):
            trainer, backbone = make_trainer(slices, cache, feature_cache=False)
            before = weights_hash(backbone)
            probabilities, history = train(trainer)
            found.append(probabilities)
            assert weights_hash(backbone) == before
        np.testing.assert_allclose(found[0], found[1], atol=1e-6)
        assert np.ptp(found[0]) > 1e-3
        assert len(history) == 3 and history[-1]["loss"] < history[0]["loss"]
        assert not list(cache.iterdir())
        expected = predict_files(trainer.classifier(), slices, TEST)
        np.testing.assert_allclose(found[1], expected, atol=1e-4)

    def test_without_augmentation_equals_training_on_features(self, slices, cache):
        settings = {"augment": "none", "views": 1}
        cached, _ = make_trainer(slices, cache, **settings)
        streaming, _ = make_trainer(slices, cache, feature_cache=False, **settings)
        expected, expected_history = train(cached)
        found, history = train(streaming)
        # The samples come in another order.
        np.testing.assert_allclose(found, expected, atol=0.05)
        assert history[0]["loss"] == pytest.approx(expected_history[0]["loss"], abs=0.1)
