from __future__ import annotations

import numpy as np
import pytest

from hemorrhage_tf.training.head_solver import (
    HeadWeights,
    class_weight,
    constant_biases,
    feature_statistics,
    output_weights,
    solve_head,
)


def sigmoid(logits: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-logits))


class TestClassWeight:
    @pytest.mark.parametrize("positives", [1, 20, 39])
    def test_matches_scikit_learn(self, positives):
        from sklearn.utils.class_weight import compute_sample_weight

        labels = np.random.default_rng(0).permutation(np.arange(40) < positives).astype(np.int64)
        weights = class_weight(labels, "balanced")
        assert weights.dtype == np.float32
        np.testing.assert_allclose(weights, compute_sample_weight("balanced", labels), rtol=1e-6)
        sums = [weights[labels == label].sum() for label in (0, 1)]
        np.testing.assert_allclose(sums[0], sums[1], rtol=1e-5)

    def test_none(self):
        np.testing.assert_array_equal(class_weight(np.array([0, 1, 1]), "none"), [1, 1, 1])

    def test_a_single_class_has_finite_weights(self):
        assert np.isfinite(class_weight(np.ones(3, np.int64), "balanced")).all()


class TestOutputWeights:
    TARGETS = np.array([[1, 1, 0], [0, -1, 0], [0, 0, 0], [1, 0, -1], [1, 1, 0]])

    def test_each_output_has_class_weights_over_its_known_targets(self):
        from sklearn.utils.class_weight import compute_sample_weight

        weights = output_weights(self.TARGETS, "balanced")
        expected = compute_sample_weight("balanced", self.TARGETS[:, 0])
        np.testing.assert_allclose(weights[:, 0], expected)
        known = [0, 2, 3, 4]
        expected = compute_sample_weight("balanced", self.TARGETS[known, 1])
        np.testing.assert_allclose(weights[known, 1], expected)
        assert weights[1, 1] == 0
        np.testing.assert_array_equal(weights[:, 2], 0)  # the subtype does not occur

    def test_without_class_weights_only_known_targets_count(self):
        weights = output_weights(self.TARGETS, "none")
        np.testing.assert_array_equal(weights[:, 0], 1)
        np.testing.assert_array_equal(weights[:, 1], [1, 0, 1, 1, 1])

    def test_a_subtype_of_one_class_gets_the_share_with_half_a_slice_more_of_each(self):
        biases = constant_biases(self.TARGETS)
        assert np.isnan(biases[:2]).all()
        assert sigmoid(biases[2]) == pytest.approx(0.5 / 5)


class TestFeatureStatistics:
    def test_matches_numpy(self):
        x = np.random.default_rng(0).normal(5, 3, (50, 4)).astype(np.float32)
        mean, variance = feature_statistics(x)
        assert mean.dtype == variance.dtype == np.float32
        np.testing.assert_allclose(mean, x.mean(axis=0), rtol=1e-5)
        np.testing.assert_allclose(variance, x.var(axis=0), rtol=1e-4)

    def test_a_large_offset_keeps_the_variance_exact(self):
        x = np.random.default_rng(0).normal(0, 1, (1000, 2)) + 1000
        _, variance = feature_statistics(x.astype(np.float32))
        np.testing.assert_allclose(variance, x.var(axis=0), rtol=1e-2)

    def test_small_variances_are_raised_to_a_floor(self):
        rng = np.random.default_rng(0)
        x = np.stack([rng.normal(0, 10, 100), np.full(100, 3.0), rng.normal(0, 1e-6, 100)], axis=1)
        _, variance = feature_statistics(x)
        floor = x.var(axis=0).mean() * 1e-6
        np.testing.assert_allclose(variance[1:], floor, rtol=1e-5)
        np.testing.assert_allclose(variance[0], x[:, 0].var(), rtol=1e-5)

    def test_constant_features_have_a_positive_variance(self):
        _, variance = feature_statistics(np.ones((4, 3), np.float32))
        assert (variance > 0).all() and np.isfinite(1 / np.sqrt(variance)).all()


