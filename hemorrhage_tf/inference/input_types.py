"""Conversion of model input to the input type of an exported model."""

from __future__ import annotations

import numpy as np


def cast_images(images: np.ndarray, dtype: str) -> np.ndarray:
    """Convert float32 images in [0, 255] to the input type of a model; uint8 is rounded."""
    if dtype == "uint8":
        return np.rint(images).clip(0, 255).astype(np.uint8)
    return images.astype(np.float32)
