"""Model input: what every slice is brought to, in training, evaluation, prediction and export."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from hemorrhage_tf.imaging.head_crop import HeadRegion, cut, find_head
from hemorrhage_tf.imaging.readers import to_rgb
from hemorrhage_tf.imaging.windows import DEFAULT_WINDOW, show

# Part of the feature cache's key: raise it when the same slice would give other model input.
VERSION = 2


@dataclass(frozen=True, slots=True)
class ModelInput:
    """How a slice is brought to the form that a model takes.

    Attributes:
        image_size: side of the square, in pixels.
        window: names of the window, or of three, that Hounsfield units are shown through; None for
            a model of pictures, where Hounsfield units are shown through the brain window.
        crop_head: cut the slice to its head first.
        upright: turn a sideways head upright.
    """

    image_size: int
    window: tuple[str, ...] | None = None
    crop_head: bool = True
    upright: bool = False

    @property
    def key(self) -> str:
        """What decides the pixels, for the feature cache."""
        window = ",".join(self.window or DEFAULT_WINDOW)
        return f"{VERSION}/{self.image_size}/{window}/{self.crop_head:d}/{self.upright:d}"

    @property
    def takes_display_images(self) -> bool:
        """Whether display pixels can be given: not where each channel is a window of its own."""
        return self.window is None or len(self.window) == 1

    def head(self, pixels: np.ndarray) -> HeadRegion | None:
        """Finds the part of a slice that the model sees; None for all of it."""
        return find_head(pixels, self.upright) if self.crop_head else None

    def shown(self, pixels: np.ndarray) -> np.ndarray:
        """Gives a slice as it is displayed, at its own resolution.

        Args:
            pixels: float32 `(height, width)` in HU, or uint8 `(height, width[, 3])`.

        Returns:
            In [0, 255]: float32 for HU, `(height, width)` or with three windows
            `(height, width, 3)`; display pixels as they are.
        """
        if pixels.dtype == np.uint8:
            return pixels
        return show(pixels, self.window or DEFAULT_WINDOW)

    def __call__(self, pixels: np.ndarray) -> np.ndarray:
        """Brings a slice to the form of the model.

        Args:
            pixels: float32 `(height, width)` in HU, or uint8 `(height, width[, 3])`.

        Returns:
            float32 `(image_size, image_size, 3)`, RGB, in [0, 255].
        """
        head = self.head(pixels)
        seen = pixels if head is None else cut(pixels, head)
        return resize_to_square(self.shown(seen), self.image_size)


def resize_to_square(pixels: np.ndarray, image_size: int) -> np.ndarray:
    """Resizes a slice to a square of three channels.

    The slice is stretched with an antialiased triangle filter, in floating point and without
    rounding, which is what `tf.image.resize(..., antialias=True)` computes too.

    Args:
        pixels: uint8 or float32, `(height, width)` or `(height, width, 3)`.
        image_size: side of the square, in pixels.

    Returns:
        float32 `(image_size, image_size, 3)`, in the range of the pixels.
    """
    size = (image_size, image_size)
    if pixels.shape[:2] == size:
        return to_rgb(pixels).astype(np.float32)
    channels = [pixels] if pixels.ndim == 2 else [pixels[..., k] for k in range(3)]
    resized = [
        np.asarray(
            Image.fromarray(channel.astype(np.float32)).resize(size, Image.Resampling.BILINEAR)
        )
        for channel in channels
    ]
    return to_rgb(resized[0]) if len(resized) == 1 else np.stack(resized, axis=-1)


def window_for(
    is_hounsfield: Sequence[bool], asked: tuple[str, ...] | None
) -> tuple[str, ...] | None:
    """Chooses the window that a model is trained with.

    Args:
        is_hounsfield: of each slice, whether it is in HU.
        asked: what the user asked for, or None.

    Returns:
        As asked, else the brain window; None where every slice is a picture.
    """
    return (asked or DEFAULT_WINDOW) if any(is_hounsfield) else None
