"""The dense head on standardized features: its weights, and L-BFGS to the optimum."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy.special import expit

from hemorrhage_tf.models.classifier import standardize
from hemorrhage_tf.training.distributed.single_process import SINGLE
from hemorrhage_tf.training.lockstep import minimize_in_lockstep
from hemorrhage_tf.training.logistic_regressions import Features, Samples, minimize

MAX_ITERATIONS = 1000  # of L-BFGS; it usually takes fewer than 100

# The largest entry of the gradient at which L-BFGS stops. scikit-learn's 1e-4 leaves probabilities
# visibly away from the optimum, see docs/decisions.md.
GRADIENT_TOLERANCE = 1e-8

# Of the further outputs, whose products are in float32: a smaller gradient is rounding.
_COARSE_TOLERANCE = 1e-5

# With more corrections than L-BFGS usually has, it takes half as many passes.
_CORRECTIONS = 30

# The least variance to divide by, as a share of the mean variance, so that features that hardly
# vary are not amplified.
_VARIANCE_FLOOR = 1e-6


@dataclass(frozen=True)
class HeadWeights:
    """The weights of a trained head: standardization and dense units.

    Attributes:
        mean: float32 `(width,)`, of the pooled training features.
        variance: float32 `(width,)`, of the pooled training features.
        kernel: float32 `(width, outputs)`: a column for any hemorrhage, then one for each subtype.
        bias: float32 `(outputs,)`.
        phantom_weight: The weight of phantoms in its training. Defaults to 0, for none.
    """

    mean: np.ndarray
    variance: np.ndarray
    kernel: np.ndarray
    bias: np.ndarray
    phantom_weight: float = 0.0

    def probabilities(self, pooled: np.ndarray) -> np.ndarray:
        """Apply standardization, the first dense unit and sigmoid.

        Args:
            pooled: `(n, width)` pooled features.

        Returns:
            float32 `(n,)` in [0, 1].
        """
        return self.outputs(pooled)[:, 0]

    def outputs(self, pooled: np.ndarray) -> np.ndarray:
        """Apply standardization, dense units and sigmoid.

        Args:
            pooled: `(n, width)` pooled features.

        Returns:
            float32 `(n, outputs)` in [0, 1]. Subtypes are not capped at any hemorrhage.
        """
        return (1.0 / (1.0 + np.exp(-self.logits(pooled).astype(np.float64)))).astype(np.float32)

    def logits(self, pooled: np.ndarray) -> np.ndarray:
        """Apply standardization and dense units.

        Args:
            pooled: `(n, width)` pooled features.

        Returns:
            float32 `(n, outputs)`.
        """
        return standardize(pooled, self.mean, self.variance) @ self.kernel + self.bias


def class_weight(labels: np.ndarray, kind: str) -> np.ndarray:
    """Compute a weight for each sample.

    Args:
        labels: `(n,)`, 0 or 1.
        kind: "balanced": n / (2 * count of the sample's class), as in scikit-learn, so that both
            classes have the same total weight; or "none".

    Returns:
        float32 `(n,)`.
    """
    if kind == "none":
        return np.ones(len(labels), np.float32)
    counts = np.bincount(labels, minlength=2)
    return (len(labels) / (2.0 * np.maximum(counts, 1)))[labels].astype(np.float32)


def output_weights(targets: np.ndarray, kind: str) -> np.ndarray:
    """Compute a weight for each sample and output.

    Args:
        targets: `(n, outputs)`: 0, 1, or -1 where it is unknown.
        kind: See `class_weight`. Each output has class weights of its own.

    Returns:
        float32 `(n, outputs)`. 0 where the target is unknown, and for a subtype whose known targets
        are all the same, which cannot be trained; see `constant_biases`.
    """
    weights = np.zeros(targets.shape, np.float32)
    for output, column in enumerate(targets.T):
        known = column >= 0
        if output == 0 or len(np.unique(column[known])) == 2:
            weights[known, output] = class_weight(column[known], kind)
    return weights


def constant_biases(targets: np.ndarray) -> np.ndarray:
    """Compute the bias of each output whose known targets are all the same.

    Without a second class the log loss has no minimum. Such a subtype gets the same probability for
    all slices: the share of ones, with half a sample added to both classes.

    Args:
        targets: `(n, outputs)`: 0, 1, or -1 where it is unknown.

    Returns:
        float32 `(outputs,)`; NaN for an output with both classes.

    Reference:
        R. E. Krichevsky and V. K. Trofimov, The performance of universal encoding, IEEE
        Transactions on Information Theory 27 (1981), 199-207.
    """
    ones, zeros = (targets == 1).sum(axis=0), (targets == 0).sum(axis=0)
    biases = np.log((ones + 0.5) / (zeros + 0.5))
    return np.where((ones > 0) & (zeros > 0), np.nan, biases).astype(np.float32)


def feature_statistics(features: Features) -> tuple[np.ndarray, np.ndarray]:
    """Compute mean and floored variance of `(n, width)` features, float32 `(width,)` each."""
    count = features.shape[0]
    mean = sum(chunk.sum(axis=0, dtype=np.float64) for chunk in _chunks_of(features)) / count
    variance = sum(np.square(chunk - mean).sum(axis=0) for chunk in _chunks_of(features)) / count
    floor = max(float(variance.mean()) * _VARIANCE_FLOOR, float(np.finfo(np.float32).tiny))
    return mean.astype(np.float32), np.maximum(variance, floor).astype(np.float32)


@dataclass(frozen=True)
class Solution:
    """The optima of one or more logistic regressions on the same inputs.

    Attributes:
        kernel: float32 `(width, outputs)`.
        bias: float32 `(outputs,)`.
        loss: Mean weighted training loss of the first output, without the penalty.
        accuracy: Training accuracy of the first output at a probability of 0.5.
        iterations: Number of iterations for the first output.
        converged: False if the iterations ran out, for any output.
    """

    kernel: np.ndarray
    bias: np.ndarray
    loss: float
    accuracy: float
    iterations: int
    converged: bool


def solve_head(
    inputs: Features,
    labels: np.ndarray,
    weights: np.ndarray,
    l2: float,
    all_sum: Callable[[np.ndarray], np.ndarray] = SINGLE.all_sum,
) -> Solution:
    """Minimize mean(weights * loss) + l2 / 2 * |kernel|^2 by L-BFGS, for each output.

    The loss and its gradient are summed chunk by chunk, so that the features need not fit in
    memory. Line search and tolerance of the loss are those of scikit-learn's `LogisticRegression`.

    The first output is solved in float64, as if it were alone. The others are solved together,
    with one product of float32 matrices for all of them, and to a coarser tolerance; see
    docs/decisions.md.

    Args:
        inputs: `(n, width)` standardized features, or their chunks.
        labels: `(n,)`, 0 or 1; or `(n, outputs)`. Both must occur.
        weights: Sample weights of the same shape, with a mean of one over those that are not 0.
            The kernel and bias of a further output whose weights are all 0 are 0.
        l2: Strength of the penalty, which leaves the bias out.
        all_sum: Sums an array over the workers, each of which has a part of the samples, and
            returns the same to all of them. Defaults to for one process.

    Returns:
        The solution; the same bytes each time, and on any number of cores or replicas.
    """
    columns = weights.reshape(len(weights), -1)
    targets = labels.reshape(columns.shape)
    (first,) = solve_first_outputs(Samples(inputs, targets[:, 0], columns[:, :1]), l2, all_sum)
    return solve_further_outputs(first, inputs, targets, columns, l2, all_sum)


def solve_first_outputs(
    samples: Samples,
    l2: float | np.ndarray,
    all_sum: Callable[[np.ndarray], np.ndarray] = SINGLE.all_sum,
    tolerance: float = GRADIENT_TOLERANCE,
) -> list[Solution]:
    """Solve several heads together, as `solve_head` solves the first output of one.

    Args:
        samples: The samples of all heads, or one worker's part of them.
        l2: Strength of the penalty; one for all heads, or one for each.
        all_sum: See `solve_head`.
        tolerance: The largest entry of the gradient at which L-BFGS stops. Defaults to 1e-8.

    Returns:
        A solution for each head.
    """
    return [
        Solution(
            kernel=optimum.kernel[:, np.newaxis].astype(np.float32),
            bias=np.array([optimum.bias], np.float32),
            loss=optimum.loss,
            accuracy=optimum.accuracy,
            iterations=optimum.iterations,
            converged=optimum.converged,
        )
        for optimum in minimize(samples, l2, all_sum, _options(tolerance))
    ]


def solve_further_outputs(
    first: Solution,
    inputs: Features,
    targets: np.ndarray,
    weights: np.ndarray,
    l2: float,
    all_sum: Callable[[np.ndarray], np.ndarray] = SINGLE.all_sum,
) -> Solution:
    """Add the further outputs to the solution of the first, see `solve_head`."""
    from threadpoolctl import threadpool_limits

    if targets.shape[1] == 1:
        return first
    # The matrix products are too small to gain from a second thread.
    with threadpool_limits(1, "blas"):
        others = _Problems(_in_float32(inputs), targets[:, 1:], weights[:, 1:], l2, all_sum)
        kernel, bias, converged = _solve_others(others)
    return replace(
        first,
        kernel=np.concatenate([first.kernel, kernel], axis=1),
        bias=np.concatenate([first.bias, bias]),
        converged=first.converged and converged,
    )


def _solve_others(problems: _Problems) -> tuple[np.ndarray, np.ndarray, bool]:
    """Return kernels `(width, k)` and biases `(k,)`, and whether all iterations converged."""
    width, count = problems.inputs.shape[1], problems.weights.shape[1]
    optima = np.zeros((count, width + 1), np.float32)
    solved = np.flatnonzero(problems.totals > 0)
    results = minimize_in_lockstep(
        lambda points, which: problems.objectives(points, solved[list(which)]),
        np.zeros((len(solved), width + 1)),
        _options(_COARSE_TOLERANCE),
    )
    for output, result in zip(solved, results, strict=True):
        optima[output] = result.x
    return optima[:, :-1].T, optima[:, -1], all(result.status != 1 for result in results)


def _options(gradient_tolerance: float) -> dict[str, Any]:
    return {
        "maxcor": _CORRECTIONS,
        "maxiter": MAX_ITERATIONS,
        "maxls": 50,
        "gtol": gradient_tolerance,
        "ftol": 64 * np.finfo(float).eps,
    }


def _in_float32(inputs: Features) -> Features:
    if isinstance(inputs, np.ndarray):
        return inputs.astype(np.float32, copy=False)
    return inputs.in_float32()


@dataclass
class _Problems:
    """Several penalized logistic regressions on the same inputs; see `solve_head`.

    The products with the inputs are in float32; all else is in float64.
    """

    inputs: Features
    labels: np.ndarray
    weights: np.ndarray
    l2: float
    all_sum: Callable[[np.ndarray], np.ndarray]

    def __post_init__(self) -> None:
        self.totals = self.all_sum(self.weights.sum(axis=0, dtype=np.float64))

    def objectives(
        self, parameters: np.ndarray, outputs: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Compute losses and gradients.

        Args:
            parameters: float64 `(k, width + 1)`, kernel and bias of each output.
            outputs: int64 `(k,)`, which outputs these are.

        Returns:
            float64 `(k,)` and `(k, width + 1)`.
        """
        width = self.inputs.shape[1]
        sums = np.zeros((len(outputs), width + 2))  # of the gradients and the losses
        kernels = np.ascontiguousarray(parameters[:, :-1].T, np.float32)
        begin = 0
        for chunk in _chunks_of(self.inputs):
            rows = slice(begin, begin + len(chunk))
            begin += len(chunk)
            logits = (chunk @ kernels).astype(np.float64) + parameters[:, -1]
            labels = self.labels[rows][:, outputs]
            weights = self.weights[rows][:, outputs].astype(np.float64)
            sums[:, -1] += (weights * _losses(logits, labels)).sum(axis=0)
            residuals = weights * (expit(logits) - labels)
            sums[:, :width] += residuals.T.astype(np.float32) @ chunk
            sums[:, width] += residuals.sum(axis=0)
        sums = self.all_sum(sums) / self.totals[outputs, np.newaxis]
        kernels = parameters[:, :-1]
        sums[:, :width] += self.l2 * kernels
        return sums[:, -1] + 0.5 * self.l2 * np.square(kernels).sum(axis=1), sums[:, :-1]


def _losses(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    return np.logaddexp(0.0, logits) - labels * logits


def _chunks_of(features: Features) -> Iterable[np.ndarray]:
    return [features] if isinstance(features, np.ndarray) else features
