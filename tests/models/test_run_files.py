from __future__ import annotations

import json

import pytest

from hemorrhage_tf.models.run_files import (
    CONFIG_FILE,
    RUN_FILES,
    SPLIT_FILE,
    is_run_folder,
    training_hashes,
    training_profile,
)


@pytest.mark.parametrize("missing", RUN_FILES)
def test_run_folder_needs_every_file(tmp_path, missing):
    for name in RUN_FILES:
        (tmp_path / name).touch()
    assert is_run_folder(tmp_path)
    (tmp_path / missing).unlink()
    assert not is_run_folder(tmp_path)


def test_training_hashes_are_those_of_the_training_part(tmp_path):
    rows = ["path,part,content_hash", "a.png,train,aa", "b.png,test,bb", "c.png,train,cc"]
    (tmp_path / SPLIT_FILE).write_text("\n".join(rows))
    assert training_hashes(tmp_path) == {"aa", "cc"}


@pytest.mark.parametrize(
    "config, expected",
    [
        ({"training_profile": {"n": 3}}, {"n": 3}),
        ({"training_look": {"n": 4}}, {"n": 4}),  # the key of earlier releases
        ({"training_profile": {"n": 3}, "training_look": {"n": 4}}, {"n": 3}),
        ({}, None),
    ],
)
def test_training_profile_is_read_by_its_new_and_its_old_key(tmp_path, config, expected):
    (tmp_path / CONFIG_FILE).write_text(json.dumps(config))
    assert training_profile(tmp_path) == expected
