"""The verb `predict`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from hemorrhage_tf.core.progress import Progress
from hemorrhage_tf.inference.predictions import Prediction
from hemorrhage_tf.models.pretrained_files import EMBEDDED_MODEL
from hemorrhage_tf.verbs.arguments import ModelArgument, check_images, resolve_model


# A verb takes each option of its command as a keyword.
def predict(
    images: str | Path | Iterable[str | Path],
    *,
    model: ModelArgument = EMBEDDED_MODEL,
    window: str | Sequence[str] | None = None,
    cam: str | Path | None = None,
    series: str | int | Iterable[str | int] = (),
    tta: bool = False,
    skip_invalid: bool = False,
    quiet: bool = False,
) -> Prediction:
    """Predict slices, and the scans that they belong to.

    The embedded model imports no TensorFlow.

    Args:
        images: PNG, JPEG, DICOM or NIfTI files, folders or globs, one or several.
        model: A model of any form, see `load`; or the result of `load` or `fit`. Defaults to
            "phantomnet", the embedded model.
        window: Window for Hounsfield units: a name, "CENTER/WIDTH", or three. None for the model's.
        cam: Folder to write overlays of the class activation map to. Defaults to None.
        series: The DICOM series to use, one or several: Series Number, Series Instance UID, or an
            end of it that no other series has. Defaults to none: of each study that a folder or
            pattern holds, the axial, plain series of the head with a soft kernel.
        tta: Average over each slice and its flips, which takes four times as long. Defaults to
            False.
        skip_invalid: Continue without files that cannot be read. Defaults to False.
        quiet: Print no progress and no notes. Defaults to False.

    Returns:
        A prediction for each slice, which iterates like a list; in `scans` one for each scan; in
        `left_out` the series that were not used.

    Raises:
        DataError: Files cannot be read, all listed in one message.
        ModelError: There is no model at that path, or it is damaged.
        OptionError: An option does not fit the model or the slices, or there is no such series.

    Example:
        >>> import hemorrhage_tf as htf
        >>> for one in htf.predict("slice.png", quiet=True):
        ...     print(one.path, 0 <= one.probability <= 1)
        slice.png True
    """
    paths = check_images(images)
    progress = Progress(quiet=quiet)
    return resolve_model(model, progress, tta).predict(
        paths,
        window=window,
        cam=cam,
        series=series,
        skip_invalid=skip_invalid,
        progress=progress,
    )
