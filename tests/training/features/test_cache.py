from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from recorder import Recorder

from hemorrhage_tf.training.features import shards as shard_files
from hemorrhage_tf.training.features.cache import FeatureCache
from hemorrhage_tf.training.features.shards import row_key, row_keys


def load(cache: FeatureCache, names) -> dict[str, np.ndarray]:
    """Read the rows of names, as far as the cache holds them."""
    names = {row_key(name): name for name in names}
    rows = {}
    for keys, block in cache.open():
        for place, key in enumerate(keys.tolist()):
            key = key.ljust(16, b"\0")
            if key in names:
                out = np.empty((1, block.shape[1]), np.float32)
                block.take(np.array([place]), out, np.array([0]))
                rows[names[key]] = out[0]
    return rows


def shards(cache: Path) -> list[Path]:
    return sorted(cache.rglob("*.npz"))


KEY = np.frombuffer(row_key("a/0"), np.uint8).reshape(1, 16)


class TestFeatureCache:
    ROWS = np.arange(12, dtype=np.float32).reshape(3, 4) / 7
    KEYS = ("a/0", "b/0", "b/1/seed 0/noise")

    def make(self, folder, key="fingerprint") -> tuple[FeatureCache, Recorder]:
        progress = Recorder()
        return FeatureCache(folder, key, progress), progress

    def test_stored_rows_are_read_again(self, tmp_path):
        cache, progress = self.make(tmp_path)
        assert load(cache, self.KEYS) == {}
        cache.append(row_keys(self.KEYS[:2]), self.ROWS[:2])
        cache.append(row_keys(self.KEYS[2:]), self.ROWS[2:])
        loaded = load(self.make(tmp_path)[0], {"a/0", self.KEYS[2], "other"})
        assert loaded.keys() == {"a/0", self.KEYS[2]}
        np.testing.assert_array_equal(loaded["a/0"], self.ROWS[0])
        np.testing.assert_array_equal(loaded[self.KEYS[2]], self.ROWS[2])
        assert loaded["a/0"].dtype == np.float32
        assert not progress.warnings

    def test_fingerprints_share_no_rows(self, tmp_path):
        self.make(tmp_path)[0].append(row_keys(self.KEYS), self.ROWS)
        assert load(self.make(tmp_path, "other")[0], self.KEYS) == {}

    def test_shards_contain_no_pickle(self, tmp_path):
        self.make(tmp_path)[0].append(row_keys(self.KEYS), self.ROWS)
        [path] = shards(tmp_path)
        with np.load(path, allow_pickle=False) as shard:
            assert shard["keys"].tobytes() == row_keys(self.KEYS).tobytes()
            np.testing.assert_array_equal(shard["rows"], self.ROWS)

    def test_does_not_load_a_pickle(self, tmp_path):
        cache, progress = self.make(tmp_path)
        cache.folder.mkdir(parents=True)
        rows = np.array([{"an": "object"}], dtype=object)
        np.savez(cache.folder / "x.npz", keys=np.array(["a/0"]), rows=rows)
        assert load(cache, {"a/0"}) == {}
        assert len(progress.warnings) == 1

    def test_ignores_leftovers_of_a_killed_process(self, tmp_path):
        cache, progress = self.make(tmp_path)
        cache.append(row_keys(self.KEYS), self.ROWS)
        leftover = cache.folder / "0123.part"
        leftover.write_bytes(b"PK half a shard")
        assert load(cache, self.KEYS).keys() == set(self.KEYS)
        assert not progress.warnings and leftover.exists()
        assert list(cache.folder.glob("*.part")) == [leftover]  # append leaves none

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
    def test_removes_an_archive_that_is_no_shard(self, tmp_path, arrays):
        cache, progress = self.make(tmp_path)
        cache.append(row_keys(["b/0"]), self.ROWS[:1])
        np.savez(cache.folder / "x.npz", **arrays)
        assert load(cache, {"a/0", "b/0"}).keys() == {"b/0"}
        assert len(shards(tmp_path)) == 1
        assert len(progress.warnings) == 1
        assert "1 damaged" in progress.warnings[0] and str(cache.folder) in progress.warnings[0]

    def test_no_flipped_bit_leads_to_a_wrong_row(self, tmp_path):
        cache, progress = self.make(tmp_path)
        cache.append(row_keys(self.KEYS), self.ROWS)
        [path] = shards(tmp_path)
        content = path.read_bytes()
        expected = dict(zip(self.KEYS, self.ROWS, strict=True))
        wrong = []
        for position in range(len(content)):
            damaged = bytearray(content)
            damaged[position] ^= 1 << position % 8
            path.write_bytes(damaged)
            try:
                loaded = load(cache, self.KEYS)
            except Exception as error:
                wrong.append((position, 1 << position % 8, repr(error)))
                continue
            if any(not np.array_equal(row, expected[key]) for key, row in loaded.items()):
                wrong.append((position, 1 << position % 8, "a wrong row"))
        assert not wrong

    @pytest.mark.parametrize("share", [0.0, 0.5, 0.999])
    def test_removes_a_truncated_shard(self, tmp_path, share):
        cache, progress = self.make(tmp_path)
        cache.append(row_keys(self.KEYS), self.ROWS)
        [path] = shards(tmp_path)
        content = path.read_bytes()
        path.write_bytes(content[: int(share * len(content))])
        assert load(cache, self.KEYS) == {}
        assert not path.exists() and len(progress.warnings) == 1

    def test_stores_float16(self, tmp_path):
        cache = FeatureCache(tmp_path, "half", Recorder(), dtype="float16")
        cache.append(row_keys(self.KEYS), self.ROWS)
        [path] = shards(tmp_path)
        with np.load(path) as shard:
            assert shard["rows"].dtype == np.float16
        loaded = load(cache, self.KEYS)
        for name, row in zip(self.KEYS, self.ROWS, strict=True):
            np.testing.assert_array_equal(loaded[name], row.astype(np.float16))

    def test_merges_many_small_shards(self, tmp_path):
        rows = np.random.default_rng(0).normal(size=(20, 4)).astype(np.float32)
        names = [f"{number}/0" for number in range(20)]
        cache, progress = self.make(tmp_path)
        for name, row in zip(names, rows, strict=True):
            cache.append(row_keys([name]), row[np.newaxis])
        cache.close()
        assert len(shards(tmp_path)) == 20
        loaded = load(self.make(tmp_path)[0], names)
        assert len(shards(tmp_path)) == 1 and not progress.warnings
        np.testing.assert_array_equal([loaded[name] for name in names], rows)

    def test_does_not_merge_shards_in_use(self, tmp_path):
        first, _ = self.make(tmp_path)
        for number in range(20):
            first.append(row_keys([f"{number}/0"]), self.ROWS[:1])
        first.open()  # merges, since nothing else uses the cache
        for number in range(20, 40):
            first.append(row_keys([f"{number}/0"]), self.ROWS[:1])
        second, _ = self.make(tmp_path)
        second.open()
        assert len(shards(tmp_path)) == 21

    def test_reads_more_shards_than_may_be_open(self, tmp_path, monkeypatch):
        monkeypatch.setattr(shard_files, "MAX_OPEN_SHARDS", 2)
        cache, _ = self.make(tmp_path)
        rows = np.arange(20, dtype=np.float32).reshape(5, 4)
        for number in range(5):
            cache.append(row_keys([str(number)]), rows[number : number + 1])
        for _ in range(2):
            loaded = load(cache, map(str, range(5)))
            np.testing.assert_array_equal([loaded[str(number)] for number in range(5)], rows)
