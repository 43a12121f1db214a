import contextlib
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pretraining_samples import QUIET, SMALL, noise_samples

from hemorrhage_tf.core.progress import Progress
from hemorrhage_tf.training.pretraining import training
from hemorrhage_tf.training.pretraining.samples import Samples
from hemorrhage_tf.training.pretraining.settings import PretrainingSettings
from hemorrhage_tf.training.pretraining.training import (
    build_trainee,
    learning_rate,
    order_of_pass,
    train,
)


def one_kind(count):
    return np.zeros(count, np.int64)


class TestOrderOfPass:
    def test_every_sample_comes_once_in_the_first_passes(self):
        settings, losses = replace(SMALL, hard_from=2), np.zeros(12, np.float32)
        first, second = (order_of_pass(settings, epoch, losses, one_kind(12)) for epoch in (0, 1))
        assert sorted(first) == sorted(second) == list(range(12))
        assert first.tolist() != second.tolist()

    def test_later_every_second_sample_is_from_the_hardest_quarter(self):
        losses = np.random.default_rng(0).random(40).astype(np.float32)
        settings = replace(SMALL, count=40, hard_from=1)
        order = order_of_pass(settings, 1, losses, one_kind(40))
        assert len(order) == 40
        hardest = set(np.argsort(losses)[-10:].tolist())
        others, again = order[::2].tolist(), order[1::2].tolist()
        assert sorted(again) == sorted([*hardest, *hardest])
        assert len(set(others)) == 20 and not set(others) <= hardest

    def test_each_kind_keeps_its_share_of_the_hardest(self):
        # Every sample of the second kind has a larger loss than any of the first.
        kinds = np.repeat([0, 1], [24, 16])
        losses = np.arange(40, dtype=np.float32)
        settings = replace(SMALL, count=40, hard_from=1)
        again = order_of_pass(settings, 1, losses, kinds)[1::2]
        assert sorted(set(again.tolist())) == [*range(18, 24), *range(36, 40)]

    @pytest.mark.parametrize("count", [1, 2, 3, 7, 10])
    def test_a_pass_has_the_given_count(self, count):
        settings = replace(SMALL, count=count, hard_from=1)
        order = order_of_pass(settings, 1, np.arange(count, dtype=np.float32), one_kind(count))
        assert len(order) == count and set(order) <= set(range(count))


def test_the_learning_rate_rises_and_falls():
    settings = PretrainingSettings(count=800, epochs=4, warmup=20)
    schedule = learning_rate(settings)
    rates = {step: float(schedule(step)) for step in (0, 10, 20, 60, 99)}
    assert settings.steps == 100
    assert max(rates.values()) == rates[20] == pytest.approx(settings.learning_rate)
    # Half of the warm-up, and half of the cosine, reach half of the rate.
    assert rates[10] == pytest.approx(settings.learning_rate / 2)
    assert rates[60] == pytest.approx(settings.learning_rate / 2, rel=1e-3)
    assert rates[99] < 1e-6


SIDE = 64


@pytest.fixture(scope="module")
def samples():
    return noise_samples(SMALL.count, SIDE)


@pytest.fixture(scope="module")
def small_images():
    """Train on small images, without building graphs, which takes longer than a few steps."""
    import tensorflow as tf

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "IMAGE_SIZE", SIDE)
        tf.config.run_functions_eagerly(True)
        yield
        tf.config.run_functions_eagerly(False)


@pytest.fixture(scope="module")
def trained(samples, small_images, tmp_path_factory):
    """Return a backbone after an uninterrupted training, and its folder."""
    folder = tmp_path_factory.mktemp("whole")
    return train(lambda: samples, SMALL, folder, QUIET), folder


class Interrupted(Exception):
    pass


class InterruptedProgress(Progress):
    """Progress that raises when a number of steps is reported."""

    def __init__(self, step: int) -> None:
        super().__init__(quiet=True)
        self.step = step

    @contextlib.contextmanager
    def track(self, description, total):
        done = 0

        def advance(count):
            nonlocal done
            done += count
            if done == self.step:
                raise Interrupted

        yield advance


@pytest.mark.usefixtures("small_images")
class TestTrain:
    @pytest.mark.slow
    def test_an_interrupted_training_ends_with_the_same_weights(
        self, samples, trained, tmp_path, monkeypatch
    ):
        with monkeypatch.context() as patch:
            patch.setattr(training, "CHECKPOINT_SECONDS", 0.0)
            # In a pass whose order depends on the losses, after its row in the history was written.
            with pytest.raises(Interrupted):
                train(lambda: samples, SMALL, tmp_path, InterruptedProgress(5))
        assert "\n5," in (tmp_path / "history.csv").read_text()
        resumed = train(lambda: samples, SMALL, tmp_path, QUIET)
        for one, other in zip(trained[0].get_weights(), resumed.get_weights(), strict=True):
            np.testing.assert_allclose(one, other, atol=1e-5)
        rows = [line.split(",") for line in (tmp_path / "history.csv").read_text().splitlines()]
        assert [row[0] for row in rows] == ["step", "1", "2", "3", "4", "6"]
        assert all(0 <= float(row[3]) <= 1 and 0 < float(row[1]) < 9 for row in rows[1:])

    def test_a_complete_training_needs_no_samples(self, tmp_path):
        def fail():
            raise AssertionError("the training is complete")

        one_step = replace(SMALL, count=4, epochs=1, warmup=0)
        first = train(lambda: noise_samples(4, SIDE), one_step, tmp_path, QUIET)
        again = train(fail, one_step, tmp_path, QUIET)
        for one, other in zip(first.get_weights(), again.get_weights(), strict=True):
            np.testing.assert_array_equal(one, other)

    @pytest.mark.slow
    def test_starts_from_given_weights(self, tmp_path):
        untrained = replace(SMALL, count=0)
        start = tmp_path / "start.weights.h5"
        other = build_trainee()[0]
        other.save_weights(start)
        started = train(lambda: None, untrained, tmp_path, QUIET, start)
        for one, given in zip(started.get_weights(), other.get_weights(), strict=True):
            np.testing.assert_array_equal(one, given)

    @pytest.mark.slow
    def test_a_training_on_jax_resumes_on_tensorflow(self, samples, tmp_path):
        pytest.importorskip("jax")
        np.savez(tmp_path / "samples.npz", **vars(samples))
        environment = {
            **os.environ,
            "KERAS_BACKEND": "jax",
            "JAX_PLATFORMS": "cpu",
            "PYTHONPATH": str(Path(__file__).parents[2]),
        }
        run = subprocess.run(
            [sys.executable, __file__, str(tmp_path)],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert run.returncode == 0, run.stderr
        backbone = train(lambda: None, JAX_SETTINGS, tmp_path, QUIET)
        with np.load(tmp_path / "weights.npz") as arrays:
            for name, weights in zip(arrays.files, backbone.get_weights(), strict=True):
                np.testing.assert_array_equal(arrays[name], weights)


JAX_SETTINGS = PretrainingSettings(count=12, epochs=2, batch_size=4, warmup=1)


def train_on_jax(folder: Path) -> None:
    training.IMAGE_SIZE = SIDE
    with np.load(folder / "samples.npz") as arrays:
        samples = Samples(**arrays)
    backbone = train(lambda: samples, JAX_SETTINGS, folder, QUIET)
    np.savez(folder / "weights.npz", *backbone.get_weights())


if __name__ == "__main__":
    train_on_jax(Path(sys.argv[1]))
