"""The conversion of slices to model input, and the rules for windows and display images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from hemorrhage_tf.core.errors import OptionError
from hemorrhage_tf.core.progress import Progress
from hemorrhage_tf.imaging.dicom.parse import is_dicom
from hemorrhage_tf.imaging.readers import SliceRef, is_display_image
from hemorrhage_tf.imaging.windows import DEFAULT_WINDOW, parse_windows
from hemorrhage_tf.models.metadata import ModelMetadata
from hemorrhage_tf.pipeline.model_input import ModelInput


def input_for(
    metadata: ModelMetadata,
    path: Path,
    is_hounsfield: np.ndarray,
    window: str | Sequence[str] | None = None,
    progress: Progress | None = None,
) -> ModelInput:
    """Return the conversion of slices to the input of a model; see `Model.input_for`.

    Args:
        metadata: The metadata of the model.
        path: The path of the model, for messages.
        is_hounsfield: bool `(n,)`, which slices are in HU; the others are display images.
        window: The requested window, or None for the model's.
        progress: Prints a note where the window is not the model's own. Defaults to None.

    Raises:
        OptionError: The window does not fit the model or the slices, or the slices do not fit the
            model.
    """
    model_input = input_through(metadata, window)
    images = f"{int((~is_hounsfield).sum())} of {len(is_hounsfield)} slices are display images"
    if window is not None and not is_hounsfield.all():
        raise OptionError(
            f"--window {','.join(parse_windows(window))}: {images}, which already have a "
            "window. Only Hounsfield units (DICOM, NIfTI) take one. Leave out --window or the "
            "display images."
        )
    if not metadata.model_input.takes_display_images and not is_hounsfield.all():
        raise OptionError(
            f"{path}: this model takes Hounsfield units through the windows "
            f"{', '.join(metadata.window or ())}, one for each channel, and {images}. "
            "Pass DICOM or NIfTI files."
        )
    if metadata.window is not None or not is_hounsfield.any():
        return model_input if window is not None else metadata.model_input
    if progress is not None:
        progress.note(
            "This model was trained on display images. Hounsfield units are converted by the "
            f"window {','.join(model_input.window or ())}."
        )
    return model_input


def check_file_names(
    metadata: ModelMetadata,
    path: Path,
    slices: Sequence[SliceRef],
    window: str | Sequence[str] | None,
) -> None:
    """Reject a window that does not fit PNG and JPEG files before any slice is predicted.

    Secondary captures are display images, too, but this is known only after reading them.

    Raises:
        OptionError: See `input_for`.
    """
    if window is not None or not metadata.model_input.takes_display_images:
        is_image = [is_display_image(one.path) and not is_dicom(one.path) for one in slices]
        input_for(metadata, path, ~np.array(is_image, bool), window)


def input_through(metadata: ModelMetadata, window: str | Sequence[str] | None) -> ModelInput:
    """Return the input of a model; Hounsfield units always get a window.

    Raises:
        OptionError: The window is unknown, or the model was trained with another one.
    """
    trained = metadata.window
    requested = None if window is None else parse_windows(window)
    if requested and trained and requested != trained:
        raise OptionError(
            f"--window {','.join(requested)}: this model was trained with "
            f"{','.join(trained)} and accepts no other window. Leave out --window, or train a "
            "model with it."
        )
    return replace(metadata.model_input, window=trained or requested or DEFAULT_WINDOW)
