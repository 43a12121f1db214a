"""The trainer of scan models, on the cached features of scans.

A scan model sees a logit of each slice. In training that logit comes from a head that was not
trained on the slice's patient, see `head_groups.PartHeads`.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from hemorrhage_tf.core.native_output import import_tensorflow
from hemorrhage_tf.models.classifier import standardize
from hemorrhage_tf.models.scan_core import DIRECTIONS
from hemorrhage_tf.models.scan_model import build_scan_model, set_scan_inputs
from hemorrhage_tf.training.context import FitContext
from hemorrhage_tf.training.features.table import FeatureChunks, FeatureTable
from hemorrhage_tf.training.head_groups import PartHeads
from hemorrhage_tf.training.head_solver import HeadWeights
from hemorrhage_tf.training.scan_loop import ScanLoop
from hemorrhage_tf.training.scan_samples import ScanSamples

VIEWS = 4  # views of a slice used at most

_AXES_ROWS = 1024  # rows that the directions are computed from, at most
_AXES_ITERATIONS = 8


@dataclass(frozen=True)
class ScanTraining:
    """The result of one training of a scan model.

    Attributes:
        weights: The weights of its trainable part.
        kernel: float32 `(width, 1)`, of the slice head.
        bias: float32 `(1,)`, of the slice head.
        axes: float32 `(width, DIRECTIONS)`, of the projection.
        scan_probabilities: float64 `(m,)` of the test scans, not calibrated.
        slice_probabilities: float64 `(n,)` of their slices, scan after scan, not calibrated.
    """

    weights: list[np.ndarray]
    kernel: np.ndarray
    bias: np.ndarray
    axes: np.ndarray
    scan_probabilities: np.ndarray
    slice_probabilities: np.ndarray

    def to_dict(self) -> dict[str, Any]:
        """Return the attributes by name, for a checkpoint."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}


@dataclass(frozen=True)
class SliceHeads:
    """The heads that a scan model gets the logits of slices from.

    Attributes:
        slices: Indices of the slices that they were trained on.
        head: The head of all of them, without calibration: it gives the logits of new slices.
        parts: Those without a part of the patients, which give the logits of these slices.
    """

    slices: np.ndarray
    head: HeadWeights
    parts: PartHeads


