from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from built_sources import build_source
from PIL import Image
from plain_phantoms import draw_phantom
from recorder import Recorder

from hemorrhage_tf.core.errors import OptionError
from hemorrhage_tf.core.progress import Progress
from hemorrhage_tf.datasets.manifest import read_manifest
from hemorrhage_tf.datasets.slice_index import build_slice_index
from hemorrhage_tf.evaluation.logit_calibration import LogitCalibration
from hemorrhage_tf.imaging.readers import read_slice
from hemorrhage_tf.models.backbones import backbone_spec, weights_hash
from hemorrhage_tf.models.classifier import build_feature_model
from hemorrhage_tf.pipeline.model_input import ModelInput
from hemorrhage_tf.training.context import FitContext
from hemorrhage_tf.training.distributed.single_process import SINGLE
from hemorrhage_tf.training.feature_sources import FeatureSources
from hemorrhage_tf.training.loop import TrainingHooks
from hemorrhage_tf.training.samples import TrainingTask
from hemorrhage_tf.training.settings import FitSettings
from hemorrhage_tf.training.trainer import Trainer, hold_out_validation

SIZE = 16
INPUT = ModelInput(SIZE)
COUNT = 20
ALL = np.arange(COUNT)
TRAIN, TEST = np.arange(12), np.arange(12, COUNT)

FINE_TUNING = {
    "epochs": 1,
    "fine_tune_from": "block3_convolution",
    "fine_tune_epochs": 2,
    "fine_tune_learning_rate": 1e-3,
}


@pytest.fixture(scope="module")
def slices(tmp_path_factory):
    folder = tmp_path_factory.mktemp("slices")
    for index in range(COUNT):
        path = folder / ("normal", "hemorrhage")[index % 2] / f"{index:02d}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(draw_phantom(3, index, index % 2)).save(path)
    # Sorted by name, so that each part has both classes.
    manifest = read_manifest(folder)
    records = sorted(manifest.records, key=lambda record: record.path.name)
    return build_slice_index(replace(manifest, records=tuple(records)), Progress(quiet=True))


@pytest.fixture(scope="module")
def shared_cache(tmp_path_factory) -> Path:
    """A feature cache for all tests of the module, so that each feature is computed once."""
    return tmp_path_factory.mktemp("shared cache")


@pytest.fixture(scope="module")
def frozen_source():
    """A backbone for all tests that do not change it."""
    return build_source(FitSettings(backbone="tiny", image_size=SIZE).backbones[0], INPUT)


@pytest.fixture
def make_trainer(slices, shared_cache, frozen_source):
    """Return a prepared trainer of the tiny backbone on the slices."""

    def make(
        cache: Path = shared_cache, policy="float32", progress=None, subtypes=None, **settings
    ) -> Trainer:
        values = {"backbone": "tiny", "image_size": SIZE, "views": 2, "solver": "adam", "epochs": 3}
        values |= {"batch_size": 5, "learning_rate": 0.01, **settings}
        context = FitContext(
            slices=slices,
            settings=FitSettings(**values),
            model_input=INPUT,
            cluster=SINGLE,
            progress=progress or Recorder(),
            cache_folder=cache,
            subtypes=subtypes,
        )
        source = frozen_source
        if context.settings.fine_tune_epochs:
            source = build_source(context.settings.backbones[0], INPUT)
        trainer = Trainer(context, FeatureSources([source], [policy]))
        trainer.prepare(ALL, ALL)
        trainer.backbone = source.backbone
        return trainer

    return make


def train(trainer, train_on=TRAIN, test=TEST, seed=0, validation=ALL[:0], **hooks):
    task = TrainingTask(train_on, validation, test, seed, TrainingHooks(**hooks))
    return trainer.train(task)


def predict_files(model, slices, indices) -> np.ndarray:
    paths = [slices.manifest.records[index].path for index in indices]
    return model(np.stack([INPUT(read_slice(path)) for path in paths])).numpy()[:, 0]


class TestHoldOutValidation:
    def test_without_early_stopping_all_slices_are_trained_on(self, slices):
        task = hold_out_validation(slices, TRAIN, FitSettings(backbone="tiny"), 3)
        np.testing.assert_array_equal(task.train, TRAIN)
        assert not len(task.validation) and task.seed == 3

    @pytest.mark.parametrize("first", [0, 8])
    def test_with_early_stopping_a_fifth_is_held_out(self, slices, first):
        settings = FitSettings(backbone="tiny", early_stopping=2)
        task = hold_out_validation(slices, np.arange(first, COUNT), settings, 0)
        assert len(task.validation) == pytest.approx((COUNT - first) / 5, abs=1)
        both = np.concatenate([task.train, task.validation])
        np.testing.assert_array_equal(np.sort(both), np.arange(first, COUNT))
        assert not set(slices.groups[task.train]) & set(slices.groups[task.validation])
        assert set(slices.labels[task.validation]) == {0, 1}


