from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from hemorrhage_tf.core import atomic_files
from hemorrhage_tf.core.atomic_files import (
    atomic_folder,
    describe_os_error,
    write_atomically,
    write_text_atomically,
)
from hemorrhage_tf.core.errors import OutputError

FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


class TestWriteAtomically:
    def test_creates_and_replaces_a_file(self, tmp_path):
        path = tmp_path / "a.bin"
        for content in (b"first", b"second"):
            write_atomically(path, lambda file, content=content: file.write(content))
            assert path.read_bytes() == content
        assert names(tmp_path) == ["a.bin"]

    def test_the_file_has_no_name_before_it_is_complete(self, tmp_path):
        path = tmp_path / "a.bin"

        def write(file):
            file.write(b"half")
            [partial] = names(tmp_path)
            assert partial.startswith(".a.bin.") and partial.endswith(".part")

        write_atomically(path, write)
        assert path.read_bytes() == b"half"

    def test_a_failed_write_keeps_the_earlier_file(self, tmp_path):
        path = tmp_path / "a.bin"
        path.write_bytes(b"before")

        def write(file):
            file.write(b"half")
            raise FULL

        with pytest.raises(OSError):
            write_atomically(path, write)
        assert path.read_bytes() == b"before" and names(tmp_path) == ["a.bin"]

    def test_the_longest_possible_name(self, tmp_path):
        path = tmp_path / ("a" * 255)
        write_atomically(path, lambda file: file.write(b"x"))
        assert names(tmp_path) == [path.name]

    def test_permissions_follow_the_umask(self, tmp_path):
        before = os.umask(0o027)
        try:
            write_atomically(tmp_path / "file", lambda file: None)
            with atomic_folder(tmp_path / "folder"):
                pass
        finally:
            os.umask(before)
        assert (tmp_path / "file").stat().st_mode & 0o777 == 0o640
        assert (tmp_path / "folder").stat().st_mode & 0o777 == 0o750


class TestWriteTextAtomically:
    def test_creates_missing_folders(self, tmp_path):
        path = tmp_path / "new" / "a.html"
        write_text_atomically(path, "é\n")
        assert path.read_bytes() == "é\n".encode()

    def test_characters_without_encoding_become_question_marks(self, tmp_path):
        write_text_atomically(tmp_path / "a", "name \udcff")
        assert (tmp_path / "a").read_text() == "name ?"

    def test_names_the_file_and_the_reason(self, tmp_path, monkeypatch):
        (tmp_path / "file").touch()
        with pytest.raises(OutputError, match=r"file/a\.html: cannot be written .* name another"):
            write_text_atomically(tmp_path / "file" / "a.html", "")

        def full(*_):
            raise FULL

        monkeypatch.setattr(atomic_files.os, "fsync", full)
        with pytest.raises(OutputError, match="the disk is full"):
            write_text_atomically(tmp_path / "b.html", "text")
        assert names(tmp_path) == ["file"]


class TestAtomicFolder:
    def test_appears_when_the_block_ends(self, tmp_path):
        path = tmp_path / "run"
        with atomic_folder(path) as folder:
            (folder / "sub").mkdir()
            (folder / "sub" / "a").write_text("a")
            assert not path.exists()
        assert (path / "sub" / "a").read_text() == "a" and names(tmp_path) == ["run"]

    def test_replaces_an_earlier_folder_completely(self, tmp_path):
        path = tmp_path / "run"
        path.mkdir()
        (path / "old").touch()
        with atomic_folder(path, overwrite=True) as folder:
            (folder / "new").touch()
        assert names(path) == ["new"] and names(tmp_path) == ["run"]

    def test_does_not_replace_a_folder_that_appeared_in_the_meantime(self, tmp_path):
        path = tmp_path / "run"
        with pytest.raises(FileExistsError), atomic_folder(path):
            path.mkdir()
            (path / "of another process").touch()
        assert names(path) == ["of another process"] and names(tmp_path) == ["run"]

    @pytest.mark.parametrize("error", [FULL, KeyboardInterrupt(), ValueError()])
    def test_a_failed_block_keeps_the_earlier_folder(self, tmp_path, error):
        path = tmp_path / "run"
        path.mkdir()
        (path / "old").touch()
        with pytest.raises(type(error)), atomic_folder(path, overwrite=True) as folder:
            (folder / "new").touch()
            raise error
        assert names(path) == ["old"] and names(tmp_path) == ["run"]

    @pytest.mark.parametrize("failing", [1, 2])
    def test_a_failed_rename_restores_the_earlier_folder(self, tmp_path, monkeypatch, failing):
        path = tmp_path / "run"
        path.mkdir()
        (path / "old").touch()
        rename, calls = os.rename, []

        def fail(source, target):
            calls.append(source)
            if len(calls) == failing:
                raise FULL
            rename(source, target)

        monkeypatch.setattr(atomic_files.os, "rename", fail)
        with pytest.raises(OSError), atomic_folder(path, overwrite=True) as folder:
            (folder / "new").touch()
        assert names(path) == ["old"] and names(tmp_path) == ["run"]

    def test_the_temporary_folder_can_be_elsewhere(self, tmp_path):
        (tmp_path / "checkpoint").mkdir()
        with atomic_folder(tmp_path / "run", within=tmp_path / "checkpoint") as folder:
            assert folder.parent == tmp_path / "checkpoint"
        assert names(tmp_path) == ["checkpoint", "run"] and not names(tmp_path / "checkpoint")


def test_describes_errors_of_the_operating_system():
    assert describe_os_error(FULL) == "the disk is full"
    assert describe_os_error(OSError(errno.EACCES, "Permission denied")) == "Permission denied"
    assert describe_os_error(OSError("odd")) == "odd"
