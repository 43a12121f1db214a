"""The readings that are kept on disk: unchanged files are not read again, and nothing changes."""

from __future__ import annotations

import os
import time

import numpy as np
import pytest
from PIL import Image
from plain_phantoms import draw_phantom
from recorder import Recorder

from hemorrhage_tf.core.progress import Progress
from hemorrhage_tf.datasets import kept_readings as module
from hemorrhage_tf.datasets import slice_reading
from hemorrhage_tf.datasets.manifest import read_manifest
from hemorrhage_tf.datasets.slice_index import build_slice_index

QUIET = Progress(quiet=True)
YESTERDAY = time.time() - 86400


def write(path, index, label=0):
    Image.fromarray(draw_phantom(0, index, label)).save(path)
    os.utime(path, (YESTERDAY, YESTERDAY))


@pytest.fixture
def data(tmp_path):
    """A folder of two classes with nine slices, one of which is a copy, all from yesterday."""
    folder = tmp_path / "data"
    for index in range(9):
        place = folder / ("normal", "hemorrhage")[index % 2]
        place.mkdir(parents=True, exist_ok=True)
        write(place / f"{index}.png", 2 if index == 6 else index, index % 2)
    return folder


@pytest.fixture
def count_files(monkeypatch):
    """Returns a function that returns how many files were read since its last call."""
    reads = []
    original = slice_reading.read_slice_and_format

    def read(ref):
        reads.append(ref)
        return original(ref)

    monkeypatch.setattr(slice_reading, "read_slice_and_format", read)

    def count():
        number = len(reads)
        reads.clear()
        return number

    return count


def index_of(data, kept=None, progress=QUIET):
    return build_slice_index(read_manifest(data), progress, keep_in=kept)


def assert_same(one, other):
    assert one.hashes == other.hashes and one.warnings == other.warnings
    assert one.secret == other.secret and one.same_image_limit == other.same_image_limit
    for name in ("groups", "exact_pairs", "near_pairs", "alike_pairs", "head_shares"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
    for left, right in zip(one.statistics, other.statistics, strict=True):
        for name in left.__dataclass_fields__:
            np.testing.assert_array_equal(getattr(left, name), getattr(right, name))


def test_unchanged_files_are_read_once_and_compared_once(data, tmp_path, count_files, monkeypatch):
    plain = index_of(data)
    count_files()
    first = index_of(data, tmp_path / "kept")
    assert count_files() == 9
    monkeypatch.setattr("hemorrhage_tf.datasets.slice_index.find_near_duplicates", None)
    second = index_of(data, tmp_path / "kept")
    assert count_files() == 0
    assert_same(plain, first)
    assert_same(plain, second)
    assert len(second.exact_pairs) == 1


@pytest.mark.parametrize("change", ["content", "time", "size"])
def test_a_file_that_changed_is_read_again(data, tmp_path, count_files, change):
    index_of(data, tmp_path / "kept")
    count_files()
    path = data / "normal" / "4.png"
    if change == "content":
        write(path, 40)
        os.utime(path, (YESTERDAY + 1, YESTERDAY + 1))
    elif change == "time":
        os.utime(path, (YESTERDAY, YESTERDAY + 1e-6))
    else:
        path.write_bytes(path.read_bytes() + b"\0")
        os.utime(path, (YESTERDAY, YESTERDAY))
    again = index_of(data, tmp_path / "kept")
    assert count_files() == 1
    assert_same(again, index_of(data))


def test_added_removed_and_reordered_files_use_what_is_kept(data, tmp_path, count_files):
    index_of(data, tmp_path / "kept")
    count_files()
    (data / "normal" / "0.png").unlink()
    write(data / "normal" / "a.png", 30)
    (data / "normal" / "2.png").rename(data / "normal" / "z.png")
    again = index_of(data, tmp_path / "kept")
    assert count_files() == 2
    assert_same(again, index_of(data))


def test_a_file_that_changed_just_now_is_not_kept(data, tmp_path, count_files):
    path = data / "normal" / "4.png"
    os.utime(path)
    for _ in range(2):
        index_of(data, tmp_path / "kept")
    assert count_files() == 9 + 1


def test_many_shards_and_small_blocks_give_the_same(data, tmp_path, count_files, monkeypatch):
    monkeypatch.setattr(module, "SHARD_ROWS", 2)
    monkeypatch.setattr(module, "_OPEN_SHARDS", 1)
    monkeypatch.setattr(slice_reading, "CHUNK", 2)
    plain = index_of(data)
    index_of(data, tmp_path / "kept")
    count_files()
    assert_same(plain, index_of(data, tmp_path / "kept"))
    assert count_files() == 0
    assert len(list((tmp_path / "kept").rglob("*.npz"))) > 3


@pytest.mark.parametrize("content", [b"", b"text", "cut", "flipped", "foreign"])
def test_a_broken_or_foreign_file_is_one_warning(data, tmp_path, count_files, content):
    plain = index_of(data)
    index_of(data, tmp_path / "kept")
    count_files()
    for path in (tmp_path / "kept").rglob("*.npz"):
        whole = path.read_bytes()
        if content == "cut":
            path.write_bytes(whole[: len(whole) // 2])
        elif content == "flipped":
            middle = len(whole) // 2
            path.write_bytes(whole[:middle] + bytes([whole[middle] ^ 255]) + whole[middle + 1 :])
        elif content == "foreign":
            np.savez(path, state=np.arange(3), pairs=np.arange(4))
        else:
            path.write_bytes(content)
    recorder = Recorder()
    assert_same(plain, index_of(data, tmp_path / "kept", recorder))
    assert count_files() == 9
    warnings = [text for text in recorder.warnings if "kept slice index" in text]
    assert len(warnings) == 1 and "read again" in warnings[0]
    assert_same(plain, index_of(data, tmp_path / "kept"))
    assert count_files() == 0


def test_a_folder_that_cannot_be_written_is_one_warning(data, tmp_path):
    (tmp_path / "kept").write_text("a file")
    recorder = Recorder()
    assert_same(index_of(data), index_of(data, tmp_path / "kept", recorder))
    assert len([text for text in recorder.warnings if "cannot be kept" in text]) == 1


def test_names_of_files_are_not_written(data, tmp_path):
    (data / "normal" / "4.png").rename(data / "normal" / "JohnDoe.png")
    index_of(data, tmp_path / "kept")
    for path in (tmp_path / "kept").rglob("*.npz"):
        assert b"JohnDoe" not in path.read_bytes()


def test_shards_that_no_file_needs_are_removed(data, tmp_path):
    for turn in range(4):
        for path in data.rglob("*.png"):
            os.utime(path, (YESTERDAY + turn, YESTERDAY + turn))
        index_of(data, tmp_path / "kept")
    shards = [p for p in (tmp_path / "kept").rglob("*.npz") if not p.name.startswith("pairs-")]
    assert len(shards) <= 2


def test_another_data_set_has_its_own_folder(data, tmp_path, count_files):
    index_of(data, tmp_path / "kept")
    data.rename(tmp_path / "moved")
    count_files()
    index_of(tmp_path / "moved", tmp_path / "kept")
    assert count_files() == 9