class TestHeadWeights:
    def test_probabilities(self):
        rng = np.random.default_rng(0)
        x, mean, kernel = rng.normal(size=(6, 3)), rng.normal(size=3), rng.normal(size=(3, 1))
        variance, bias = rng.uniform(0.5, 2, 3), np.array([0.3])
        probabilities = HeadWeights(mean, variance, kernel, bias).probabilities(x)
        both = HeadWeights(mean, variance, np.hstack([kernel, -kernel]), np.array([0.3, -0.3]))
        np.testing.assert_allclose(both.outputs(x)[:, 0], probabilities, rtol=1e-6)
        np.testing.assert_allclose(both.outputs(x).sum(axis=1), 1, rtol=1e-6)
        expected = 1 / (1 + np.exp(-(((x - mean) / np.sqrt(variance)) @ kernel + bias)[:, 0]))
        assert probabilities.dtype == np.float32
        np.testing.assert_allclose(probabilities, expected, rtol=1e-5)

    @pytest.mark.parametrize("bias", [-1e4, 1e4])
    def test_extreme_logits_stay_in_range(self, bias):
        head = HeadWeights(np.zeros(1), np.ones(1), np.ones((1, 1)), np.array([bias]))
        with np.errstate(over="ignore"):
            assert head.probabilities(np.zeros((1, 1))).item() == float(bias > 0)


class TestSolveHead:
    @staticmethod
    def problem(count: int, width: int, seed: int = 0):
        """Make inputs, labels of which a fourth is 1, and balanced weights."""
        rng = np.random.default_rng(seed)
        inputs = rng.normal(size=(count, width)).astype(np.float32)
        score = inputs[:, 0] + rng.normal(0, 0.5, count)
        labels = (score > np.quantile(score, 0.75)).astype(np.int64)
        return inputs, labels, class_weight(labels, "balanced")

    @pytest.mark.parametrize("count, width", [(200, 5), (60, 60), (40, 300)])
    @pytest.mark.parametrize("l2", [1e-3, 1.0])
    def test_the_gradient_of_the_objective_vanishes(self, count, width, l2):
        inputs, labels, weights = self.problem(count, width)
        solution = solve_head(inputs, labels, weights, l2)
        assert solution.converged and solution.iterations > 1
        assert solution.kernel.shape == (width, 1) and solution.bias.shape == (1,)
        assert solution.kernel.dtype == solution.bias.dtype == np.float32

        kernel, bias = solution.kernel[:, 0].astype(np.float64), float(solution.bias[0])
        residuals = weights * (sigmoid(inputs @ kernel + bias) - labels)
        np.testing.assert_allclose(inputs.T @ residuals / count + l2 * kernel, 0, atol=1e-6)
        assert np.mean(residuals) == pytest.approx(0, abs=1e-6)  # the bias is not penalized

    def test_loss_and_accuracy_are_those_of_the_training_samples(self):
        from sklearn.metrics import accuracy_score, log_loss

        inputs, labels, weights = self.problem(200, 5)
        solution = solve_head(inputs, labels, weights, 0.1)
        probabilities = sigmoid(inputs @ solution.kernel + solution.bias)[:, 0].astype(np.float64)
        expected = log_loss(labels, probabilities, sample_weight=weights)
        assert solution.loss == pytest.approx(expected, abs=1e-5)
        assert solution.accuracy == accuracy_score(labels, probabilities > 0.5)

    def test_a_sample_of_weight_two_is_two_samples(self):
        inputs, labels, _ = self.problem(80, 10)
        times = np.random.default_rng(1).integers(1, 4, 80)
        # The penalty is on the mean loss, so weights are scaled to a mean of one.
        weights = (times / times.mean()).astype(np.float32)
        solution = solve_head(inputs, labels, weights, 0.05)
        repeated = (np.repeat(part, times, axis=0) for part in (inputs, labels))
        expected = solve_head(*repeated, np.ones(times.sum(), np.float32), 0.05)
        np.testing.assert_allclose(solution.kernel, expected.kernel, atol=1e-5)
        np.testing.assert_allclose(solution.bias, expected.bias, atol=1e-5)

    @pytest.mark.parametrize("l2", [5e-324, 1e-12, 1e12, 1.7e308])
    def test_an_extreme_penalty_has_a_finite_solution(self, l2):
        solution = solve_head(*self.problem(40, 100), l2)
        assert np.isfinite(solution.kernel).all() and np.isfinite(solution.bias).all()
        assert np.isfinite(solution.loss)

    def test_chunks_and_workers_find_the_same_solution(self):
        from hemorrhage_tf.training.features.table import FeatureChunks

        class Table:
            width = 10

            def take(self, rows):
                return inputs[rows]

        inputs, labels, weights = self.problem(80, 10)
        expected = solve_head(inputs, labels, weights, 0.05)
        solution = solve_head(FeatureChunks(Table(), np.arange(80)), labels, weights, 0.05)
        np.testing.assert_array_equal(solution.kernel, expected.kernel)
        # Two workers with the same samples have the same mean loss as one of them.
        solution = solve_head(inputs, labels, weights, 0.05, all_sum=lambda array: 2 * array)
        np.testing.assert_allclose(solution.kernel, expected.kernel, atol=1e-6)
        assert solution.loss == expected.loss and solution.accuracy == expected.accuracy

    def test_reports_that_iterations_ran_out(self, monkeypatch):
        monkeypatch.setattr("hemorrhage_tf.training.head_solver.MAX_ITERATIONS", 2)
        solution = solve_head(*self.problem(60, 60), 1e-3)
        assert not solution.converged and solution.iterations == 2


