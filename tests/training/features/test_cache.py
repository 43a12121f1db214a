from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from recorder import Recorder

from hemorrhage_tf.core.errors import OptionError
from hemorrhage_tf.training.features import shards as shard_files
from hemorrhage_tf.training.features.cache import FeatureCache
from hemorrhage_tf.training.features.cache_limits import clear, inspect, prune
from hemorrhage_tf.training.features.cache_location import (
    CACHE_VARIABLE,
    LIMIT_VARIABLE,
    cache_folder,
    cache_limit,
    parse_size,
)
from hemorrhage_tf.training.features.shards import row_key


def keys_of(names) -> list[bytes]:
    return [row_key(name) for name in names]


def load(cache: FeatureCache, names) -> dict[str, np.ndarray]:
    """Reads the rows of some names, as far as they are there."""
    names = {row_key(name): name for name in names}
    found = {}
    for keys, block in cache.open():
        for place, key in enumerate(keys.tolist()):
            key = key.ljust(16, b"\0")
            if key in names:
                out = np.empty((1, block._shape[1]), np.float32)
                block.take(np.array([place]), out, np.array([0]))
                found[names[key]] = out[0]
    return found


def shards(cache: Path) -> list[Path]:
    return sorted(cache.rglob("*.npz"))


class TestCacheFolder:
    def test_as_given_before_the_variable(self, tmp_path, cache):
        assert cache_folder(tmp_path) == tmp_path
        assert cache_folder(str(tmp_path)) == tmp_path
        assert cache_folder() == cache

    @pytest.mark.parametrize("value", [None, ""])
    def test_the_systems_own_without_either(self, monkeypatch, value):
        monkeypatch.delenv(CACHE_VARIABLE)
        if value is not None:
            monkeypatch.setenv(CACHE_VARIABLE, value)
        assert cache_folder().name == "hemorrhage_tf"


KEY = np.frombuffer(row_key("a/0"), np.uint8).reshape(1, 16)


