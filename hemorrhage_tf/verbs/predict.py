"""TODO docstring."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from hemorrhage_tf.core.errors import OptionError
from hemorrhage_tf.core.progress import Progress
from hemorrhage_tf.inference.loading import model_and_images
from hemorrhage_tf.inference.model import Model
from hemorrhage_tf.inference.predictions import Prediction
from hemorrhage_tf.verbs.model_argument import _loaded
from hemorrhage_tf.verbs.results import Run


def predict(
    model: str | Path | Model | Run | Iterable[str | Path] | None = None,
    images: str | Path | Iterable[str | Path] | None = None,
    *,
    window: str | Sequence[str] | None = None,
    cam: str | Path | None = None,
    tta: bool = False,
    skip_invalid: bool = False,
    quiet: bool = False,
) -> Prediction:
    """Predicts slices, and the volumes and series that they are of.

    `predict("a.png")` takes the embedded model, and imports no TensorFlow.

    Args:
        model: a model of any form (see `load`), what `load` or `fit` gave, or None for the embedded
            one. Where it is the only one of the two that is given, it is the images.
        images: PNG, JPEG, DICOM or NIfTI files, folders or globs, one or several.
        window: for Hounsfield units; None for the model's.
        cam: a folder to write overlays of the class activation map to; None for none.
        tta: average each slice's logit over its tta, which takes four times as long. Default
            False.
        skip_invalid: go on without files that cannot be read. Default False.
        quiet: print no progress and no notes. Default False.

    Returns:
        A finding for each slice, to be gone through like a list; and in `scans` one for each
        volume and series.
    """
    if images is None:
        if isinstance(model, Model | Run):
            raise OptionError(f"{model.path}: a model, and no images. Name images behind it")
        named = [model] if isinstance(model, str | Path) else list(model or ())
        model, images = model_and_images(named)
    progress = Progress(quiet=quiet)
    return _loaded(model, progress, tta).predict(images, skip_invalid, progress, window, cam)