class TestFrozenBackbone:
    def test_learns_without_changing_the_backbone(self, slices, make_trainer):
        trainer = make_trainer(epochs=30, learning_rate=0.03)
        before = weights_hash(trainer.backbone)
        probabilities, history = train(trainer, ALL, ALL)
        assert np.mean((probabilities > 0.5) == slices.labels) > 0.8
        assert history[-1]["loss"] < history[0]["loss"]
        assert weights_hash(trainer.backbone) == before

    @pytest.mark.parametrize(
        "solver, pooling, policy",
        [
            ("adam", "avg", "float32"),
            ("lbfgs", "max", "float32"),
            ("lbfgs", "avg_max", "mixed_bfloat16"),
        ],
    )
    def test_the_classifier_predicts_what_was_evaluated(
        self, slices, make_trainer, solver, pooling, policy
    ):
        trainer = make_trainer(solver=solver, pooling=pooling, policy=policy)
        probabilities, _ = train(trainer)
        assert np.ptp(probabilities) > 1e-3
        expected = predict_files(trainer.build_classifier(), slices, TEST)
        np.testing.assert_allclose(probabilities, expected, atol=1e-4)

    def test_a_calibration_is_part_of_the_classifier(self, slices, make_trainer):
        trainer = make_trainer(solver="lbfgs")
        probabilities, _ = train(trainer)
        trainer.apply_calibrations([LogitCalibration(2.0, -1.5)])
        predicted = predict_files(trainer.build_classifier(), slices, TEST)
        logits = np.log(probabilities / (1 - probabilities))
        np.testing.assert_allclose(np.log(predicted / (1 - predicted)), logits / 2 - 1.5, atol=1e-3)

    @pytest.mark.parametrize("dropout", [0.0, 0.5])
    def test_a_training_does_not_depend_on_those_before(self, make_trainer, dropout):
        trainer = make_trainer(dropout=dropout)
        first, first_history = train(trainer)
        other, _ = train(trainer, np.arange(8, COUNT), TEST, seed=5)
        again, again_history = train(trainer)
        np.testing.assert_array_equal(again, first)
        assert again_history == first_history
        assert not np.array_equal(other, first)

    def test_the_order_of_the_samples_depends_on_the_seed(self, make_trainer):
        trainer = make_trainer()
        assert not np.array_equal(train(trainer, seed=0)[0], train(trainer, seed=1)[0])

    def test_an_empty_test_part_has_no_predictions(self, make_trainer):
        probabilities, history = train(make_trainer(), ALL, ALL[:0])
        assert len(probabilities) == 0 and len(history) == 3

    def test_early_stopping_advances_to_the_last_epoch(self, make_trainer):
        trainer = make_trainer(epochs=40, learning_rate=0.5, early_stopping=1)
        advanced: list[int] = []
        _, history = train(trainer, validation=TEST, advance=advanced.append)
        assert len(history) < 40
        assert sum(advanced) == trainer.epochs == 40
        assert "validation_loss" in history[0]

    def test_standardized_features_have_mean_zero_over_the_training_slices(self, make_trainer):
        trainer = make_trainer(solver="lbfgs", views=1)
        train(trainer)
        features = np.concatenate(list(trainer.standardized(TRAIN)))
        np.testing.assert_allclose(features.mean(axis=0), 0, atol=1e-4)


