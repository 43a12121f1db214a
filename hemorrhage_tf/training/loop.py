"""The training loop: one model, one optimizer, any strategy. The samples come from outside.

A custom loop with `strategy.run` instead of Keras' `fit`: each sample's loss is divided by the size
of its global batch before the batch is distributed, and gradients are summed over the replicas. So
an incomplete last batch weighs the same on any number of devices.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any, Protocol

import numpy as np

from hemorrhage_tf.pipeline.datasets import without_autograph
from hemorrhage_tf.training.distributed.single_process import SINGLE, SampleShard, SingleProcess

Epoch = dict[str, Any]
PHANTOM_WEIGHT = "phantom_weight"  # of an epoch, where phantoms are trained on
DatasetOf = Callable[[np.ndarray], Any]


@dataclass(frozen=True)
class Samples:
    """The samples of one pass.

    Attributes:
        dataset: `tf.data.Dataset` of `(inputs, (labels, weights, shares))`, see `batches`: batched
            for one process, single samples for one of several workers.
        count: Number of samples, over all workers.
        shard: This worker's part of the samples; None for one process.
    """

    dataset: Any
    count: int
    shard: SampleShard | None = None


class EpochStore(Protocol):
    """Storage for the state of a stage, so that another process can resume it."""

    def restore(self) -> dict[str, Any] | None:
        """Return the state saved last, or None."""

    def save(self, state: Callable[[], dict[str, Any]], last: bool) -> None:
        """Save a state of plain values and lists of arrays.

        Args:
            state: Computes the state; called only if it is saved.
            last: Whether the stage has ended, so that the state must be saved.
        """


def no_advance(epochs: int) -> None:
    """Ignore progress."""


def no_epoch_store(stage: str) -> EpochStore | None:
    """Store no epochs."""
    return None


@dataclass(frozen=True)
class TrainingHooks:
    """Callbacks that follow a training.

    Attributes:
        advance: Called with the number of epochs just done or skipped.
        epoch_store: Returns the storage of a stage, "head" or "fine-tune"; or None.
        on_epoch: Called with each row of the history as soon as it is known; or None.
    """

    advance: Callable[[int], None] = no_advance
    epoch_store: Callable[[str], EpochStore | None] = no_epoch_store
    on_epoch: Callable[[Epoch], None] | None = None

    def record(self, row: Epoch) -> None:
        """Pass on a row of the history."""
        if self.on_epoch is not None:
            self.on_epoch(row)


@dataclass(frozen=True)
class Stage:
    """A stage of a training: its samples, and its length.

    Attributes:
        name: Its name in the history, "head" or "fine-tune".
        epochs: Maximum number of epochs.
        training: Returns the samples of an epoch, counted from 0.
        validation: The validation samples, or None.
        patience: Epochs without a lower validation loss before stopping; 0 for never.
    """

    name: str
    epochs: int
    training: Callable[[int], Samples]
    validation: Samples | None = None
    patience: int = 0


def batches(
    dataset_of: DatasetOf,
    labels: np.ndarray,
    weights: np.ndarray,
    batch_size: int,
    cluster: SingleProcess = SINGLE,
) -> Samples:
    """Batch inputs with labels, weights, and each sample's share of its global batch.

    Args:
        dataset_of: Makes a `tf.data.Dataset` of single inputs from the positions of samples.
        labels: `(n,)` or `(n, outputs)`, 0 or 1; any value where the weight is 0.
        weights: Of the same shape.
        batch_size: Size of a global batch.
        cluster: The workers. Each makes its own part of each global batch, padded to equal sizes
            with samples of weight 0. Defaults to one process.

    Returns:
        The samples. The last batch may be smaller. A share is one over the true size of the batch.
    """
    import tensorflow as tf

    count = len(labels)
    if cluster.count > 1:
        shard = cluster.shard_samples(count, batch_size)
        positions, shares = shard.positions, shard.shares
        # Padding has a share of 0, and must not count in the reported loss either.
        weights = weights[positions] * (shares > 0).reshape(-1, *[1] * (weights.ndim - 1))
    else:
        shard, positions = None, np.arange(count)
        sizes = np.full(count, min(batch_size, count))
        if count % batch_size:
            sizes[-(count % batch_size) :] = count % batch_size
        shares = (1.0 / sizes).astype(np.float32)
    targets = tf.data.Dataset.from_tensor_slices(
        (labels[positions].astype(np.float32), weights.astype(np.float32), shares)
    )
    dataset = tf.data.Dataset.zip((dataset_of(positions), targets))
    if shard is None:
        dataset = dataset.batch(batch_size).prefetch(tf.data.AUTOTUNE)
    return Samples(dataset, count, shard)


def whole_pass(dataset: Iterable[Any], samples: int, batch_size: int) -> Iterator[Any]:
    """Yield the batches of a dataset of known length, without asking for one beyond the last.

    With several workers TensorFlow waits ten seconds before it reports the end of a dataset.

    Args:
        dataset: batches.
        samples: Total number of samples.
        batch_size: Size of each batch; the last may be smaller.
    """
    return islice(dataset, -(-samples // batch_size))


class Loop:
    """A loop over the trainable variables of a model; can be rewound and run again.

    Args:
        model: From inputs to logits `(batch, outputs)`, built in the strategy's scope. The losses
            of the outputs are added; loss and accuracy in the history are those of the first.
        learning_rate: Of Adam.
        strategy: The `tf.distribute.Strategy`.

    Attributes:
        model: The model.
    """

    def __init__(self, model: Any, learning_rate: float, strategy: Any) -> None:
        import keras
        import tensorflow as tf

        self.model = model
        self._strategy = strategy
        self._trainable = model.trainable_variables
        with strategy.scope():
            optimizer = keras.optimizers.Adam(learning_rate)
            optimizer.build(self._trainable)
        # Dropout's random state is a variable of the model, but not one of its weights.
        weights = {id(variable) for variable in model.weights}
        seeds = [variable for variable in model.variables if id(variable) not in weights]
        self._variables = [*self._trainable, *optimizer.variables, *seeds]
        self._initial = [variable.numpy() for variable in self._variables]

        def forward(batch: Any, training: bool) -> tuple[Any, Any]:
            inputs, (labels, weights, shares) = batch
            logits = tf.cast(model(inputs, training=training), tf.float32)
            labels, weights = (tf.reshape(one, tf.shape(logits)) for one in (labels, weights))
            losses = weights * tf.nn.sigmoid_cross_entropy_with_logits(labels, logits)
            is_right = (logits[:, 0] > 0) == (labels[:, 0] > 0.5)
            right = tf.cast(is_right & (shares > 0), tf.float32)
            sums = tf.stack([tf.reduce_sum(losses[:, 0]), tf.reduce_sum(right)])
            return tf.reduce_sum(losses * shares[:, tf.newaxis]), sums

        def train_replica(*batch: Any) -> Any:
            with tf.GradientTape() as tape:
                loss, sums = forward(batch, training=True)
            # Keras sums the gradients over the replicas before it applies them.
            optimizer.apply(tape.gradient(loss, self._trainable), self._trainable)
            return sums

        def test_replica(*batch: Any) -> Any:
            return forward(batch, training=False)[1]

        def one_pass(replica_step: Callable[..., Any]) -> Any:
            replica_step = without_autograph(replica_step)

            def run(dataset: Any) -> Any:
                totals = tf.zeros(2)
                for batch in dataset:
                    sums = strategy.run(replica_step, args=batch)
                    totals += strategy.reduce(tf.distribute.ReduceOp.SUM, sums, axis=None)
                return totals

            return tf.function(run, reduce_retracing=True)

        self._train_pass = one_pass(train_replica)
        self._test_pass = one_pass(test_replica)

    def rewind(self) -> None:
        """Reset weights, optimizer and random state to those at the creation of the loop."""
        _assign(self._variables, self._initial)

    def train(self, stage: Stage, hooks: TrainingHooks = TrainingHooks()) -> list[Epoch]:
        """Train, and restore the best weights if there are validation samples.

        Args:
            stage: The samples and the number of epochs.
            hooks: callbacks. A stored state of the stage is resumed. Defaults to none.

        Returns:
            For each epoch its stage, its number from 1, loss and accuracy, and with validation
            samples validation_loss and validation_accuracy.
        """
        history: list[Epoch] = []
        best_loss, best_epoch, best = np.inf, 0, None
        stopped = False
        store = hooks.epoch_store(stage.name)
        stored = None if store is None else store.restore()
        if stored is not None:
            _assign(self._variables, stored["state"])
            history, best_epoch, stopped = (
                stored["history"],
                stored["best_epoch"],
                stored["stopped"],
            )
            best_loss = np.inf if stored["best_loss"] is None else stored["best_loss"]
            best = stored["best"] or None
            hooks.advance(stage.epochs if stopped else len(history))

        def state() -> dict[str, Any]:
            return {
                "state": [variable.numpy() for variable in self._variables],
                "history": history,
                "best": best or [],
                "best_epoch": best_epoch,
                "best_loss": None if best is None else best_loss,
                "stopped": stopped,
            }

        for epoch in range(len(history), 0 if stopped else stage.epochs):
            row: Epoch = {"stage": stage.name, "epoch": epoch + 1}
            row["loss"], row["accuracy"] = self._means(self._train_pass, stage.training(epoch))
            history.append(row)
            if stage.validation is not None:
                loss, accuracy = self._means(self._test_pass, stage.validation)
                row["validation_loss"], row["validation_accuracy"] = loss, accuracy
                if loss < best_loss:
                    best_loss, best_epoch = loss, epoch
                    best = [variable.numpy() for variable in self._trainable]
                stopped = bool(stage.patience) and epoch - best_epoch >= stage.patience
            if store is not None:
                store.save(state, stopped or epoch + 1 == stage.epochs)
            hooks.record(row)
            hooks.advance(stage.epochs - epoch if stopped else 1)
            if stopped:
                break
        if best is not None:
            _assign(self._trainable, best)
        return history

    def _means(self, one_pass: Any, samples: Samples) -> tuple[float, float]:
        """Run a pass and return mean loss and accuracy over the samples."""
        if samples.shard is not None:
            dataset = samples.shard.distribute(self._strategy, samples.dataset)
        else:
            dataset = self._strategy.experimental_distribute_dataset(samples.dataset)
        totals = one_pass(dataset)
        loss, accuracy = (np.asarray(totals, np.float64) / samples.count).tolist()
        return loss, accuracy


def _assign(variables: Iterable[Any], values: Iterable[np.ndarray]) -> None:
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)