class ScanTrainer:
    """A trainer of scan models of one kind on the scans of a fit.

    A training does not depend on those before it. With several workers the chief trains, and all
    get the same weights.

    Args:
        context: The context of the fit.
        features: The features of all slices; all views of those that are trained on.
        kind: "pooling", "attention" or "gru".

    Attributes:
        kind: The kind of the scan models.
    """

    def __init__(self, context: FitContext, features: FeatureTable, kind: str) -> None:
        self._context = context
        self._features = features
        self.kind = kind

    @functools.cached_property
    def _loop(self) -> ScanLoop:
        # Not before the first training, because TensorFlow is imported beside the heads.
        import_tensorflow()
        return ScanLoop(self.kind, self._context.settings.seed)

    def train(self, heads: SliceHeads, train: np.ndarray, test: np.ndarray) -> ScanTraining:
        """Train a scan model, and apply it to other scans.

        Args:
            heads: The head of the slices, and its part heads.
            train: Indices of the scans to train on, whose slices are among those of the heads.
            test: Indices of the scans to test on.
        """
        settings, cluster = self._context.settings, self._context.cluster
        head = heads.head
        axes = self._axes(heads.slices, head)
        weights = self._loop.core.get_weights()
        if cluster.is_chief:
            kernels, biases = heads.parts.standardized_by(head.mean, head.variance)
            part_of = heads.parts.part_of
            samples = self._samples(train, head, part_of, np.c_[kernels, axes], biases)
            weights = self._loop.train(samples, settings.class_weights)
        shared = [axes, *weights]
        if not cluster.is_chief:
            shared = [np.zeros_like(each) for each in shared]
        axes, *weights = [cluster.all_sum(each) for each in shared]
        self._loop.core.set_weights(weights)
        kernel, bias = head.kernel[:, :1], head.bias[:1]
        no_parts = np.zeros(len(self._context.slices), np.int8)
        logits = np.zeros(0), np.zeros(0)
        if len(test):
            samples = self._samples(test, head, no_parts, np.c_[kernel, axes], bias)
            logits = self._loop.predict(samples)
        return ScanTraining(weights, kernel, bias, axes, _sigmoid(logits[0]), _sigmoid(logits[1]))

    def build(self, training: ScanTraining) -> Any:
        """Build the scan model of a training, from features to probabilities."""
        model = build_scan_model(self.kind, self._features.width)
        model.get_layer("scan_core").set_weights(training.weights)
        set_scan_inputs(model, training.kernel, training.bias, training.axes)
        return model

    def _samples(
        self,
        scans: np.ndarray,
        head: HeadWeights,
        head_of: np.ndarray,
        matrix: np.ndarray,
        biases: np.ndarray,
    ) -> ScanSamples:
        """Read the features of scans, and keep logits and directions of them.

        Args:
            scans: Indices of the scans.
            head: Its mean and variance standardize the features.
            head_of: For each slice of the data which of the heads gives its logit.
            matrix: `(width, heads + DIRECTIONS)`: kernels of the heads, then the axes.
            biases: `(heads,)`.
        """
        slices = self._context.slices
        index = slices.scans
        members = np.concatenate([index.members[scan] for scan in scans])
        first = self._features.first_rows(members)
        views = int(min(VIEWS, np.min(self._features.first_rows(members + 1) - first)))
        rows = (first[:, np.newaxis] + np.arange(views)).ravel()
        heads = np.repeat(head_of[members], views)
        inputs = np.empty((len(rows), 1 + DIRECTIONS), np.float32)
        begin = 0
        for chunk in self._standardized(rows, head):
            part = slice(begin, begin + len(chunk))
            products = chunk @ matrix
            logits = products[:, : len(biases)] + biases
            inputs[part, 0] = logits[np.arange(len(chunk)), heads[part]]
            inputs[part, 1:] = products[:, len(biases) :]
            begin += len(chunk)
        return ScanSamples(
            inputs=inputs.reshape(len(members), views, -1),
            offsets=np.concatenate([[0], np.cumsum(index.lengths[scans])]),
            positions=index.positions[members],
            labels=slices.labels[members],
            is_known=(slices.has_slice_label | (slices.labels == 0))[members],
            scan_labels=index.labels[scans],
        )

    def _standardized(self, rows: np.ndarray, head: HeadWeights) -> Iterator[np.ndarray]:
        for chunk in FeatureChunks(self._features, rows):
            yield standardize(chunk, head.mean, head.variance)

    def _axes(self, slices: np.ndarray, head: HeadWeights) -> np.ndarray:
        """Compute the axes of the projection, or zeros for a kind that does not use them."""
        if self.kind == "pooling":
            return np.zeros((self._features.width, DIRECTIONS), np.float32)
        some = slices[:: -(-len(slices) // _AXES_ROWS)]
        rows = self._features.first_rows(some)
        return principal_axes(np.concatenate(list(self._standardized(rows, head))), DIRECTIONS)


def principal_axes(features: np.ndarray, count: int) -> np.ndarray:
    """Compute the first principal axes of features by subspace iteration.

    Args:
        features: `(n, width)`, their mean is near 0.
        count: Number of axes.

    Returns:
        float32 `(width, count)`, scaled so that the features times an axis have variance 1; zeros
        where the features have fewer dimensions. The entry of largest size is positive.

    Reference:
        N. Halko et al., Finding structure with randomness, SIAM Review 53 (2011), 217-288.
    """
    from threadpoolctl import threadpool_limits

    features = np.asarray(features, np.float64)
    width = features.shape[1]
    axes = np.random.default_rng(0).normal(size=(width, count))
    with threadpool_limits(1, "blas"):
        for _ in range(_AXES_ITERATIONS):
            axes = np.linalg.qr(features.T @ (features @ axes))[0]
        _, values, rotation = np.linalg.svd(features @ axes, full_matrices=False)
        axes = axes @ rotation.T
    result = np.zeros((width, count))
    deviations = values / np.sqrt(len(features))
    for number, spread in enumerate(deviations):
        if spread > 1e-6 * deviations[0]:
            axis = axes[:, number]
            result[:, number] = axis * np.sign(axis[np.abs(axis).argmax()]) / spread
    return result.astype(np.float32)


def _sigmoid(logits: np.ndarray) -> np.ndarray:
    from scipy.special import expit

    return expit(logits)
