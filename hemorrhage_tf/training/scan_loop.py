"""The training of a scan model's trainable part."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from hemorrhage_tf.models.scan_core import DIRECTIONS, build_scan_core
from hemorrhage_tf.training.head_solver import class_weight
from hemorrhage_tf.training.scan_samples import (
    ScanBatch,
    ScanSamples,
    count_batches,
    evaluation_batches,
    training_batches,
)

# Batches of a training: as many as these epochs have, but not fewer than `STEPS`.
EPOCHS, STEPS = 5, 150

LEARNING_RATE = 0.02  # of Adam at the start; it falls to 0 along a cosine

# Strength of the prior around the initial weights, in scans: the penalty on the mean loss is this
# over the number of scans, times half the squared distance. See docs/decisions.md.
PRIOR = 4.0

# The inputs of a core besides its mask, and the width of each.
_INPUT_WIDTHS = {"logit": 1, "directions": DIRECTIONS, "geometry": 3}


class ScanLoop:
    """A loop that trains scan models of one kind, each from the same initial weights.

    Args:
        kind: "pooling", "attention" or "gru".
        seed: Random seed of the initial weights and of the batches. Defaults to 0.

    Attributes:
        core: The model, see `scan_core.build_scan_core`.
    """

    def __init__(self, kind: str, seed: int = 0) -> None:
        import keras
        import tensorflow as tf

        self._seed = seed
        with tf.device("CPU:0"):  # too small to gain from a GPU, and the same bytes each time
            self.core = build_scan_core(kind, seed)
            self._optimizer = keras.optimizers.Adam(LEARNING_RATE)
            self._optimizer.build(self.core.trainable_variables)
            self._variables = [*self.core.trainable_variables, *self._optimizer.variables]
            self._initial = [variable.numpy() for variable in self._variables]
            self._train_step = _train_step(self.core, self._optimizer)
            self._predict = tf.function(
                lambda inputs: self.core(inputs, training=False),
                input_signature=[_input_specs()],
                autograph=False,
            )

    def train(self, samples: ScanSamples, class_weights: str = "balanced") -> list[np.ndarray]:
        """Train from slice labels where they are known, and from scan labels.

        Args:
            samples: The scans.
            class_weights: "balanced" or "none", see `head_solver.class_weight`.

        Returns:
            The weights of the core.
        """
        import tensorflow as tf

        for variable, value in zip(self._variables, self._initial, strict=True):
            variable.assign(value)
        known = samples.labels[samples.is_known]
        slice_weights = _weight_of_class(known, class_weights)
        scan_weights = _weight_of_class(samples.scan_labels, class_weights)
        known_per_scan = max(1.0, len(known) / len(samples))
        prior = PRIOR / len(samples)
        steps = max(STEPS, EPOCHS * count_batches(samples))
        with tf.device("CPU:0"):
            for step, batch in enumerate(training_batches(samples, self._seed, steps)):
                rate = LEARNING_RATE * (0.5 + 0.5 * np.cos(np.pi * step / steps))
                weights = _weights(batch.labels, slice_weights) * batch.is_known / known_per_scan
                inputs = [batch.inputs[name] for name in (*_INPUT_WIDTHS, "mask")]
                of_slices = [*inputs, batch.labels, weights]
                of_scans = [batch.scan_labels, _weights(batch.scan_labels, scan_weights)]
                # In few tensors, because a step takes hardly longer than passing them.
                arguments = (
                    np.concatenate([np.atleast_3d(each) for each in of_slices], axis=2),
                    np.concatenate(of_scans, axis=1),
                    np.array([rate, prior], np.float32),
                )
                self._train_step(*map(tf.constant, arguments))
        return self.core.get_weights()

    def predict(self, samples: ScanSamples) -> tuple[np.ndarray, np.ndarray]:
        """Apply the core to view 0 of scans.

        Args:
            samples: `m` scans with `n` slices.

        Returns:
            float64 logits, `(m,)` of the scans and `(n,)` of the slices.
        """
        scan_logits, slice_logits = np.zeros(len(samples)), np.zeros(len(samples.labels))
        for batch in evaluation_batches(samples):
            outputs = {name: value.numpy() for name, value in self._outputs(batch).items()}
            scans = np.searchsorted(samples.offsets, [rows[0] for rows in batch.rows], "right") - 1
            scan_logits[scans] = outputs["scan_logit"][:, 0]
            for number, rows in enumerate(batch.rows):
                slice_logits[rows] = outputs["slice_logits"][number, : len(rows), 0]
        return scan_logits, slice_logits

    def _outputs(self, batch: ScanBatch) -> Any:
        import tensorflow as tf

        with tf.device("CPU:0"):
            return self._predict(batch.inputs)


def _train_step(core: Any, optimizer: Any) -> Any:
    """Build the function that makes one step of Adam on a batch."""
    import tensorflow as tf

    variables = core.trainable_variables
    starts = [tf.constant(variable.numpy()) for variable in variables]
    is_kernel = [len(variable.shape) > 1 for variable in variables]
    widths = [*_INPUT_WIDTHS.values(), 1, 1, 1]

    def step(of_slices: Any, of_scans: Any, rate_and_prior: Any) -> None:
        optimizer.learning_rate.assign(rate_and_prior[0])
        *parts, mask, labels, weights = tf.split(of_slices, widths, axis=2)
        inputs = {**dict(zip(_INPUT_WIDTHS, parts, strict=True)), "mask": mask[:, :, 0]}
        with tf.GradientTape() as tape:
            outputs = core(inputs, training=True)
            logits = outputs["slice_logits"], outputs["scan_logit"]
            count = tf.cast(tf.shape(of_scans)[0], tf.float32)
            loss = sum(
                tf.reduce_sum(weight * tf.nn.sigmoid_cross_entropy_with_logits(label, logit))
                for label, logit, weight in (
                    (labels, logits[0], weights),
                    (of_scans[:, :1], logits[1], of_scans[:, 1:]),
                )
            )
            distance = sum(
                tf.nn.l2_loss(variable - start)
                for variable, start, counts in zip(variables, starts, is_kernel, strict=True)
                if counts
            )
            loss = loss / count + rate_and_prior[1] * distance
        optimizer.apply(tape.gradient(loss, variables), variables)

    specs = [(None, None, sum(widths)), (None, 2), (2,)]
    signature = [tf.TensorSpec(each) for each in specs]
    return tf.function(step, input_signature=signature, autograph=False).get_concrete_function()


def _input_specs() -> dict[str, Any]:
    import tensorflow as tf

    specs = {name: tf.TensorSpec((None, None, width)) for name, width in _INPUT_WIDTHS.items()}
    return {**specs, "mask": tf.TensorSpec((None, None))}


def _weight_of_class(labels: np.ndarray, kind: str) -> Sequence[float]:
    """Return the weights of a negative and of a positive."""
    weights = class_weight(labels, kind)
    return [float(weights[labels == label][:1].sum()) for label in (0, 1)]


def _weights(labels: np.ndarray, of_class: Sequence[float]) -> np.ndarray:
    return np.where(labels > 0.5, of_class[1], of_class[0]).astype(np.float32)
