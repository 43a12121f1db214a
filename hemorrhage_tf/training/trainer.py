"""The trainer: from features, or from fresh views, to a head and the classifier around it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from hemorrhage_tf.core.progress import Progress
from hemorrhage_tf.datasets.slice_index import SliceIndex
from hemorrhage_tf.datasets.splits import holdout
from hemorrhage_tf.models.classifier import (
    build_classifier,
    build_head,
    set_head,
    standardize,
)
from hemorrhage_tf.pipeline.augmentation import Augmentation
from hemorrhage_tf.pipeline.datasets import view_dataset
from hemorrhage_tf.training.distributed.single_process import SingleProcess
from hemorrhage_tf.training.features.extraction import (
    FeatureRows,
    FeatureSource,
    compute_features,
)
from hemorrhage_tf.training.features.table import (
    FeatureChunks,
    FeatureTable,
    feature_dataset,
    window_order,
)
from hemorrhage_tf.training.fine_tuning import tuned_layers
from hemorrhage_tf.training.head_solver import (
    HeadWeights,
    class_weight,
    feature_statistics,
    solve_head,
)
from hemorrhage_tf.training.loop import Epoch, EpochStore, Loop, Samples, batches, whole_pass
from hemorrhage_tf.training.settings import FitSettings

VALIDATION_FRACTION = 0.2  # of the training part, held out for early stopping


@dataclass(frozen=True)
class Part:
    """The slices of one training.

    Attributes:
        train: indices of what to train on.
        validation: indices of what to watch for early stopping; may be empty.
        seed: of the order of the samples.
    """

    train: np.ndarray
    validation: np.ndarray
    seed: int


def make_part(slices: SliceIndex, train: np.ndarray, settings: FitSettings, seed: int) -> Part:
    """Holds a validation part out of the training part where early stopping asks for one."""
    if not settings.early_stopping:
        return Part(train, np.array([], np.int64), seed)
    inner, validation = holdout(
        slices.labels[train], slices.groups[train], VALIDATION_FRACTION, seed
    )
    return Part(train[inner], train[validation], seed)


def _my_part(count: int, cluster: SingleProcess) -> np.ndarray:
    """Gives the indices of a number of samples that this worker goes over."""
    part = cluster.part(count)
    return np.arange(part.start, part.stop, part.step)


def strategy_of_backbones(settings: FitSettings, cluster: SingleProcess):
    """Gives the strategy in whose scope backbones are built.

    Frozen ones are each worker's own; those that are trained, or seen in every epoch, lie on all
    devices.
    """
    if settings.fine_tune_epochs or not settings.feature_cache:
        return cluster.strategy
    return cluster.local_strategy()


class Trainer:
    """Trains one head after another on the same slices, and builds the classifier of the last.

    Args:
        slices: all of them.
        settings: of the fit.
        sources: the backbones, and what computes their features in float32; in the order of their
            features, and all from one model input.
        policies: of each the Keras dtype policy under which it sees, frozen, what is only trained
            on. What is evaluated passes through it in float32 always, as in the saved model.
        cluster: the workers that train together, or this process alone; and their devices.
        progress: where progress goes.
        cache_at: the folder of the feature cache.

    Attributes:
        head: what the last training gave.
    """

    def __init__(
        self,
        slices: SliceIndex,
        settings: FitSettings,
        sources: Sequence[FeatureSource],
        policies: Sequence[str],
        cluster: SingleProcess,
        progress: Progress,
        cache_at: Path,
    ) -> None:
        self._cluster = cluster
        self._slices = slices
        self._settings = settings
        self._sources = sources
        self._policies = policies
        self._progress = progress
        self._cache_at = cache_at if settings.feature_cache else None
        self._augmentation = Augmentation(settings.augment, settings.seed)
        self._features: FeatureTable | None = None
        self.head: HeadWeights | None = None
        self._head_loop: tuple[object, Loop] | None = None
        self._warned_of_convergence = False
        self._classifier = None
        self._backbones_start: list | None = None
        self._tuned: list[list] = []
        if settings.fine_tune_from is not None:
            self._tuned = tuned_layers(sources, settings.fine_tune_from)

    @property
    def epochs(self) -> int:
        """How many epochs one training has at most."""
        return self._settings.epochs + self._settings.fine_tune_epochs

    def prepare(self, trained_on: np.ndarray, evaluated: np.ndarray) -> None:
        """Computes the features that the trainings need.

        Args:
            trained_on: indices of the slices that any training uses, in all views.
            evaluated: indices of the slices that any training is tested on, as they are.
        """
        count = len(self._slices)
        views = np.ones(count, np.int64)
        if self._settings.feature_cache:
            views[trained_on] = self._settings.views
        once = np.isin(np.arange(count), evaluated).astype(np.int64)
        beside = []
        for source, policy in zip(self._sources, self._policies, strict=True):
            # How many of a slice's views are computed in float32; they come first. What is kept in
            # half the room is only trained on, too.
            half = self._settings.feature_dtype == "float16"
            exact = views if policy == source.policy and not half else once
            first = self._compute(source, [range(k) for k in exact], "float32")
            rest = self._compute(
                replace(source, policy=policy),
                [range(*pair) for pair in zip(exact, views, strict=True)],
                self._settings.feature_dtype,
            )
            beside.append((first, rest))
        self._features = FeatureTable(views, beside, self._settings.pooling)

    def _compute(self, source: FeatureSource, views: list[range], dtype: str) -> FeatureRows:
        return compute_features(
            source,
            self._slices.refs,
            self._slices.hashes,
            views,
            self._augmentation,
            self._cluster,
            self._progress,
            self._cache_at,
            dtype,
        )

    def train(
        self,
        part: Part,
        test: np.ndarray,
        advance: Callable[[int], None],
        keep: Callable[[str], EpochStore | None] = lambda stage: None,
        on_epoch: Callable[[Epoch], None] | None = None,
    ) -> tuple[np.ndarray, list[Epoch]]:
        """Trains one head, and fine-tunes the backbone where that is asked for.

        Args:
            part: what to train and validate on.
            test: indices of the slices to predict; may be empty.
            advance: called with the number of epochs just done.
            keep: gives for a stage, "head" or "fine-tune", what keeps its epochs; or None.
            on_epoch: called with each row of the history as soon as it is known, or None.

        Returns:
            float32 probabilities of the test slices, and the history.
        """
        if self._backbones_start is not None:
            for source, start in zip(self._sources, self._backbones_start, strict=True):
                source.backbone.set_weights(start)
        places, owners = self._features.places(part.train)
        mean, variance = feature_statistics(FeatureChunks(self._features, places))
        if self._settings.feature_cache:
            labels = self._slices.labels[owners]
            if self._settings.head_solver == "lbfgs":
                history = self._solve(places, labels, mean, variance, advance, on_epoch)
            else:
                history = self._train_on_features(
                    part, places, labels, mean, variance, advance, keep("head"), on_epoch
                )
        else:
            width = self._features.width
            zeros = np.zeros((width, 1), np.float32), np.zeros(1, np.float32)
            self.head = HeadWeights(mean, variance, *zeros)
            history = self._train_on_pixels("head", part, advance, keep("head"), on_epoch)
        if self._settings.fine_tune_epochs:
            history += self._fine_tune(part, advance, keep("fine-tune"), on_epoch)
            return self._predict_pixels(test), history
        return self._predict_features(test), history

    def _predict_features(self, indices: np.ndarray) -> np.ndarray:
        chunks = FeatureChunks(self._features, self._features.first(indices))
        found = [self.head.probabilities(chunk) for chunk in chunks]
        return np.concatenate(found) if found else np.empty(0)

    def standardized(self, indices: np.ndarray) -> Iterator[np.ndarray]:
        """Gives the features of slices as the head sees them, float32 `(n, width)` at a time."""
        for chunk in FeatureChunks(self._features, self._features.first(indices)):
            yield standardize(chunk, self.head.mean, self.head.variance)

    def temper(self, temperature: float) -> None:
        """Divides the head's logits by a temperature, so that every form answers calibrated.

        The temperature lies in the weights: no form of the model has to know of it, and the class
        activation map's mean stays the logit.
        """
        head = self.head
        divisor = np.float32(temperature)
        self.head = replace(head, kernel=head.kernel / divisor, bias=head.bias / divisor)

    def classifier(self):
        """Gives the whole model, from pixels to probability, of the last training."""
        if self._settings.fine_tune_epochs:
            return self._classifier
        return self._build_classifier()

    def _build_classifier(self):
        """Builds a classifier around the backbones as they stand, with the head of now."""
        with strategy_of_backbones(self._settings, self._cluster).scope():
            classifier = build_classifier(
                [source.branch for source in self._sources],
                self._settings.pooling,
                self._settings.dropout,
            )
        head = self.head
        set_head(classifier, head.mean, head.variance, head.kernel, head.bias)
        return classifier

    def _solve(self, places, labels, mean, variance, advance, on_epoch) -> list[Epoch]:
        settings, cluster = self._settings, self._cluster
        weights = class_weight(labels, settings.class_weights)
        mine = _my_part(len(places), cluster)
        inputs = FeatureChunks(self._features, places[mine], (mean, variance))
        found = solve_head(inputs, labels[mine], weights[mine], settings.l2, cluster.all_sum)
        if not found.converged and not self._warned_of_convergence:
            self._warned_of_convergence = True
            self._progress.warn(
                f"L-BFGS did not converge in {found.iterations} iterations with --l2 "
                f"{settings.l2:g}; the head is the best it found. A larger --l2 is easier to solve"
            )
        self.head = HeadWeights(mean, variance, found.kernel, found.bias)
        advance(settings.epochs)
        row = {"stage": "head", "epoch": found.iterations}
        row |= {"loss": found.loss, "accuracy": found.accuracy}
        if on_epoch is not None:
            on_epoch(row)
        return [row]

    def _train_on_features(
        self, part, places, labels, mean, variance, advance, epoch_checkpoint, on_epoch
    ) -> list[Epoch]:
        settings = self._settings
        if self._head_loop is None:
            with self._cluster.strategy.scope():
                model = build_head(self._features.width, settings.dropout)
            self._head_loop = model, Loop(model, settings.learning_rate, self._cluster.strategy)
        model, loop = self._head_loop
        loop.rewind()
        weights = class_weight(labels, settings.class_weights)

        def inputs_of(chosen: np.ndarray):
            return feature_dataset(self._features, chosen, mean, variance)

        def training(epoch: int) -> Samples:
            order = window_order(len(places), np.random.default_rng([part.seed, epoch]))
            return self._batches(
                lambda chosen: inputs_of(places[order[chosen]]), labels[order], weights[order]
            )

        validation = None
        if len(part.validation):
            of_validation = self._features.first(part.validation)
            validation = self._validation(lambda chosen: inputs_of(of_validation[chosen]), part)
        patience = settings.early_stopping
        history = loop.train(
            *(
                "head",
                settings.epochs,
                training,
                validation,
                patience,
                advance,
                epoch_checkpoint,
                on_epoch,
            )
        )
        self.head = HeadWeights(mean, variance, *model.get_layer("logit").get_weights())
        return history

    def _fine_tune(self, part: Part, advance, epoch_checkpoint, on_epoch) -> list[Epoch]:
        backbones = [source.backbone for source in self._sources]
        if self._backbones_start is None:
            self._backbones_start = [backbone.get_weights() for backbone in backbones]
        for backbone, tuned in zip(backbones, self._tuned, strict=True):
            backbone.trainable = True
            for layer in backbone.layers:
                layer.trainable = layer in tuned
        try:
            return self._train_on_pixels("fine-tune", part, advance, epoch_checkpoint, on_epoch)
        finally:
            for backbone in backbones:
                backbone.trainable = False

    def _train_on_pixels(
        self, stage: str, part: Part, advance, epoch_checkpoint, on_epoch
    ) -> list[Epoch]:
        """Trains what is trainable on fresh views of the slices, starting from the head of now."""
        import keras

        settings = self._settings
        fine_tuning = stage == "fine-tune"
        self._classifier = self._build_classifier()
        with self._cluster.strategy.scope():
            to_logits = keras.Model(
                self._classifier.input, self._classifier.get_layer("logit").output
            )
        rate = settings.fine_tune_learning_rate if fine_tuning else settings.learning_rate
        loop = Loop(to_logits, rate, self._cluster.strategy)
        labels = self._slices.labels
        # Fine-tuning goes on with views that the head has not seen.
        first_view = 1 + (settings.epochs if fine_tuning else 0)

        def training(epoch: int) -> Samples:
            order = np.random.default_rng([part.seed, epoch]).permutation(part.train)
            weights = class_weight(labels[order], settings.class_weights)
            return self._batches(
                lambda chosen: self._pixels(order[chosen], first_view + epoch),
                labels[order],
                weights,
            )

        validation = None
        if len(part.validation):
            validation = self._validation(
                lambda chosen: self._pixels(part.validation[chosen], 0), part
            )
        epochs = settings.fine_tune_epochs if fine_tuning else settings.epochs
        patience = settings.early_stopping
        history = loop.train(
            *(stage, epochs, training, validation, patience, advance, epoch_checkpoint, on_epoch)
        )
        self.head = HeadWeights(
            self.head.mean,
            self.head.variance,
            *self._classifier.get_layer("logit").get_weights(),
        )
        return history

    def _validation(self, inputs_of, part: Part) -> Samples:
        labels = self._slices.labels[part.validation]
        weights = class_weight(labels, self._settings.class_weights)
        return self._batches(inputs_of, labels, weights)

    def _batches(self, inputs_of, labels: np.ndarray, weights: np.ndarray) -> Samples:
        """Batches what this process sees of the samples: all, or its part of each batch."""
        return batches(inputs_of, labels, weights, self._settings.batch_size, self._cluster)

    def _pixels(self, indices: np.ndarray, view: int):
        records = self._slices.manifest.records
        return view_dataset(
            [records[index].ref for index in indices],
            [self._slices.hashes[index] for index in indices],
            [[view]] * len(indices),
            self._sources[0].model_input,
            self._augmentation,
        )

    def _predict_pixels(self, indices: np.ndarray) -> np.ndarray:
        import tensorflow as tf

        forward = tf.function(
            lambda images: self._classifier(images, training=False), reduce_retracing=True
        )
        mine = _my_part(len(indices), self._cluster)
        dataset = self._pixels(indices[mine], 0).batch(self._settings.batch_size)
        found = [
            forward(images).numpy()[:, 0]
            for images in whole_pass(dataset, len(indices[mine]), self._settings.batch_size)
        ]
        probabilities = np.zeros(len(indices), np.float32)
        if found:
            probabilities[mine] = np.concatenate(found)
        return self._cluster.all_sum(probabilities)
