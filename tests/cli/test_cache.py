from __future__ import annotations

import json
import shutil

import pytest


@pytest.fixture(scope="module")
def filled_once(tmp_path_factory, kaggle_once, run, quick):
    folder = tmp_path_factory.mktemp("filled")
    options = (*quick, "--cache", folder / "cache", "--out", folder / "run")
    assert run("fit", kaggle_once, *options).exit_code == 0
    return folder / "cache"


@pytest.fixture
def filled(cache, filled_once):
    """A cache with the features of one fit."""
    return shutil.copytree(filled_once, cache, dirs_exist_ok=True)


def test_info_prune_and_clear(run, filled):
    result = run("cache", "info")
    assert result.stdout.startswith(f"Cache: {filled}\n") and "tiny" in result.stdout
    (entry,) = json.loads(run("cache", "info", "--json").stdout)["features"]
    assert entry["rows"] == 24
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
