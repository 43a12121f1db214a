"""The verb `export`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hemorrhage_tf.core.progress import Progress
from hemorrhage_tf.datasets.records import Manifest
from hemorrhage_tf.exporters import export as exporter
from hemorrhage_tf.exporters.export import Export
from hemorrhage_tf.exporters.settings import ExportSettings
from hemorrhage_tf.verbs.arguments import create_settings
from hemorrhage_tf.verbs.results import Run


def export(
    model: str | Path | Run,
    target: str | Path,
    *,
    verify: str | Path | Manifest | None = None,
    representative: str | Path | Manifest | None = None,
    quiet: bool = False,
    **settings: Any,
) -> Export:
    """Export a trained model to a TFLite file or a SavedModel folder, and verify it.

    The exported model is run in its own runtime and compared with the trained model on held-out
    slices. If they disagree, nothing is written.

    Args:
        model: A run folder, its `.keras` file, the result of `fit`, or "phantomnet", the embedded
            model.
        target: `NAME.tflite` for a TFLite file; a name without an ending for a SavedModel folder.
        verify: Labeled slices to compare on. None for the test slices of the run, or for new
            phantoms where the model is the embedded one.
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
    return exporter.export(
        source, target, chosen, Progress(quiet=quiet), verify=verify, representative=representative
    )
