"""The files of the embedded model, checked against their SHA-256 sums before use."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from hemorrhage_tf.core.errors import ModelError

# What the user types in place of a path; also the name of its backbone.
EMBEDDED_MODEL = "phantomnet"


FOLDER = Path(__file__).parent / "pretrained"


WEIGHTS_FILE = "phantomnet.weights.h5"


DESCRIPTION_FILE = "phantomnet.json"


TFLITE_FILE = "phantomnet.tflite"


SUMS_FILE = "SHA256SUMS"


_NEXT_STEP = "Install the package again: pip install --force-reinstall hemorrhage_tf"


def embedded_file(name: str) -> Path:
    """Finds a file of the embedded model, and makes sure that it is the one that was published.

    Args:
        name: `WEIGHTS_FILE`, `DESCRIPTION_FILE` or `TFLITE_FILE`.

    Returns:
        Its path in the package.

    Raises:
        ModelError: it is missing, damaged, or `SHA256SUMS` does not know it.
    """
    path, sums = FOLDER / name, FOLDER / SUMS_FILE
    try:
        lines = sums.read_text(encoding="utf-8").splitlines()
        listed = {line[66:].strip(): line[:64] for line in lines}
        found = hashlib.sha256(path.read_bytes()).hexdigest()
    except (OSError, ValueError) as error:
        at = sums if isinstance(error, ValueError) else Path(error.filename or path)
        reason = "is missing" if isinstance(error, FileNotFoundError) else f"is damaged ({error})"
        raise ModelError(f"{at}: this file of the embedded model {reason}. {_NEXT_STEP}") from None
    if name not in listed:
        raise ModelError(
            f"{path}: a foreign file, {SUMS_FILE} beside it does not list it. {_NEXT_STEP}"
        )
    if found != listed[name]:
        raise ModelError(
            f"{path}: damaged or foreign, its SHA-256 is not the one in {SUMS_FILE} beside it. "
            f"{_NEXT_STEP}"
        )
    return path


def write_sums(
    folder: Path, names: tuple[str, ...] = (DESCRIPTION_FILE, TFLITE_FILE, WEIGHTS_FILE)
) -> None:
    """Writes `SHA256SUMS`, as `sha256sum` does, for files of a folder."""
    lines = [
        f"{hashlib.sha256((folder / name).read_bytes()).hexdigest()}  {name}\n"
        for name in sorted(names)
    ]
    beside = folder / f".{SUMS_FILE}.part"
    beside.write_text("".join(lines), encoding="utf-8")
    os.replace(beside, folder / SUMS_FILE)
