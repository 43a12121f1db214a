"""Atomic files: a file or folder appears complete under its name, or not at all.

Everything is written under a temporary name in the same place, flushed to the disk, and renamed.
A process that is killed leaves the temporary name behind, which begins with a dot and ends in
`.part`.
"""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from hemorrhage_tf.core.errors import OutputError

# File systems allow names of 255 bytes, and the temporary name is longer than the file's own.
_NAME_CHARACTERS = 60


def write_atomically(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Write a binary file that other processes see complete, or as it was before.

    Args:
        path: The file to create or replace. Its folder must exist.
        write: Called with the open file.

    Raises:
        OSError: The file cannot be written. Nothing is left behind, and an earlier file is kept.
    """
    partial = path.with_name(f".{path.name[:_NAME_CHARACTERS]}.{uuid.uuid4().hex}.part")
    try:
        with open(partial, "wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def write_requested_file(
    path: Path,
    content: bytes,
    advice: str = "Nothing was left behind. Make room or name another file.",
) -> None:
    """Write a file that the user requested, and create its parent folders.

    Args:
        path: The file to create or replace.
        content: Its bytes.
        advice: The end of the error message. Defaults to naming another file.

    Raises:
        OutputError: The file cannot be written. Nothing is left behind, and an earlier file is
            kept.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, lambda file: file.write(content))
    except OSError as error:
        raise OutputError(
            f"{path}: cannot be written ({describe_os_error(error)}). {advice}"
        ) from None


def write_text_atomically(path: Path, text: str) -> None:
    """Write a UTF-8 text file as `write_requested_file` does.

    Args:
        path: The file to create or replace.
        text: Its content. Characters that UTF-8 cannot encode (file names in another encoding)
            become question marks.

    Raises:
        OutputError: The file cannot be written. Nothing is left behind, and an earlier file is
            kept.
    """
    write_requested_file(path, text.encode("utf-8", "replace"))


@contextmanager
def atomic_folder(
    path: Path, overwrite: bool = False, within: Path | None = None
) -> Iterator[Path]:
    """Yield a temporary folder that is renamed to `path` when the block succeeds.

    Args:
        path: The folder to create.
        overwrite: Replace a folder that exists. Defaults to False.
        within: A folder on the same disk that holds the temporary folder; what a killed process
            leaves behind is in it. None for the parent of `path`. Defaults to None.

    Yields:
        The temporary folder.

    Raises:
        FileExistsError: Another process created `path` in the meantime, and `overwrite` is False.
        OSError: Something cannot be written.

    When the block or the rename fails, the temporary folder is removed and an earlier folder is
    kept.
    """
    place = within or path.parent
    partial = Path(
        tempfile.mkdtemp(prefix=f".{path.name[:_NAME_CHARACTERS]}.", suffix=".part", dir=place)
    )
    try:
        # mkdtemp creates a private folder; the result gets the permissions of the user's umask.
        umask = os.umask(0)
        os.umask(umask)
        partial.chmod(0o777 & ~umask)
        yield partial
        _flush_to_disk(partial)
        if path.exists():
            if not overwrite:
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path))
            _replace_folder(path, partial, place)
        else:
            os.rename(partial, path)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def describe_os_error(error: OSError) -> str:
    """Return the reason for a failed write, in words for an error message."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "the disk is full"
    return error.strerror or str(error)


def _replace_folder(path: Path, new: Path, place: Path) -> None:
    old = Path(
        tempfile.mkdtemp(prefix=f".{path.name[:_NAME_CHARACTERS]}.", suffix=".old", dir=place)
    )
    try:
        os.rename(path, old / path.name)
    except OSError:
        old.rmdir()
        raise
    try:
        os.rename(new, path)
    except OSError:
        os.rename(old / path.name, path)
        old.rmdir()
        raise
    shutil.rmtree(old, ignore_errors=True)


def _flush_to_disk(folder: Path) -> None:
    for place, _, names in os.walk(folder):
        for name in names:
            with open(os.path.join(place, name), "rb") as file:
                os.fsync(file.fileno())