@pytest.fixture(scope="module")
def several():
    """Inputs, targets of four outputs, and their weights."""
    rng = np.random.default_rng(0)
    inputs = rng.normal(size=(300, 20)).astype(np.float32)
    scores = inputs[:, :4] + rng.normal(0, 0.7, (300, 4))
    targets = (scores > np.array([0.0, 1.0, 2.0, 0.6])).astype(np.int64)
    targets[::3, 3] = -1
    return inputs, targets, output_weights(targets, "balanced")


class TestSeveralOutputs:
    """Any hemorrhage as if it were alone, and further outputs together."""

    def test_the_first_output_is_exactly_that_of_a_single_fit(self, several):
        inputs, targets, weights = several
        alone = solve_head(inputs, targets[:, 0], weights[:, 0], 1 / 64)
        together = solve_head(inputs, targets, weights, 1 / 64)
        np.testing.assert_array_equal(together.kernel[:, :1], alone.kernel)
        np.testing.assert_array_equal(together.bias[:1], alone.bias)
        assert (together.loss, together.accuracy) == (alone.loss, alone.accuracy)

    def test_each_further_output_equals_scikit_learn_on_its_known_samples(self, several):
        from sklearn.linear_model import LogisticRegression

        inputs, targets, weights = several
        solution = solve_head(inputs, targets, weights, 1 / 64)
        assert solution.converged and solution.kernel.shape == (20, 4)
        for output in range(4):
            known = targets[:, output] >= 0
            oracle = LogisticRegression(
                C=64 / known.sum(), class_weight="balanced", tol=1e-10, max_iter=1000
            ).fit(inputs[known].astype(np.float64), targets[known, output])
            logits = inputs @ solution.kernel[:, output] + solution.bias[output]
            expected = oracle.predict_proba(inputs)[:, 1]
            np.testing.assert_allclose(sigmoid(logits), expected, atol=1e-3)

    def test_the_same_bytes_each_time_and_close_ones_from_two_workers(self, several):
        inputs, targets, weights = several
        first, second = (solve_head(inputs, targets, weights, 0.05) for _ in range(2))
        np.testing.assert_array_equal(first.kernel, second.kernel)
        two = solve_head(inputs, targets, weights, 0.05, all_sum=lambda array: 2 * array)
        np.testing.assert_allclose(two.kernel, first.kernel, atol=1e-3)

    def test_an_output_without_weights_stays_zero(self, several):
        inputs, targets, weights = several
        weights = weights.copy()
        weights[:, 2] = 0
        solution = solve_head(inputs, targets, weights, 1 / 64)
        assert solution.converged
        np.testing.assert_array_equal(solution.kernel[:, 2], 0)
        assert solution.bias[2] == 0 and solution.kernel[:, 3].any()
