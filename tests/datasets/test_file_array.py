import errno

import numpy as np
import pytest
from dataset_files import file_array

from hemorrhage_tf.core.errors import DataError
from hemorrhage_tf.datasets import file_array as module
from hemorrhage_tf.datasets.file_array import FileArray


@pytest.mark.parametrize("in_memory", [1, 1 << 20], ids=["on disk", "in memory"])
def test_rows_are_read_as_written(monkeypatch, in_memory):
    monkeypatch.setattr(module, "MAX_BYTES_IN_MEMORY", in_memory)
    array = FileArray(np.float32, (3, 2))
    rows = np.random.default_rng(0).normal(size=(10, 3, 2)).astype(np.float32)
    array.append(rows[:4])
    array.append(rows[4:4])
    array.append(rows[4:])
    assert len(array) == 10
    np.testing.assert_array_equal(array.take(range(2, 9)), rows[2:9])
    np.testing.assert_array_equal(array.take([7, 0, 7]), rows[[7, 0, 7]])
    array.append(rows[:1])  # also after reading
    np.testing.assert_array_equal(array.take([9, 10]), rows[[9, 0]])


def test_stores_the_given_precision():
    array = file_array(np.array([[1.0001]]), "f2")
    assert array.take([0]).dtype == np.float16 and array.take([0])[0, 0] == 1


def test_stores_structured_rows():
    dtype = np.dtype([("levels", "u4", 3), ("border", "f8", (2, 2))])
    rows = np.zeros(2, dtype)
    rows["levels"] = [[1, 2, 3], [4, 5, 6]]
    rows["border"][1] = 0.5
    array = FileArray(dtype)
    array.append(rows)
    np.testing.assert_array_equal(array.take([1, 0]), rows[::-1])


def test_leaves_no_name_in_the_folder(monkeypatch, tmp_path):
    monkeypatch.setattr(module, "MAX_BYTES_IN_MEMORY", 1)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    array = file_array(np.zeros((100, 100)), "u1")
    assert list(tmp_path.iterdir()) == [] and len(array) == 100


@pytest.mark.parametrize(
    "indices", [[], [0], [2, 3, 4], [4, 3, 2], [0, 2], [1, 1], [0, 1, 3, 2], np.arange(5)]
)
def test_takes_any_rows(indices):
    rows = np.arange(10).reshape(5, 2)
    np.testing.assert_array_equal(
        file_array(rows, "i4").take(indices), rows[np.asarray(indices, int)]
    )


@pytest.mark.parametrize("indices", [[4, 5], [5, 0], [7], [-1]])
def test_rejects_rows_that_do_not_exist(indices):
    with pytest.raises(IndexError):
        file_array(np.zeros((5, 2))).take(indices)


def test_reports_a_full_disk_with_the_next_step(monkeypatch):
    array = FileArray(np.uint8, (1,))

    class Full:
        def seek(self, place):
            pass

        def write(self, data):
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(array, "_file", Full())
    with pytest.raises(DataError, match="No space left .* TMPDIR"):
        array.append(np.zeros((1, 1)))
