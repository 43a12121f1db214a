"""One step of pretraining: augmentation, losses and the update of the weights.

The computation is written once, in Keras operations. TensorFlow and JAX differ in how they compute
gradients and where they store the variables.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from hemorrhage_tf.training.pretraining.samples import Samples
from hemorrhage_tf.training.pretraining.settings import PretrainingSettings

# Weight of the maps' loss against the label's, and in it of covered cells against others. Most
# cells are empty, so that a mean over all of them is small.
_MAP_WEIGHT, _COVERED_WEIGHT = 8.0, 3.0
_LABEL_SMOOTHING = 0.02
# Weight of the squared difference between the logits of one phantom through two windows.
_WINDOW_WEIGHT = 0.05
# Standard deviation of the logarithm of the other window's width, and of its level in gray levels.
_OTHER_WIDTH, _OTHER_LEVEL = 0.35, 16


class Batch(NamedTuple):
    """A batch before augmentation, and its augmentation.

    Attributes:
        images: uint8 `(n, 192, 192, 1)`.
        maps: uint8 `(n, 24, 24, 7)`.
        labels: float32 `(n, 1)`.
        image_transforms: float32 `(n, 8)`, see `in_pixels`.
        map_transforms: float32 `(n, 8)`.
        tones: float32 `(n, 3)`: contrast, brightness and gamma.
        other_tones: float32 `(m, 3)`, `m <= n`: the same for the first `m` images through another
            window. The model shall answer both alike.
    """

    images: np.ndarray
    maps: np.ndarray
    labels: np.ndarray
    image_transforms: np.ndarray
    map_transforms: np.ndarray
    tones: np.ndarray
    other_tones: np.ndarray


def augmenting_transforms(rng: np.random.Generator, count: int) -> np.ndarray:
    """Draw random flips, rotations, scales and shifts.

    Args:
        rng: Random generator.
        count: Number of images.

    Returns:
        float32 `(count, 8)`: projective transforms from output to input pixels, in units of half
        the image's side and from its center; see `in_pixels`.
    """
    angle = rng.normal(0, 0.08, count)
    any_angle = rng.random(count) < 0.12
    angle = np.where(any_angle, rng.uniform(-np.pi, np.pi, count), angle)
    flip_x = np.where(rng.random(count) < 0.5, -1.0, 1.0)
    flip_y = np.where(rng.random(count) < 0.3, -1.0, 1.0)
    zoom_x = np.exp(rng.normal(0, 0.06, count))
    zoom_y = zoom_x * np.exp(rng.normal(0, 0.04, count))
    shift_x, shift_y = rng.normal(0, 0.05, (2, count))
    cos, sin, zero = np.cos(angle), np.sin(angle), np.zeros(count)
    x, y = zoom_x * flip_x, zoom_y * flip_y
    rows = (x * cos, -x * sin, shift_x, y * sin, y * cos, shift_y, zero, zero)
    return np.stack(rows, axis=1).astype(np.float32)


def in_pixels(transforms: np.ndarray, side: int) -> np.ndarray:
    """Convert transforms around the center to pixels from the corner.

    Args:
        transforms: float32 `(n, 8)`, in units of half the side.
        side: Side of the images, in pixels.

    Returns:
        float32 `(n, 8)`, as `keras.ops.image.affine_transform` takes them.
    """
    half = (side - 1) / 2
    pixels = transforms.copy()
    for row in (0, 3):
        a, b, shift = transforms[:, row], transforms[:, row + 1], transforms[:, row + 2]
        pixels[:, row + 2] = half * (1 + shift - a - b)
    return pixels


def batch_of(
    samples: Samples, settings: PretrainingSettings, step: int, chosen: np.ndarray
) -> Batch:
    """Return the batch of a step; the same arguments give the same batch.

    Args:
        samples: The samples to choose from.
        settings: The settings; `seed` and `window_pairs` count.
        step: Number of the step, from 0.
        chosen: int `(n,)`, indices of the samples.
    """
    rng = np.random.default_rng([settings.seed, 1, step])
    transforms = augmenting_transforms(rng, len(chosen))
    tones = _tones(rng, len(chosen), 0.12, 8)
    return Batch(
        samples.images[chosen, :, :, np.newaxis],
        samples.maps[chosen],
        samples.labels[chosen, np.newaxis].astype(np.float32),
        in_pixels(transforms, samples.images.shape[1]),
        in_pixels(transforms, samples.maps.shape[1]),
        tones,
        _tones(rng, min(settings.window_pairs, len(chosen)), _OTHER_WIDTH, _OTHER_LEVEL),
    )


def _tones(rng: np.random.Generator, count: int, width: float, level: float) -> np.ndarray:
    """Draw contrasts, brightnesses and gammas: float32 `(count, 3)`."""
    contrast = np.exp(rng.normal(0, width, count))
    brightness = rng.normal(0, level, count)
    gamma = np.exp(rng.normal(0, 0.08, count))
    return np.stack((contrast, brightness, gamma), axis=1).astype(np.float32)


def build_step(model: Any, optimizer: Any) -> Any:
    """Build the function that updates the weights by a batch, for the backend of Keras.

    Args:
        model: The model to train, see `training.build_trainee`.
        optimizer: A Keras optimizer, built for the model's weights.

    Returns:
        A callable. `step(batch)` returns arrays of the backend: `(4,)` with the label's loss, the
        maps' loss, the accuracy, and the mean squared difference between the logits of two windows,
        and `(n,)` with the label's loss of each image.
        `step.synchronize()` copies the state that it holds itself into model and optimizer.

    Raises:
        NotImplementedError: Keras runs on another backend than TensorFlow or JAX.
    """
    import keras

    name = keras.backend.backend()
    if name not in BACKENDS:
        raise NotImplementedError(
            f"KERAS_BACKEND={name}: pretraining does not run on it. "
            f"Set KERAS_BACKEND to {' or '.join(BACKENDS)}."
        )
    return BACKENDS[name](model, optimizer)


def transform(pixels: Any, transforms: Any) -> Any:
    """Move images; pixels from outside become 0.

    Args:
        pixels: float32 `(n, side, side, channels)`.
        transforms: float32 `(n, 8)`, see `in_pixels`.

    Returns:
        float32, of the same shape.
    """
    from keras import ops

    return ops.image.affine_transform(
        pixels, transforms, "bilinear", "constant", 0.0, data_format="channels_last"
    )


def _augment(batch: Batch) -> tuple[Any, Any, Any]:
    """Return augmented images in [0, 255], maps in [0, 1], and labels.

    The first images come again at the end, through other windows.
    """
    from keras import ops

    count = batch.other_tones.shape[0]
    images = transform(ops.cast(batch.images, "float32"), batch.image_transforms)
    images = ops.concatenate([images, images[:count]])
    maps = transform(ops.cast(batch.maps, "float32") / 255.0, batch.map_transforms)
    labels = ops.concatenate([batch.labels, batch.labels[:count]])
    tones = ops.concatenate([batch.tones, batch.other_tones])
    return _toned(images, tones), ops.concatenate([maps, maps[:count]]), labels


def _toned(images: Any, tones: Any) -> Any:
    """Change contrast, brightness and gamma of images in [0, 255]."""
    from keras import ops

    contrast, brightness, gamma = ops.split(tones[:, np.newaxis, np.newaxis], 3, axis=-1)
    images = 255.0 * ops.power(ops.maximum(images, 1e-3) / 255.0, gamma)
    # The black around a head stays black.
    toned = images + brightness + (contrast - 1.0) * (images - 100.0)
    return ops.clip(ops.where(images > 8.0, toned, images), 0.0, 255.0)


def _losses(outputs: Any, labels: Any, targets: Any, count: int) -> tuple[Any, Any, Any]:
    """Return the total loss, `(4,)` metrics, and `(n,)` losses of the labels.

    Args:
        outputs: Logits of label and maps.
        labels: float32 `(n + m, 1)`.
        targets: float32 `(n + m, 24, 24, 7)`, the maps.
        count: `n`; the images after it are the first ones through other windows.
    """
    from keras import ops

    smooth = labels * (1 - _LABEL_SMOOTHING) + 0.5 * _LABEL_SMOOTHING
    logits, maps = outputs["label"], outputs["maps"]
    label_losses = ops.binary_crossentropy(smooth, logits, from_logits=True)
    label_loss = ops.mean(label_losses)
    # tf.nn.weighted_cross_entropy_with_logits, which Keras lacks.
    weights = 1 + (_COVERED_WEIGHT - 1) * targets
    map_loss = _MAP_WEIGHT * ops.mean((1 - targets) * maps + weights * ops.softplus(-maps))
    accuracy = ops.mean(ops.cast(ops.equal(logits > 0, labels > 0.5), "float32"))
    again = logits[count:]
    # The mean over no pairs would not be a number.
    difference = ops.sum(ops.square(again - logits[: again.shape[0]])) / max(again.shape[0], 1)
    metrics = ops.stack([label_loss, map_loss, accuracy, difference])
    return label_loss + map_loss + _WINDOW_WEIGHT * difference, metrics, label_losses[:count, 0]


class _TensorFlowStep:
    def __init__(self, model: Any, optimizer: Any) -> None:
        import tensorflow as tf

        @tf.function
        def step(batch: Batch) -> tuple[Any, Any]:
            images, targets, labels = _augment(batch)
            count = batch.images.shape[0]
            with tf.GradientTape() as tape:
                outputs = model(images, training=True)
                loss, metrics, label_losses = _losses(outputs, labels, targets, count)
            gradients = tape.gradient(loss, model.trainable_variables)
            optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
            return metrics, label_losses

        self._step = step

    def __call__(self, batch: Batch) -> tuple[Any, Any]:
        import tensorflow as tf

        metrics, label_losses = self._step(Batch._make(map(tf.constant, batch)))
        return metrics, label_losses

    def synchronize(self) -> None:
        """Do nothing: the variables are updated in place."""


class _JaxStep:
    def __init__(self, model: Any, optimizer: Any) -> None:
        import jax

        self._variables = (
            model.trainable_variables,
            model.non_trainable_variables,
            optimizer.variables,
        )
        # Copies, since a step consumes the arrays donated to it.
        self._state = jax.tree.map(lambda variable: variable.value.copy(), self._variables)

        def losses(trainable: Any, fixed: Any, batch: Batch) -> tuple[Any, Any]:
            images, targets, labels = _augment(batch)
            outputs, fixed = model.stateless_call(trainable, fixed, images, training=True)
            count = batch.images.shape[0]
            loss, metrics, label_losses = _losses(outputs, labels, targets, count)
            return loss, (fixed, metrics, label_losses)

        def step(state: Any, batch: Batch) -> tuple[Any, Any]:
            trainable, fixed, moments = state
            gradients, (fixed, metrics, label_losses) = jax.grad(losses, has_aux=True)(
                trainable, fixed, batch
            )
            trainable, moments = optimizer.stateless_apply(moments, gradients, trainable)
            return (trainable, fixed, moments), (metrics, label_losses)

        self._step = jax.jit(step, donate_argnums=0)

    def __call__(self, batch: Batch) -> tuple[Any, Any]:
        self._state, (metrics, label_losses) = self._step(self._state, batch)
        return metrics, label_losses

    def synchronize(self) -> None:
        """Copy the trained state into the variables of model and optimizer."""
        for variables, values in zip(self._variables, self._state, strict=True):
            for variable, value in zip(variables, values, strict=True):
                variable.assign(value)


# The Keras backends with an implementation.
BACKENDS: dict[str, Any] = {"tensorflow": _TensorFlowStep, "jax": _JaxStep}
