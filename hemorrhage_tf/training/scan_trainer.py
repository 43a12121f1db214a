"""The trainer of scan models, on the cached features of scans.

A scan model sees a logit of each slice. In training that logit comes from a head that was not
trained on the slice's patient, because the logits of slices that a head was trained on are better
than those of new ones.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from hemorrhage_tf.core.errors import DataError
from hemorrhage_tf.datasets import splits
from hemorrhage_tf.models.classifier import deviation, standardize
from hemorrhage_tf.models.scan_core import DIRECTIONS
from hemorrhage_tf.models.scan_model import build_scan_model, set_scan_inputs
from hemorrhage_tf.training.context import FitContext
from hemorrhage_tf.training.distributed.single_process import SINGLE
from hemorrhage_tf.training.features.table import IN_MEMORY_BYTES, FeatureChunks, FeatureTable
from hemorrhage_tf.training.head_solver import HeadWeights, class_weight, solve_first_outputs
from hemorrhage_tf.training.known_head import Anchors
from hemorrhage_tf.training.logistic_regressions import Samples
from hemorrhage_tf.training.scan_loop import ScanLoop
from hemorrhage_tf.training.scan_samples import ScanSamples

HEADS = 5  # heads for the logits of training slices, each trained without a part of the patients
VIEWS = 4  # views of a slice used at most

_HEAD_TOLERANCE = 1e-6  # of those heads, whose logits only serve the training

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


class ScanTrainer:
    """A trainer of scan models of one kind on the scans of a fit.

    A training does not depend on those before it. With several workers the chief trains, and all
    get the same weights.

    Args:
        context: The context of the fit.
        features: The features of all slices; all views of those that are trained on.
        kind: "pooling", "attention" or "gru".
        anchors: What the heads are held to.

    Attributes:
        kind: The kind of the scan models.
    """

    def __init__(
        self, context: FitContext, features: FeatureTable, kind: str, anchors: Anchors
    ) -> None:
        self._context = context
        self._features = features
        self._anchors = anchors
        self.kind = kind
        self._loop = ScanLoop(kind, context.settings.seed)

    def train(
        self, slices: np.ndarray, train: np.ndarray, test: np.ndarray, head: HeadWeights
    ) -> ScanTraining:
        """Train a scan model, and apply it to other scans.

        Args:
            slices: Indices of the slices that the head was trained on.
            train: Indices of the scans to train on, whose slices are among them.
            test: Indices of the scans to test on.
            head: The head, without calibration.
        """
        settings, cluster = self._context.settings, self._context.cluster
        axes = self._axes(slices, head)
        weights = self._loop.core.get_weights()
        if cluster.is_chief:
            folds, kernels, biases = self._heads(slices, head)
            samples = self._samples(train, head, folds, np.c_[kernels, axes], biases)
            weights = self._loop.train(samples, settings.class_weights)
        shared = [axes, *weights]
        if not cluster.is_chief:
            shared = [np.zeros_like(each) for each in shared]
        axes, *weights = [cluster.all_sum(each) for each in shared]
        self._loop.core.set_weights(weights)
        kernel, bias = head.kernel[:, :1], head.bias[:1]
        no_folds = np.zeros(len(self._context.slices), np.int64)
        logits = np.zeros(0), np.zeros(0)
        if len(test):
            samples = self._samples(test, head, no_folds, np.c_[kernel, axes], bias)
            logits = self._loop.predict(samples)
        return ScanTraining(weights, kernel, bias, axes, _sigmoid(logits[0]), _sigmoid(logits[1]))

    def build(self, training: ScanTraining) -> Any:
        """Build the scan model of a training, from features to probabilities."""
        model = build_scan_model(self.kind, self._features.width)
        model.get_layer("scan_core").set_weights(training.weights)
        set_scan_inputs(model, training.kernel, training.bias, training.axes)
        return model

    def _heads(
        self, slices: np.ndarray, head: HeadWeights
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Train a head without each part of the patients.

        Returns:
            For each slice of the data the part that it belongs to; float32 `(width, parts)` and
            `(parts,)` kernels and biases.
        """
        settings, labels = self._context.settings, self._context.slices.labels
        all_rows, owners = self._features.view_rows(slices)
        # Features that fit in memory suffice for heads that only serve the training.
        step = -(-len(all_rows) * self._features.width * 4 // IN_MEMORY_BYTES)
        all_rows, owners = all_rows[::step], owners[::step]
        parts = _parts(labels[slices], self._context.slices.groups[slices], settings.seed)
        fold_of = np.zeros(len(labels), np.int64)
        weights = np.zeros((len(all_rows), len(parts)), np.float32)
        for number, (others, part) in enumerate(parts):
            fold_of[slices[part]] = number
            is_other = np.isin(owners, slices[others])
            weights[is_other, number] = class_weight(
                labels[owners[is_other]], settings.class_weights
            )
        shape = len(parts), self._features.width
        samples = Samples(
            inputs=FeatureChunks(self._features, all_rows, dtype="float32"),
            labels=labels[owners],
            weights=weights,
            means=np.broadcast_to(head.mean.astype(np.float64), shape),
            deviations=np.broadcast_to(deviation(head.variance).astype(np.float64), shape),
        )
        held, l2 = self._anchors.hold(
            samples,
            [slices[others] for others, _ in parts],
            np.full(len(parts), head.phantom_weight),
            SINGLE,
        )
        solutions = solve_first_outputs(held, l2, tolerance=_HEAD_TOLERANCE)
        kernels = np.concatenate([solution.kernel for solution in solutions], axis=1)
        biases = np.concatenate([solution.bias for solution in solutions])
        return fold_of, kernels, biases

    def _samples(
        self,
        scans: np.ndarray,
        head: HeadWeights,
        fold_of: np.ndarray,
        matrix: np.ndarray,
        biases: np.ndarray,
    ) -> ScanSamples:
        """Read the features of scans, and keep logits and directions of them.

        Args:
            scans: Indices of the scans.
            head: Its mean and variance standardize the features.
            fold_of: For each slice of the data which of the heads gives its logit.
            matrix: `(width, heads + DIRECTIONS)`: kernels of the heads, then the axes.
            biases: `(heads,)`.
        """
        slices = self._context.slices
        index = slices.scans
        members = np.concatenate([index.members[scan] for scan in scans])
        first = self._features.first_rows(members)
        views = int(min(VIEWS, np.min(self._features.first_rows(members + 1) - first)))
        rows = (first[:, np.newaxis] + np.arange(views)).ravel()
        heads = np.repeat(fold_of[members], views)
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


def _parts(
    labels: np.ndarray, groups: np.ndarray, seed: int
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Split slices into as many parts as their groups allow, up to `HEADS`."""
    for count in range(HEADS, 1, -1):
        try:
            return splits.folds(labels, groups, count, seed)
        except DataError:
            if count == 2:
                raise
    raise AssertionError


def _sigmoid(logits: np.ndarray) -> np.ndarray:
    from scipy.special import expit

    return expit(logits)
