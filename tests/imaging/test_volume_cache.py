import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from hemorrhage_tf.imaging.volume_cache import VolumeCache


class Reads:
    """Volumes of 100 bytes, and the names of those that were decompressed."""

    def __init__(self, cache):
        self.cache, self.names = cache, []

    def get(self, name, keep=True):
        def decompress():
            self.names.append(name)
            return np.full(100, ord(name), np.uint8)

        voxels = self.cache.get(name, 100, decompress, keep)
        assert (voxels == ord(name)).all()
        return voxels


def test_keeps_the_volumes_used_last():
    reads = Reads(VolumeCache(max_volumes=2, max_bytes=1000))
    for name in "ababacab":
        reads.get(name)
    assert reads.names == ["a", "b", "c", "b"]
    assert len(reads.cache) == 2


def test_makes_room_for_large_volumes():
    reads = Reads(VolumeCache(max_volumes=2, max_bytes=150))
    for name in "abba":
        reads.get(name)
    assert reads.names == ["a", "b", "a"]


def test_can_leave_a_volume_out():
    reads = Reads(VolumeCache(max_volumes=2, max_bytes=1000))
    for _ in range(2):
        reads.get("a", keep=False)
    assert reads.names == ["a", "a"] and len(reads.cache) == 0


def test_clear_removes_all_volumes():
    reads = Reads(VolumeCache(max_volumes=2, max_bytes=1000))
    reads.get("a")
    reads.cache.clear()
    assert len(reads.cache) == 0
    reads.get("a")
    assert reads.names == ["a", "a"]


def test_threads_do_not_decompress_a_volume_twice():
    cache = VolumeCache(max_volumes=2, max_bytes=1000)
    calls = []
    all_started = threading.Barrier(8, timeout=60)

    def decompress():
        calls.append(1)
        time.sleep(0.05)  # long enough for the other threads to miss the volume in the cache
        return np.zeros(100, np.uint8)

    def read(_):
        all_started.wait()
        return cache.get("a", 100, decompress)

    with ThreadPoolExecutor(8) as pool:
        volumes = list(pool.map(read, range(8)))
    assert calls == [1]
    assert all(volume is volumes[0] for volume in volumes)
