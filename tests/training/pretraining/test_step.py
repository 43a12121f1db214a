import os
import subprocess
import sys

import numpy as np
import pytest

from hemorrhage_tf.training.pretraining.samples import Samples
from hemorrhage_tf.training.pretraining.step import (
    augmenting_transforms,
    batch_of,
    build_step,
    in_pixels,
    moved,
)

SIDE, CELLS, COUNT = 32, 4, 6


@pytest.fixture(scope="module")
def samples():
    """Noise, of the smallest size that has cells."""
    rng = np.random.default_rng(3)
    maps = rng.integers(0, 256, (COUNT, CELLS, CELLS, 7), np.uint8)
    return Samples(
        images=rng.integers(0, 256, (COUNT, SIDE, SIDE), np.uint8),
        maps=np.where(rng.random(maps.shape) < 0.2, maps, 0).astype(np.uint8),
        labels=np.array([0, 1, 1, 0, 1, 0], np.uint8),
        blood=np.zeros(COUNT, np.uint8),
        pointable=np.zeros((COUNT, SIDE, SIDE // 8), np.uint8),
    )


class TestBatchOf:
    def test_a_batch_is_the_same_whenever_it_is_asked_for(self, samples):
        chosen = np.array([1, 4, 5])
        first, again = (batch_of(samples, 0, 4, chosen) for _ in range(2))
        other = batch_of(samples, 0, 5, chosen)
        for one, two in zip(first, again, strict=True):
            np.testing.assert_array_equal(one, two)
        np.testing.assert_array_equal(first[0][..., 0], samples.images[chosen])
        assert first[2][:, 0].tolist() == samples.labels[chosen].tolist()
        assert (first[3] != other[3]).any()
        assert (first[3] != batch_of(samples, 1, 4, chosen)[3]).any()


class TestMoved:
    def test_maps_move_with_their_pictures(self):
        # A bright cell in the picture and in its map; both are moved the same way.
        image = np.zeros((1, 160, 160, 1), np.float32)
        cells = np.zeros((1, 20, 20, 1), np.float32)
        image[0, 32:56, 88:112], cells[0, 4:7, 11:14] = 1, 1
        for seed in range(8):
            transforms = augmenting_transforms(np.random.default_rng(seed), 1)
            places = []
            for pixels, side in ((image, 160), (cells, 20)):
                found = np.asarray(moved(pixels, in_pixels(transforms, side)))[0, :, :, 0]
                grid = (np.arange(side) + 0.5) / side
                weight = found.sum()
                places.append(
                    (found.sum(axis=1) @ grid / weight, found.sum(axis=0) @ grid / weight)
                )
            np.testing.assert_allclose(*places, atol=0.02)

    def test_what_comes_in_from_outside_is_black(self):
        image = np.full((1, 8, 8, 1), 200, np.float32)
        to_the_left = np.array([[1, 0, 3, 0, 1, 0, 0, 0]], np.float32)
        found = np.asarray(moved(image, to_the_left))[0, :, :, 0]
        assert (found[:, :5] == 200).all() and not found[:, 5:].any()


def linear_trainee():
    """A model with the outputs of the trainee, whose losses can be worked out by hand."""
    import keras

    gray = keras.Input((SIDE, SIDE, 1))
    cells = keras.layers.AveragePooling2D(8)(keras.layers.Rescaling(1 / 255)(gray))
    maps = keras.layers.Conv2D(7, 1, kernel_initializer="ones", name="maps")(cells)
    pooled = keras.layers.GlobalAveragePooling2D()(cells)
    label = keras.layers.Dense(1, kernel_initializer="ones", name="label")(pooled)
    return keras.Model(gray, {"label": label, "maps": maps})


def unchanged(samples):
    """A batch that nothing augments."""
    images, maps, labels, *_ = batch_of(samples, 0, 0, np.arange(COUNT))
    still = np.tile(np.array([1, 0, 0, 0, 1, 0, 0, 0], np.float32), (COUNT, 1))
    tones = np.tile(np.array([1, 0, 1], np.float32), (COUNT, 1))
    return images, maps, labels, still, still, tones


def step_of(rate):
    import keras

    model = linear_trainee()
    optimizer = keras.optimizers.SGD(rate)
    optimizer.build(model.trainable_variables)
    return model, build_step(model, optimizer)


class TestStep:
    def test_losses_are_what_tensorflow_says_of_the_same_logits(self, samples):
        import tensorflow as tf

        batch = unchanged(samples)
        model, step = step_of(0.0)
        (label_loss, map_loss, right), each = map(np.asarray, step(*batch))
        found = model(batch[0].astype(np.float32))
        smooth = batch[2] * 0.98 + 0.01
        expected = tf.nn.sigmoid_cross_entropy_with_logits(smooth, found["label"])[:, 0]
        np.testing.assert_allclose(each, expected, rtol=1e-5)
        assert label_loss == pytest.approx(float(tf.reduce_mean(expected)), rel=1e-5)
        maps = tf.nn.weighted_cross_entropy_with_logits(
            batch[1].astype(np.float32) / 255, found["maps"], 3.0
        )
        assert map_loss == pytest.approx(8 * float(tf.reduce_mean(maps)), rel=1e-5)
        assert right == pytest.approx(np.mean((found["label"] > 0) == (batch[2] > 0.5)))

    def test_weights_go_down_the_gradient(self, samples):
        batch = unchanged(samples)
        model, step = step_of(0.1)
        losses = [np.asarray(step(*batch)[0])[:2].sum() for _ in range(5)]
        assert losses == sorted(losses, reverse=True) and losses[-1] < 0.99 * losses[0]
        # The derivative of the mean cross-entropy by the bias: the mean of what is too much.
        model, step = step_of(0.1)
        logits = np.asarray(model(batch[0].astype(np.float32))["label"])
        step(*batch)
        step.settle()
        too_much = np.mean(1 / (1 + np.exp(-logits)) - (batch[2] * 0.98 + 0.01))
        bias = np.asarray(model.get_layer("label").bias)
        np.testing.assert_allclose(bias, [-0.1 * too_much], rtol=1e-4)

    def test_jax_does_the_same(self, samples, tmp_path):
        pytest.importorskip("jax")
        np.savez(tmp_path / "samples.npz", **vars(samples))
        environment = {**os.environ, "KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu"}
        paths = [str(tmp_path / name) for name in ("samples.npz", "jax.npz")]
        run = subprocess.run(
            [sys.executable, __file__, *paths],
            env=environment, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert run.returncode == 0, run.stderr
        expected = three_steps(samples)
        with np.load(paths[1]) as found:
            for name, array in expected.items():
                np.testing.assert_allclose(found[name], array, rtol=1e-4, atol=1e-5)

    def test_another_backend_is_refused(self, monkeypatch):
        monkeypatch.setattr("keras.backend.backend", lambda: "torch")
        with pytest.raises(NotImplementedError, match="torch: pretraining takes tensorflow or jax"):
            build_step(None, None)


def three_steps(samples):
    """Figures, losses and weights after three augmented steps, on whatever backend Keras runs."""
    import keras

    model = linear_trainee()
    optimizer = keras.optimizers.AdamW(0.01, 1e-3, global_clipnorm=2.0)
    optimizer.build(model.trainable_variables)
    step, told = build_step(model, optimizer), {}
    for number in range(3):
        figures, losses = step(*batch_of(samples, 0, number, np.arange(COUNT)))
        told |= {f"figures{number}": np.asarray(figures), f"losses{number}": np.asarray(losses)}
    step.settle()
    kept = {f"weights{number}": each for number, each in enumerate(model.get_weights())}
    moments = {f"moments{number}": np.asarray(v) for number, v in enumerate(optimizer.variables)}
    return told | kept | moments


if __name__ == "__main__":
    with np.load(sys.argv[1]) as arrays:
        np.savez(sys.argv[2], **three_steps(Samples(**arrays)))
