"""TODO docstring."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hemorrhage_tf.core.errors import OptionError
from hemorrhage_tf.core.progress import Progress
from hemorrhage_tf.datasets.records import Manifest
from hemorrhage_tf.exporters import export as exporter
from hemorrhage_tf.exporters.export import Export
from hemorrhage_tf.exporters.settings import ExportSettings
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
    """Exports a trained model to a TFLite file or a SavedModel folder, and verifies it.

    The exported model is run with its own runtime beside the trained one, on slices that were held
    out; where it does not answer the same, nothing is written.

    Args:
        model: a run folder, its `.keras` file, what `fit` gave, or "phantomnet", the embedded one.
        target: `*.tflite` for a TFLite file, anything else for a SavedModel folder.
        verify: labeled slices to compare on; None for those that the run tested on, or of the
            embedded model for phantoms that it has not seen.
        representative: labeled slices to calibrate int8 on; None for those the run trained on, or
            for other phantoms.
        quiet: print no progress and no notes. Default False.
        **settings: see `exporters.options.ExportSettings`.

    Returns:
        The export, with the figures of its verification.
    """
    try:
        chosen = ExportSettings(**settings)
    except TypeError as error:
        accepted = ", ".join(ExportSettings.__dataclass_fields__)
        raise OptionError(f"unknown setting ({error}). Accepted: {accepted}") from None
    source = model.path if isinstance(model, Run) else Path(model)
    progress = Progress(quiet=quiet)
    return exporter.export(source, Path(target), chosen, progress, verify, representative)
