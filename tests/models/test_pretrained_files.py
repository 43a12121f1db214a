from __future__ import annotations

import hashlib

import pytest

from hemorrhage_tf.core.errors import ModelError
from hemorrhage_tf.models import pretrained_files
from hemorrhage_tf.models.pretrained_files import (
    CHECKSUMS_FILE,
    DESCRIPTION_FILE,
    SCAN_WEIGHTS_FILE,
    TFLITE_FILE,
    WEIGHTS_FILE,
    embedded_file,
    write_checksums,
)

NAMES = (DESCRIPTION_FILE, TFLITE_FILE, WEIGHTS_FILE)


@pytest.fixture
def files(tmp_path, monkeypatch):
    """A folder with three small files and their checksums, in place of the package's own."""
    for name in NAMES:
        (tmp_path / name).write_bytes(name.encode() * 50)
    write_checksums(tmp_path)
    monkeypatch.setattr(pretrained_files, "FOLDER", tmp_path)
    return tmp_path


@pytest.mark.parametrize("name", NAMES)
def test_returns_the_path_of_an_intact_file(files, name):
    assert embedded_file(name) == files / name


def test_checksums_have_the_format_of_sha256sum(files):
    expected = [f"{hashlib.sha256((files / n).read_bytes()).hexdigest()}  {n}" for n in NAMES]
    assert (files / CHECKSUMS_FILE).read_text().splitlines() == sorted(
        expected, key=lambda line: line[66:]
    )


def test_the_weights_of_a_scan_model_are_listed_where_they_exist(files):
    (files / SCAN_WEIGHTS_FILE).write_bytes(b"weights")
    with pytest.raises(ModelError, match="does not list this file"):
        embedded_file(SCAN_WEIGHTS_FILE)
    write_checksums(files)
    assert embedded_file(SCAN_WEIGHTS_FILE) == files / SCAN_WEIGHTS_FILE
    assert all(embedded_file(name).is_file() for name in NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_rejects_a_damaged_file(files, name):
    content = bytearray((files / name).read_bytes())
    content[len(content) // 2] ^= 1
    (files / name).write_bytes(content)
    with pytest.raises(ModelError, match=f"{name}: damaged or replaced(?s:.*)pip install"):
        embedded_file(name)


@pytest.mark.parametrize("name", [WEIGHTS_FILE, CHECKSUMS_FILE])
def test_names_a_missing_file(files, name):
    (files / name).unlink()
    with pytest.raises(ModelError, match=f"{name}: .* is missing(?s:.*)--force-reinstall"):
        embedded_file(WEIGHTS_FILE)


def test_rejects_a_file_that_the_checksums_do_not_list(files):
    write_checksums(files, (DESCRIPTION_FILE, WEIGHTS_FILE))
    with pytest.raises(ModelError, match="SHA256SUMS in the same folder does not list this file"):
        embedded_file(TFLITE_FILE)


@pytest.mark.parametrize("content", [b"", b"\xff\x00", b"no checksums\n"])
def test_rejects_damaged_checksums(files, content):
    (files / CHECKSUMS_FILE).write_bytes(content)
    with pytest.raises(ModelError, match="Install the package again"):
        embedded_file(WEIGHTS_FILE)


@pytest.mark.skipif(
    not pretrained_files.FOLDER.is_dir(), reason="the package's own files are missing"
)
def test_the_files_of_the_package_are_intact():
    for name in NAMES:
        assert embedded_file(name).is_file()
