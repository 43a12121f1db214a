"""One step of pretraining: what augments a batch, the losses, and how the weights move.

What is computed is said once, in operations of Keras; TensorFlow and JAX differ in how they give
gradients and in where they keep what changes.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from hemorrhage_tf.training.pretraining.samples import Samples

# How much the maps weigh beside the label, and in them what is covered beside what is not. Most
# cells show nothing, and a mean over all of them is small.
_MAP_WEIGHT, _COVERED_WEIGHT = 8.0, 3.0
_LABEL_SMOOTHING = 0.02


def augmenting_transforms(rng: np.random.Generator, count: int) -> np.ndarray:
    """Draws how pictures are flipped, turned, scaled and moved.

    Args:
        rng: where it comes from.
        count: of pictures.

    Returns:
        float32 `(count, 8)`: projective transforms from output to input pixels, in units of half
        the picture's side and from its middle; see `in_pixels`.
    """
    turned = rng.normal(0, 0.08, count)
    anyhow = rng.random(count) < 0.12
    turned = np.where(anyhow, rng.uniform(-np.pi, np.pi, count), turned)
    flip_x = np.where(rng.random(count) < 0.5, -1.0, 1.0)
    flip_y = np.where(rng.random(count) < 0.3, -1.0, 1.0)
    zoom_x = np.exp(rng.normal(0, 0.06, count))
    zoom_y = zoom_x * np.exp(rng.normal(0, 0.04, count))
    move_x, move_y = rng.normal(0, 0.05, (2, count))
    cos, sin = np.cos(turned), np.sin(turned)
    zero = np.zeros(count)
    rows = (
        *(zoom_x * flip_x * cos, -zoom_x * flip_x * sin, move_x),
        *(zoom_y * flip_y * sin, zoom_y * flip_y * cos, move_y),
        *(zero, zero),
    )
    return np.stack(rows, axis=1).astype(np.float32)


def in_pixels(transforms: np.ndarray, side: int) -> np.ndarray:
    """Brings transforms around the middle to pixels counted from the corner.

    Args:
        transforms: float32 `(n, 8)`, in units of half the side.
        side: of the pictures, in pixels.

    Returns:
        As `transforms`.
    """
    half = (side - 1) / 2
    pixels = transforms.copy()
    for row in (0, 3):
        a, b, moved = transforms[:, row], transforms[:, row + 1], transforms[:, row + 2]
        pixels[:, row + 2] = half * (1 + moved - a - b)
    return pixels


def batch_of(samples: Samples, seed: int, step: int, chosen: np.ndarray) -> tuple[np.ndarray, ...]:
    """Gives the batch of a step; the same one whenever it is asked.

    Args:
        samples: to choose from.
        seed: of the training.
        step: of the training, from 0 up.
        chosen: int `(n,)`, indices of the samples.

    Returns:
        Images uint8 `(n, 192, 192, 1)`, maps uint8 `(n, 24, 24, 7)`, labels float32 `(n, 1)`, and
        what augments them: transforms of both `(n, 8)`, contrast, brightness and gamma `(n, 3)`.
    """
    rng = np.random.default_rng([seed, 1, step])
    transforms = augmenting_transforms(rng, len(chosen))
    tones = np.stack(
        (
            np.exp(rng.normal(0, 0.12, len(chosen))),
            rng.normal(0, 8, len(chosen)),
            np.exp(rng.normal(0, 0.08, len(chosen))),
        ),
        axis=1,
    )
    return (
        samples.images[chosen, :, :, np.newaxis],
        samples.maps[chosen],
        samples.labels[chosen, np.newaxis].astype(np.float32),
        in_pixels(transforms, samples.images.shape[1]),
        in_pixels(transforms, samples.maps.shape[1]),
        tones.astype(np.float32),
    )


def build_step(model, optimizer):
    """Builds what moves the weights by a batch, for the backend that Keras runs on.

    Args:
        model: the trainee, see `pretrain.build_trainee`.
        optimizer: a Keras optimizer, built for the model's weights.

    Returns:
        It is called with what `batch_of` gives, and gives arrays of the backend: the label's loss,
        the maps' loss and the share of right labels, `(3,)`, and the label's loss of each picture,
        `(n,)`. Its `settle()` brings what it keeps itself back into model and optimizer.

    Raises:
        NotImplementedError: Keras runs on another backend than TensorFlow or JAX.
    """
    import keras

    name = keras.backend.backend()
    if name not in BACKENDS:
        accepted = " or ".join(BACKENDS)
        raise NotImplementedError(f"KERAS_BACKEND={name}: pretraining takes {accepted}")
    return BACKENDS[name](model, optimizer)


def moved(pixels, transforms):
    """Moves pictures; what comes in from outside of them is 0.

    Args:
        pixels: float32 `(n, side, side, channels)`.
        transforms: float32 `(n, 8)`, see `in_pixels`.

    Returns:
        As `pixels`.
    """
    from keras import ops

    return ops.image.affine_transform(
        pixels, transforms, "bilinear", "constant", 0.0, data_format="channels_last"
    )


def _augmented(images, maps, image_transforms, map_transforms, tones):
    from keras import ops

    images = moved(ops.cast(images, "float32"), image_transforms)
    contrast, brightness, gamma = ops.split(tones[:, np.newaxis, np.newaxis], 3, axis=-1)
    images = 255.0 * ops.power(ops.maximum(images, 1e-3) / 255.0, gamma)
    # What is black around a head stays black.
    toned = images + brightness + (contrast - 1.0) * (images - 100.0)
    images = ops.clip(ops.where(images > 8.0, toned, images), 0.0, 255.0)
    return images, moved(ops.cast(maps, "float32") / 255.0, map_transforms)


def _losses(found, labels, targets):
    """Gives what is minimized, the figures of the step, and the label's loss of each picture."""
    from keras import ops

    smooth = labels * (1 - _LABEL_SMOOTHING) + 0.5 * _LABEL_SMOOTHING
    logits = found["label"]
    label_losses = ops.binary_crossentropy(smooth, logits, from_logits=True)
    label_loss = ops.mean(label_losses)
    maps = found["maps"]
    # As `tf.nn.weighted_cross_entropy_with_logits`, which Keras does not have.
    weights = 1 + (_COVERED_WEIGHT - 1) * targets
    map_loss = _MAP_WEIGHT * ops.mean((1 - targets) * maps + weights * ops.softplus(-maps))
    right = ops.mean(ops.cast(ops.equal(logits > 0, labels > 0.5), "float32"))
    return label_loss + map_loss, ops.stack([label_loss, map_loss, right]), label_losses[:, 0]


