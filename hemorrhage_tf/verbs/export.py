"""The verb `export`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hemorrhage_tf.core.errors import OptionError
from hemorrhage_tf.core.progress import Progress
from hemorrhage_tf.datasets.records import Manifest
from hemorrhage_tf.exporters import export as exporter
from hemorrhage_tf.exporters.export import Export
from hemorrhage_tf.exporters.hub_folder import export_hub_folder
from hemorrhage_tf.exporters.settings import FORMATS, FULL_INT8, HUB, WEB, ExportSettings
from hemorrhage_tf.exporters.web_app import WebAppSource, export_web_app
from hemorrhage_tf.verbs.arguments import create_settings
from hemorrhage_tf.verbs.results import Run


def export(
    model: str | Path | Run,
    target: str | Path,
    *,
    format: str | None = None,
    web_page: str | Path | None = None,
    verify: str | Path | Manifest | None = None,
    representative: str | Path | Manifest | None = None,
    quiet: bool = False,
    **settings: Any,
) -> Export:
    """Export a trained model to a TFLite or ONNX file or a SavedModel folder, and verify it.

    The exported model is run in its own runtime and compared with the trained model on held-out
    slices. If they disagree, nothing is written.

    Args:
        model: A run folder, its `.keras` file, the result of `fit`, or "phantomnet", the embedded
            model; for a web page also a `.tflite` file.
        target: `NAME.tflite` for a TFLite file; `NAME.onnx` for an ONNX file; a name without an
            ending for a SavedModel folder.
        format: "web" for a folder with a page that predicts in the browser; "hub" for a folder for
            the Hugging Face Hub, with the Keras, the TFLite and the ONNX files. None for the form
            that the ending of `target` says.
        web_page: The folder with the built page, for the format "web". None for the one in the
            package.
        verify: Labeled slices to compare on. None for the test slices of the run (after a
            cross-validation, all of its slices), or for new phantoms where the model is the
            embedded one.
        representative: Labeled slices to calibrate int8 on. None for the training slices of the
            run, or for new phantoms.
        quiet: Print no progress and no notes. Defaults to False.
        **settings: See `exporters.settings.ExportSettings`.

    Returns:
        The export, with the result of its verification.

    Raises:
        ModelError: There is no model at that path, or the export disagrees with it.
        OptionError: An option is not accepted, or the ending of `target` is unknown.
        OutputError: The target cannot be written.

    Example:
        >>> import hemorrhage_tf as htf
        >>> export = htf.export("runs/first", "first.tflite", quiet=True)
        >>> export.form, export.path.name
        ('tflite none', 'first.tflite')
    """
    chosen = create_settings(ExportSettings, settings)
    source = model.path if isinstance(model, Run) else Path(model)
    if format not in (None, *FORMATS):
        raise OptionError(f"--format {format}: unknown. Pass one of {', '.join(FORMATS)}.")
    if format is not None and chosen.quantize == FULL_INT8:
        raise OptionError(
            f"--quantize {FULL_INT8}: for a .tflite file alone. Pass --quantize int8 with --format "
            f"{format}."
        )
    if format == WEB:
        page = None if web_page is None else Path(web_page)
        app = WebAppSource(source, page, verify, representative)
        return export_web_app(app, Path(target), chosen, Progress(quiet=quiet))
    options: dict[str, Any] = {"verify": verify, "representative": representative}
    if web_page is not None:
        raise OptionError(f"--web-page {web_page}: only a page has one. Pass --format web, too.")
    if format == HUB:
        return export_hub_folder(source, Path(target), chosen, Progress(quiet=quiet), **options)
    return exporter.export(source, target, chosen, Progress(quiet=quiet), **options)
