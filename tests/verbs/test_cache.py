from __future__ import annotations

import shutil

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
