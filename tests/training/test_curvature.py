from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
from made_up_scans import MadeUpFeatures
from scipy.special import expit
from sklearn.linear_model import LogisticRegression

from hemorrhage_tf.models.classifier import deviation
from hemorrhage_tf.training import logistic_regressions
from hemorrhage_tf.training.curvature import Curvature, can_estimate, estimate_curvature
from hemorrhage_tf.training.features.table import FeatureChunks
from hemorrhage_tf.training.head_solver import feature_statistics, solve_first_outputs
from hemorrhage_tf.training.logistic_regressions import Samples, minimize

COUNT, WIDTH, L2 = 400, 24, 1 / 64


class CorrelatedFeatures(MadeUpFeatures):
    """Features that are mixtures of others, some of which hardly count."""

    def take(self, rows: np.ndarray) -> np.ndarray:
        mixing = np.random.default_rng(5).normal(size=(self.width, self.width))
        sizes = np.geomspace(1, 1e-2, self.width)
        return ((super().take(rows) * sizes) @ mixing + 3).astype(np.float32)


@pytest.fixture(scope="module")
def labels() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 2, COUNT)


@pytest.fixture(scope="module")
def features(labels) -> CorrelatedFeatures:
    return CorrelatedFeatures(labels, views=1, width=WIDTH, strength=0.7)


@pytest.fixture(scope="module")
def samples(features, labels) -> Samples:
    """The samples of three heads, each without a part of the slices."""
    inputs = FeatureChunks(features, np.arange(COUNT), dtype="float32")
    weights = np.ones((COUNT, 3), np.float32)
    for head in range(3):
        weights[head * 100 : (head + 1) * 100, head] = 0
    mean, variance = feature_statistics(inputs)
    return Samples(
        inputs=inputs,
        labels=labels,
        weights=weights,
        means=np.tile(mean.astype(np.float64), (3, 1)),
        deviations=np.tile(deviation(variance).astype(np.float64), (3, 1)),
    )


@pytest.fixture(scope="module")
def pilot(samples) -> Samples:
    """The samples of a head of all slices."""
    return Samples(
        inputs=samples.inputs,
        labels=samples.labels,
        weights=np.ones((COUNT, 1), np.float32),
        means=samples.means[:1],
        deviations=samples.deviations[:1],
    )


@pytest.fixture(scope="module")
def curvature(pilot) -> Curvature:
    return estimate_curvature(pilot, np.array([L2]))


def test_finds_the_same_optima_in_fewer_iterations(samples, curvature):
    plain = solve_first_outputs(samples, L2)
    found = solve_first_outputs(replace(samples, curvature=curvature), L2)
    for one, other in zip(found, plain, strict=True):
        np.testing.assert_allclose(one.kernel, other.kernel, atol=1e-5)
        np.testing.assert_allclose(one.bias, other.bias, atol=1e-5)
        assert one.loss == pytest.approx(other.loss, abs=1e-7)
        assert one.converged
        assert one.iterations < 0.5 * other.iterations


def test_finds_the_optima_of_scikit_learn(features, samples, labels, curvature):
    found = solve_first_outputs(replace(samples, curvature=curvature), L2)
    inputs = (features.take(np.arange(COUNT)) - samples.means[0]) / samples.deviations[0]
    for head, solution in enumerate(found):
        part = samples.weights[:, head] > 0
        reference = LogisticRegression(C=1 / (L2 * part.sum()), tol=1e-10, max_iter=10_000)
        reference.fit(inputs[part], labels[part])
        np.testing.assert_allclose(solution.kernel[:, 0], reference.coef_[0], atol=2e-5)
        np.testing.assert_allclose(solution.bias, reference.intercept_, atol=2e-5)


def test_penalties_pull_toward_their_centers_as_without_it(samples, curvature):
    centers = np.random.default_rng(1).normal(size=(3, WIDTH))
    held = replace(samples, centers=centers)
    strong = 1e4  # so that nothing else counts
    found = solve_first_outputs(replace(held, curvature=curvature), strong)
    for solution, center in zip(found, centers, strict=True):
        np.testing.assert_allclose(solution.kernel[:, 0], center, atol=1e-3)
    found = solve_first_outputs(replace(held, curvature=curvature), L2)
    for one, other in zip(found, solve_first_outputs(held, L2), strict=True):
        np.testing.assert_allclose(one.kernel, other.kernel, atol=1e-5)


def test_the_loss_curves_equally_in_all_directions(features, labels, pilot):
    # Weights of the samples differ, as those of phantoms do from those of slices.
    weights = np.random.default_rng(3).uniform(0.5, 2.0, (COUNT, 1)).astype(np.float32)
    pilot = replace(pilot, weights=weights)
    curvature = estimate_curvature(pilot, np.array([L2]))
    (head,) = minimize(pilot, L2, lambda sums: sums, {"gtol": 1e-8})
    inputs = (features.take(np.arange(COUNT)) - pilot.means[0]) / pilot.deviations[0]
    inputs = np.column_stack([inputs, np.ones(COUNT)])
    probabilities = expit(inputs @ [*head.kernel, head.bias])
    variances = (weights[:, 0] * probabilities * (1 - probabilities)) / weights.sum()
    curves = inputs.T @ (inputs * variances[:, np.newaxis]) + np.diag([L2] * WIDTH + [1e-4])
    directions = curvature.directions
    # The pilot is not solved exactly, and the least penalty of the bias differs from none.
    found = directions.T @ curves @ directions
    np.testing.assert_allclose(found, np.eye(WIDTH + 1), atol=0.1)
    np.testing.assert_array_equal(directions, np.triu(directions))


def test_kernels_and_gradients_belong_together(curvature):
    points, gradients = np.random.default_rng(0).normal(size=(2, 5, WIDTH + 1))
    with ThreadPoolExecutor(1) as one, ThreadPoolExecutor(3) as three:
        kernels = curvature.to_kernels(points, one)
        changed = curvature.of_gradients(gradients, one)
        np.testing.assert_array_equal(kernels, curvature.to_kernels(points, three))
        np.testing.assert_array_equal(changed, curvature.of_gradients(gradients, three))
    np.testing.assert_allclose(kernels, points @ curvature.directions.T)
    # A step in these coordinates changes the loss as the same step of the kernels does.
    np.testing.assert_allclose((kernels * gradients).sum(axis=1), (points * changed).sum(axis=1))


def test_a_penalty_of_zero_is_no_division_by_zero(pilot):
    constant = replace(pilot, inputs=np.ones((COUNT, WIDTH), np.float32))
    assert np.isfinite(estimate_curvature(constant, np.array([0.0])).directions).all()


@pytest.mark.parametrize(
    ("rows", "width", "is_possible"),
    [(24, 24, True), (23, 24, False), (9_000, 5_000, True), (9_000, 5_001, False)],
)
def test_needs_a_row_for_each_feature_and_few_enough_features(rows, width, is_possible):
    assert can_estimate(rows, width) == is_possible


def test_features_that_do_not_stay_in_memory_have_the_same_optima(features, samples, monkeypatch):
    as_array = replace(samples, inputs=features.take(np.arange(COUNT)))
    monkeypatch.setattr(logistic_regressions, "CHUNK_BYTES", 64 * 8 * WIDTH)  # several chunks
    kept = solve_first_outputs(as_array, L2)
    monkeypatch.setattr(logistic_regressions, "_IN_MEMORY_BYTES", 0)
    for one, other in zip(solve_first_outputs(as_array, L2), kept, strict=True):
        np.testing.assert_array_equal(one.kernel, other.kernel)
        assert one.loss == other.loss
