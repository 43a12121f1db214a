import numpy as np
import pytest
from scipy.stats import t

from hemorrhage_tf.core.errors import DataError
from hemorrhage_tf.evaluation import resampling
from hemorrhage_tf.evaluation.intervals import quantile, wilson
from hemorrhage_tf.evaluation.resampling import Resamples, proportions


class TestResamples:
    def test_every_resample_draws_as_many_units(self):
        groups = np.array(["a", "b", "a", "c", "c", "c"])
        resamples = Resamples.make(6, groups, bootstraps=50)
        assert (resamples.count, resamples.drawn) == (3, "patients")
        (weights,) = resamples.weights()
        assert weights.shape == (50, 6)
        assert np.array_equal(weights[:, 0], weights[:, 2])
        assert np.array_equal(weights[:, 3], weights[:, 5])
        assert np.all(weights[:, [0, 1, 3]].sum(1) == 3)

    @pytest.mark.parametrize("groups", [None, np.arange(7), list("gfedcba")])
    def test_distinct_groups_are_slices(self, groups):
        resamples = Resamples.make(7, groups)
        assert resamples.drawn == "slices" and resamples.count == 7

    def test_blocks_add_up_and_depend_on_the_seed(self, monkeypatch):
        def draw(seed):
            return np.concatenate(list(Resamples.make(40, None, 100, seed).weights()))

        once = draw(3)
        monkeypatch.setattr(resampling, "WEIGHTS_IN_MEMORY", 400)
        assert len(list(Resamples.make(40, None, 100, 3).weights())) == 10
        assert len(draw(3)) == 100
        assert np.array_equal(draw(3), draw(3))
        assert not np.array_equal(once, draw(4))

    def test_variance_of_a_mean_is_that_of_theory(self):
        values = np.random.default_rng(0).normal(size=25)
        resamples = Resamples.make(25, None, bootstraps=20_000)
        (variance,) = resamples.variances(lambda weights: (weights @ values / 25)[None])
        # 20,000 resamples know it to about 1 %.
        assert variance == pytest.approx(values.var(ddof=1) / 25, rel=0.03)

    def test_variance_over_patients_agrees_with_linearization(self):
        rng = np.random.default_rng(1)
        groups = rng.integers(0, 60, 300)
        right = (rng.random(60) < 0.8)[groups] & (rng.random(300) < 0.9)
        resamples = Resamples.make(300, groups, bootstraps=5_000)
        (variance,) = resamples.variances(lambda w: (w @ right / w.sum(1))[None])
        residual = np.bincount(groups, weights=right - right.mean())
        count = len(np.unique(groups))
        expected = (residual**2).sum() / 300**2 * count / (count - 1)
        assert variance == pytest.approx(expected, rel=0.08)

    def test_leaves_out_resamples_without_the_statistic(self):
        resamples = Resamples.make(3, None, bootstraps=500)

        def first_if_drawn(weights):
            return np.where(weights[:, 0] > 0, weights[:, 1], np.nan)[None]

        assert np.isfinite(resamples.variances(first_if_drawn)[0])
        assert np.isnan(resamples.variances(lambda w: np.full((1, len(w)), np.nan))[0])

    def test_one_unit_has_no_variance(self):
        resamples = Resamples.make(5, np.zeros(5))
        assert np.isnan(resamples.variances(lambda w: w[:, 0][None])[0])

    def test_degrees(self):
        resamples = Resamples.make(8, np.array([0, 0, 1, 1, 2, 2, 3, 3]))
        assert resamples.degrees(np.ones(8)) == pytest.approx(3)
        # (4 + 1 + 1)^2 / (16 + 1 + 1) is 2.
        uneven = Resamples.make(6, np.array([0, 0, 0, 0, 1, 2]))
        assert uneven.degrees(np.ones(6)) == pytest.approx(1)

    def test_rejects_groups_of_another_length(self):
        with pytest.raises(DataError, match="3 groups for 4 labels"):
            Resamples.make(4, np.arange(3))


class TestProportions:
    def test_over_slices_they_are_wilsons(self):
        successes, out_of = (
            np.array([[1, 0], [1, 0], [0, 1.0]]),
            np.array([[1, 0], [1, 0], [1, 1.0]]),
        )
        intervals = proportions(successes, out_of, Resamples.make(3, None))
        assert intervals == [wilson(2, 3), wilson(1, 1)]

    def test_an_empty_denominator_has_no_interval(self):
        intervals = proportions(
            np.zeros((4, 1)), np.zeros((4, 1)), Resamples.make(4, np.arange(4) // 2)
        )
        assert intervals == [None]

    @pytest.mark.parametrize("copies", [2, 10])
    def test_copies_in_one_patient_add_nothing(self, copies):
        right = np.tile(np.arange(40) >= 4, copies)[:, None].astype(float)
        resamples = Resamples.make(len(right), np.tile(np.arange(40), copies))
        (interval,) = proportions(right, np.ones_like(right), resamples)
        once = wilson(36, 40)
        assert interval.estimate == once.estimate and interval.n == 40 * copies
        # Student's quantile and the error of the bootstrap.
        assert interval.low == pytest.approx(once.low, abs=0.02)
        assert interval.high == pytest.approx(once.high, abs=0.02)

    def test_worked_by_hand(self):
        right = np.array([1, 1, 1, 0, 0, 1, 1, 1, 1, 1, 1, 1.0])[:, None]
        groups = np.repeat(np.arange(6), 2)
        resamples = Resamples.make(12, groups, bootstraps=500)
        (variance,) = resamples.variances(lambda w: (w @ right[:, 0] / w.sum(1))[None])
        p = 10 / 12
        effect = variance / (p * (1 - p) / 12)
        effective = 12 / (effect * (t.ppf(0.975, 5) / quantile(0.95)) ** 2)
        assert effective < 12
        (interval,) = proportions(right, np.ones((12, 1)), resamples)
        expected = wilson(p * effective, effective)
        assert (interval.low, interval.high) == pytest.approx((expected.low, expected.high))

    @pytest.mark.parametrize("share", [0.0, 1.0])
    def test_without_a_variance_n_is_the_number_of_patients(self, share):
        right = np.full((30, 1), share)
        resamples = Resamples.make(30, np.arange(30) // 3, bootstraps=50)
        (interval,) = proportions(right, np.ones((30, 1)), resamples)
        expected = wilson(10 * share, 10)
        assert (interval.low, interval.high, interval.n) == (expected.low, expected.high, 30)

    def test_patients_never_narrow_an_interval(self):
        # All but one patient have one right and one wrong, so that they hardly vary.
        right = np.tile([1.0, 0.0], 50)
        right[1] = 1
        resamples = Resamples.make(100, np.arange(100) // 2, bootstraps=50)
        (interval,) = proportions(right[:, None], np.ones((100, 1)), resamples)
        alone = wilson(51, 100)
        assert (interval.low, interval.high) == (alone.low, alone.high)
