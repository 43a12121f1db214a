"""The training loop: one model, one optimizer, any strategy. What to train on comes from outside.

A custom loop with `strategy.run` instead of Keras' `fit`: each sample's loss is divided by the size
of the global batch that it is in before the batch is dealt out, and gradients are summed over the
replicas. So a last batch that does not divide evenly weighs the same on any number of devices.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any, Protocol

import numpy as np

from hemorrhage_tf.training.distributed.single_process import SINGLE, SampleShard, SingleProcess

Epoch = dict[str, Any]


@dataclass(frozen=True)
class Samples:
    """What one pass of the loop goes over.

    Attributes:
        dataset: `tf.data.Dataset` of `(inputs, (labels, weights, shares))`; see `batches`.
        count: samples in it, of all workers.
        shard: how the single samples are dealt to this worker's replicas, of several workers; or
            None where the dataset's batches are dealt to the replicas of one.
    """

    dataset: Any
    count: int
    shard: SampleShard | None = None


class EpochStore(Protocol):
    """Keeps the state of a training from one process to the next."""

    def restore(self) -> dict[str, Any] | None:
        """Gives what was kept last, or None."""

    def keep(self, state: Callable[[], dict[str, Any]], last: bool) -> None:
        """Keeps a state of plain values and lists of arrays; asks for it only when it is time."""


def batches(
    inputs_of: Callable[[np.ndarray], Any],
    labels: np.ndarray,
    weights: np.ndarray,
    batch_size: int,
    cluster: SingleProcess = SINGLE,
) -> Samples:
    """Batches inputs with labels, weights, and each sample's share of its global batch.

    Args:
        inputs_of: makes a `tf.data.Dataset` of single inputs from the numbers of the samples.
        labels: `(n,)`, 0 or 1.
        weights: `(n,)`.
        batch_size: the global one.
        cluster: the workers. Each makes its own part of each global batch; what is missing for
            parts of one size is filled up with samples that weigh nothing. Default one process.

    Returns:
        Samples whose last batch may be smaller. A share is one over the batch's true size.
    """
    import tensorflow as tf

    count = len(labels)
    if cluster.count > 1:
        return _dealt(inputs_of, labels, weights, batch_size, cluster)
    sizes = np.full(count, min(batch_size, count))
    if count % batch_size:
        sizes[-(count % batch_size) :] = count % batch_size
    targets = tf.data.Dataset.from_tensor_slices(
        (labels.astype(np.float32), weights.astype(np.float32), (1.0 / sizes).astype(np.float32))
    )
    dataset = tf.data.Dataset.zip((inputs_of(np.arange(count)), targets))
    return Samples(dataset.batch(batch_size).prefetch(tf.data.AUTOTUNE), count)


def _dealt(inputs_of, labels, weights, batch_size: int, cluster) -> Samples:
    """Makes a worker's part of each global batch; what fills it up weighs nothing."""
    import tensorflow as tf

    shard = cluster.shard_samples(len(labels), batch_size)
    chosen, shares = shard.positions, shard.shares
    weighed = np.where(shares > 0, weights[chosen], 0).astype(np.float32)
    targets = tf.data.Dataset.from_tensor_slices(
        (labels[chosen].astype(np.float32), weighed, shares)
    )
    return Samples(tf.data.Dataset.zip((inputs_of(chosen), targets)), len(labels), shard)


