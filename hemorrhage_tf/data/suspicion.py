"""Suspicion: what in the pixels speaks against an axial slice of a head CT."""

from __future__ import annotations

import numpy as np

from hemorrhage_tf.data.canonical import Head, find_head, pixels_of

# How far colors stray from one tint, in gray levels (root mean square). The bluest and the most
# marked of the Kaggle slices have 7; a photograph has several times the limit.
COLORFUL = 25.0
# Shares of the head's area. From the neck to the vertex a head is 8 to 45 % bone, and has less than
# 6 % of what is as thin as lung; a chest has a third of it.
BONE_HU, LEAST_BONE = 300, 0.03
LUNG_HU, MOST_LUNG = (-950, -400), 0.15


def suspicion(pixels: np.ndarray, head: Head | None = None) -> str | None:
    """Says what makes a slice look like something else than a head CT.

    Args:
        pixels: float32 `(height, width)` in HU, or uint8 `(height, width[, 3])`.
        head: where its head was found; None to look for it.

    Returns:
        A clause, or None for a slice that looks as it should.
    """
    head = head or find_head(pixels)
    if pixels.ndim == 3 and _strays(pixels) > COLORFUL:
        return "a color picture, not a head CT"
    if not head.is_found:
        return "no head was found in it"
    if pixels.dtype == np.uint8:
        return None
    body = pixels[pixels_of(head.cells, head.cell, pixels.shape)]
    if ((body > LUNG_HU[0]) & (body < LUNG_HU[1])).mean() > MOST_LUNG:
        return "it holds as much thin tissue as a chest, not a head"
    if (body > BONE_HU).mean() < LEAST_BONE:
        return "no skull was found in it"
    return None


def _strays(pixels: np.ndarray) -> float:
    """Measures how far the channels are from being functions of the gray level."""
    rgb = pixels[::4, ::4].reshape(-1, 3).astype(np.float64)
    if np.ptp(rgb, axis=1).max() <= COLORFUL / 2:
        return 0.0
    bins = (rgb.mean(axis=1) / 8).astype(np.int64)
    counts = np.maximum(np.bincount(bins, minlength=32), 1)
    variance = 0.0
    for channel in (0, 2):
        difference = rgb[:, channel] - rgb[:, 1]
        means = np.bincount(bins, difference, minlength=32) / counts
        variance += float(np.mean((difference - means[bins]) ** 2))
    return variance**0.5
