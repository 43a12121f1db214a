import multiprocessing
import os
import signal
import time
import warnings
from contextlib import contextmanager

import numpy as np
import pytest
from PIL import Image
from plain_phantoms import draw_phantom
from recorder import Recorder

from hemorrhage_tf.core.errors import Problem
from hemorrhage_tf.core.progress import Progress
from hemorrhage_tf.datasets import slice_reading as module
from hemorrhage_tf.datasets.image_statistics import image_statistics
from hemorrhage_tf.datasets.slice_reading import read_batches, read_slices, start_processes
from hemorrhage_tf.datasets.thumbnails import make_thumbnails
from hemorrhage_tf.imaging.readers import SliceRef, content_hash, read_slice_and_format

QUIET = Progress(quiet=True)


@pytest.fixture(scope="module")
def slices(tmp_path_factory):
    """The locations of nine slices; the fifth and the eighth cannot be read."""
    folder = tmp_path_factory.mktemp("slices")
    refs = []
    for index in range(9):
        path = folder / f"{index}.{('png', 'jpg')[index % 2]}"
        Image.fromarray(draw_phantom(0, index, 0)).save(path)
        refs.append(SliceRef(path))
    (folder / "4.png").write_text("text")
    (folder / "7.jpg").unlink()
    return refs


def assert_same(one, other):
    assert one.good.tolist() == other.good.tolist()
    assert one.problems == other.problems
    assert one.input_warnings == other.input_warnings
    for name in ("hashes", "is_hounsfield", "head_shares", "gray_shares"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
    every = range(len(one))
    for name in ("gray", "contents"):
        np.testing.assert_array_equal(
            getattr(one, name).take(every), getattr(other, name).take(every)
        )
    for left, right in zip(one.statistics, other.statistics, strict=True):
        for name in left.__dataclass_fields__:
            np.testing.assert_array_equal(getattr(left, name), getattr(right, name))


def test_keeps_the_values_of_each_slice(slices):
    readings = read_slices(slices, QUIET, "Reading")
    assert readings.good.tolist() == [0, 1, 2, 3, 5, 6, 8]
    assert "format" in readings.problems[4].reason
    assert readings.problems[7].reason == "no such file"
    for position, index in enumerate(readings.good):
        pixels = np.asarray(Image.open(slices[index].path))
        reductions = make_thumbnails(pixels)
        assert readings.hashes[position].tobytes().hex() == content_hash(pixels)
        np.testing.assert_array_equal(readings.gray.take([position])[0], reductions.gray)
        content = readings.contents.take([position])[0]
        np.testing.assert_array_equal(content, np.rint(reductions.content))
        np.testing.assert_array_equal(readings.gray_shares[position], reductions.gray_shares)
        saved = read_slice_and_format(slices[index])[1]
        expected, kept = image_statistics(saved, pixels), readings.statistics[position]
        for name in expected.__dataclass_fields__:
            np.testing.assert_array_equal(getattr(kept, name), getattr(expected, name))


def test_no_slices():
    readings = read_slices([], QUIET, "Reading")
    assert len(readings) == len(readings.statistics) == len(readings.hashes) == 0


@pytest.mark.parametrize("size", [0, 128 * 128 + 1], ids=["one by one", "two by two"])
def test_the_size_of_batches_does_not_matter(slices, monkeypatch, size):
    expected = read_batches(slices, for_audit=False)
    monkeypatch.setattr(module, "BATCH_BYTES", size)
    readings = read_batches(slices, for_audit=False)
    assert [isinstance(each, Problem) for each in readings] == [at in (4, 7) for at in range(9)]
    for one, other in zip(readings, expected, strict=True):
        if isinstance(one, Problem):
            assert one == other
        else:
            assert one.content_hash == other.content_hash
            assert one.head_share == other.head_share


class TestProcesses:
    """Processes take about a second to start, so one test covers several things."""

    @pytest.fixture(autouse=True)
    def small_tasks(self, monkeypatch):
        monkeypatch.setattr(module, "MAX_PROCESSES", 2)
        monkeypatch.setattr(module, "CHUNK", 2)

    @pytest.fixture
    def use_processes(self, monkeypatch, small_tasks):
        def use():
            monkeypatch.setattr(module, "PROCESSES_FROM", 1)

        return use

    def test_processes_read_the_same_as_threads_and_end(self, slices, use_processes):
        in_threads = read_slices(slices, QUIET, "Reading")
        use_processes()
        progress = Observer()
        assert_same(in_threads, read_slices(slices, progress, "Reading"))
        assert progress.warnings == []  # a warning would mean that threads did the work
        assert progress.most_processes == 2
        assert multiprocessing.active_children() == []

    def test_processes_import_no_tensorflow(self):
        pool = start_processes(1)
        try:
            modules = pool.submit(eval, "sorted(__import__('sys').modules)").result()
        finally:
            pool.shutdown(kill_workers=True)
        assert "hemorrhage_tf.datasets.slice_reading" in modules
        assert "tensorflow" not in modules and "keras" not in modules

    def test_a_process_that_grew_is_replaced_without_a_warning(self):
        shrink = "import joblib.externals.loky.process_executor as loky; "
        shrink += "loky._MAX_MEMORY_LEAK_SIZE, loky._MEMORY_LEAK_CHECK_DELAY = -(1 << 40), 0"
        with warnings.catch_warnings(record=True) as shown:
            warnings.simplefilter("always")
            pool = start_processes(1)
            try:
                pool.submit(exec, shrink).result()
                tasks = [pool.submit(os.getpid) for _ in range(4)]
                processes = {task.result() for task in tasks}
            finally:
                pool.shutdown(kill_workers=True)
        assert len(processes) > 1
        assert shown == []

    def test_threads_replace_a_lost_process_with_one_warning(self, slices, use_processes):
        many = slices * 5
        in_threads = read_slices(many, QUIET, "Reading", for_audit=True)
        use_processes()
        progress = Observer(on_advance=lambda child: os.kill(child.pid, signal.SIGKILL))
        assert_same(in_threads, read_slices(many, progress, "Reading", for_audit=True))
        (warning,) = progress.warnings
        assert "a process that reads slices was lost" in warning

    def test_threads_replace_processes_that_cannot_start(self, slices, use_processes, monkeypatch):
        in_threads = read_slices(slices, QUIET, "Reading")
        use_processes()
        monkeypatch.setattr("sys.executable", "/no/such/python")
        progress = Observer()
        assert_same(in_threads, read_slices(slices, progress, "Reading"))
        (warning,) = progress.warnings
        assert "was lost" in warning

    def test_an_interruption_ends_the_processes_at_once(self, slices, use_processes):
        use_processes()

        def interrupt(child):
            raise KeyboardInterrupt

        begin = time.monotonic()
        progress = Observer(on_advance=interrupt)
        with pytest.raises(KeyboardInterrupt):
            read_slices(slices * 5, progress, "Reading")
        assert progress.most_processes == 2
        assert multiprocessing.active_children() == []
        assert time.monotonic() - begin < 60


class Observer(Recorder):
    """Records warnings, and watches the worker processes whenever slices were read."""

    def __init__(self, on_advance=lambda child: None):
        super().__init__()
        self.most_processes = 0
        self._on_advance = on_advance

    @contextmanager
    def track(self, description, total):
        with super().track(description, total) as advance:

            def observe(steps):
                children = multiprocessing.active_children()
                self.most_processes = max(self.most_processes, len(children))
                for child in children:
                    self._on_advance(child)
                advance(steps)

            yield observe
