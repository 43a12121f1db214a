"""Model input: the form of a slice in training, evaluation, prediction and export."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from hemorrhage_tf.imaging.head_crop import HeadRegion, crop_to, find_head
from hemorrhage_tf.imaging.readers import to_rgb
from hemorrhage_tf.imaging.windows import DEFAULT_WINDOW, apply_windows

# Part of the feature cache's key: raise it when the same slice would have other model input.
VERSION = 2


@dataclass(frozen=True, slots=True)
class ModelInput:
    """How a slice is brought to the form that a model takes.

    Attributes:
        image_size: Side of the square, in pixels.
        window: One window name, or three, through which Hounsfield units are mapped to gray levels.
            Defaults to None, for a model trained on display images: the brain window.
        crop_head: Crop the slice to its head first. Defaults to True.
        upright: Turn a sideways head upright. Defaults to False.
    """

    image_size: int
    window: tuple[str, ...] | None = None
    crop_head: bool = True
    upright: bool = False

    @property
    def key(self) -> str:
        """The settings that determine the pixels, as a key of the feature cache."""
        window = ",".join(self.window or DEFAULT_WINDOW)
        return f"{VERSION}/{self.image_size}/{window}/{self.crop_head:d}/{self.upright:d}"

    @property
    def takes_display_images(self) -> bool:
        """Whether display images are accepted: not if each channel has its own window."""
        return self.window is None or len(self.window) == 1

    def find_head(self, pixels: np.ndarray) -> HeadRegion | None:
        """Find the region of a slice that the model sees; None for the whole slice."""
        return find_head(pixels, self.upright) if self.crop_head else None

    def apply_window(self, pixels: np.ndarray) -> np.ndarray:
        """Map a slice to gray levels at its own resolution.

        Args:
            pixels: float32 `(height, width)` in HU, or uint8 `(height, width)` or
                `(height, width, 3)`.

        Returns:
            In [0, 255]: float32 for HU, `(height, width)`, or `(height, width, 3)` with three
            windows; display pixels unchanged.
        """
        if pixels.dtype == np.uint8:
            return pixels
        return apply_windows(pixels, self.window or DEFAULT_WINDOW)

    def __call__(self, pixels: np.ndarray, head: HeadRegion | None = None) -> np.ndarray:
        """Bring a slice to the form that the model takes.

        Args:
            pixels: float32 `(height, width)` in HU, or uint8 `(height, width)` or
                `(height, width, 3)`.
            head: From `find_head`, if known already. Defaults to None, to find it.

        Returns:
            float32 `(image_size, image_size, 3)`, RGB, in [0, 255].
        """
        head = head or self.find_head(pixels)
        cropped = pixels if head is None else crop_to(pixels, head)
        return resize_to_square(self.apply_window(cropped), self.image_size)


def resize_to_square(pixels: np.ndarray, image_size: int) -> np.ndarray:
    """Resize a slice to a square of three channels.

    The slice is stretched with an antialiased triangle filter, in floating point and without
    rounding, which matches `tf.image.resize(..., antialias=True)`.

    Args:
        pixels: uint8 or float32, `(height, width)` or `(height, width, 3)`.
        image_size: Side of the square, in pixels.

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


def choose_window(
    is_hounsfield: Sequence[bool] | np.ndarray, requested: tuple[str, ...] | None
) -> tuple[str, ...] | None:
    """Choose the window that a model is trained with.

    Args:
        is_hounsfield: For each slice, whether it is in HU.
        requested: The windows that the user requested, or None.

    Returns:
        The requested windows, else the brain window; None if every slice is a display image.
    """
    return (requested or DEFAULT_WINDOW) if any(is_hounsfield) else None
