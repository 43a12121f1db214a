"""The trainer: from features, or from fresh views, to a head and the classifier around it."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from hemorrhage_tf.data.augmentation import Augmentation
from hemorrhage_tf.data.pipeline import view_dataset
from hemorrhage_tf.data.scan import ScannedSlices
from hemorrhage_tf.data.splits import holdout
from hemorrhage_tf.errors import OptionError
from hemorrhage_tf.models.choices import values_of_each
from hemorrhage_tf.models.classifier import (
    build_classifier,
    build_head,
    select_pooled,
    set_head,
    standardize,
)
from hemorrhage_tf.reporting import Reporter
from hemorrhage_tf.training.features import FeatureSource, compute_features
from hemorrhage_tf.training.loop import Epoch, Loop, Samples, batches
from hemorrhage_tf.training.settings import FitSettings

VALIDATION_FRACTION = 0.2  # of the training part, held out for early stopping
MAX_ITERATIONS = 1000  # of L-BFGS; on the Kaggle set it takes 60 to 80

# The largest entry of the gradient where L-BFGS stops. On the Kaggle set probabilities are then
# within 1e-5 of the optimum's; scikit-learn's own 1e-4 left them 0.02 away.
_GRADIENT_TOLERANCE = 1e-8

# Features that hardly vary are not blown up by standardizing: their variance counts as at least
# this share of the mean variance.
_VARIANCE_FLOOR = 1e-6


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


@dataclass(frozen=True)
class Head:
    """A trained standardization and dense unit.

    Attributes:
        mean: float32 `(width,)`, of the pooled training features.
        variance: float32 `(width,)`.
        kernel: float32 `(width, 1)`.
        bias: float32 `(1,)`.
    """

    mean: np.ndarray
    variance: np.ndarray
    kernel: np.ndarray
    bias: np.ndarray

    def probabilities(self, pooled: np.ndarray) -> np.ndarray:
        """Applies standardization, dense unit and sigmoid.

        Args:
            pooled: `(n, width)` pooled features.

        Returns:
            float32 `(n,)` in [0, 1].
        """
        logits = standardize(pooled, self.mean, self.variance) @ self.kernel + self.bias
        return (1.0 / (1.0 + np.exp(-logits[:, 0].astype(np.float64)))).astype(np.float32)


def make_part(slices: ScannedSlices, train: np.ndarray, settings: FitSettings, seed: int) -> Part:
    """Holds a validation part out of the training part where early stopping asks for one."""
    if not settings.early_stopping:
        return Part(train, np.array([], np.int64), seed)
    inner, validation = holdout(
        slices.labels[train], slices.groups[train], VALIDATION_FRACTION, seed
    )
    return Part(train[inner], train[validation], seed)


def class_weight(labels: np.ndarray, kind: str) -> np.ndarray:
    """Weighs samples so that both classes weigh the same.

    Args:
        labels: `(n,)`, 0 or 1.
        kind: "balanced": n / (2 * count of the sample's class), as scikit-learn has it; or "none".

    Returns:
        float32 `(n,)`.
    """
    if kind == "none":
        return np.ones(len(labels), np.float32)
    counts = np.bincount(labels, minlength=2)
    return (len(labels) / (2.0 * np.maximum(counts, 1)))[labels].astype(np.float32)


def feature_statistics(features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Gives mean and floored variance of `(n, width)` features, float32 `(width,)` each."""
    mean = features.mean(axis=0, dtype=np.float64)
    variance = features.var(axis=0, dtype=np.float64)
    floor = max(float(variance.mean()) * _VARIANCE_FLOOR, float(np.finfo(np.float32).tiny))
    return mean.astype(np.float32), np.maximum(variance, floor).astype(np.float32)


@dataclass(frozen=True)
class Solution:
    """A logistic regression's optimum.

    Attributes:
        kernel: float32 `(width, 1)`.
        bias: float32 `(1,)`.
        loss: mean weighted loss on what was trained on, without the penalty.
        accuracy: share of it on the right side.
        iterations: how many it took.
        converged: False where the iterations ran out.
    """

    kernel: np.ndarray
    bias: np.ndarray
    loss: float
    accuracy: float
    iterations: int
    converged: bool


def solve_head(inputs: np.ndarray, labels: np.ndarray, weights: np.ndarray, l2: float) -> Solution:
    """Finds the one minimum of mean(weights * loss) + l2 / 2 * |kernel|^2 by L-BFGS.

    Args:
        inputs: `(n, width)` standardized features.
        labels: `(n,)`, 0 or 1, both of them present.
        weights: `(n,)`, of the samples; with a mean of one.
        l2: strength of the penalty, which leaves the bias out.

    Returns:
        The solution; the same bytes each time, and on any number of cores or replicas.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from threadpoolctl import threadpool_limits

    solver = LogisticRegression(
        C=1.0 / l2 / float(weights.sum(dtype=np.float64)),
        tol=_GRADIENT_TOLERANCE,
        max_iter=MAX_ITERATIONS,
    )
    # In float32 the line search stops short of the optimum. A second thread has next to nothing to
    # do: on two busy cores it made 0.2 seconds into 4.
    exact = inputs.astype(np.float64)
    with threadpool_limits(1, "blas"), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ConvergenceWarning)
        solver.fit(exact, labels, sample_weight=weights.astype(np.float64))
        logits = solver.decision_function(exact)
    return Solution(
        solver.coef_.T.astype(np.float32),
        solver.intercept_.astype(np.float32),
        float(np.mean(weights * (np.logaddexp(0.0, logits) - labels * logits))),
        float(np.mean((logits > 0) == (labels > 0.5))),
        int(solver.n_iter_[0]),
        not any(issubclass(one.category, ConvergenceWarning) for one in caught),
    )


def layers_from(backbone, name: str) -> list:
    """Lists the layers that fine-tuning from a layer unfreezes.

    Args:
        backbone: a Keras model.
        name: the first layer to unfreeze.

    Returns:
        That layer and all after it, batch normalization left out.

    Raises:
        OptionError: no such layer, or nothing in it can be trained.
    """
    import keras

    names = [layer.name for layer in backbone.layers]
    if name not in names:
        raise OptionError(
            f"--fine-tune-from {name}: the backbone has no such layer. "
            f"Its last ones: {', '.join(names[-6:])}"
        )
    tuned = [
        layer
        for layer in backbone.layers[names.index(name) :]
        if not isinstance(layer, keras.layers.BatchNormalization)
    ]
    if not any(layer.weights for layer in tuned):
        raise OptionError(
            f"--fine-tune-from {name}: no layer from there on has weights to train. "
            "Name an earlier layer."
        )
    return tuned


def tuned_layers(sources: Sequence[FeatureSource], fine_tune_from: str) -> list[list]:
    """Lists for each backbone the layers that fine-tuning unfreezes; none for one left frozen.

    Args:
        sources: the backbones.
        fine_tune_from: what `--fine-tune-from` says: a layer, or `NAME=LAYER` pairs.

    Raises:
        OptionError: no such layer or backbone, or nothing to train.
    """
    specs = [source.spec for source in sources]
    first = values_of_each("--fine-tune-from", fine_tune_from, specs)
    return [
        layers_from(source.backbone, first[source.spec.name]) if source.spec.name in first else []
        for source in sources
    ]


class Trainer:
    """Trains one head after another on the same slices, and builds the classifier of the last.

    Args:
        slices: all of them.
        settings: of the fit.
        sources: the backbones, and what computes their features in float32; in the order of their
            features, and all from one model input.
        policies: of each the Keras dtype policy under which it sees, frozen, what is only trained
            on. What is evaluated passes through it in float32 always, as in the saved model.
        strategy: the devices.
        reporter: where progress goes.
        cache_at: the folder of the feature cache.
    """

    def __init__(
        self,
        slices: ScannedSlices,
        settings: FitSettings,
        sources: Sequence[FeatureSource],
        policies: Sequence[str],
        strategy,
        reporter: Reporter,
        cache_at: Path,
    ) -> None:
        self._slices = slices
        self._settings = settings
        self._sources = sources
        self._policies = policies
        self._strategy = strategy
        self._reporter = reporter
        self._cache_at = cache_at if settings.feature_cache else None
        self._augmentation = Augmentation(settings.augment, settings.seed)
        self._features: list[np.ndarray] = []
        self._head: Head | None = None
        self._head_loop: tuple[object, Loop] | None = None
        self._warned_of_convergence = False
        self._on_epoch: Callable[[Epoch], None] | None = None
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
            # How many of a slice's views are computed in float32; they come first.
            exact = views if policy == source.policy else once
            first = self._compute(source, [range(k) for k in exact])
            rest = self._compute(
                replace(source, policy=policy),
                [range(*pair) for pair in zip(exact, views, strict=True)],
            )
            beside.append(
                [
                    select_pooled(np.concatenate(pair), self._settings.pooling)
                    for pair in zip(first, rest, strict=True)
                ]
            )
        # In the order in which the classifier pools its backbones.
        self._features = [np.concatenate(each, axis=1) for each in zip(*beside, strict=True)]

    def _compute(self, source: FeatureSource, views: list[range]) -> list[np.ndarray]:
        return compute_features(
            source,
            self._slices.refs,
            self._slices.hashes,
            views,
            self._augmentation,
            self._strategy,
            self._reporter,
            self._cache_at,
        )

    def train(
        self,
        part: Part,
        test: np.ndarray,
        advance: Callable[[int], None],
        on_epoch: Callable[[Epoch], None] | None = None,
    ) -> tuple[np.ndarray, list[Epoch]]:
        """Trains one head, and fine-tunes the backbone where that is asked for.

        Args:
            part: what to train and validate on.
            test: indices of the slices to predict; may be empty.
            advance: called with the number of epochs just done.
            on_epoch: called with each row of the history as soon as it is known, or None.

        Returns:
            float32 probabilities of the test slices, and the history.
        """
        self._on_epoch = on_epoch
        if self._backbones_start is not None:
            for source, start in zip(self._sources, self._backbones_start, strict=True):
                source.backbone.set_weights(start)
        rows = np.concatenate([self._features[index] for index in part.train])
        counts = [len(self._features[index]) for index in part.train]
        mean, variance = feature_statistics(rows)
        if self._settings.feature_cache:
            labels = np.repeat(self._slices.labels[part.train], counts)
            if self._settings.head_solver == "lbfgs":
                history = self._solve(rows, labels, mean, variance, advance)
            else:
                history = self._train_on_features(part, rows, labels, mean, variance, advance)
        else:
            width = rows.shape[1]
            zeros = np.zeros((width, 1), np.float32), np.zeros(1, np.float32)
            self._head = Head(mean, variance, *zeros)
            history = self._train_on_pixels("head", part, advance)
        if self._settings.fine_tune_epochs:
            history += self._fine_tune(part, advance)
            return self._predict_pixels(test), history
        pooled = [self._features[index][0] for index in test]
        return self._head.probabilities(np.stack(pooled)) if pooled else np.empty(0), history

    def standardized(self, indices: np.ndarray) -> np.ndarray:
        """Gives the features of slices as the head sees them, float32 `(n, width)`."""
        pooled = np.stack([self._features[index][0] for index in indices])
        return standardize(pooled, self._head.mean, self._head.variance)

    def temper(self, temperature: float) -> None:
        """Divides the head's logits by a temperature, so that every form answers calibrated.

        The temperature lies in the weights: no form of the model has to know of it, and the class
        activation map's mean stays the logit.
        """
        head = self._head
        divisor = np.float32(temperature)
        self._head = replace(head, kernel=head.kernel / divisor, bias=head.bias / divisor)

    def classifier(self):
        """Gives the whole model, from pixels to probability, of the last training."""
        if self._settings.fine_tune_epochs:
            return self._classifier
        return self._build_classifier()

    def _build_classifier(self):
        """Builds a classifier around the backbones as they stand, with the head of now."""
        with self._strategy.scope():
            classifier = build_classifier(
                [source.branch for source in self._sources],
                self._settings.pooling,
                self._settings.dropout,
            )
        head = self._head
        set_head(classifier, head.mean, head.variance, head.kernel, head.bias)
        return classifier

    def _solve(self, rows, labels, mean, variance, advance) -> list[Epoch]:
        settings = self._settings
        weights = class_weight(labels, settings.class_weights)
        found = solve_head(standardize(rows, mean, variance), labels, weights, settings.l2)
        if not found.converged and not self._warned_of_convergence:
            self._warned_of_convergence = True
            self._reporter.warn(
                f"L-BFGS did not converge in {found.iterations} iterations with --l2 "
                f"{settings.l2:g}; the head is the best it found. A larger --l2 is easier to solve"
            )
        self._head = Head(mean, variance, found.kernel, found.bias)
        advance(settings.epochs)
        row = {"stage": "head", "epoch": found.iterations}
        row |= {"loss": found.loss, "accuracy": found.accuracy}
        if self._on_epoch is not None:
            self._on_epoch(row)
        return [row]

    def _train_on_features(self, part, rows, labels, mean, variance, advance) -> list[Epoch]:
        import tensorflow as tf

        settings = self._settings
        if self._head_loop is None:
            with self._strategy.scope():
                model = build_head(rows.shape[1], settings.dropout)
            self._head_loop = model, Loop(model, settings.learning_rate, self._strategy)
        model, loop = self._head_loop
        loop.rewind()
        inputs = standardize(rows, mean, variance)
        weights = class_weight(labels, settings.class_weights)

        def training(epoch: int) -> Samples:
            order = np.random.default_rng([part.seed, epoch]).permutation(len(labels))
            dataset = tf.data.Dataset.from_tensor_slices(inputs[order])
            return batches(dataset, labels[order], weights[order], settings.batch_size)

        validation = None
        if len(part.validation):
            pooled = np.stack([self._features[index][0] for index in part.validation])
            dataset = tf.data.Dataset.from_tensor_slices(standardize(pooled, mean, variance))
            validation = self._validation(dataset, part)
        patience = settings.early_stopping
        history = loop.train(
            "head", settings.epochs, training, validation, patience, advance, self._on_epoch
        )
        self._head = Head(mean, variance, *model.get_layer("logit").get_weights())
        return history

    def _fine_tune(self, part: Part, advance) -> list[Epoch]:
        backbones = [source.backbone for source in self._sources]
        if self._backbones_start is None:
            self._backbones_start = [backbone.get_weights() for backbone in backbones]
        for backbone, tuned in zip(backbones, self._tuned, strict=True):
            backbone.trainable = True
            for layer in backbone.layers:
                layer.trainable = layer in tuned
        try:
            return self._train_on_pixels("fine-tune", part, advance)
        finally:
            for backbone in backbones:
                backbone.trainable = False

    def _train_on_pixels(self, stage: str, part: Part, advance) -> list[Epoch]:
        """Trains what is trainable on fresh views of the slices, starting from the head of now."""
        import keras

        settings = self._settings
        fine_tuning = stage == "fine-tune"
        self._classifier = self._build_classifier()
        with self._strategy.scope():
            to_logits = keras.Model(
                self._classifier.input, self._classifier.get_layer("logit").output
            )
        rate = settings.fine_tune_learning_rate if fine_tuning else settings.learning_rate
        loop = Loop(to_logits, rate, self._strategy)
        labels = self._slices.labels
        # Fine-tuning goes on with views that the head has not seen.
        first_view = 1 + (settings.epochs if fine_tuning else 0)

        def training(epoch: int) -> Samples:
            order = np.random.default_rng([part.seed, epoch]).permutation(part.train)
            weights = class_weight(labels[order], settings.class_weights)
            dataset = self._pixels(order, first_view + epoch)
            return batches(dataset, labels[order], weights, settings.batch_size)

        validation = None
        if len(part.validation):
            validation = self._validation(self._pixels(part.validation, 0), part)
        epochs = settings.fine_tune_epochs if fine_tuning else settings.epochs
        patience = settings.early_stopping
        history = loop.train(stage, epochs, training, validation, patience, advance, self._on_epoch)
        self._head = Head(
            self._head.mean,
            self._head.variance,
            *self._classifier.get_layer("logit").get_weights(),
        )
        return history

    def _validation(self, dataset, part: Part) -> Samples:
        labels = self._slices.labels[part.validation]
        weights = class_weight(labels, self._settings.class_weights)
        return batches(dataset, labels, weights, self._settings.batch_size)

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
        dataset = self._pixels(indices, 0).batch(self._settings.batch_size)
        found = [forward(images).numpy()[:, 0] for images in dataset]
        return np.concatenate(found) if found else np.empty(0, np.float32)
