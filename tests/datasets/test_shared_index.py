"""A slice index that several workers build together: the same bytes as from one process."""

from __future__ import annotations

import os
import time
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from plain_phantoms import draw_phantom
from thread_workers import run_workers

from hemorrhage_tf.core.errors import ClusterError, DataError
from hemorrhage_tf.core.progress import Progress
from hemorrhage_tf.datasets import slice_reading, thumbnails
from hemorrhage_tf.datasets.manifest import read_manifest
from hemorrhage_tf.datasets.slice_index import build_slice_index

QUIET = Progress(quiet=True)
YESTERDAY = time.time() - 86400
COUNT = 13  # blocks of 2 slices: an uneven number for two and for three workers


@pytest.fixture
def data(tmp_path, monkeypatch):
    """Two classes with a copy, a crop, a flipped crop and two damaged files, read in pairs."""
    monkeypatch.setattr(slice_reading, "CHUNK", 2)
    folder = tmp_path / "data"
    for index in range(COUNT):
        pixels = draw_phantom(0, {4: 2, 8: 6, 9: 7}.get(index, index), index % 2)
        if index in (8, 9):
            pixels = pixels[6:-6, 4:-8]
        if index == 9:
            pixels = pixels[:, ::-1]
        place = folder / ("normal", "hemorrhage")[index % 2]
        place.mkdir(parents=True, exist_ok=True)
        path = place / f"{index:02d}.png"
        Image.fromarray(np.ascontiguousarray(pixels)).save(path)
        os.utime(path, (YESTERDAY, YESTERDAY))
    for name in ("normal/05.png", "hemorrhage/zz.png"):
        (folder / name).write_bytes(b"no image")
    return folder


def index_of(data, workers=None, **options):
    manifest = read_manifest(data)
    options = {"skip_invalid": True, **options}
    if workers is not None:
        options["workers"] = workers
    return build_slice_index(manifest, QUIET, **options)


def assert_same(one, other):
    assert one.hashes == other.hashes and one.warnings == other.warnings
    assert one.secret == other.secret and one.same_image_limit == other.same_image_limit
    assert one.names == other.names and one.skipped == other.skipped
    for name in ("groups", "exact_pairs", "near_pairs", "alike_pairs", "head_shares"):
        left, right = getattr(one, name), getattr(other, name)
        assert left.dtype == right.dtype and left.tobytes() == right.tobytes()
    assert one.statistics.numbers.tobytes() == other.statistics.numbers.tobytes()
    assert one.statistics.formats == other.statistics.formats
    for left, right in zip(one.statistics, other.statistics, strict=True):
        for name in left.__dataclass_fields__:
            np.testing.assert_array_equal(getattr(left, name), getattr(right, name))


@pytest.mark.parametrize("count", [2, 3])
@pytest.mark.parametrize("is_large", [False, True])
def test_the_index_of_several_workers_is_that_of_one_process(data, monkeypatch, count, is_large):
    if is_large:
        monkeypatch.setattr(thumbnails, "ALL_PAIRS_UP_TO", 4)
        for module, name in (("near_duplicates", "ROWS"), ("cropped_duplicates", "BLOCK")):
            monkeypatch.setattr(f"hemorrhage_tf.datasets.{module}.{name}", 4)
    alone = index_of(data)
    assert len(alone.exact_pairs) == 1 and len(alone.near_pairs) >= 1 and len(alone.skipped) == 2
    for shared in run_workers(count, lambda workers: index_of(data, workers)):
        assert_same(shared, alone)


def test_each_worker_reads_its_part_alone(data, tmp_path, monkeypatch):
    reads = []
    original = slice_reading.read_slice_and_format
    monkeypatch.setattr(
        slice_reading, "read_slice_and_format", lambda ref: reads.append(ref.path) or original(ref)
    )
    kept = tmp_path / "kept"
    first = run_workers(2, lambda workers: index_of(data, workers, keep_in=kept))
    assert len(reads) == len(set(reads)) == COUNT + 2
    reads.clear()
    # What two workers kept serves one process, three workers, and the other way round.
    monkeypatch.setattr("hemorrhage_tf.datasets.slice_index.find_near_duplicates", None)
    assert_same(index_of(data, keep_in=kept), first[0])
    for again in run_workers(3, lambda workers: index_of(data, workers, keep_in=kept)):
        assert_same(again, first[0])
    assert {path.read_bytes() for path in reads} == {b"no image"}


def test_pairs_that_one_worker_does_not_see_are_searched_by_all(data, tmp_path):
    alone = index_of(data, keep_in=tmp_path / "kept 0")
    shared = run_workers(
        2, lambda workers: index_of(data, workers, keep_in=tmp_path / f"kept {workers.index}")
    )
    for each in shared:
        assert_same(each, alone)


def test_every_worker_reports_the_files_of_all(data):
    messages = []

    def work(workers):
        with pytest.raises(DataError) as error:
            index_of(data, workers, skip_invalid=False)
        messages.append(str(error.value))

    run_workers(2, work)
    assert messages[0] == messages[1]
    assert "05.png" in messages[0] and "zz.png" in messages[0]


def test_workers_with_other_slices_are_rejected_before_reading(data, monkeypatch):
    monkeypatch.setattr(slice_reading, "read_slice_and_format", None)

    manifest = read_manifest(data)
    order = np.arange(len(manifest))

    def work(workers):
        records = manifest.records.take(order[::-1] if workers.index else order)
        build_slice_index(replace(manifest, records=records), QUIET, workers=workers)

    with pytest.raises(ClusterError):
        run_workers(2, work)