def whole_pass(dataset: Iterable[Any], samples: int, batch_size: int) -> Iterator[Any]:
    """Gives the batches of a dataset of known length without asking for one beyond the last.

    Beside other workers TensorFlow waits ten seconds before it says that a dataset has ended.

    Args:
        dataset: of batches.
        samples: how many there are in all.
        batch_size: of each batch; the last may be smaller.
    """
    return islice(dataset, -(-samples // batch_size))


class Loop:
    """Trains the trainable variables of a model; can be rewound and run again.

    Args:
        model: from inputs to logits `(batch, 1)`, built in the strategy's scope.
        learning_rate: of Adam.
        strategy: the devices.
    """

    def __init__(self, model, learning_rate: float, strategy) -> None:
        import keras
        import tensorflow as tf

        self._strategy = strategy
        self._trainable = model.trainable_variables
        with strategy.scope():
            optimizer = keras.optimizers.Adam(learning_rate)
            optimizer.build(self._trainable)
        # The state of dropout's random numbers is a variable of the model, but none of its weights.
        weights = {id(variable) for variable in model.weights}
        seeds = [variable for variable in model.variables if id(variable) not in weights]
        self._state = [*self._trainable, *optimizer.variables, *seeds]
        self._start = [variable.numpy() for variable in self._state]

        def forward(batch, training: bool):
            inputs, (labels, weights, shares) = batch
            logits = tf.cast(model(inputs, training=training), tf.float32)[:, 0]
            losses = weights * tf.nn.sigmoid_cross_entropy_with_logits(labels, logits)
            right = tf.cast(((logits > 0) == (labels > 0.5)) & (shares > 0), tf.float32)
            sums = tf.stack([tf.reduce_sum(losses), tf.reduce_sum(right)])
            return tf.reduce_sum(losses * shares), sums

        def train_replica(*batch):
            with tf.GradientTape() as tape:
                loss, sums = forward(batch, training=True)
            # Keras sums the gradients over the replicas before it applies them.
            optimizer.apply(tape.gradient(loss, self._trainable), self._trainable)
            return sums

        def test_replica(*batch):
            return forward(batch, training=False)[1]

        def one_pass(replica_step):
            def run(dataset):
                totals = tf.zeros(2)
                for batch in dataset:
                    sums = strategy.run(replica_step, args=batch)
                    totals += strategy.reduce(tf.distribute.ReduceOp.SUM, sums, axis=None)
                return totals

            return tf.function(run, reduce_retracing=True)

        self._train_pass = one_pass(train_replica)
        self._test_pass = one_pass(test_replica)

    def rewind(self) -> None:
        """Puts weights and optimizer back to where they were when the loop was made."""
        for variable, value in zip(self._state, self._start, strict=True):
            variable.assign(value)

    def train(
        self,
        stage: str,
        epochs: int,
        training: Callable[[int], Samples],
        validation: Samples | None,
        patience: int,
        advance: Callable[[int], None],
        epoch_checkpoint: EpochStore | None = None,
        on_epoch: Callable[[Epoch], None] | None = None,
    ) -> list[Epoch]:
        """Trains, and puts the best weights back where it watches a validation part.

        Args:
            stage: what the history calls this training.
            epochs: how many, at most.
            training: gives the samples of an epoch, counted from 0.
            validation: the samples to validate on, or None.
            patience: epochs without a lower validation loss before stopping; 0 for never.
            advance: called with the number of epochs just done or left out.
            epoch_checkpoint: what keeps the state after each epoch and gives the last one back; or None.
            on_epoch: called with each epoch's row of the history as soon as it is over, or None.

        Returns:
            For each epoch its stage, its number from 1, loss and accuracy, and validation_loss and
            validation_accuracy where there is a validation part.
        """
        history: list[Epoch] = []
        best_loss, best_epoch, best = np.inf, 0, None
        stopped = False
        kept = epoch_checkpoint.restore() if epoch_checkpoint is not None else None
        if kept is not None:
            for variable, value in zip(self._state, kept["state"], strict=True):
                variable.assign(value)
            history, best_epoch, stopped = kept["history"], kept["best_epoch"], kept["stopped"]
            best_loss = np.inf if kept["best_loss"] is None else kept["best_loss"]
            best = kept["best"] or None
            advance(epochs if stopped else len(history))

        def state() -> dict[str, Any]:
            return {
                "state": [variable.numpy() for variable in self._state],
                "history": history,
                "best": best or [],
                "best_epoch": best_epoch,
                "best_loss": None if best is None else best_loss,
                "stopped": stopped,
            }

        for epoch in range(len(history), 0 if stopped else epochs):
            row: Epoch = {"stage": stage, "epoch": epoch + 1}
            row["loss"], row["accuracy"] = self._means(self._train_pass, training(epoch))
            history.append(row)
            if validation is not None:
                loss, accuracy = self._means(self._test_pass, validation)
                row["validation_loss"], row["validation_accuracy"] = loss, accuracy
                if loss < best_loss:
                    best_loss, best_epoch = loss, epoch
                    best = [variable.numpy() for variable in self._trainable]
                stopped = bool(patience) and epoch - best_epoch >= patience
            if epoch_checkpoint is not None:
                epoch_checkpoint.keep(state, stopped or epoch + 1 == epochs)
            if on_epoch is not None:
                on_epoch(row)
            advance(epochs - epoch if stopped else 1)
            if stopped:
                break
        if best is not None:
            for variable, value in zip(self._trainable, best, strict=True):
                variable.assign(value)
        return history

    def _means(self, one_pass, samples: Samples) -> tuple[float, float]:
        if samples.shard is not None:
            dealt = samples.shard.distribute(self._strategy, samples.dataset)
        else:
            dealt = self._strategy.experimental_distribute_dataset(samples.dataset)
        totals = one_pass(dealt)
        loss, accuracy = (np.asarray(totals, np.float64) / samples.count).tolist()
        return loss, accuracy
