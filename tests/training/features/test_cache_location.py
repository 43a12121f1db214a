from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hemorrhage_tf.core.errors import OptionError
from hemorrhage_tf.training.features.cache_location import (
    CACHE_VARIABLE,
    LIMIT_VARIABLE,
    cache_folder,
    cache_limit,
    parse_size,
)


class TestCacheFolder:
    def test_an_argument_takes_precedence_over_the_variable(self, tmp_path, cache):
        assert cache_folder(tmp_path) == tmp_path
        assert cache_folder(str(tmp_path)) == tmp_path
        assert cache_folder() == cache

    @pytest.mark.parametrize("value", [None, ""])
    def test_the_default_is_the_systems_cache_folder(self, monkeypatch, value):
        monkeypatch.delenv(CACHE_VARIABLE)
        if value is not None:
            monkeypatch.setenv(CACHE_VARIABLE, value)
        assert cache_folder().name == "hemorrhage_tf"


class TestParseSize:
    @pytest.mark.parametrize(
        ("text", "size"),
        [("20GB", 20 * 10**9), ("1.5 mb", 1_500_000), ("0B", 0), ("none", None), ("2TB", 2e12)],
    )
    def test_parses_sizes(self, text, size):
        assert parse_size(text) == size

    @pytest.mark.parametrize("text", ["", "GB", "20", "-1GB", "nanGB", "infGB", "20 apples"])
    def test_rejects_other_text(self, text):
        with pytest.raises(OptionError, match="20GB or 500MB, or none"):
            parse_size(text)

    @given(st.text(max_size=12))
    @settings(max_examples=40)
    def test_any_text_is_a_size_or_an_error(self, text):
        try:
            size = parse_size(text)
        except OptionError:
            return
        assert size is None or size >= 0


def test_a_limit_takes_precedence_over_the_variable(monkeypatch):
    assert cache_limit() == 20 * 10**9
    monkeypatch.setenv(LIMIT_VARIABLE, "5GB")
    assert cache_limit() == 5 * 10**9
    assert cache_limit("none") is None
    monkeypatch.setenv(LIMIT_VARIABLE, "much")
    with pytest.raises(OptionError, match=LIMIT_VARIABLE):
        cache_limit()