class TestFeatureCache:
    ROWS = np.arange(12, dtype=np.float32).reshape(3, 4) / 7
    KEYS = ("a/0", "b/0", "b/1/seed 0/noise")

    def make(self, folder, key="fingerprint") -> tuple[FeatureCache, Recorder]:
        progress = Recorder()
        return FeatureCache(folder, key, progress), progress

    def test_round_trip(self, tmp_path):
        cache, progress = self.make(tmp_path)
        assert load(cache, self.KEYS) == {}
        cache.append(keys_of(self.KEYS[:2]), self.ROWS[:2])
        cache.append(keys_of(self.KEYS[2:]), self.ROWS[2:])
        found = load(self.make(tmp_path)[0], {"a/0", self.KEYS[2], "other"})
        assert found.keys() == {"a/0", self.KEYS[2]}
        np.testing.assert_array_equal(found["a/0"], self.ROWS[0])
        np.testing.assert_array_equal(found[self.KEYS[2]], self.ROWS[2])
        assert found["a/0"].dtype == np.float32
        assert not progress.warnings

    def test_another_fingerprint_shares_nothing(self, tmp_path):
        self.make(tmp_path)[0].append(keys_of(self.KEYS), self.ROWS)
        assert load(self.make(tmp_path, "other")[0], self.KEYS) == {}

    def test_shards_hold_no_pickle(self, tmp_path):
        self.make(tmp_path)[0].append(keys_of(self.KEYS), self.ROWS)
        [path] = shards(tmp_path)
        with np.load(path, allow_pickle=False) as shard:
            assert shard["keys"].tobytes() == b"".join(keys_of(self.KEYS))
            np.testing.assert_array_equal(shard["rows"], self.ROWS)

    def test_a_pickle_is_not_loaded(self, tmp_path):
        cache, progress = self.make(tmp_path)
        cache.folder.mkdir(parents=True)
        rows = np.array([{"an": "object"}], dtype=object)
        np.savez(cache.folder / "x.npz", keys=np.array(["a/0"]), rows=rows)
        assert load(cache, {"a/0"}) == {}
        assert len(progress.warnings) == 1

    def test_leftovers_of_a_killed_process_are_ignored(self, tmp_path):
        cache, progress = self.make(tmp_path)
        cache.append(keys_of(self.KEYS), self.ROWS)
        leftover = cache.folder / "0123.part"
        leftover.write_bytes(b"PK half a shard")
        assert load(cache, self.KEYS).keys() == set(self.KEYS)
        assert not progress.warnings and leftover.exists()
        assert list(cache.folder.glob("*.part")) == [leftover]  # append left none of its own

    @pytest.mark.parametrize(
        "arrays",
        [
            {"keys": KEY},
            {"keys": KEY, "rows": np.zeros((2, 4), np.float32)},
            {"keys": KEY, "rows": np.zeros(1, np.float32)},
            {"keys": KEY, "rows": np.zeros((1, 4), np.float64)},
            {"keys": np.array(["a/0"]), "rows": np.zeros((1, 4), np.float32)},
        ],
        ids=["no rows", "too many rows", "flat rows", "float64", "text keys"],
    )
    def test_an_archive_of_something_else_is_removed(self, tmp_path, arrays):
        cache, progress = self.make(tmp_path)
        cache.append(keys_of(["b/0"]), self.ROWS[:1])
        np.savez(cache.folder / "x.npz", **arrays)
        assert load(cache, {"a/0", "b/0"}).keys() == {"b/0"}
        assert len(shards(tmp_path)) == 1
        assert len(progress.warnings) == 1
        assert "1 damaged" in progress.warnings[0] and str(cache.folder) in progress.warnings[0]

    def test_no_flipped_bit_gives_a_wrong_row(self, tmp_path):
        cache, progress = self.make(tmp_path)
        cache.append(keys_of(self.KEYS), self.ROWS)
        [path] = shards(tmp_path)
        content = path.read_bytes()
        expected = dict(zip(self.KEYS, self.ROWS, strict=True))
        wrong = []
        for position in range(len(content)):
            damaged = bytearray(content)
            damaged[position] ^= 1 << position % 8
            path.write_bytes(damaged)
            try:
                found = load(cache, self.KEYS)
            except Exception as error:
                wrong.append((position, 1 << position % 8, repr(error)))
                continue
            if any(not np.array_equal(row, expected[key]) for key, row in found.items()):
                wrong.append((position, 1 << position % 8, "a wrong row"))
        assert not wrong

    @pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9, 0.999])
    def test_a_truncated_shard_is_removed(self, tmp_path, share):
        cache, progress = self.make(tmp_path)
        cache.append(keys_of(self.KEYS), self.ROWS)
        [path] = shards(tmp_path)
        content = path.read_bytes()
        path.write_bytes(content[: int(share * len(content))])
        assert load(cache, self.KEYS) == {}
        assert not path.exists() and len(progress.warnings) == 1

    def test_half_the_room_with_float16(self, tmp_path):
        cache = FeatureCache(tmp_path, "half", Recorder(), dtype="float16")
        cache.append(keys_of(self.KEYS), self.ROWS)
        [path] = shards(tmp_path)
        with np.load(path) as shard:
            assert shard["rows"].dtype == np.float16
        found = load(cache, self.KEYS)
        for name, row in zip(self.KEYS, self.ROWS, strict=True):
            np.testing.assert_array_equal(found[name], row.astype(np.float16))

    def test_many_small_shards_are_merged(self, tmp_path):
        rows = np.random.default_rng(0).normal(size=(20, 4)).astype(np.float32)
        names = [f"{number}/0" for number in range(20)]
        cache, progress = self.make(tmp_path)
        for name, row in zip(names, rows, strict=True):
            cache.append(keys_of([name]), row[np.newaxis])
        cache.close()
        assert len(shards(tmp_path)) == 20
        found = load(self.make(tmp_path)[0], names)
        assert len(shards(tmp_path)) == 1 and not progress.warnings
        np.testing.assert_array_equal([found[name] for name in names], rows)

    def test_shards_are_not_merged_while_another_uses_them(self, tmp_path):
        first, _ = self.make(tmp_path)
        for number in range(20):
            first.append(keys_of([f"{number}/0"]), self.ROWS[:1])
        first.open()  # which merges, since nobody else is there
        for number in range(20, 40):
            first.append(keys_of([f"{number}/0"]), self.ROWS[:1])
        second, _ = self.make(tmp_path)
        second.open()
        assert len(shards(tmp_path)) == 21


def fill(folder: Path, key: str, used: float, values: int = 2500) -> FeatureCache:
    """Makes the features of a fingerprint, 10 KB of them, and says when they were used."""
    cache = FeatureCache(folder, key, Recorder(), {"backbone": "tiny"})
    cache.append(keys_of([key]), np.ones((1, values), np.float32))
    cache.close()
    os.utime(cache.folder / ".used", (used, used))
    return cache


USE = """
import sys
from pathlib import Path
from hemorrhage_tf.verb_progress import Progress
from hemorrhage_tf.training.feature_cache import FeatureCache
cache = FeatureCache(Path(sys.argv[1]), sys.argv[2], Progress(quiet=True))
cache.open()
print("in use", flush=True)
sys.stdin.readline()
"""