class _TensorflowStep:
    def __init__(self, model, optimizer) -> None:
        import tensorflow as tf

        @tf.function
        def step(images, maps, labels, *changes):
            images, targets = _augmented(images, maps, *changes)
            with tf.GradientTape() as tape:
                loss, figures, label_losses = _losses(model(images, training=True), labels, targets)
            gradients = tape.gradient(loss, model.trainable_variables)
            optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
            return figures, label_losses

        self._step = step

    def __call__(self, *batch: np.ndarray) -> tuple[Any, Any]:
        import tensorflow as tf

        return self._step(*map(tf.constant, batch))

    def settle(self) -> None:
        """Does nothing: the variables are changed in place."""


class _JaxStep:
    def __init__(self, model, optimizer) -> None:
        import jax

        self._kept = (model.trainable_variables, model.non_trainable_variables, optimizer.variables)
        # Copies, since what is donated to a step is gone after it.
        self._state = jax.tree.map(lambda each: each.value.copy(), self._kept)

        def losses(trainable, fixed, images, labels, targets):
            found, fixed = model.stateless_call(trainable, fixed, images, training=True)
            loss, figures, label_losses = _losses(found, labels, targets)
            return loss, (fixed, figures, label_losses)

        def step(state, images, maps, labels, *changes):
            trainable, fixed, moments = state
            images, targets = _augmented(images, maps, *changes)
            gradients, (fixed, *told) = jax.grad(losses, has_aux=True)(
                trainable, fixed, images, labels, targets
            )
            trainable, moments = optimizer.stateless_apply(moments, gradients, trainable)
            return (trainable, fixed, moments), told

        self._step = jax.jit(step, donate_argnums=0)

    def __call__(self, *batch: np.ndarray) -> tuple[Any, Any]:
        self._state, told = self._step(self._state, *batch)
        return tuple(told)

    def settle(self) -> None:
        """Brings what was trained back into the variables of model and optimizer."""
        for variables, values in zip(self._kept, self._state, strict=True):
            for variable, value in zip(variables, values, strict=True):
                variable.assign(value)


# Of Keras, that a step can be built for.
BACKENDS = {"tensorflow": _TensorflowStep, "jax": _JaxStep}
