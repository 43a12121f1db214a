from __future__ import annotations

import os
import shutil
import time

import pytest

import hemorrhage_tf as htf
from hemorrhage_tf.core.errors import OptionError


@pytest.fixture(scope="module")
def filled_once(kaggle_once, tmp_path_factory, quick):
    """The cache of one fit."""
    folder = tmp_path_factory.mktemp("filled")
    settings = {**quick, "calibration": "none"}
    htf.fit(kaggle_once, out=folder / "run", cache=folder / "cache", **settings)
    return folder / "cache"


@pytest.fixture
def filled(filled_once, tmp_path):
    return shutil.copytree(filled_once, tmp_path / "filled")


def test_an_empty_cache(cache):
    assert htf.cache_info().entries == ()
    assert htf.cache_prune().removed == () and htf.cache_clear().bytes == 0


def test_a_folder_takes_precedence_over_the_environment(filled, cache, monkeypatch):
    assert htf.cache_info().entries == ()
    [entry] = htf.cache_info(filled).entries
    assert entry.rows == 24
    monkeypatch.setenv("HEMORRHAGE_TF_CACHE", str(filled))
    assert htf.cache_info().entries == (entry,)


def test_prune_removes_features_beyond_the_limit(filled):
    assert htf.cache_prune(filled, limit="1GB").removed == ()
    assert htf.cache_prune(filled, limit="none").removed == ()
    assert htf.cache_prune(filled, older_than_days=1).removed == ()
    pruned = htf.cache_prune(filled, limit="0MB")
    assert len(pruned.removed) == 1 and pruned.bytes > 0
    assert htf.cache_info(filled).entries == ()


def test_clear_removes_all_features(filled):
    assert len(htf.cache_clear(filled).removed) == 1
    assert htf.cache_info(filled).entries == ()


def test_a_limit_that_is_not_a_size_is_an_error(filled):
    with pytest.raises(OptionError, match="much"):
        htf.cache_prune(filled, limit="much")
    assert len(htf.cache_info(filled).entries) == 1


class TestSliceIndex:
    """The slice indices that are kept beside the features."""

    @pytest.fixture
    def kept(self, tmp_path):
        """A cache with the slice indices of two data sets, the first of which is older."""
        for name, days in (("first", 40), ("second", 10)):
            folder = tmp_path / "kept" / "slice_index" / name
            folder.mkdir(parents=True)
            (folder / "rows.npz").write_bytes(bytes(1000))
            used = time.time() - days * 86400
            os.utime(folder, (used, used))
        return tmp_path / "kept"

    def names(self, folder):
        return sorted(path.name for path in (folder / "slice_index").glob("*"))

    def test_prune_removes_the_least_recently_used_first(self, kept):
        assert htf.cache_prune(kept, limit="2KB").bytes == 0
        assert htf.cache_prune(kept, limit="1KB").bytes == 1000
        assert self.names(kept) == ["second"]

    def test_prune_removes_those_that_were_not_used_for_long(self, kept):
        assert htf.cache_prune(kept, older_than_days=30).bytes == 1000
        assert self.names(kept) == ["second"]

    def test_clear_removes_them(self, kept):
        assert htf.cache_clear(kept).bytes == 2000
        assert not (kept / "slice_index").exists()
