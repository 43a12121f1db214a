"""The trainer: trains one head after another, and builds the classifier around the last one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from hemorrhage_tf.datasets.slice_index import SliceIndex
from hemorrhage_tf.datasets.splits import holdout
from hemorrhage_tf.evaluation.logit_calibration import LogitCalibration
from hemorrhage_tf.models.classifier import (
    build_classifier,
    build_head,
    head_weights,
    logits_model,
    set_head,
    standardize,
    uncapped_model,
)
from hemorrhage_tf.pipeline.augmentation import Augmentation
from hemorrhage_tf.training.context import FitContext
from hemorrhage_tf.training.distributed.single_process import SingleProcess
from hemorrhage_tf.training.feature_sources import FeatureSources, backbone_strategy, kept_models
from hemorrhage_tf.training.features.extraction import SliceViews, compute_features
from hemorrhage_tf.training.features.rows import FeatureRows
from hemorrhage_tf.training.features.source import FeatureSource
from hemorrhage_tf.training.features.table import FeatureChunks, FeatureTable
from hemorrhage_tf.training.fine_tuning import fine_tuned_layers
from hemorrhage_tf.training.head_groups import HeadGroups, SolvedHead
from hemorrhage_tf.training.head_solver import (
    HeadWeights,
    constant_biases,
    feature_statistics,
    output_weights,
    solve_further_outputs,
)
from hemorrhage_tf.training.kept_models import classifier_key
from hemorrhage_tf.training.known_head import Anchors, Phantoms, embedded_head
from hemorrhage_tf.training.loop import PHANTOM_WEIGHT, Epoch, Loop, Stage, whole_pass
from hemorrhage_tf.training.samples import (
    FeatureSamples,
    ImageSamples,
    SampleProvider,
    TrainingTask,
)
from hemorrhage_tf.training.settings import FitSettings

VALIDATION_FRACTION = 0.2  # of the training slices, held out for early stopping


def hold_out_validation(
    slices: SliceIndex, train: np.ndarray, settings: FitSettings, seed: int
) -> TrainingTask:
    """Make the task of a training, with validation slices if early stopping needs them.

    Args:
        slices: All slices.
        train: Indices of the slices to train and validate on.
        settings: The settings of the fit.
        seed: Seed of the choice of validation slices, and of the order of the samples.
    """
    if not settings.early_stopping:
        return TrainingTask(train=train, seed=seed)
    rest, validation = holdout(
        slices.labels[train], slices.groups[train], VALIDATION_FRACTION, seed
    )
    return TrainingTask(train=train[rest], validation=train[validation], seed=seed)


class Trainer:
    """A trainer of heads on one set of slices.

    Call `prepare` first, then `train` any number of times: a training does not depend on those
    before it.

    Args:
        context: The context of the fit.
        feature_sources: The backbones.

    Attributes:
        head: The head of the last training.
        subtypes: float32 `(n, 5)`, the last training's probabilities of subtypes for its test
            slices, not capped at any hemorrhage; `(n, 0)` of a model without subtypes.
        anchors: What heads are held to, after `prepare`.
        heads: Solves heads, after `prepare`.

    Raises:
        OptionError: `fine_tune_from` names no layer that can be trained.
    """

    head: HeadWeights
    subtypes: np.ndarray
    anchors: Anchors
    heads: HeadGroups

    def __init__(self, context: FitContext, feature_sources: FeatureSources) -> None:
        self._context = context
        self._settings = context.settings
        self._feature_sources = feature_sources
        self._sources = feature_sources.sources
        self._augmentation = Augmentation(context.settings.augment, context.settings.seed)
        self._features: FeatureTable
        self._head_loop: Loop | None = None
        self._warned_of_convergence = False
        self._classifier: Any = None
        self._initial_weights: list[list[np.ndarray]] | None = None
        self._fine_tuned: list[list[Any]] = []
        if context.settings.fine_tune_from is not None:
            self._fine_tuned = fine_tuned_layers(self._sources, context.settings.fine_tune_from)

    @property
    def features(self) -> FeatureTable:
        """The features that `prepare` computed."""
        return self._features

    @property
    def epochs(self) -> int:
        """Maximum number of epochs of a training."""
        return self._settings.epochs + self._settings.fine_tune_epochs

    def prepare(self, trained_on: np.ndarray, evaluated: np.ndarray) -> None:
        """Compute the features that the trainings need.

        Args:
            trained_on: Indices of the slices in any training, needed in all views.
            evaluated: Indices of the slices in any test part, needed in view 0.
        """
        count = len(self._context.slices)
        views = np.ones(count, np.int64)
        if self._settings.feature_cache:
            views[trained_on] = self._settings.views
        is_evaluated = np.isin(np.arange(count), evaluated).astype(np.int64)
        stores_half = self._settings.feature_dtype == "float16"
        rows = []
        for source, policy in zip(self._sources, self._feature_sources.policies, strict=True):
            # The first views of a slice are computed and stored in float32: all of them, or only
            # view 0 of an evaluated slice where training may do with less.
            exact = views if policy == source.policy and not stores_half else is_evaluated
            first = self._compute(
                source, self._context.slices, [range(number) for number in exact], "float32"
            )
            others = self._compute(
                replace(source, policy=policy),
                self._context.slices,
                [range(begin, end) for begin, end in zip(exact, views, strict=True)],
                self._settings.feature_dtype,
            )
            rows.append((first, others))
        self._features = FeatureTable(views, rows, self._settings.pooling)
        self.anchors = self._make_anchors(trained_on)
        self.heads = HeadGroups(self._context, self._features, self.anchors)

    def _make_anchors(self, trained_on: np.ndarray) -> Anchors:
        """Return what heads are held to, with the features of the phantoms."""
        context, known, phantoms = self._context, None, None
        if self._settings.prior == "embedded":
            known = embedded_head(self._sources)
        if context.phantoms is not None:
            phantoms = Phantoms(self.features_of(context.phantoms), context.phantoms.labels)
        return Anchors(context, self._features, known, phantoms, trained_on)

    def features_of(self, slices: SliceIndex) -> FeatureTable:
        """Compute the features of other slices, without augmentation."""
        rows = []
        for source in self._sources:
            first = self._compute(source, slices, [range(1)] * len(slices), "float32")
            none = self._compute(source, slices, [range(0)] * len(slices), "float32")
            rows.append((first, none))
        return FeatureTable(np.ones(len(slices), np.int64), rows, self._settings.pooling)

    def plan(self, trainings: Sequence[np.ndarray]) -> None:
        """Tell which trainings follow, so that their heads are solved together.

        Args:
            trainings: The training slices of each.
        """
        self.heads.plan(trainings)

    def train(self, task: TrainingTask) -> tuple[np.ndarray, list[Epoch]]:
        """Train one head, and fine-tune the backbones if the settings request it.

        Args:
            task: The slices to train, validate and test on.

        Returns:
            float32 `(n,)` probabilities of the test slices, and the history.
        """
        if self._initial_weights is not None:
            for source, weights in zip(self._sources, self._initial_weights, strict=True):
                source.backbone.set_weights(weights)
        rows, owners = self._features.view_rows(task.train)
        is_solved = self._settings.feature_cache and self._settings.head_solver == "lbfgs"
        solved = self.heads.solve(task.train) if is_solved else None
        if solved is not None:
            mean, variance = solved.mean, solved.variance
        else:
            mean, variance = feature_statistics(FeatureChunks(self._features, rows))
        targets = self._context.targets[owners]
        self._constant_biases = constant_biases(self._context.targets[task.train])
        self._constant_biases[0] = np.nan  # any hemorrhage is always trained
        kernel = np.zeros((self._features.width, targets.shape[1]), np.float32)
        self.head = HeadWeights(
            mean,
            variance,
            kernel,
            np.nan_to_num(self._constant_biases),
            0.0 if solved is None else solved.phantom_weight,
        )
        if not self._settings.feature_cache:
            history = self._train_on_images("head", task)
        elif solved is not None:
            history = self._solve(solved, rows, targets, task)
        else:
            history = self._train_on_features(task)
        if self._settings.fine_tune_epochs:
            history += self._fine_tune(task)
            outputs = self._predict_images(task)
        else:
            outputs = self._predict_features(task.test)
        self.subtypes = outputs[:, 1:]
        return outputs[:, 0], history

    def standardized(self, indices: np.ndarray) -> Iterator[np.ndarray]:
        """Yield the features of slices as the head receives them, float32 `(n, width)` each."""
        for chunk in FeatureChunks(self._features, self._features.first_rows(indices)):
            yield standardize(chunk, self.head.mean, self.head.variance)

    def apply_calibrations(self, calibrations: Sequence[LogitCalibration]) -> None:
        """Calibrate the head's logits.

        The calibrations become part of the weights, so that every exported form is calibrated, and
        the mean of the class activation map stays the logit.

        Args:
            calibrations: One for each output of the head.
        """
        divisors = np.array([each.temperature for each in calibrations], np.float32)
        offsets = np.array([each.offset for each in calibrations], np.float32)
        kernel, bias = self.head.kernel / divisors, self.head.bias / divisors + offsets
        self.head = replace(self.head, kernel=kernel, bias=bias)

    def build_classifier(self) -> Any:
        """Return the model of the last training, from model input to probability."""
        if self._settings.fine_tune_epochs:
            return self._classifier
        return self._build_classifier()

    def write_classifier(self, path: Path) -> None:
        """Write the model of the last training to a `.keras` file.

        Where an earlier fit kept the same model with another head, nothing is built.
        """
        settings, kept = self._settings, kept_models(self._context)
        key = classifier_key(
            [(options, settings.seed) for options in settings.backbones],
            pooling=settings.pooling,
            outputs=len(self.head.bias),
        )
        if kept.write_classifier(key, path, self.head):
            return
        self.build_classifier().save(path)
        kept.keep_classifier(key, path, self.head)

    def _compute(
        self, source: FeatureSource, slices: SliceIndex, views: list[range], dtype: str
    ) -> FeatureRows:
        """Compute the features of views of slices."""
        context = self._context
        return compute_features(
            source,
            SliceViews(
                slices=slices.refs,
                hashes=slices.hashes,
                views=views,
                augmentation=self._augmentation,
            ),
            context.cluster,
            context.progress,
            context.cache_folder if self._settings.feature_cache else None,
            dtype,
        )

    def _build_classifier(self) -> Any:
        """Build a classifier around the current backbones and head."""
        with backbone_strategy(self._context).scope():
            classifier = build_classifier(
                [source.branch for source in self._sources],
                self._settings.pooling,
                self._settings.dropout,
                subtypes=self._context.targets.shape[1] - 1,
            )
        head = self.head
        set_head(classifier, head.mean, head.variance, head.kernel, head.bias)
        return classifier

    def _solve(
        self, solved: SolvedHead, rows: np.ndarray, targets: np.ndarray, task: TrainingTask
    ) -> list[Epoch]:
        """Take the head that L-BFGS found, and solve for its further outputs."""
        settings, cluster = self._settings, self._context.cluster
        weights = output_weights(targets, settings.class_weights)
        own = _own_positions(len(rows), cluster)
        standardization = self.head.mean, self.head.variance
        solution = solve_further_outputs(
            solved.solution,
            FeatureChunks(self._features, rows[own], standardization),
            targets[own],
            weights[own],
            settings.l2,
            cluster.all_sum,
        )
        if not solution.converged and not self._warned_of_convergence:
            self._warned_of_convergence = True
            self._context.progress.warn(
                f"L-BFGS did not converge in {solution.iterations} iterations with --l2 "
                f"{settings.l2:g}; the last iterate is used. Pass a larger --l2 to converge faster."
            )
        self._set_dense(solution.kernel, solution.bias)
        task.hooks.advance(settings.epochs)
        row: Epoch = {"stage": "head", "epoch": solution.iterations}
        row |= {"loss": solution.loss, "accuracy": solution.accuracy}
        if self.anchors.has_phantoms:
            row[PHANTOM_WEIGHT] = solved.phantom_weight
        task.hooks.record(row)
        return [row]

    def _train_on_features(self, task: TrainingTask) -> list[Epoch]:
        """Train the head by Adam on cached features."""
        if self._head_loop is None:
            strategy = self._context.cluster.strategy
            with strategy.scope():
                model = build_head(
                    self._features.width, self._settings.dropout, len(self.head.bias)
                )
            self._head_loop = Loop(model, self._settings.learning_rate, strategy)
        self._head_loop.rewind()
        samples = FeatureSamples(self._context, self._features, task, self.head)
        return self._train_stage("head", self._head_loop, samples, task)

    def _train_on_images(self, stage: str, task: TrainingTask) -> list[Epoch]:
        """Train all that is trainable on new views of the slices, from the current head."""
        settings = self._settings
        # Fine-tuning continues with views that the head has not been trained on.
        first_view, rate = 1, settings.learning_rate
        if stage == "fine-tune":
            first_view, rate = 1 + settings.epochs, settings.fine_tune_learning_rate
        self._classifier = self._build_classifier()
        strategy = self._context.cluster.strategy
        with strategy.scope():
            to_logits = logits_model(self._classifier)
        loop = Loop(to_logits, rate, strategy)
        samples = ImageSamples(self._context, self._augmentation, task, first_view)
        return self._train_stage(stage, loop, samples, task)

    def _train_stage(
        self, name: str, loop: Loop, samples: SampleProvider, task: TrainingTask
    ) -> list[Epoch]:
        """Run a loop over samples, and take the head from its model."""
        settings = self._settings
        stage = Stage(
            name=name,
            epochs=settings.fine_tune_epochs if name == "fine-tune" else settings.epochs,
            training=samples.training,
            validation=samples.validation(),
            patience=settings.early_stopping,
        )
        history = loop.train(stage, task.hooks)
        self._set_dense(*head_weights(loop.model))
        return history

    def _set_dense(self, kernel: np.ndarray, bias: np.ndarray) -> None:
        """Set the dense units of the head; those that cannot be trained keep their bias."""
        is_constant = np.isfinite(self._constant_biases)
        bias = np.where(is_constant, self._constant_biases, bias).astype(np.float32)
        self.head = replace(self.head, kernel=kernel, bias=bias)

    def _fine_tune(self, task: TrainingTask) -> list[Epoch]:
        backbones = [source.backbone for source in self._sources]
        if self._initial_weights is None:
            self._initial_weights = [backbone.get_weights() for backbone in backbones]
        for backbone, fine_tuned in zip(backbones, self._fine_tuned, strict=True):
            backbone.trainable = True
            for layer in backbone.layers:
                layer.trainable = layer in fine_tuned
        try:
            return self._train_on_images("fine-tune", task)
        finally:
            for backbone in backbones:
                backbone.trainable = False

    def _predict_features(self, indices: np.ndarray) -> np.ndarray:
        chunks = FeatureChunks(self._features, self._features.first_rows(indices))
        parts = [self.head.outputs(chunk) for chunk in chunks]
        return np.concatenate(parts) if parts else np.empty((0, len(self.head.bias)), np.float32)

    def _predict_images(self, task: TrainingTask) -> np.ndarray:
        import tensorflow as tf

        cluster, batch_size = self._context.cluster, self._settings.batch_size
        model = uncapped_model(self._classifier)
        forward = tf.function(lambda images: model(images, training=False), reduce_retracing=True)
        own = _own_positions(len(task.test), cluster)
        samples = ImageSamples(self._context, self._augmentation, task, first_view=0)
        dataset = samples.inputs(task.test[own], view=0).batch(batch_size)
        parts = [forward(images).numpy() for images in whole_pass(dataset, len(own), batch_size)]
        probabilities = np.zeros((len(task.test), len(self.head.bias)), np.float32)
        if parts:
            probabilities[own] = np.concatenate(parts)
        return cluster.all_sum(probabilities)


def _own_positions(count: int, cluster: SingleProcess) -> np.ndarray:
    """Return the positions of the samples that this worker processes."""
    part = cluster.part(count)
    return np.arange(part.start, part.stop, part.step)
