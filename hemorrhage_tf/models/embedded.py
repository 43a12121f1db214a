"""Files that lie in the package itself, checked before they are used."""

from __future__ import annotations

import hashlib
from pathlib import Path

from hemorrhage_tf.errors import ModelError

FOLDER = Path(__file__).parent / "pretrained"
SUMS_FILE = "SHA256SUMS"


def embedded_file(name: str) -> Path:
    """Finds a file of the package and checks its SHA-256.

    Args:
        name: as `SHA256SUMS` lists it.

    Returns:
        Its path.

    Raises:
        ModelError: it is missing or damaged.
    """
    path = FOLDER / name
    try:
        lines = (FOLDER / SUMS_FILE).read_text(encoding="utf-8").splitlines()
        expected = {file: digest for digest, _, file in (line.partition("  ") for line in lines)}
        whole = hashlib.sha256(path.read_bytes()).hexdigest() == expected.get(name)
    except OSError as error:
        raise ModelError(
            f"{path}: a file of the package is missing ({error.strerror or error}). "
            "Install hemorrhage_tf again"
        ) from None
    if not whole:
        raise ModelError(f"{path}: a file of the package is damaged. Install hemorrhage_tf again")
    return path
