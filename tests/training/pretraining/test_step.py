import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pretraining_samples import noise_samples

from hemorrhage_tf.training.pretraining.samples import Samples
from hemorrhage_tf.training.pretraining.settings import PretrainingSettings
from hemorrhage_tf.training.pretraining.step import (
    Batch,
    augmenting_transforms,
    batch_of,
    build_step,
    in_pixels,
    transform,
)

SIDE, COUNT = 32, 6
SETTINGS = PretrainingSettings(window_pairs=2)


@pytest.fixture(scope="module")
def samples():
    return noise_samples(COUNT, SIDE)


class TestBatchOf:
    def test_the_same_step_has_the_same_batch(self, samples):
        chosen = np.array([1, 4, 5])
        first, again = (batch_of(samples, SETTINGS, 4, chosen) for _ in range(2))
        other = batch_of(samples, SETTINGS, 5, chosen)
        for one, two in zip(first, again, strict=True):
            np.testing.assert_array_equal(one, two)
        np.testing.assert_array_equal(first.images[..., 0], samples.images[chosen])
        assert first.labels[:, 0].tolist() == samples.labels[chosen].tolist()
        assert (first.image_transforms != other.image_transforms).any()
        other = batch_of(samples, replace(SETTINGS, seed=1), 4, chosen)
        assert (first.image_transforms != other.image_transforms).any()

    def test_the_first_samples_have_a_second_window(self, samples):
        batch = batch_of(samples, SETTINGS, 4, np.array([1, 4, 5]))
        assert batch.other_tones.shape == (2, 3)
        assert (batch.other_tones != batch.tones[:2]).all()
        # Further pairs do not change the rest of a batch.
        more = batch_of(samples, replace(SETTINGS, window_pairs=9), 4, np.array([1, 4, 5]))
        assert more.other_tones.shape == (3, 3)
        for one, other in zip(batch[:-1], more[:-1], strict=True):
            np.testing.assert_array_equal(one, other)


class TestTransform:
    def test_maps_move_with_their_images(self):
        # A bright cell in the image and in its map moves the same way.
        image = np.zeros((1, 160, 160, 1), np.float32)
        cells = np.zeros((1, 20, 20, 1), np.float32)
        image[0, 32:56, 88:112], cells[0, 4:7, 11:14] = 1, 1
        for seed in range(8):
            transforms = augmenting_transforms(np.random.default_rng(seed), 1)
            places = []
            for pixels, side in ((image, 160), (cells, 20)):
                moved = np.asarray(transform(pixels, in_pixels(transforms, side)))[0, :, :, 0]
                grid = (np.arange(side) + 0.5) / side
                weight = moved.sum()
                places.append(
                    (moved.sum(axis=1) @ grid / weight, moved.sum(axis=0) @ grid / weight)
                )
            np.testing.assert_allclose(places[0], places[1], atol=0.02)

    def test_pixels_from_outside_are_black(self):
        image = np.full((1, 8, 8, 1), 200, np.float32)
        to_the_left = np.array([[1, 0, 3, 0, 1, 0, 0, 0]], np.float32)
        moved = np.asarray(transform(image, to_the_left))[0, :, :, 0]
        assert (moved[:, :5] == 200).all() and not moved[:, 5:].any()


def linear_trainee():
    """Build a linear model with the outputs of the trainee, with losses computed by hand."""
    import keras

    gray = keras.Input((SIDE, SIDE, 1))
    cells = keras.layers.AveragePooling2D(8)(keras.layers.Rescaling(1 / 255)(gray))
    maps = keras.layers.Conv2D(7, 1, kernel_initializer="ones", name="maps")(cells)
    pooled = keras.layers.GlobalAveragePooling2D()(cells)
    label = keras.layers.Dense(1, kernel_initializer="ones", name="label")(pooled)
    return keras.Model(gray, {"label": label, "maps": maps})


def unchanged(samples, other_tones=()):
    """Return a batch without augmentation."""
    batch = batch_of(samples, SETTINGS, 0, np.arange(COUNT))
    still = np.tile(np.array([1, 0, 0, 0, 1, 0, 0, 0], np.float32), (COUNT, 1))
    tones = np.tile(np.array([1, 0, 1], np.float32), (COUNT, 1))
    others = np.array(other_tones, np.float32).reshape(-1, 3)
    return Batch(batch.images, batch.maps, batch.labels, still, still, tones, others)


def step_of(rate):
    import keras

    model = linear_trainee()
    optimizer = keras.optimizers.SGD(rate)
    optimizer.build(model.trainable_variables)
    return model, build_step(model, optimizer)


