from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pytest
from recorder import Recorder

from hemorrhage_tf.core.progress import Progress
from hemorrhage_tf.datasets.manifest import read_manifest
from hemorrhage_tf.datasets.slice_index import build_slice_index
from hemorrhage_tf.evaluation.dataset_shift import FEATURE_DISTANCE
from hemorrhage_tf.imaging.readers import read_slice
from hemorrhage_tf.pipeline.model_input import ModelInput
from hemorrhage_tf.training.checkpoint import FitCheckpoint
from hemorrhage_tf.training.context import FitContext
from hemorrhage_tf.training.cross_validation import FitResult, train_folds
from hemorrhage_tf.training.distributed.single_process import SINGLE
from hemorrhage_tf.training.folds import INNER_FOLDS, make_folds
from hemorrhage_tf.training.settings import FitSettings
from hemorrhage_tf.training.tensorboard import TensorBoardLog
from hemorrhage_tf.training.trainer import Trainer

SIZE = 16
FINE_TUNING = {"fine_tune_from": "block3_convolution", "fine_tune_epochs": 1}


class Stopped(BaseException):
    """Raised in place of a signal."""


@pytest.fixture(scope="module")
def slices(kaggle_once):
    return build_slice_index(read_manifest(kaggle_once), Progress(quiet=True))