class TestPrune:
    def test_the_least_recently_used_go_first(self, tmp_path):
        for age, key in enumerate(("old", "older", "oldest")):
            fill(tmp_path, key, 1e9 - age * 1000)
        pruned = prune(tmp_path, 25_000)
        assert [entry.path.name for entry in pruned.removed] == ["oldest"]
        assert {entry.path.name for entry in inspect(tmp_path, None).entries} == {"old", "older"}
        assert pruned.bytes == pruned.removed[0].bytes > 10_000
        assert not prune(tmp_path, None).removed

    def test_what_was_not_used_for_days(self, tmp_path):
        fill(tmp_path, "old", 1e9)
        cache = FeatureCache(tmp_path, "new", Recorder())
        cache.append(keys_of("a"), np.ones((1, 4), np.float32))
        cache.close()
        assert [one.path.name for one in prune(tmp_path, None, 30).removed] == ["old"]

    def test_what_another_process_uses_stays(self, tmp_path):
        fill(tmp_path, "used", 1e9)
        process = subprocess.Popen(
            [sys.executable, "-c", USE, str(tmp_path), "used"],
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

    def test_leftovers_and_other_versions_go(self, tmp_path):
        cache = fill(tmp_path, "kept", 1e9)
        (cache.folder / "0123.part").write_bytes(b"x" * 5000)
        other = fill(tmp_path, "other", 2e9)
        (other.folder / "about.json").write_text(json.dumps({"format": 999}))
        dropped = tmp_path / "features" / ".dropped-1"
        dropped.mkdir()
        pruned = prune(tmp_path, None)
        assert [one.path.name for one in pruned.removed] == ["other"]
        assert not dropped.exists() and pruned.bytes > 15_000
        assert not list(cache.folder.glob("*.part"))

    def test_clear_leaves_nothing(self, tmp_path):
        fill(tmp_path, "one", 1e9)
        (tmp_path / "phantoms").mkdir()
        (tmp_path / "phantoms" / "a.png").write_bytes(b"x" * 100)
        assert clear(tmp_path).bytes > 10_100
        assert inspect(tmp_path, None).bytes == inspect(tmp_path, None).other_bytes == 0


class TestInspect:
    def test_says_what_is_there(self, tmp_path):
        fill(tmp_path, "abc", 1e9, 4)
        info = inspect(tmp_path, 10)
        [entry] = info.entries
        assert entry.rows == 1 and entry.used == 1e9 and entry.is_readable and not entry.in_use
        assert entry.about["backbone"] == "tiny" and entry.about["dtype"] == "float32"
        assert info.to_dict()["features"][0]["rows"] == 1

    def test_of_a_cache_that_is_not_there(self, tmp_path):
        assert inspect(tmp_path / "none", None).bytes == 0


class TestSize:
    @pytest.mark.parametrize(
        ("text", "size"),
        [("20GB", 20 * 10**9), ("1.5 mb", 1_500_000), ("0B", 0), ("none", None), ("2TB", 2e12)],
    )
    def test_sizes(self, text, size):
        assert parse_size(text) == size

    @pytest.mark.parametrize("text", ["", "GB", "20", "-1GB", "nanGB", "infGB", "20 apples"])
    def test_others_are_refused(self, text):
        with pytest.raises(OptionError, match="20GB or 500MB, or none"):
            parse_size(text)

    @given(st.text(max_size=12))
    def test_any_text_gives_a_size_or_the_error(self, text):
        try:
            size = parse_size(text)
        except OptionError:
            return
        assert size is None or size >= 0

    def test_the_limit_as_given_before_the_variable(self, monkeypatch):
        assert cache_limit() == 20 * 10**9
        monkeypatch.setenv(LIMIT_VARIABLE, "5GB")
        assert cache_limit() == 5 * 10**9
        assert cache_limit("none") is None
        monkeypatch.setenv(LIMIT_VARIABLE, "much")
        with pytest.raises(OptionError, match=LIMIT_VARIABLE):
            cache_limit()


def test_more_shards_than_may_be_open_are_read(tmp_path, monkeypatch):
    monkeypatch.setattr(shard_files, "_OPEN_SHARDS", 2)
    cache = FeatureCache(tmp_path, "key", Recorder())
    rows = np.arange(20, dtype=np.float32).reshape(5, 4)
    for number in range(5):
        cache.append(keys_of([str(number)]), rows[number : number + 1])
    for _ in range(2):
        found = load(cache, map(str, range(5)))
        np.testing.assert_array_equal([found[str(number)] for number in range(5)], rows)
