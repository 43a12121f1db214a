"""The files of the embedded model: their names, and a check of their SHA-256 checksums.

Building the model from them is the business of `embedded_model`.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from hemorrhage_tf.core.errors import ModelError

# The user types this in place of a path. It is also the name of the model's backbone.
EMBEDDED_MODEL = "phantomnet"

FOLDER = Path(__file__).parent / "pretrained"
WEIGHTS_FILE = "phantomnet.weights.h5"
DESCRIPTION_FILE = "phantomnet.json"
TFLITE_FILE = "phantomnet.tflite"
SCAN_WEIGHTS_FILE = "phantomnet_scan.npz"
CHECKSUMS_FILE = "SHA256SUMS"

REINSTALL = "Install the package again: pip install --force-reinstall hemorrhage_tf"


def embedded_file(name: str) -> Path:
    """Return the path of a file of the embedded model after checking its checksum.

    Args:
        name: `WEIGHTS_FILE`, `DESCRIPTION_FILE`, `TFLITE_FILE` or `SCAN_WEIGHTS_FILE`.

    Returns:
        Its path in the package.

    Raises:
        ModelError: The file is missing or damaged, or `SHA256SUMS` does not list it.
    """
    path, checksums = FOLDER / name, FOLDER / CHECKSUMS_FILE
    try:
        listed = read_checksums(FOLDER)
        checksum = hashlib.sha256(path.read_bytes()).hexdigest()
    except (OSError, ValueError) as error:
        at = checksums if isinstance(error, ValueError) else Path(error.filename or path)
        reason = "is missing" if isinstance(error, FileNotFoundError) else f"is damaged ({error})"
        raise ModelError(f"{at}: this file of the embedded model {reason}. {REINSTALL}") from None
    if name not in listed:
        raise ModelError(
            f"{path}: {CHECKSUMS_FILE} in the same folder does not list this file. {REINSTALL}"
        )
    if checksum != listed[name]:
        raise ModelError(
            f"{path}: damaged or replaced, its SHA-256 differs from the one in {CHECKSUMS_FILE}. "
            f"{REINSTALL}"
        )
    return path


def read_checksums(folder: Path) -> dict[str, str]:
    """Read the `SHA256SUMS` of a folder.

    Returns:
        The checksums in hexadecimal digits, by name of the file.

    Raises:
        OSError: The list is missing or unreadable.
        ValueError: It is not text.
    """
    lines = (folder / CHECKSUMS_FILE).read_text(encoding="utf-8").splitlines()
    return {line[66:].strip(): line[:64] for line in lines}


def write_checksums(folder: Path, names: tuple[str, ...] | None = None) -> None:
    """Write `SHA256SUMS` for files of a folder, in the format of `sha256sum`.

    Args:
        folder: The folder with the files.
        names: Their names; None for all files of the embedded model, of which only
            `SCAN_WEIGHTS_FILE` may be missing. Defaults to None.
    """
    if names is None:
        names = DESCRIPTION_FILE, TFLITE_FILE, WEIGHTS_FILE
        if (folder / SCAN_WEIGHTS_FILE).is_file():
            names = *names, SCAN_WEIGHTS_FILE
    lines = [
        f"{hashlib.sha256((folder / name).read_bytes()).hexdigest()}  {name}\n"
        for name in sorted(names)
    ]
    partial = folder / f".{CHECKSUMS_FILE}.part"
    partial.write_text("".join(lines), encoding="utf-8")
    os.replace(partial, folder / CHECKSUMS_FILE)
