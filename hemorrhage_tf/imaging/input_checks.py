"""The input check: whether the pixels of a slice look like an axial slice of a head CT.

The check by tags is in `dicom.tag_checks`. How the limits were set is in docs/decisions.md.
"""

from __future__ import annotations

import math

import numpy as np

from hemorrhage_tf.imaging.head_crop import (
    HeadRegion,
    cell_coverage,
    cells_to_pixels,
    count_levels,
    edge_depths,
    find_head,
    gray_levels,
)

# Largest distance of colors from a single tint, in gray levels (root mean square).
MAX_COLOR_SPREAD = 25.0
# Limits on the share of the head's area, for slices in HU.
BONE_HU, MIN_BONE_SHARE = 300, 0.03
LUNG_HU, MAX_LUNG_SHARE = (-950, -400), 0.15
# In a display image, a skull is a ring of bright cells around darker ones. It is tested in
# DIRECTIONS sectors from the middle of the head: a sector shows the skull if one of its SKULL_DEPTH
# outermost cells has BONE_COVERAGE of its pixels as bright as bone, and most of its inner cells are
# darker.
DIRECTIONS, MIN_SKULL_SHARE = 36, 0.6
SKULL_DEPTH, BONE_COVERAGE = 6, 0.15
# Gray levels as shares of the brightest of the head.
BONE_LEVEL, TISSUE_LEVEL, DARK_LEVEL = 0.85, 0.8, 0.12
MIN_BONE_GRAY = 170
# The surroundings of a head must be dark, if they fill more than this share of the image.
MIN_DARK_AROUND, MIN_SURROUNDINGS = 0.3, 0.02


def check_input(pixels: np.ndarray, head: HeadRegion | None = None) -> str | None:
    """Return an input warning: why a slice does not look like head CT.

    Args:
        pixels: float32 `(height, width)` in HU, or uint8 `(height, width)` or `(height, width, 3)`.
        head: Its head region, if known already. Defaults to None, to find it.

    Returns:
        A clause, or None for a slice that looks like head CT.
    """
    head = head or find_head(pixels)
    if pixels.ndim == 3 and _color_spread(pixels) > MAX_COLOR_SPREAD:
        return "a color image, not a head CT"
    if not head.is_found:
        return "no head was found in it"
    if pixels.dtype == np.uint8:
        return None if _has_skull(gray_levels(pixels), head) else "no skull was found in it"
    body = pixels[cells_to_pixels(head.cells, head.cell, pixels.shape)]
    if ((body > LUNG_HU[0]) & (body < LUNG_HU[1])).mean() > MAX_LUNG_SHARE:
        return "it has as much lung-like tissue as a chest, not a head"
    if (body > BONE_HU).mean() < MIN_BONE_SHARE:
        return "no skull was found in it"
    return None


def _has_skull(gray: np.ndarray, head: HeadRegion) -> bool:
    """Return whether a ring of bone surrounds darker tissue, and dark surrounds the ring."""
    # Histograms of the gray levels around the head and in it.
    levels = _levels_around_and_in(gray, head)
    brightest, darkest = _quantile(levels[1], 0.98), _quantile(levels.sum(axis=0), 0.02)
    around = levels[0].sum()
    dark = levels[0, : int(darkest + DARK_LEVEL * (brightest - darkest)) + 1].sum()
    if around > MIN_SURROUNDINGS * gray.size and dark < MIN_DARK_AROUND * around:
        return False
    # Whole numbers, since comparing bytes with a fraction would convert every pixel.
    bone = gray >= np.uint8(math.ceil(max(BONE_LEVEL * brightest, MIN_BONE_GRAY)))
    darker = gray <= np.uint8(TISSUE_LEVEL * brightest)
    is_bone = cell_coverage(bone, head.cell) >= BONE_COVERAGE
    is_darker = cell_coverage(darker, head.cell) >= 0.5
    return _skull_share(edge_depths(head.cells), is_bone, is_darker) >= MIN_SKULL_SHARE


def _levels_around_and_in(gray: np.ndarray, head: HeadRegion) -> np.ndarray:
    """Count the gray levels around the head and in it, int64 `(2, 256)`."""
    rows, columns = np.flatnonzero(head.cells.any(axis=1)), np.flatnonzero(head.cells.any(axis=0))
    box = (slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1))
    top, left = int(rows[0]) * head.cell, int(columns[0]) * head.cell
    part = gray[top : (int(rows[-1]) + 1) * head.cell, left : (int(columns[-1]) + 1) * head.cell]
    in_head = cells_to_pixels(head.cells[box], head.cell, part.shape)
    inside = count_levels(part * in_head)
    inside[0] -= in_head.size - np.count_nonzero(in_head)
    every = count_levels(gray) if head.levels is None else head.levels
    return np.stack([every - inside, inside])


def _skull_share(depth: np.ndarray, is_bone: np.ndarray, is_darker: np.ndarray) -> float:
    """Return the share of directions, as seen from the middle of the head, that show the skull."""
    is_outer = depth <= min(SKULL_DEPTH, int(depth.max()) // 2)
    places = np.flatnonzero(depth)
    y, x = np.divmod(places, depth.shape[1])
    angle = np.arctan2(y - y.mean(), x - x.mean()) + np.pi
    direction = (angle * (DIRECTIONS / (2 * np.pi))).astype(np.int64) % DIRECTIONS
    # One count of the cells in each direction: by outer, bone and darker.
    kind = (is_outer * np.uint8(4) + is_bone * np.uint8(2) + is_darker).ravel()[places]
    counts = np.bincount(8 * direction + kind, minlength=8 * DIRECTIONS).reshape(-1, 2, 2, 2)
    outer, inner = counts[:, 1], counts[:, 0]
    is_occupied = outer.sum(axis=(1, 2)) > 0
    has_bone = outer[:, 1].sum(axis=1) > 0
    is_darker_inside = 2 * inner[:, :, 1].sum(axis=1) > inner.sum(axis=(1, 2))
    return float((has_bone & is_darker_inside)[is_occupied].mean())


def _quantile(counts: np.ndarray, share: float) -> float:
    """Return the same as `np.quantile`, from a histogram of the gray levels, `(256,)`."""
    cumulative = np.cumsum(counts)
    last = int(cumulative[-1]) - 1
    place = share * last
    below = int(place)
    levels = np.searchsorted(cumulative, (below, min(below + 1, last)), "right")
    low, high, fraction = int(levels[0]), int(levels[1]), place - below
    if fraction >= 0.5:
        return high - (high - low) * (1 - fraction)
    return low + (high - low) * fraction


def _color_spread(pixels: np.ndarray) -> float:
    """Measure how far the channels are from being functions of the gray level."""
    rgb = pixels[::4, ::4].reshape(-1, 3).astype(np.float64)
    if np.ptp(rgb, axis=1).max() <= MAX_COLOR_SPREAD / 2:
        return 0.0
    bins = (rgb.mean(axis=1) / 8).astype(np.int64)
    counts = np.maximum(np.bincount(bins, minlength=32), 1)
    variance = 0.0
    for channel in (0, 2):
        difference = rgb[:, channel] - rgb[:, 1]
        means = np.bincount(bins, difference, minlength=32) / counts
        variance += float(np.mean((difference - means[bins]) ** 2))
    return variance**0.5
