from __future__ import annotations

import numpy as np
import pytest

from hemorrhage_tf.training.features import table as table_module
from hemorrhage_tf.training.features.rows import FeatureRows, RowIndex
from hemorrhage_tf.training.features.shards import Block, row_keys
from hemorrhage_tf.training.features.table import (
    FeatureChunks,
    FeatureTable,
    feature_dataset,
    window_order,
)


def feature_rows(counts, values) -> FeatureRows:
    """Return rows in two blocks, in another order than that of the slices."""
    keys = row_keys(map(str, range(len(values))))
    unique, inverse = np.unique(keys, return_inverse=True)
    index = RowIndex(unique)
    index.add(keys[::2], Block(values[::2]))
    index.add(keys[1::2], Block(values[1::2]))
    assert index.missing == 0
    return FeatureRows(np.array(counts), values.shape[1], index, inverse)


@pytest.fixture
def values() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(6, 8)).astype(np.float32)


@pytest.fixture
def table(values) -> FeatureTable:
    """Three slices with 1, 3 and 2 views, of which the first of each is stored separately."""
    first, rest = (
        feature_rows([1, 1, 1], values[[0, 1, 4]]),
        feature_rows([0, 2, 1], values[[2, 3, 5]]),
    )
    return FeatureTable(np.array([1, 3, 2]), [(first, rest)], "avg_max")


class TestFeatureTable:
    def test_reads_the_views_of_each_slice(self, table, values):
        np.testing.assert_array_equal(table.take(np.arange(6)), values)
        np.testing.assert_array_equal(table.take(np.array([5, 0, 3])), values[[5, 0, 3]])

    def test_numbers_the_rows_of_slices(self, table):
        assert table.first_rows(np.array([2, 0])).tolist() == [4, 0]
        rows, slices = table.view_rows(np.array([2, 1]))
        assert rows.tolist() == [4, 5, 1, 2, 3] and slices.tolist() == [2, 2, 1, 1, 1]
        rows, slices = table.view_rows(np.array([], np.int64))
        assert len(rows) == len(slices) == 0

    def test_pools_and_joins_backbones(self, values):
        one = feature_rows([2, 2, 2], values), feature_rows([0, 0, 0], values[:0])
        table = FeatureTable(np.array([2, 2, 2]), [one, one], "max")
        assert table.width == 8
        half = values[:, 4:]
        np.testing.assert_array_equal(table.take(np.arange(6)), np.hstack([half, half]))


class TestFeatureChunks:
    @pytest.mark.parametrize("in_memory", [0, 2**20])
    def test_can_be_iterated_repeatedly(self, table, values, monkeypatch, in_memory):
        monkeypatch.setattr(table_module, "CHUNK_BYTES", 2 * 8 * table.width)
        monkeypatch.setattr(table_module, "IN_MEMORY_BYTES", in_memory)
        mean, variance = values.mean(axis=0), values.var(axis=0)
        chunks = FeatureChunks(table, np.arange(5), (mean, variance))
        assert chunks.shape == (5, 8)
        for _ in range(2):
            parts = list(chunks)
            assert [len(part) for part in parts] == [2, 2, 1] and parts[0].dtype == np.float64
            expected = (values[:5] - mean) / np.sqrt(variance)
            np.testing.assert_allclose(np.concatenate(parts), expected, rtol=1e-4)


@pytest.mark.parametrize("in_memory", [0, 2**20])
def test_the_dataset_has_the_rows_in_their_order(table, values, monkeypatch, in_memory):
    monkeypatch.setattr(table_module, "CHUNK_BYTES", 2 * 8 * table.width)
    monkeypatch.setattr(table_module, "IN_MEMORY_BYTES", in_memory)
    zeros, ones = np.zeros(8, np.float32), np.ones(8, np.float32)
    dataset = feature_dataset(table, np.array([3, 1, 5]), zeros, ones)
    read = np.stack(list(dataset.as_numpy_iterator()))
    np.testing.assert_allclose(read, values[[3, 1, 5]], rtol=1e-5)


@pytest.mark.parametrize("count", [0, 10, 2**16 + 5000])
def test_window_order_is_a_permutation(count):
    order = window_order(count, np.random.default_rng(0))
    np.testing.assert_array_equal(np.sort(order), np.arange(count))
    if count:
        assert (order != np.arange(count)).any()
