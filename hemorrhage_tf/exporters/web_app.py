"""A web app: the built page and a model in a folder, which any static host serves.

The page itself is built from `web/` by npm, see docs/decisions.md. Here the model is added, and the
list of the files that the page keeps for use without a network.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

from hemorrhage_tf.core.atomic_files import atomic_folder
from hemorrhage_tf.core.errors import OptionError, OutputError
from hemorrhage_tf.core.progress import Progress
from hemorrhage_tf.datasets.records import Manifest
from hemorrhage_tf.exporters.export import Export, export
from hemorrhage_tf.exporters.settings import ExportSettings
from hemorrhage_tf.exporters.stored_size import stored_size
from hemorrhage_tf.exporters.verify import Verification
from hemorrhage_tf.inference.forms import TFLITE, is_embedded, model_form
from hemorrhage_tf.inference.tflite_model import FixedShapeTFLiteModel
from hemorrhage_tf.models.metadata import read_metadata
from hemorrhage_tf.models.pretrained_files import TFLITE_FILE, embedded_file

# Where `npm run build` puts the page; a wheel that is built after it contains it.
PAGE_FOLDER = Path(__file__).parent / "web_page"

MODEL_FOLDER, MODEL_FILE, DESCRIPTION_FILE = "model", "model.tflite", "model.json"
FILES_SCRIPT = "files.js"

# One of three variants of the runtime is loaded; the page keeps it once it is.
_KEPT_ON_USE = "litert_"
_NOT_KEPT = ("_headers", "sw.js", "licenses.txt")


@dataclass(frozen=True)
class WebAppSource:
    """What a web app is made of.

    Attributes:
        model: A run folder, its `.keras` file, an exported `.tflite` file or "phantomnet".
        page: The folder with the built page; None for the one in the package.
        verify: Labeled slices to compare on, see `export`. Defaults to None.
        representative: Labeled slices to calibrate int8 on, see `export`. Defaults to None.
    """

    model: Path
    page: Path | None
    verify: str | Path | Manifest | None = None
    representative: str | Path | Manifest | None = None


def export_web_app(
    source: WebAppSource, target: Path, settings: ExportSettings, progress: Progress
) -> Export:
    """Write a folder with a page that predicts in the browser.

    An exported `.tflite` file is used as it is, and so is that of the package for "phantomnet"
    without options. Another model is exported and verified first, with the class activation
    map and for single slices.

    Args:
        source: The model and the page.
        target: The folder to create.
        settings: The settings of the export of the model.
        progress: Receives progress.

    Returns:
        The web app, with the verification of its model.

    Raises:
        ModelError: There is no model, the exported one differs too much from it, or a `.tflite`
            file lacks the signatures of fixed shapes that LiteRT.js needs.
        OptionError: The page is not built, or a `.tflite` file comes with options of a conversion.
        OutputError: The target exists or is not writable.
    """
    if target.exists():
        raise OutputError(f"{target}: already exists. Pass another target, or remove it first.")
    page = _require_page(source.page)
    with tempfile.TemporaryDirectory() as folder:
        model = _model_file(source, settings, Path(folder) / MODEL_FILE, progress)
        FixedShapeTFLiteModel(model)  # LiteRT.js has no dynamic shapes
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with atomic_folder(target) as draft:
                _write_files(draft, page, model, source.model.name)
        except OSError as error:
            raise OutputError(
                f"{target}: cannot be written ({error.strerror or error}). Pass another target."
            ) from None
        described = (read_metadata(model).export or {}).get("verification", {})
    return Export(
        path=target,
        form="web",
        size_bytes=stored_size(target),
        verifications={name: Verification(**each) for name, each in described.items()},
    )


def _require_page(folder: Path | None) -> Path:
    page = folder or PAGE_FOLDER
    if (page / "index.html").is_file() and (page / "sw.js").is_file():
        return page
    build = "npm --prefix web ci && npm --prefix web run build"
    if folder is not None:
        raise OptionError(
            f"--web-page {folder}: not a built page. Run `{build}` in a checkout of the project, "
            "and pass the folder hemorrhage_tf/exporters/web_page of it."
        )
    raise OptionError(
        f"{page}: the page is not built yet. Run `{build}` in a checkout of the project (needs "
        "Node 20 or newer); if the package is installed elsewhere, pass --web-page with the folder "
        "hemorrhage_tf/exporters/web_page of the checkout."
    )


def _model_file(
    source: WebAppSource, settings: ExportSettings, draft: Path, progress: Progress
) -> Path:
    """Return a verified `.tflite` file of the model."""
    # The page needs the map, and one slice at a time, whatever is passed.
    settings = replace(settings, cam=True, batch="static")
    is_default = settings == ExportSettings(cam=True) and source.verify is None
    if model_form(source.model) == TFLITE:
        if not is_default:
            raise OptionError(
                f"{source.model}: a .tflite file is used as it is, without options of a "
                "conversion. Leave out the options, or pass the run folder."
            )
        return source.model
    if is_embedded(source.model) and is_default:
        return embedded_file(TFLITE_FILE)
    export(
        source.model,
        draft,
        settings,
        progress,
        verify=source.verify,
        representative=source.representative,
    )
    return draft


def _write_files(draft: Path, page: Path, model: Path, name: str) -> None:
    """Copy the page and the model into a new folder."""
    shutil.copytree(page, draft, dirs_exist_ok=True)
    folder = draft / MODEL_FOLDER
    folder.mkdir()
    shutil.copyfile(model, folder / MODEL_FILE)
    description = {
        "name": name,
        "size": model.stat().st_size,
        "metadata": read_metadata(model).to_dict(),
    }
    text = json.dumps(description, indent=1, sort_keys=True) + "\n"
    (folder / DESCRIPTION_FILE).write_text(text, encoding="utf-8")
    (draft / FILES_SCRIPT).write_text(_files_script(draft), encoding="utf-8")


def _files_script(folder: Path) -> str:
    """Return the script that tells the service worker the version, and the files to keep."""
    digest = hashlib.sha256()
    kept = []
    for path in sorted(folder.rglob("*")):
        if not path.is_file():
            continue
        name = path.relative_to(folder).as_posix()
        digest.update(name.encode() + b"\0" + hashlib.sha256(path.read_bytes()).digest())
        if name not in _NOT_KEPT and not path.name.startswith(_KEPT_ON_USE):
            kept.append(f"./{name}")
    version = digest.hexdigest()[:16]
    return f'self.VERSION = "{version}";\nself.FILES = {json.dumps(kept)};\n'
