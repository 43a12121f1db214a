"""What heads are held to in training, so that a fit does not forget: a known head, and phantoms."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.special import expit

from hemorrhage_tf.evaluation.logit_calibration import fit_calibration
from hemorrhage_tf.models.classifier import deviation
from hemorrhage_tf.models.embedded_model import read_embedded
from hemorrhage_tf.models.pretrained_files import EMBEDDED_MODEL
from hemorrhage_tf.training.context import FitContext
from hemorrhage_tf.training.curvature import (
    ROWS_OF_A_FEATURE,
    Curvature,
    can_estimate,
    estimate_curvature,
)
from hemorrhage_tf.training.distributed.single_process import SINGLE, SingleProcess
from hemorrhage_tf.training.features.source import FeatureSource
from hemorrhage_tf.training.features.table import FeatureChunks, FeatureTable, JoinedChunks
from hemorrhage_tf.training.head_solver import class_weight, feature_statistics, output_weights
from hemorrhage_tf.training.logistic_regressions import Samples
from hemorrhage_tf.training.weight_choice import DEFAULT_PHANTOM_WEIGHT


@dataclass(frozen=True)
class KnownHead:
    """A head that is known before the fit, as a function of features that are not standardized.

    Attributes:
        kernel: float64 `(width,)`; 0 for the features of backbones without a known head.
        bias: The bias.
    """

    kernel: np.ndarray
    bias: float

    def probabilities(self, features: FeatureChunks) -> np.ndarray:
        """Return its probabilities, float64 `(n,)`, for features that are not standardized."""
        parts = [expit(chunk.astype(np.float64) @ self.kernel + self.bias) for chunk in features]
        return np.concatenate([np.empty(0), *parts])

    def recalibrated(
        self, probabilities: np.ndarray, labels: np.ndarray, weights: np.ndarray
    ) -> KnownHead:
        """Return the head with a temperature and an offset that suit other slices.

        Args:
            probabilities: `(n,)`, its own for the slices.
            labels: `(n,)`, 0 or 1.
            weights: `(n,)`, with a mean of 1.
        """
        calibration = fit_calibration(labels, probabilities, weights=weights)
        return KnownHead(
            self.kernel / calibration.temperature,
            self.bias / calibration.temperature + calibration.offset,
        )


def embedded_head(sources: Sequence[FeatureSource]) -> KnownHead:
    """Return the head of the embedded model, for the features of several backbones side by side.

    Args:
        sources: The backbones, average and max pooled; PhantomNet is one of them.
    """
    head = read_embedded().head
    own = head["kernel"][:, 0] / deviation(head["variance"]).astype(np.float64)
    kernels = [
        own if source.spec.name == EMBEDDED_MODEL else np.zeros(source.width) for source in sources
    ]
    return KnownHead(np.concatenate(kernels), float(head["bias"][0] - own @ head["mean"]))


@dataclass(frozen=True)
class Phantoms:
    """Phantoms that heads are trained on besides the slices of a fit.

    Attributes:
        features: A row for each phantom.
        labels: int64 `(n,)`, 0 or 1.
    """

    features: FeatureTable
    labels: np.ndarray

    def targets(
        self, rows: np.ndarray, heads: Sequence[KnownHead] | None, count: int
    ) -> np.ndarray:
        """Return the wanted probabilities of some of them in several regressions.

        They are those of the known head where there is one: what must not be forgotten is what it
        says of each phantom, and how sure it is. Otherwise they are the labels.

        Args:
            rows: int64 `(n,)`.
            heads: The known head of each regression, or None.
            count: Number of regressions, k.

        Returns:
            `(n, k)`.
        """
        if heads is None:
            return np.tile(self.labels[rows, np.newaxis], (1, count))
        chunks = FeatureChunks(self.features, rows)
        kernels = np.stack([head.kernel for head in heads], axis=1)
        biases = np.array([head.bias for head in heads])
        parts = [expit(chunk.astype(np.float64) @ kernels + biases) for chunk in chunks]
        return np.concatenate([np.empty((0, count)), *parts])


class Anchors:
    """What the heads of a fit are held to.

    Args:
        context: The context of the fit.
        features: The features of its slices.
        known: The head that penalties pull toward; None to pull toward zero. Defaults to None.
        phantoms: Further samples of each training. Defaults to None.
        trained_on: Indices of the slices in any training; None for all. Defaults to None.

    Attributes:
        known: The head that penalties pull toward, or None.
    """

    def __init__(
        self,
        context: FitContext,
        features: FeatureTable,
        known: KnownHead | None = None,
        phantoms: Phantoms | None = None,
        trained_on: np.ndarray | None = None,
    ) -> None:
        self._context = context
        self._features = features
        self.known = known
        self._phantoms = phantoms
        self._trained_on = trained_on
        self._recalibrated: dict[bytes, KnownHead] = {}  # by the hash of the training slices

    @functools.cached_property
    def curvature(self) -> Curvature | None:
        """The curvature at a head of all slices in any training, or of some of their rows.

        None where there are too few rows or too many features to estimate it.
        """
        context, features = self._context, self._features
        slices = self._trained_on
        if slices is None:
            slices = np.arange(len(context.slices.labels))
        rows, owners = features.view_rows(slices)
        if not can_estimate(len(rows), features.width):
            return None
        step = max(1, len(rows) // (ROWS_OF_A_FEATURE * features.width))
        rows, owners = rows[::step], owners[::step]
        chunks = FeatureChunks(features, rows, dtype="float32")
        mean, variance = feature_statistics(chunks)
        weights = output_weights(context.targets[owners], context.settings.class_weights)
        given = context.settings.phantom_weight
        pilot, l2 = self.hold(
            Samples(
                inputs=chunks,
                labels=context.slices.labels[owners],
                weights=weights[:, :1],
                means=mean.astype(np.float64)[np.newaxis],
                deviations=deviation(variance).astype(np.float64)[np.newaxis],
            ),
            [slices],
            np.array([(DEFAULT_PHANTOM_WEIGHT if given is None else given) * self.has_phantoms]),
            SINGLE,
        )
        return estimate_curvature(pilot, l2)

    @property
    def has_phantoms(self) -> bool:
        """Whether there are phantoms."""
        return self._phantoms is not None

    def hold(
        self,
        samples: Samples,
        trainings: Sequence[np.ndarray],
        phantom_weights: np.ndarray,
        cluster: SingleProcess,
    ) -> tuple[Samples, np.ndarray]:
        """Hold the regressions of several trainings to the known head and to the phantoms.

        Args:
            samples: The samples, or this worker's part of them, with `deviations`.
            trainings: The training slices of each regression.
            phantom_weights: `(k,)`, the weight of all phantoms together, relative to that of all
                other samples.
            cluster: The workers that the samples are divided among.

        Returns:
            The samples with what they are held to, and the strength of each penalty, `(k,)`.
        """
        assert samples.deviations is not None
        # The solver divides by the weights of all samples, those of the phantoms included.
        l2 = self._context.settings.l2 / (1.0 + phantom_weights)
        heads = self._recalibrate(trainings)
        if heads is not None:
            kernels = np.stack([head.kernel for head in heads])
            samples = replace(samples, centers=kernels * samples.deviations)
        if self._phantoms is None:
            return samples, l2
        count = len(self._phantoms.labels)
        rows = np.arange(count)[cluster.part(count)]
        totals = cluster.all_sum(samples.weights.sum(axis=0, dtype=np.float64))
        weights = np.tile(phantom_weights * totals / count, (len(rows), 1))
        labels = np.tile(samples.labels[:, np.newaxis], (1, len(trainings)))
        phantoms = FeatureChunks(self._phantoms.features, rows, dtype="float32")
        assert isinstance(samples.inputs, FeatureChunks)
        held = replace(
            samples,
            inputs=JoinedChunks(samples.inputs, phantoms),
            labels=np.concatenate(
                [labels, self._phantoms.targets(rows, heads, len(trainings))]
            ).astype(np.float32),
            weights=np.concatenate([samples.weights, weights.astype(np.float32)]),
            counted=len(samples.labels),
        )
        return held, l2

    def _recalibrate(self, trainings: Sequence[np.ndarray]) -> list[KnownHead] | None:
        """Return the known head, recalibrated on the slices of each training."""
        if self.known is None:
            return None
        heads = []
        for train in trainings:
            key = hashlib.blake2b(train.tobytes()).digest()
            if key not in self._recalibrated:
                labels = self._context.slices.labels[train]
                self._recalibrated[key] = self.known.recalibrated(
                    self._known_probabilities[train],
                    labels,
                    class_weight(labels, self._context.settings.class_weights),
                )
            heads.append(self._recalibrated[key])
        return heads

    @functools.cached_property
    def _known_probabilities(self) -> np.ndarray:
        """Those of the known head for all slices, float64 `(n,)`."""
        assert self.known is not None
        first = self._features.first_rows(np.arange(len(self._context.slices.labels)))
        return self.known.probabilities(FeatureChunks(self._features, first))
