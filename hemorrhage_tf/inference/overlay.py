"""The overlay: where a slice speaks for hemorrhage, drawn on it at its own resolution."""

from __future__ import annotations

import numpy as np
from PIL import Image

from hemorrhage_tf.imaging.head_crop import HeadRegion, put_back
from hemorrhage_tf.imaging.readers import to_rgb
from hemorrhage_tf.pipeline.model_input import ModelInput

_RED = np.array([255, 0, 0], np.float32)
_STRONGEST = 0.6  # share of red at most, so that the slice shows through


def draw_overlay(pixels: np.ndarray, cam: np.ndarray, model_input: ModelInput) -> Image.Image:
    """Colors a slice red where it speaks for hemorrhage.

    The scale is the same for every slice: a place gets more red the further its own logit, `cam`,
    lies above 0, which is a probability of one half.

    Args:
        pixels: float32 `(height, width)` in HU, or uint8 `(height, width[, 3])`.
        cam: float32 `(h, w)`, the class activation map, whose mean is the slice's logit.
        model_input: what the slice was brought to for the model.

    Returns:
        An RGB image of the slice's own size, Hounsfield units shown through the window.
    """
    shown = to_rgb(model_input.shown(pixels)).astype(np.float32)
    strength = np.tanh(np.maximum(cam.astype(np.float32), 0) / 2)
    share = _STRONGEST * place(strength, pixels.shape[:2], model_input.head(pixels))
    share = share[..., np.newaxis]
    return Image.fromarray(np.rint(shown * (1 - share) + _RED * share).astype(np.uint8))


def place(cam: np.ndarray, shape: tuple[int, int], head: HeadRegion | None) -> np.ndarray:
    """Puts a map of the model's input where it belongs on the slice.

    Args:
        cam: float32 `(h, w)`.
        shape: height and width of the slice.
        head: the part that the model saw, or None for all of the slice.

    Returns:
        float32 of that shape; 0 outside the part.
    """
    if head is None:
        return _resized(cam, *shape)
    return put_back(_resized(cam, head.side, head.side), head, shape)


def _resized(cam: np.ndarray, height: int, width: int) -> np.ndarray:
    return np.asarray(Image.fromarray(cam).resize((width, height), Image.Resampling.BILINEAR))