@pytest.fixture(scope="module")
def shared_cache(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("shared cache")


@pytest.fixture
def fit(slices, shared_cache, tmp_path):
    """Return a function that trains all folds of some settings, resuming where it was stopped."""

    def fit(progress=None, prevalence=None, **settings) -> FitResult:
        settings = FitSettings(backbone="tiny", image_size=SIZE, views=2, **settings)
        progress = progress or Recorder()
        context = FitContext(
            slices=slices,
            settings=settings,
            model_input=ModelInput(SIZE),
            cluster=SINGLE,
            progress=progress,
            cache_folder=shared_cache,
        )
        folds = make_folds(slices, settings, progress)
        with FitCheckpoint(tmp_path / "run", progress) as checkpoint:
            checkpoint.open({}, {})
            log = TensorBoardLog(None, "run", progress)
            return train_folds(context, folds, checkpoint, log, prevalence)

    return fit


def predict(result: FitResult, slices, indices) -> np.ndarray:
    import keras

    images = [ModelInput(SIZE)(read_slice(slices.refs[index])) for index in indices]
    with tempfile.TemporaryDirectory() as folder:
        result.write_classifier(Path(folder, "model.keras"))
        classifier = keras.saving.load_model(Path(folder, "model.keras"))
    return classifier(np.stack(images)).numpy()[:, 0]


class TestSingleSplit:
    def test_calibration_and_operating_point_come_from_the_training_part(self, fit, slices):
        result = fit(operating_point="youden")
        [fold] = result.folds
        chosen_on = result.operating_point.n_positive + result.operating_point.n_negative
        assert chosen_on == len(fold.fold.train)
        assert result.calibration.temperature != 1 and result.calibration.offset != 0
        assert result.final_history == []
        threshold = result.operating_point.threshold
        np.testing.assert_array_equal(fold.decisions, fold.probabilities >= threshold)
        np.testing.assert_allclose(
            predict(result, slices, fold.fold.test), fold.probabilities, atol=1e-4
        )
        assert result.metrics["evaluated_on"].startswith("the test part, ")

    def test_without_calibration_a_fixed_threshold_needs_one_training(self, fit, monkeypatch):
        tasks = record_tasks(monkeypatch)
        result = fit(calibration="none")
        assert len(tasks) == 1 and result.calibration.is_identity
        assert result.operating_point.threshold == 0.5
        assert result.operating_point.sensitivity is None

    def test_without_class_weights_a_balanced_threshold_is_the_share(self, fit):
        result = fit(calibration="none", class_weights="none")
        [fold] = result.folds
        train = fold.fold.train
        assert result.operating_point.threshold == pytest.approx(np.mean(train % 2))
        assert result.operating_point.criterion == "balanced"

    def test_says_if_fine_tuning_leaves_probabilities_uncalibrated(self, fit, monkeypatch):
        notes = []
        progress = Recorder()
        monkeypatch.setattr(progress, "note", notes.append)
        result = fit(progress, **FINE_TUNING)
        assert result.calibration.is_identity and result.operating_point.threshold == 0.5
        [note] = [note for note in notes if "calibrated" in note]
        assert note == (
            "Probabilities are not calibrated: only a head on cached features, without "
            "fine-tuning, is calibrated."
        )

    def test_too_few_groups_for_calibration_are_noted(self, slices, fit, monkeypatch):
        notes = []
        progress = Recorder()
        monkeypatch.setattr(progress, "note", notes.append)
        result = fit(progress, test_fraction=0.75)
        assert result.calibration.is_identity
        [note] = notes
        assert note.startswith("Probabilities are not calibrated: ")


class TestCrossValidation:
    def test_each_repeat_tests_every_slice_and_the_last_training_has_all(
        self, fit, slices, monkeypatch
    ):
        tasks = record_tasks(monkeypatch)
        result = fit(folds=2, repeats=2, prevalence=0.1)
        assert len(result.folds) == 4 and len(tasks) == 5
        assert len(tasks[-1].train) == len(slices) and not len(tasks[-1].test)
        assert len(result.final_history) == 1
        assert result.metrics["at_prevalence"]["prevalence"] == 0.1
        assert FEATURE_DISTANCE in result.training_profile["quantiles"]

    def test_the_calibration_is_part_of_the_saved_model(self, fit, slices):
        everything = np.arange(len(slices))
        plain = fit(folds=2, calibration="none")
        plain_probabilities = predict(plain, slices, everything)
        calibrated = fit(folds=2)
        assert plain.calibration.is_identity and not calibrated.calibration.is_identity
        expected = calibrated.calibration.apply(plain_probabilities)
        np.testing.assert_allclose(predict(calibrated, slices, everything), expected, atol=5e-4)


def record_tasks(monkeypatch, stop_before: int | None = None) -> list:
    """Record the tasks of all trainings, and stop before one of them."""
    original, tasks = Trainer.train, []

    def train(self, task):
        if len(tasks) == stop_before:
            raise Stopped
        tasks.append(task)
        return original(self, task)

    monkeypatch.setattr(Trainer, "train", train)
    return tasks


class TestResume:
    @pytest.mark.parametrize(
        "settings, trainings",
        [
            ({"folds": 2, "solver": "adam", "epochs": 2}, 3),
            ({}, INNER_FOLDS + 1),
            pytest.param(FINE_TUNING, 1, marks=pytest.mark.slow),
            pytest.param({**FINE_TUNING, "folds": 2}, 3, marks=pytest.mark.slow),
        ],
    )
    def test_finished_trainings_are_not_repeated(
        self, fit, slices, monkeypatch, settings, trainings
    ):
        indices = np.arange(6)
        with monkeypatch.context() as patch:
            tasks = record_tasks(patch)
            expected = fit(**settings)
            expected_probabilities = predict(expected, slices, indices)
            assert len(tasks) == trainings
        with monkeypatch.context() as patch:
            tasks = record_tasks(patch)
            result = fit(**settings)
            # The fine-tuned model to save comes from the epochs of its training.
            assert len(tasks) == ("fine_tune_from" in settings)
        for one, other in zip(result.folds, expected.folds, strict=True):
            np.testing.assert_array_equal(one.probabilities, other.probabilities)
            assert one.history == other.history
        assert result.metrics == expected.metrics
        np.testing.assert_array_equal(predict(result, slices, indices), expected_probabilities)

    def test_a_stopped_fit_continues_with_the_next_training(self, fit, monkeypatch):
        settings = {"folds": 2, "calibration": "none"}
        with monkeypatch.context() as patch, pytest.raises(Stopped):
            record_tasks(patch, stop_before=1)
            fit(**settings)
        tasks = record_tasks(monkeypatch)
        result = fit(**settings)
        assert len(tasks) == 2 and len(result.folds) == 2
