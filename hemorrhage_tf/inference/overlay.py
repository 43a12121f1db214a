"""Overlays: a class activation map drawn on its slice, at the slice's own resolution."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from types import TracebackType

import numpy as np
from PIL import Image

from hemorrhage_tf.core.errors import OutputError
from hemorrhage_tf.imaging.head_crop import HeadRegion, uncrop
from hemorrhage_tf.imaging.readers import SliceRef, to_rgb
from hemorrhage_tf.pipeline.model_input import ModelInput

_RED = np.array([255, 0, 0], np.float32)
_MAX_OPACITY = 0.6  # the slice stays visible below


def draw_overlay(pixels: np.ndarray, cam: np.ndarray, model_input: ModelInput) -> Image.Image:
    """Color a slice red where the model sees evidence of hemorrhage.

    The color scale is the same for every slice: a location is redder the further its logit in
    `cam` lies above 0, which is a probability of one half.

    Args:
        pixels: float32 `(height, width)` in HU, or uint8 `(height, width[, 3])` in [0, 255].
        cam: float32 `(h, w)`, the class activation map; its mean is the slice's logit.
        model_input: How the slice was converted to model input.

    Returns:
        An RGB image of the slice's own size; Hounsfield units are shown through the window.
    """
    shown = to_rgb(model_input.apply_window(pixels)).astype(np.float32)
    evidence = np.tanh(np.maximum(cam.astype(np.float32), 0) / 2)
    opacity = _MAX_OPACITY * map_to_slice(evidence, pixels.shape[:2], model_input.find_head(pixels))
    opacity = opacity[..., np.newaxis]
    return Image.fromarray(np.rint(shown * (1 - opacity) + _RED * opacity).astype(np.uint8))


def map_to_slice(cam: np.ndarray, shape: tuple[int, int], head: HeadRegion | None) -> np.ndarray:
    """Resize a map of the model input to the part of the slice that the model saw.

    Args:
        cam: float32 `(h, w)`.
        shape: Height and width of the slice.
        head: The head crop, or None where the model saw the whole slice.

    Returns:
        float32 of that shape; 0 outside the head crop.
    """
    if head is None:
        return _resize(cam, *shape)
    return uncrop(_resize(cam, head.side, head.side), head, shape)


def _resize(cam: np.ndarray, height: int, width: int) -> np.ndarray:
    return np.asarray(Image.fromarray(cam).resize((width, height), Image.Resampling.BILINEAR))


class OverlayFolder:
    """A folder of overlays that appear all together, or not at all where an error ends the block.

    Args:
        folder: Where the overlays go; created if missing. An overlay is named after its slice,
            `NAME.cam.png`, and numbered where a file in another folder has the same name.

    Raises:
        OutputError: The folder cannot be written.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._names: set[str] = set()
        self._partial: Path | None = None

    def write(
        self, ref: SliceRef, pixels: np.ndarray, cam: np.ndarray, model_input: ModelInput
    ) -> str:
        """Draw and store the overlay of a slice, see `draw_overlay`; and return its path."""
        assert self._partial is not None
        name = self._new_name(ref)
        try:
            image = draw_overlay(pixels, cam, model_input)
            image.save(self._partial / name, "PNG")
        except OSError as error:
            raise self._error(error) from None
        return str(self._folder / name)

    def _new_name(self, ref: SliceRef) -> str:
        stem = ref.path.name if ref.frame is None else f"{ref.path.name}.{ref.frame:04d}"
        name, number = f"{stem}.cam.png", 1
        while name in self._names:
            number += 1
            name = f"{stem}.{number}.cam.png"
        self._names.add(name)
        return name

    def __enter__(self) -> OverlayFolder:
        place = self._folder
        while not place.exists() and place != place.parent:
            place = place.parent
        try:
            self._partial = Path(tempfile.mkdtemp(prefix=".overlays.", suffix=".part", dir=place))
        except OSError as error:
            raise self._error(error) from None
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        assert self._partial is not None
        try:
            if kind is None:
                self._folder.mkdir(parents=True, exist_ok=True)
                for name in sorted(os.listdir(self._partial)):
                    os.replace(self._partial / name, self._folder / name)
        except OSError as failure:
            raise self._error(failure) from None
        finally:
            shutil.rmtree(self._partial, ignore_errors=True)

    def _error(self, error: OSError) -> OutputError:
        return OutputError(
            f"--cam {self._folder}: cannot be written ({error.strerror or error}). "
            "Name a folder that can be written."
        )