class TestLbfgs:
    # Four of the nine slices with hemorrhage are left out, so that class weights matter.
    UNBALANCED = np.setdiff1d(np.arange(18), [1, 3, 5, 7])

    @pytest.mark.parametrize("class_weights, l2", [("balanced", 1 / 64), ("none", 0.5)])
    def test_matches_scikit_learn(self, slices, make_trainer, class_weights, l2):
        from sklearn.linear_model import LogisticRegression

        train_on = self.UNBALANCED
        trainer = make_trainer(solver="lbfgs", views=1, class_weights=class_weights, l2=l2)
        probabilities, _ = train(trainer, train_on, ALL)

        paths = [record.path for record in slices.manifest.records]
        model = build_feature_model(trainer.backbone, backbone_spec("tiny").normalization)
        features = model(np.stack([INPUT(read_slice(path)) for path in paths])).numpy()
        features = features.astype(np.float64)
        mean, variance = features[train_on].mean(axis=0), features[train_on].var(axis=0)
        inputs = (features - mean) / np.sqrt(np.maximum(variance, variance.mean() * 1e-6))
        oracle = LogisticRegression(
            C=1 / (l2 * len(train_on)),
            class_weight=None if class_weights == "none" else class_weights,
            solver="newton-cholesky",
            tol=1e-10,
        )
        oracle.fit(inputs[train_on], slices.labels[train_on])
        expected = oracle.predict_proba(inputs)[:, 1]
        assert np.ptp(probabilities) > 0.1
        np.testing.assert_allclose(probabilities, expected, atol=1e-4)

    def test_balanced_weights_raise_the_probability_of_the_rarer_class(self, slices, make_trainer):
        means = {}
        for kind in ("balanced", "none"):
            trainer = make_trainer(class_weights=kind, solver="lbfgs", l2=1.0, views=1)
            means[kind] = train(trainer, self.UNBALANCED, self.UNBALANCED)[0].mean()
        # A free bias makes the mean probability the share of the slices with hemorrhage.
        assert means["none"] == pytest.approx(slices.labels[self.UNBALANCED].mean(), abs=1e-4)
        assert means["balanced"] > means["none"] + 0.05

    def test_depends_on_neither_earlier_trainings_nor_seed_nor_order(self, make_trainer):
        trainer = make_trainer(solver="lbfgs")
        first, first_history = train(trainer)
        train(trainer, np.arange(8, COUNT), np.arange(8), seed=5)
        again, again_history = train(trainer, seed=7)
        np.testing.assert_array_equal(again, first)
        np.testing.assert_array_equal(train(make_trainer(solver="lbfgs"))[0], first)
        assert again_history == first_history
        shuffled, _ = train(trainer, np.random.default_rng(0).permutation(TRAIN))
        np.testing.assert_allclose(shuffled, first, atol=1e-5)

    def test_the_history_is_one_row_and_the_progress_ends(self, make_trainer):
        trainer = make_trainer(solver="lbfgs")
        advanced: list[int] = []
        rows: list[dict] = []
        _, (row,) = train(trainer, TRAIN, TRAIN, advance=advanced.append, on_epoch=rows.append)
        assert row.keys() == {"stage", "epoch", "loss", "accuracy"} and rows == [row]
        assert row["stage"] == "head"
        assert isinstance(row["epoch"], int) and 1 < row["epoch"] < 1000
        assert 0 < row["loss"] < np.log(2) and 0.5 < row["accuracy"] <= 1
        assert sum(advanced) == trainer.epochs == 3

    def test_reaches_a_lower_loss_than_adam(self, make_trainer):
        losses = {
            solver: train(make_trainer(solver=solver, l2=1e-4))[1][-1]["loss"]
            for solver in ("adam", "lbfgs")
        }
        assert losses["lbfgs"] < losses["adam"]

    def test_auto_uses_it(self, make_trainer):
        defaults = {"solver": "auto", "epochs": 10, "batch_size": 32, "learning_rate": 1e-3}
        probabilities, history = train(make_trainer(**defaults))
        np.testing.assert_array_equal(probabilities, train(make_trainer(solver="lbfgs"))[0])
        assert len(history) == 1

    def test_warns_once_if_it_does_not_converge(self, make_trainer, monkeypatch):
        progress = Recorder()
        trainer = make_trainer(solver="lbfgs", progress=progress)
        train(trainer)
        assert not progress.warnings
        monkeypatch.setattr("hemorrhage_tf.training.head_solver.MAX_ITERATIONS", 2)
        trainer = make_trainer(solver="lbfgs", progress=progress)
        for _ in range(2):
            probabilities, history = train(trainer)
            assert history[0]["epoch"] == 2 and np.isfinite(probabilities).all()
        [warning] = progress.warnings
        assert "did not converge in 2 iterations with --l2 0.015625" in warning


