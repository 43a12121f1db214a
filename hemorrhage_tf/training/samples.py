"""The samples of a training, from cached features or from new views of the slices."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from hemorrhage_tf.pipeline.augmentation import Augmentation
from hemorrhage_tf.pipeline.datasets import view_dataset
from hemorrhage_tf.training.context import FitContext
from hemorrhage_tf.training.features.table import FeatureTable, feature_dataset, window_order
from hemorrhage_tf.training.head_solver import HeadWeights, output_weights
from hemorrhage_tf.training.loop import DatasetOf, Samples, TrainingHooks, batches

_NO_SLICES = np.array([], np.int64)


@dataclass(frozen=True)
class TrainingTask:
    """The slices of one training, and callbacks that follow it.

    Attributes:
        train: Indices of the training slices.
        validation: Indices of the slices to validate on for early stopping. Defaults to none.
        test: Indices of the slices to predict after the training. Defaults to none.
        seed: Seed of the order of the samples. Defaults to 0.
        hooks: callbacks. Defaults to none.
    """

    train: np.ndarray
    validation: np.ndarray = field(default_factory=_NO_SLICES.copy)
    test: np.ndarray = field(default_factory=_NO_SLICES.copy)
    seed: int = 0
    hooks: TrainingHooks = TrainingHooks()


class SampleProvider(Protocol):
    """Provider of the samples of a training."""

    def training(self, epoch: int) -> Samples:
        """Return the training samples of an epoch, counted from 0, in its order."""

    def validation(self) -> Samples | None:
        """Return the validation samples, or None if there are none."""


class FeatureSamples:
    """Samples of cached, standardized features.

    Args:
        context: The context of the fit.
        table: The features.
        task: The slices.
        standardization: Mean and variance.
    """

    def __init__(
        self,
        context: FitContext,
        table: FeatureTable,
        task: TrainingTask,
        standardization: HeadWeights,
    ) -> None:
        self._context = context
        self._table = table
        self._task = task
        self._standardization = standardization
        self._rows, owners = table.view_rows(task.train)
        self._labels = context.targets[owners]
        self._weights = output_weights(self._labels, context.settings.class_weights)

    def training(self, epoch: int) -> Samples:
        """Return all views of the training slices, shuffled."""
        order = window_order(len(self._rows), np.random.default_rng([self._task.seed, epoch]))
        return _batches(
            self._context,
            self._dataset_of(self._rows[order]),
            self._labels[order],
            self._weights[order],
        )

    def validation(self) -> Samples | None:
        """Return view 0 of the validation slices."""
        rows = self._table.first_rows(self._task.validation)
        return _validation(self._context, self._task, self._dataset_of(rows))

    def _dataset_of(self, rows: np.ndarray) -> DatasetOf:
        mean, variance = self._standardization.mean, self._standardization.variance
        return lambda chosen: feature_dataset(self._table, rows[chosen], mean, variance)


class ImageSamples:
    """Samples of model inputs, a new view of each slice in every epoch.

    Args:
        context: The context of the fit.
        augmentation: Makes the views.
        task: The slices.
        first_view: Number of the view in the first epoch.
    """

    def __init__(
        self, context: FitContext, augmentation: Augmentation, task: TrainingTask, first_view: int
    ) -> None:
        self._context = context
        self._augmentation = augmentation
        self._task = task
        self._first_view = first_view

    def training(self, epoch: int) -> Samples:
        """Return one view of each training slice, shuffled."""
        order = np.random.default_rng([self._task.seed, epoch]).permutation(self._task.train)
        labels = self._context.targets[order]
        return _batches(
            self._context,
            lambda chosen: self.inputs(order[chosen], self._first_view + epoch),
            labels,
            output_weights(labels, self._context.settings.class_weights),
        )

    def validation(self) -> Samples | None:
        """Return view 0 of the validation slices."""
        validation = self._task.validation
        return _validation(
            self._context, self._task, lambda chosen: self.inputs(validation[chosen], 0)
        )

    def inputs(self, indices: np.ndarray, view: int) -> Any:
        """Return a `tf.data.Dataset` of one view of each slice, single model inputs."""
        slices = self._context.slices
        records = slices.manifest.records
        return view_dataset(
            [records[index].ref for index in indices],
            [slices.hashes[index] for index in indices],
            [[view]] * len(indices),
            self._context.model_input,
            self._augmentation,
        )


def _validation(context: FitContext, task: TrainingTask, dataset_of: DatasetOf) -> Samples | None:
    if not len(task.validation):
        return None
    labels = context.targets[task.validation]
    weights = output_weights(labels, context.settings.class_weights)
    return _batches(context, dataset_of, labels, weights)


def _batches(
    context: FitContext, dataset_of: DatasetOf, labels: np.ndarray, weights: np.ndarray
) -> Samples:
    return batches(dataset_of, labels, weights, context.settings.batch_size, context.cluster)
