import os
import signal

import numpy as np
import pytest
from PIL import Image
from plain_phantoms import draw_phantom

from hemorrhage_tf.core.errors import Problem
from hemorrhage_tf.core.progress import Progress
from hemorrhage_tf.datasets import slice_reading as module
from hemorrhage_tf.datasets.image_statistics import image_statistics
from hemorrhage_tf.datasets.near_duplicates import contents, thumbnails
from hemorrhage_tf.datasets.slice_reading import read_slices
from hemorrhage_tf.imaging.readers import SliceRef, content_hash, read_slice_and_format

QUIET = Progress(quiet=True)


@pytest.fixture
def slices(tmp_path):
    refs = []
    for index in range(9):
        pixels = draw_phantom(0, index, 0)
        path = tmp_path / f"{index}.{('png', 'jpg')[index % 2]}"
        Image.fromarray(pixels).save(path)
        refs.append(SliceRef(path))
    (tmp_path / "4.png").write_text("text")
    (tmp_path / "7.jpg").unlink()
    return refs


def same(one, other):
    assert one.good.tolist() == other.good.tolist()
    assert one.problems == other.problems
    assert list(one.hashes) == list(other.hashes)
    assert list(one.input_warnings) == list(other.input_warnings)
    for name in ("is_hounsfield", "head_shares", "shares"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
    every = range(len(one))
    for name in ("thumbnails", "contents"):
        np.testing.assert_array_equal(
            getattr(one, name).take(every), getattr(other, name).take(every)
        )
    for left, right in zip(one.statistics, other.statistics, strict=True):
        for name in left.__dataclass_fields__:
            np.testing.assert_array_equal(getattr(left, name), getattr(right, name))


def test_what_is_kept_is_what_each_slice_gives(slices):
    found = read_slices(slices, QUIET, "Reading")
    assert found.good.tolist() == [0, 1, 2, 3, 5, 6, 8]
    assert found.problems[4].reason.startswith("not one of the formats")
    assert found.problems[7].reason == "no such file"
    for place, index in enumerate(found.good):
        pixels = np.asarray(Image.open(slices[index].path))
        assert found.hashes[place] == content_hash(pixels)
        np.testing.assert_array_equal(found.thumbnails.take([place])[0], thumbnails(pixels))
        content, shares = contents(pixels)
        np.testing.assert_array_equal(found.contents.take([place])[0], np.rint(content))
        np.testing.assert_array_equal(found.shares[place], shares)
        saved = read_slice_and_format(slices[index])[1]
        expected, given = image_statistics(saved, pixels), found.statistics[place]
        for name in expected.__dataclass_fields__:
            np.testing.assert_array_equal(getattr(given, name), getattr(expected, name))


@pytest.mark.parametrize("for_audit", [False, True])
def test_processes_see_what_threads_do(slices, monkeypatch, for_audit):
    in_threads = read_slices(slices, QUIET, "Reading", for_audit)
    monkeypatch.setattr(module, "PROCESSES_FROM", 1)
    monkeypatch.setattr(module, "_CHUNK", 2)
    same(in_threads, read_slices(slices, QUIET, "Reading", for_audit))


def test_a_lost_process_is_made_good(slices, monkeypatch):
    in_threads = read_slices(slices, QUIET, "Reading")
    monkeypatch.setattr(module, "PROCESSES_FROM", 1)
    monkeypatch.setattr(module, "_CHUNK", 2)
    look = module._Process.look

    def killed(self, refs):
        if self._process is not None:
            os.kill(self._process.pid, signal.SIGKILL)
        return look(self, refs)

    monkeypatch.setattr(module._Process, "look", killed)
    same(in_threads, read_slices(slices, QUIET, "Reading"))


def test_slices_too_large_to_be_looked_at_together(slices, monkeypatch):
    monkeypatch.setattr(module, "PROCESSES_FROM", 1)
    together = read_slices(slices, QUIET, "Reading")
    monkeypatch.setattr(module, "PROCESSES_FROM", 100)
    same(together, read_slices(slices, QUIET, "Reading"))
    for most in (0, 128 * 128 + 1):  # one by one, and by twos
        monkeypatch.setattr(module, "_TOGETHER", most)
        looks = module._looks(slices, for_audit=False)
        assert [isinstance(each, Problem) for each in looks] == [at in (4, 7) for at in range(9)]
        assert [each.content_hash.hex() for each in looks if not isinstance(each, Problem)] == list(
            together.hashes
        )


def test_no_slices():
    found = read_slices([], QUIET, "Reading")
    assert len(found) == len(found.statistics) == len(found.hashes) == 0


def test_no_process_outlives_an_interruption(slices, monkeypatch):
    monkeypatch.setattr(module, "PROCESSES_FROM", 1)
    monkeypatch.setattr(module, "_CHUNK", 1)
    started = []
    begin = module._Process.__init__

    def remembered(self, kind):
        begin(self, kind)
        started.append(self._process)

    monkeypatch.setattr(module._Process, "__init__", remembered)

    class Interrupted(Progress):
        def progress(self, description, total):
            import contextlib

            @contextlib.contextmanager
            def bar():
                def advance(steps):
                    raise KeyboardInterrupt

                yield advance

            return bar()

    with pytest.raises(KeyboardInterrupt):
        read_slices(slices, Interrupted(quiet=True), "Reading")
    assert started and all(process.poll() is not None for process in started)
