from __future__ import annotations

import json

import pytest


@pytest.fixture
def filled(cache, kaggle_once, run, quick, tmp_path):
    """A cache with the features of one fit."""
    assert run("fit", kaggle_once, *quick, "--out", tmp_path / "run").exit_code == 0
    return cache


def test_info_prune_and_clear(run, filled):
    result = run("cache", "info")
    assert result.stdout.startswith(f"Cache: {filled}\n") and "tiny" in result.stdout
    (entry,) = json.loads(run("cache", "info", "--json").stdout)["features"]
    assert entry["rows"] == 24 * 4 or entry["rows"] > 24
    assert run("cache", "prune", "--limit", "1GB").stdout == "Removed: 0 B, 0 feature sets\n"
    assert "1 feature set" in run("cache", "prune", "--limit", "0MB").stdout
    assert json.loads(run("cache", "info", "--json").stdout)["features"] == []


def test_clear_asks_first(filled):
    from click.testing import CliRunner

    from hemorrhage_tf.cli.main import main

    result = CliRunner().invoke(main, ["cache", "clear"], input="n\n")
    assert result.exit_code == 1 and f"Remove all features in {filled}?" in result.stdout
    result = CliRunner().invoke(main, ["cache", "clear", "--yes"])
    assert result.exit_code == 0 and "1 feature set" in result.stdout
