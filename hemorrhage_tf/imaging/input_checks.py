"""Suspicion: what in the pixels speaks against an axial slice of a head CT."""

from __future__ import annotations

import numpy as np

from hemorrhage_tf.imaging.head_crop import (
    HeadRegion,
    depths,
    find_head,
    gray_levels,
    pixels_of,
    shares_of_cells,
)

# How far colors stray from one tint, in gray levels (root mean square). The bluest and the most
# marked of the Kaggle slices have 7; a photograph has several times the limit.
COLORFUL = 25.0
# Shares of the head's area. From the neck to the vertex a head is 8 to 45 % bone, and has less than
# 6 % of what is as thin as lung; a chest has a third of it.
BONE_HU, LEAST_BONE = 300, 0.03
LUNG_HU, MOST_LUNG = (-950, -400), 0.15
# In a picture a skull is a ring of the brightest there is, around something darker, in the dark.
# Seen from the middle, each of the directions shows bone where a cell of the outermost RIND has
# BONE_SHARE of its pixels as bright as bone, and most cells farther in are dark. Of the Kaggle
# slices every one shows it in 0.81 of the directions or more, and has 0.47 or more of what lies
# around it dark; of crops of gray photographs, three in four fail.
DIRECTIONS, LEAST_RING = 36, 0.6
RIND, BONE_SHARE = 6, 0.15
BONE_LEVEL, TISSUE_LEVEL, DARK_LEVEL = 0.85, 0.8, 0.12  # of the brightest of the head
LEAST_BONE_GRAY = 170
LEAST_DARK_AROUND = 0.3


def check_input(pixels: np.ndarray, head: HeadRegion | None = None) -> str | None:
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
        return None if _has_skull(gray_levels(pixels), head) else "no skull was found in it"
    body = pixels[pixels_of(head.cells, head.cell, pixels.shape)]
    if ((body > LUNG_HU[0]) & (body < LUNG_HU[1])).mean() > MOST_LUNG:
        return "it holds as much thin tissue as a chest, not a head"
    if (body > BONE_HU).mean() < LEAST_BONE:
        return "no skull was found in it"
    return None


def _has_skull(gray: np.ndarray, head: HeadRegion) -> bool:
    """SliceReadings for a ring of bone around darker tissue, and for the dark around that."""
    within = pixels_of(head.cells, head.cell, gray.shape)
    levels = np.bincount((gray + within * np.uint16(256)).ravel(), minlength=512).reshape(2, 256)
    brightest, darkest = _quantile(levels[1], 0.98), _quantile(levels.sum(axis=0), 0.02)
    around = levels[0].sum()
    dark = levels[0, : int(darkest + DARK_LEVEL * (brightest - darkest)) + 1].sum()
    # Of a picture that is cropped to its head there is nothing around to judge by.
    if around > 0.02 * gray.size and dark < LEAST_DARK_AROUND * around:
        return False
    bone = gray >= max(BONE_LEVEL * brightest, LEAST_BONE_GRAY)
    bright = shares_of_cells(bone, head.cell) >= BONE_SHARE
    dim = shares_of_cells(gray <= TISSUE_LEVEL * brightest, head.cell) >= 0.5
    depth = depths(head.cells)
    rind = depth <= min(RIND, int(depth.max()) // 2)
    places = np.flatnonzero(depth)
    y, x = np.divmod(places, depth.shape[1])
    turned = np.arctan2(y - y.mean(), x - x.mean()) + np.pi
    direction = (turned * (DIRECTIONS / (2 * np.pi))).astype(np.int64) % DIRECTIONS
    # One count of the cells in each direction by what they are.
    kind = (rind * np.uint8(4) + bright * np.uint8(2) + dim).ravel()[places]
    counts = np.bincount(8 * direction + kind, minlength=8 * DIRECTIONS).reshape(-1, 2, 2, 2)
    outer, inner = counts[:, 1], counts[:, 0]
    seen = outer.sum(axis=(1, 2)) > 0
    shown = (outer[:, 1].sum(axis=1) > 0) & (
        2 * inner[:, :, 1].sum(axis=1) > inner.sum(axis=(1, 2))
    )
    return bool(shown[seen].mean() >= LEAST_RING)


def _quantile(counts: np.ndarray, share: float) -> float:
    """Gives what `np.quantile` does for levels of which there are so many each, `(256,)`."""
    cumulated = np.cumsum(counts)
    last = int(cumulated[-1]) - 1
    place = share * last
    below = int(place)
    low, high = np.searchsorted(cumulated, (below, min(below + 1, last)), "right")
    low, high, beyond = int(low), int(high), place - below
    if beyond >= 0.5:
        return high - (high - low) * (1 - beyond)
    return low + (high - low) * beyond


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
