from __future__ import annotations

import numpy as np
import pytest

from hemorrhage_tf.training.distributed.single_process import SINGLE, shard_samples


class TestShardSamples:
    @pytest.mark.parametrize("count", [1, 8, 37])
    @pytest.mark.parametrize("batch_size", [1, 8, 100])
    @pytest.mark.parametrize("workers, replicas", [(1, 1), (3, 1), (2, 4)])
    def test_each_sample_occurs_once_and_the_shares_of_a_batch_sum_to_one(
        self, count, batch_size, workers, replicas
    ):
        shards = [
            shard_samples(count, batch_size, index, workers, replicas) for index in range(workers)
        ]
        assert len({(each.rows, each.steps, len(each.positions)) for each in shards}) == 1
        samples = np.concatenate([each.positions[each.shares > 0] for each in shards])
        assert sorted(samples) == list(range(count))
        size = min(batch_size, count)
        for step in range(shards[0].steps):
            rows = slice(step * shards[0].rows * replicas, (step + 1) * shards[0].rows * replicas)
            positions = np.concatenate([each.positions[rows] for each in shards])
            shares = np.concatenate([each.shares[rows] for each in shards])
            # Padding is from the same batch.
            assert set(positions) == set(range(step * size, min((step + 1) * size, count)))
            np.testing.assert_allclose(shares.sum(), 1, rtol=1e-5)
            assert len(set(shares[shares > 0])) == 1

    def test_one_worker_gets_the_batches_unchanged(self):
        shard = SINGLE.shard_samples(37, 8)
        assert shard.positions[:37].tolist() == list(range(37))
        assert (shard.rows, shard.steps) == (8, 5)


class TestSingleProcess:
    def test_is_a_cluster_of_one_worker(self, tmp_path):
        array = np.arange(6.0).reshape(2, 3)
        np.testing.assert_array_equal(SINGLE.all_sum(array), array)
        assert SINGLE.gather_texts("ä") == ["ä"]
        assert list(SINGLE.part(5)) == [0, 1, 2, 3, 4]
        assert (SINGLE.index, SINGLE.count, SINGLE.is_chief) == (0, 1, True)
        SINGLE.barrier()
        SINGLE.require_agreement({"version": "1"})
        SINGLE.check_shared(tmp_path / "nowhere")
        with pytest.raises(ZeroDivisionError), SINGLE.explain_worker_loss():
            raise ZeroDivisionError

    def test_uses_the_current_strategy(self):
        import tensorflow as tf

        assert SINGLE.strategy is SINGLE.local_strategy() is tf.distribute.get_strategy()
