from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
from recorder import Recorder

from hemorrhage_tf.training.features.cache import FeatureCache
from hemorrhage_tf.training.features.cache_limits import clear, inspect, prune
from hemorrhage_tf.training.features.shards import row_keys


def fill(folder: Path, key: str, used: float, values: int = 2500) -> FeatureCache:
    """Write 10 KB of features of a fingerprint, and set the time of their last use."""
    cache = FeatureCache(folder, key, Recorder(), {"backbone": "tiny"})
    cache.append(row_keys([key]), np.ones((1, values), np.float32))
    cache.close()
    os.utime(cache.folder / ".used", (used, used))
    return cache


USE_CACHE = """
import sys
from pathlib import Path
from hemorrhage_tf.core.progress import Progress
from hemorrhage_tf.training.features.cache import FeatureCache
cache = FeatureCache(Path(sys.argv[1]), sys.argv[2], Progress(quiet=True))
cache.open()
print("in use", flush=True)
sys.stdin.readline()
"""


class TestPrune:
    def test_removes_the_least_recently_used_first(self, tmp_path):
        for age, key in enumerate(("old", "older", "oldest")):
            fill(tmp_path, key, 1e9 - age * 1000)
        pruned = prune(tmp_path, 25_000)
        assert [entry.path.name for entry in pruned.removed] == ["oldest"]
        assert {entry.path.name for entry in inspect(tmp_path, None).entries} == {"old", "older"}
        assert pruned.bytes == pruned.removed[0].bytes > 10_000
        assert not prune(tmp_path, None).removed

    def test_removes_features_that_were_not_used_for_days(self, tmp_path):
        fill(tmp_path, "old", 1e9)
        cache = FeatureCache(tmp_path, "new", Recorder())
        cache.append(row_keys("a"), np.ones((1, 4), np.float32))
        cache.close()
        assert [entry.path.name for entry in prune(tmp_path, None, 30).removed] == ["old"]

    def test_keeps_features_that_another_process_uses(self, tmp_path):
        fill(tmp_path, "used", 1e9)
        process = subprocess.Popen(
            [sys.executable, "-c", USE_CACHE, str(tmp_path), "used"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            assert process.stdout.readline() == "in use\n"
            os.utime(tmp_path / "features" / "used" / ".used", (1e9, 1e9))
            assert inspect(tmp_path, None).entries[0].in_use
            pruned = prune(tmp_path, 0)
            assert not pruned.removed and len(pruned.kept_in_use) == 1
            assert not clear(tmp_path).removed
        finally:
            process.communicate("done\n")
        assert len(prune(tmp_path, 0).removed) == 1

    def test_removes_leftovers_and_other_formats(self, tmp_path):
        cache = fill(tmp_path, "kept", 1e9)
        (cache.folder / "0123.part").write_bytes(b"x" * 5000)
        other = fill(tmp_path, "other", 2e9)
        (other.folder / "about.json").write_text(json.dumps({"format": 999}))
        dropped = tmp_path / "features" / ".dropped-1"
        dropped.mkdir()
        pruned = prune(tmp_path, None)
        assert [entry.path.name for entry in pruned.removed] == ["other"]
        assert not dropped.exists() and pruned.bytes > 15_000
        assert not list(cache.folder.glob("*.part"))

    def test_clear_removes_everything(self, tmp_path):
        fill(tmp_path, "one", 1e9)
        (tmp_path / "phantoms").mkdir()
        (tmp_path / "phantoms" / "a.png").write_bytes(b"x" * 100)
        assert clear(tmp_path).bytes > 10_100
        assert inspect(tmp_path, None).bytes == inspect(tmp_path, None).other_bytes == 0


class TestInspect:
    def test_summarizes_the_cache(self, tmp_path):
        fill(tmp_path, "abc", 1e9, 4)
        info = inspect(tmp_path, 10)
        [entry] = info.entries
        assert entry.rows == 1 and entry.used == 1e9 and entry.is_readable and not entry.in_use
        assert entry.about["backbone"] == "tiny" and entry.about["dtype"] == "float32"
        assert info.to_dict()["features"][0]["rows"] == 1

    def test_a_missing_cache_is_empty(self, tmp_path):
        assert inspect(tmp_path / "none", None).bytes == 0