class TestFineTuning:
    @pytest.mark.slow
    def test_changes_only_the_named_layers_and_starts_over_each_time(self, slices, make_trainer):
        trainer = make_trainer(**FINE_TUNING)
        backbone = trainer.backbone
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
        expected = predict_files(trainer.build_classifier(), slices, TEST)
        np.testing.assert_allclose(first, expected, atol=1e-5)

        train(trainer, np.arange(8, COUNT), np.arange(8), seed=5)
        again, again_history = train(trainer)
        np.testing.assert_allclose(again, first, atol=1e-6)
        for row, expected_row in zip(again_history, history, strict=True):
            assert row == pytest.approx(expected_row, abs=1e-5)

    def test_starts_from_the_solved_head(self, make_trainer):
        settings = {**FINE_TUNING, "solver": "lbfgs", "fine_tune_learning_rate": 1e-12}
        probabilities, history = train(make_trainer(**settings))
        assert [row["stage"] for row in history] == ["head", "fine-tune", "fine-tune"]
        expected, _ = train(make_trainer(solver="lbfgs"))
        np.testing.assert_allclose(probabilities, expected, atol=1e-4)

    def test_rejects_an_unknown_layer_before_features_are_computed(self, make_trainer, cache):
        with pytest.raises(OptionError, match="--fine-tune-from nowhere"):
            make_trainer(cache, fine_tune_from="nowhere", fine_tune_epochs=1)
        assert not list(cache.iterdir())


class TestStreaming:
    @pytest.mark.slow
    def test_trains_reproducibly_without_a_cache(self, slices, make_trainer, cache):
        results = []
        for _ in range(2):
            trainer = make_trainer(cache, feature_cache=False)
            before = weights_hash(trainer.backbone)
            probabilities, history = train(trainer)
            results.append(probabilities)
            assert weights_hash(trainer.backbone) == before
        np.testing.assert_allclose(results[0], results[1], atol=1e-6)
        assert np.ptp(results[0]) > 1e-3
        assert len(history) == 3 and history[-1]["loss"] < history[0]["loss"]
        assert not list(cache.iterdir())
        expected = predict_files(trainer.build_classifier(), slices, TEST)
        np.testing.assert_allclose(results[1], expected, atol=1e-4)

    def test_without_augmentation_it_matches_training_on_features(self, make_trainer):
        settings = {"augment": "none", "views": 1}
        expected, expected_history = train(make_trainer(**settings))
        probabilities, history = train(make_trainer(feature_cache=False, **settings))
        # The samples come in another order.
        np.testing.assert_allclose(probabilities, expected, atol=0.05)
        assert history[0]["loss"] == pytest.approx(expected_history[0]["loss"], abs=0.1)


class TestSubtypes:
    """Six outputs with every way of training."""

    @pytest.fixture(scope="class")
    @classmethod
    def labels(cls, slices):
        """Three subtypes that occur, one that does not, and one that is unknown."""
        is_positive = slices.labels == 1
        columns = [is_positive & (ALL % 4 == 1), is_positive & (ALL % 3 == 0), is_positive]
        labels = np.stack([*columns, np.zeros(COUNT), np.full(COUNT, -1)], axis=1).astype(np.int8)
        labels[:3] = -1
        return labels

    @pytest.mark.parametrize(
        "settings",
        [
            {"solver": "lbfgs"},
            {"solver": "adam", "early_stopping": 2},
            FINE_TUNING,
            pytest.param({"feature_cache": False, "epochs": 2}, marks=pytest.mark.slow),
        ],
    )
    def test_any_hemorrhage_is_as_alone_and_subtypes_are_capped(
        self, slices, make_trainer, labels, settings
    ):
        validation = ALL[8:12] if "early_stopping" in settings else ALL[:0]
        trainer = make_trainer(subtypes=labels, **settings)
        probabilities, _ = train(trainer, ALL[:8], validation=validation)
        subtypes = trainer.subtypes
        assert subtypes.shape == (len(TEST), 5) and np.isfinite(subtypes).all()
        assert np.ptp(subtypes[:, 2]) > 0
        # Never seen, and unknown: half a slice of both kinds is added.
        np.testing.assert_allclose(subtypes[:, 3], 0.5 / 6, rtol=1e-5)
        np.testing.assert_allclose(subtypes[:, 4], 0.5, rtol=1e-5)

        images = np.stack([INPUT(read_slice(slices.refs[index])) for index in TEST])
        outputs = trainer.build_classifier()(images)
        np.testing.assert_allclose(outputs["probability"].numpy()[:, 0], probabilities, atol=1e-4)
        expected = np.minimum(subtypes, probabilities[:, np.newaxis])
        np.testing.assert_allclose(outputs["subtypes"], expected, atol=1e-4)

        if settings is not FINE_TUNING:  # which shares the backbone
            alone, _ = train(make_trainer(**settings), ALL[:8], validation=validation)
            np.testing.assert_allclose(probabilities, alone, atol=1e-4)