class TestStep:
    def test_losses_agree_with_tensorflow_on_the_same_logits(self, samples):
        import tensorflow as tf

        batch = unchanged(samples)
        model, step = step_of(0.0)
        (label_loss, map_loss, accuracy, difference), each = map(np.asarray, step(batch))
        outputs = model(batch.images.astype(np.float32))
        smooth = batch.labels * 0.98 + 0.01
        expected = tf.nn.sigmoid_cross_entropy_with_logits(smooth, outputs["label"])[:, 0]
        np.testing.assert_allclose(each, expected, rtol=1e-5)
        assert label_loss == pytest.approx(float(tf.reduce_mean(expected)), rel=1e-5)
        maps = tf.nn.weighted_cross_entropy_with_logits(
            batch.maps.astype(np.float32) / 255, outputs["maps"], 3.0
        )
        assert map_loss == pytest.approx(8 * float(tf.reduce_mean(maps)), rel=1e-5)
        assert accuracy == pytest.approx(np.mean((outputs["label"] > 0) == (batch.labels > 0.5)))
        assert difference == 0

    def test_two_windows_of_a_phantom_shall_have_the_same_logit(self, samples):
        # Half of the contrast around 100, and 10 gray levels more.
        batch = unchanged(samples, [(0.5, 10, 1), (1, 0, 1)])
        model, step = step_of(0.0)
        (label_loss, _, _, difference), each = map(np.asarray, step(batch))
        images = batch.images.astype(np.float32)
        toned = np.where(images > 8, images + 10 - 0.5 * (images - 100), images)[:1]
        logits, other = (np.asarray(model(each)["label"]) for each in (images, toned))
        # The second window is the same as the first.
        assert difference == pytest.approx(((logits[0] - other[0]) ** 2 / 2).item(), rel=1e-4)
        # The loss of each phantom is that through its first window.
        assert len(each) == COUNT
        smooth = batch.labels * 0.98 + 0.01
        expected = np.logaddexp(0, logits) - smooth * logits
        np.testing.assert_allclose(each, expected[:, 0], rtol=1e-4)
        of_other = np.logaddexp(0, other) - smooth[:1] * other
        everything = [*expected.ravel(), *of_other.ravel(), *expected[1]]
        assert label_loss == pytest.approx(np.mean(everything), rel=1e-4)

    def test_training_brings_the_logits_of_two_windows_together(self, samples):
        batch = unchanged(samples, [(0.5, 40, 1)] * COUNT)
        model, step = step_of(0.02)
        differences = [np.asarray(step(batch)[0])[3] for _ in range(8)]
        assert differences[-1] < differences[0]

    def test_the_weights_follow_the_gradient(self, samples):
        batch = unchanged(samples)
        model, step = step_of(0.1)
        losses = [np.asarray(step(batch)[0])[:2].sum() for _ in range(5)]
        assert losses == sorted(losses, reverse=True) and losses[-1] < 0.99 * losses[0]
        # The derivative of the mean cross-entropy by the bias is the mean error.
        model, step = step_of(0.1)
        logits = np.asarray(model(batch.images.astype(np.float32))["label"])
        step(batch)
        step.synchronize()
        error = np.mean(1 / (1 + np.exp(-logits)) - (batch.labels * 0.98 + 0.01))
        bias = np.asarray(model.get_layer("label").bias)
        np.testing.assert_allclose(bias, [-0.1 * error], rtol=1e-4)

    @pytest.mark.slow
    def test_jax_agrees_with_tensorflow(self, samples, tmp_path):
        pytest.importorskip("jax")
        np.savez(tmp_path / "samples.npz", **vars(samples))
        environment = {
            **os.environ,
            "KERAS_BACKEND": "jax",
            "JAX_PLATFORMS": "cpu",
            "PYTHONPATH": str(Path(__file__).parents[2]),
        }
        paths = [str(tmp_path / name) for name in ("samples.npz", "jax.npz")]
        run = subprocess.run(
            [sys.executable, __file__, *paths],
            env=environment, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert run.returncode == 0, run.stderr
        expected = three_steps(samples)
        with np.load(paths[1]) as arrays:
            for name, array in expected.items():
                np.testing.assert_allclose(arrays[name], array, rtol=1e-4, atol=1e-5)

    def test_rejects_another_backend(self, monkeypatch):
        monkeypatch.setattr("keras.backend.backend", lambda: "torch")
        with pytest.raises(NotImplementedError, match="torch: pretraining does not run on it"):
            build_step(None, None)


def three_steps(samples):
    """Return metrics, losses and weights after three augmented steps, on the backend of Keras."""
    import keras

    model = linear_trainee()
    optimizer = keras.optimizers.AdamW(0.01, 1e-3, global_clipnorm=2.0)
    optimizer.build(model.trainable_variables)
    step, results = build_step(model, optimizer), {}
    for number in range(3):
        metrics, losses = step(batch_of(samples, SETTINGS, number, np.arange(COUNT)))
        results |= {f"metrics{number}": np.asarray(metrics), f"losses{number}": np.asarray(losses)}
    step.synchronize()
    weights = {f"weights{number}": each for number, each in enumerate(model.get_weights())}
    moments = {f"moments{number}": np.asarray(v) for number, v in enumerate(optimizer.variables)}
    return results | weights | moments


if __name__ == "__main__":
    with np.load(sys.argv[1]) as arrays:
        np.savez(sys.argv[2], **three_steps(Samples(**arrays)))
