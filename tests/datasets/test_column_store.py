import errno

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hemorrhage_tf.core.errors import DataError
from hemorrhage_tf.datasets import column_store
from hemorrhage_tf.datasets.column_store import FileColumn, Hashes, Interned, Made, Tuples


class TestFileColumn:
    @pytest.mark.parametrize("in_memory", [1, 1 << 20], ids=["on disk", "in memory"])
    def test_what_is_written_is_read(self, monkeypatch, in_memory):
        monkeypatch.setattr(column_store, "_IN_MEMORY", in_memory)
        column = FileColumn(np.float32, (3, 2))
        rows = np.random.default_rng(0).normal(size=(10, 3, 2)).astype(np.float32)
        column.append(rows[:4])
        column.append(rows[4:4])
        column.append(rows[4:])
        assert len(column) == 10
        np.testing.assert_array_equal(column.read(2, 9), rows[2:9])
        np.testing.assert_array_equal(column.take([7, 0, 7]), rows[[7, 0, 7]])
        column.append(rows[:1])  # also after reading
        np.testing.assert_array_equal(column.read(9, 11), rows[[9, 0]])

    def test_a_half_keeps_less(self):
        column = FileColumn(np.float16, (1,))
        column.append(np.array([[1.0001]]))
        assert column.take([0]).dtype == np.float16 and column.take([0])[0, 0] == 1

    def test_the_folder_holds_no_name_of_it(self, monkeypatch, tmp_path):
        monkeypatch.setattr(column_store, "_IN_MEMORY", 1)
        monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
        column = FileColumn(np.uint8, (100,))
        column.append(np.zeros((100, 100)))
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize(
        "rows", [[], [0], [2, 3, 4], [4, 3, 2], [0, 2], [1, 1], [0, 1, 3, 2], np.arange(5)]
    )
    def test_any_rows(self, rows):
        column, written = FileColumn(np.int32, (2,)), np.arange(10).reshape(5, 2)
        column.append(written)
        np.testing.assert_array_equal(column.take(rows), written[np.asarray(rows, int)])

    @pytest.mark.parametrize("rows", [[4, 5], [5, 0], [7]])
    def test_rows_that_are_not_there(self, rows):
        column = FileColumn(np.int32, (2,))
        column.append(np.zeros((5, 2)))
        with pytest.raises(EOFError):
            column.take(rows)

    def test_a_full_disk_is_told_with_the_next_step(self, monkeypatch):
        column = FileColumn(np.uint8, (1,))

        class Full:
            def seek(self, place):
                pass

            def write(self, data):
                raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(column, "_file", Full())
        with pytest.raises(DataError, match="No space left .* TMPDIR"):
            column.append(np.zeros((1, 1)))


values = st.lists(st.sampled_from([None, "a", "b", ("c", 1)]), max_size=20)


@settings(max_examples=50, deadline=None)
@given(values=values, data=st.data())
def test_interned_values_come_back(values, data):
    column = Interned(values)
    assert list(column) == values and [column[i] for i in range(len(values))] == values
    assert [column.values[code] for code in column.codes] == values
    index = st.integers(0, max(len(values) - 1, 0))
    chosen = data.draw(st.lists(index, max_size=5 if values else 0))
    assert list(column.take(np.array(chosen, np.int64))) == [values[i] for i in chosen]


class TestListed:
    def test_looks_like_a_tuple(self):
        listed = Made(lambda index: index * 2, 5)
        assert listed == (0, 2, 4, 6, 8) and listed == [0, 2, 4, 6, 8] and (0,) != listed
        assert listed[-1] == 8 and listed[1:4:2] == [2, 6] and listed[::-1][0] == 8
        assert len(listed[9:]) == 0 and 6 in listed and list(reversed(listed))[0] == 8
        assert repr(listed) == "(0, 2, 4, ...)"
        for index in (5, -6):
            with pytest.raises(IndexError):
                listed[index]

    def test_hashes(self):
        keys = [bytes(range(at, at + 16)).hex() for at in range(9)]
        hashes = Hashes(np.frombuffer(bytes.fromhex("".join(keys)), np.uint8).reshape(-1, 16))
        assert list(hashes) == keys and hashes[3] == keys[3] and hashes == tuple(keys)
        assert hashes[:4] == tuple(keys[:4])

    def test_tuples_are_of_plain_numbers(self):
        pairs = Tuples(np.array([1, 2], np.int32), np.array([0.5, 1], np.float32))
        assert pairs == ((1, 0.5), (2, 1.0)) and list(pairs) == [(1, 0.5), (2, 1.0)]
        assert [type(value) for value in pairs[0]] == [int, float]
        assert Tuples(np.zeros(0), np.zeros(0)) == ()
