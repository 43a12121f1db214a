"""Models on the Hugging Face Hub, and the folders that `export --format hub` writes for it."""

from __future__ import annotations

import hashlib
from importlib.util import find_spec
from pathlib import Path

from hemorrhage_tf.core.errors import ModelError
from hemorrhage_tf.models.metadata import METADATA_FILE
from hemorrhage_tf.models.pretrained_files import CHECKSUMS_FILE, read_checksums
from hemorrhage_tf.models.run_files import SCAN_MODEL_FILE
from hemorrhage_tf.version import __version__

PREFIX = "hf://"

# The files of a Keras model that is saved as a folder, which `keras.saving.load_model("hf://...")`
# loads, too.
WEIGHTS_FILE = "model.weights.h5"
KERAS_FILES = ("config.json", "metadata.json", WEIGHTS_FILE)
# An exported `.tflite` or `.onnx` file in the same place is not needed.
_NEEDED = (*KERAS_FILES, METADATA_FILE, SCAN_MODEL_FILE, CHECKSUMS_FILE)


def hub_name(path: str | Path) -> str | None:
    """Return `user/name` of `hf://user/name`; None for another path."""
    text = Path(path).as_posix()  # which has one slash after the colon
    prefix = Path(PREFIX).as_posix()
    return text.removeprefix(prefix).lstrip("/") if text.startswith(f"{prefix}/") else None


def is_hub_folder(path: Path) -> bool:
    """Return whether `export --format hub` wrote a folder."""
    return (path / WEIGHTS_FILE).is_file() and (path / METADATA_FILE).is_file()


def fetch(path: str | Path) -> Path:
    """Download a model of the Hub into the cache of huggingface_hub; keep any other path.

    Args:
        path: `hf://user/name`, or a path.

    Returns:
        The folder with the model, or the path.

    Raises:
        ModelError: huggingface_hub is missing, or the model cannot be downloaded or is another one.
    """
    name = hub_name(path)
    if name is None:
        return Path(path)
    if find_spec("huggingface_hub") is None:
        raise ModelError(
            f"{PREFIX}{name}: a model on the Hub needs huggingface_hub. Install it with "
            "pip install 'hemorrhage_tf[hub]'."
        )
    import huggingface_hub
    from huggingface_hub.utils.tqdm import tqdm

    class Silent(tqdm):  # the caller shows the progress
        def __init__(self, *arguments: object, **keywords: object) -> None:
            super().__init__(*arguments, **{**keywords, "disable": True})

    try:
        folder = huggingface_hub.snapshot_download(
            name,
            library_name="hemorrhage_tf",
            library_version=__version__,
            allow_patterns=list(_NEEDED),
            tqdm_class=Silent,
        )
    # An invalid name is a ValueError; a missing model and a failed download are OSErrors.
    except (OSError, ValueError) as error:
        reason = next((line for line in str(error).splitlines() if line.strip()), "no reason given")
        raise ModelError(
            f"{PREFIX}{name}: cannot be downloaded ({reason.rstrip('.')}). Pass hf://USER/NAME of "
            "a model that `hemorrhage-tf export MODEL FOLDER --format hub` wrote, or its folder."
        ) from None
    if not is_hub_folder(Path(folder)):
        raise ModelError(
            f"{PREFIX}{name}: not a model of hemorrhage-tf, because it lacks {METADATA_FILE} or "
            f"{WEIGHTS_FILE}. Pass one that `hemorrhage-tf export MODEL FOLDER --format hub` wrote."
        )
    return Path(folder)


def check_files(folder: Path) -> None:
    """Compare the files of a hub folder with its `SHA256SUMS`.

    Args:
        folder: The folder. Files that it does not hold are not compared.

    Raises:
        ModelError: A file is damaged, or the list is missing.
    """
    try:
        listed = read_checksums(folder)
    except (OSError, ValueError) as error:
        raise ModelError(
            f"{folder}: {CHECKSUMS_FILE} is missing or damaged ({error}). Copy the folder again."
        ) from None
    damaged = [
        name
        for name in _NEEDED
        if (folder / name).is_file()
        and name != CHECKSUMS_FILE
        and hashlib.sha256((folder / name).read_bytes()).hexdigest() != listed.get(name)
    ]
    if damaged:
        raise ModelError(
            f"{folder}: {', '.join(damaged)} damaged or replaced, SHA-256 differs from "
            f"{CHECKSUMS_FILE}. Copy the folder again, or export the model again."
        )
