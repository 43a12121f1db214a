"""Files that are written whole or not at all: written beside, and renamed when they are done."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO


def write_atomically(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Writes a file that other processes see whole, or as it was before.

    Args:
        path: the file.
        write: is given the file, open for bytes. What it has not written through to the disk is
            written through before the file gets its name. A process that is killed meanwhile leaves
            a file that is called `.NAME.*.part`.

    Raises:
        OSError: it cannot be written; nothing is left behind then.
    """
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex}.part")
    try:
        with open(partial, "wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
