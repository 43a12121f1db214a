"""The head crop: a slice cropped to the head and padded to a square, without couch and text.

This file imports only NumPy and the standard library, so that a device can run it as it is. Each
step on display images has a counterpart in a TensorFlow graph (`exporters/head_crop_graph.py`). All
decisions use integer arithmetic, so that both return the same pixels.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np

# Cells per side of the grid on which the head is found. At the usual field of view of 230 to 250 mm
# a cell is about 4 mm, less than a skull with its scalp, more than the shell of a headrest.
GRID = 64
# The gray level at which tissue starts, as a share (in sixteenths) of the range between two
# quantiles (per mille) of the gray levels.
DARK_PER_MILLE, BRIGHT_PER_MILLE = 50, 980
TISSUE_SIXTEENTHS = 5
# In HU, the lower end of the body: between fat (-100) and air (-1000), above foam and blankets.
SKIN = -300
# Radius, in cells, of the opening that removes couch, headrest, holders and letters. In a display
# image a larger one would break the skull base into parts; in HU the base is one solid body.
DISPLAY_OPENING, HU_OPENING = 2, 3
# Within this many cells of the edge of a head in HU, structures thinner than a cell are not part
# of it.
SHELL_DEPTH = 3
# Cells around the head that stay visible. In a display image they hold the scalp, which a brain
# window leaves dark; in HU the scalp is part of the head.
DISPLAY_RIM, HU_RIM = 2, 0
# Least thickness of a head, in cells from its edge to its middle; small heads are near the vertex.
MIN_DEPTH = 4
# Largest share of the grid that a head fills, in sixteenths; noise and uniform slices fill more.
MAX_FILL_SIXTEENTHS = 15
# Margin around the head, in 1/64 of its longer side.
MARGIN = 1
# A head is longer than wide. One that is wider by this ratio (in sixteenths) lies sideways.
SIDEWAYS_SIXTEENTHS = 17

_BLOCK_PIXELS = 1 << 20
_PAIRS_FROM = 1 << 17  # pixels from which counting two at a time is faster


@dataclass(frozen=True, slots=True)
class HeadRegion:
    """The square around the head in a slice.

    Attributes:
        top: First row of the square, in pixels of the slice; negative if it starts above the slice.
        left: First column of the square.
        side: Side of the square, in pixels.
        cells: bool `(rows, columns)`, the cells that show the head; empty if there is no head.
        cell: Side of a cell, in pixels.
        turns: Counterclockwise quarter turns that bring the square upright. Defaults to 0.
        shells: bool `(height, width)`, for HU only: thin structures at the edge of the head that
            are not part of it, such as a holder pressed against an ear. Defaults to None.
        levels: int64 `(256,)`, the number of pixels of the slice at each of its `gray_levels`.
            Defaults to None, not counted.
    """

    top: int
    left: int
    side: int
    cells: np.ndarray
    cell: int
    turns: int = 0
    shells: np.ndarray | None = None
    levels: np.ndarray | None = None

    @property
    def is_found(self) -> bool:
        """Whether there is a head; if not, the square holds the whole slice."""
        return self.cells.size > 0


def gray_levels(pixels: np.ndarray) -> np.ndarray:
    """Return the gray levels in which the head is found.

    Args:
        pixels: float32 `(height, width)` in HU, or uint8 `(height, width)` or `(height, width, 3)`.

    Returns:
        uint8 `(height, width)`: HU through the brain window (0 to 80 HU), the brightest channel of
        a color image, gray unchanged.
    """
    if pixels.dtype != np.uint8:
        return (pixels.clip(0, 80) * np.float32(255 / 80)).astype(np.uint8)
    return pixels if pixels.ndim == 2 else pixels.max(axis=-1)


def find_head(pixels: np.ndarray, upright: bool = False) -> HeadRegion:
    """Find the head: the thickest body of skull and tissue.

    Args:
        pixels: float32 `(height, width)` in HU, or uint8 `(height, width)` or `(height, width, 3)`.
        upright: Also find the quarter turn that brings a sideways head upright. Defaults to False.

    Returns:
        The region of the head; for a slice without one, the square around the whole slice.
    """
    gray = gray_levels(pixels)
    levels = count_levels(gray)
    tissue = gray > tissue_level(levels)
    is_display_image = pixels.dtype == np.uint8
    # In HU, skin and fat differ from air too, which joins face and skull base into one body.
    body = tissue if is_display_image else pixels > SKIN
    cells, cell = _tissue_cells(body)
    head = _thickest_body(_fill_holes(cells), DISPLAY_OPENING if is_display_image else HU_OPENING)
    height, width = gray.shape
    if not head.any() or 16 * head.sum() > MAX_FILL_SIXTEENTHS * head.size:
        side = max(height, width)
        top, left = (height - side) // 2, (width - side) // 2
        return HeadRegion(top, left, side, head[:0, :0], cell, levels=levels)
    shells = None
    if not is_display_image:
        inner = head
        for _ in range(SHELL_DEPTH):
            inner = _eroded(inner)
        shells = body & ~_without_shells(body, cell) & ~cells_to_pixels(inner, cell, gray.shape)
        tissue &= ~shells
    visible = cells_to_pixels(head, cell, gray.shape) & tissue
    top, bottom = _extent(visible, axis=0)
    left, right = _extent(visible, axis=1)
    longer = max(bottom - top, right - left)
    side = longer + 2 * (longer * MARGIN // 64)
    turns = 0
    if upright and 16 * (right - left) > SIDEWAYS_SIXTEENTHS * (bottom - top):
        turns = _quarter_turns(head)
    for _ in range(DISPLAY_RIM if is_display_image else HU_RIM):
        head = _dilated(head)
    top, left = (top + bottom - side) // 2, (left + right - side) // 2
    return HeadRegion(top, left, side, head, cell, turns, shells, levels)


def crop_head(pixels: np.ndarray, upright: bool = False) -> np.ndarray:
    """Crop a slice to the head.

    Args:
        pixels: float32 `(height, width)` in HU, or uint8 `(height, width)` or `(height, width, 3)`.
        upright: Turn a sideways head upright. Defaults to False.

    Returns:
        The same dtype, `(side, side)` or `(side, side, 3)`: the head with a margin, in air (-1000
        HU, or 0). Without a head: the whole slice, padded to a square.

    Example:
        >>> import hemorrhage_tf as htf
        >>> head = htf.crop_head(htf.read_slice("slice.png"))
        >>> head.shape[0] == head.shape[1]
        True
    """
    return crop_to(pixels, find_head(pixels, upright))


def crop_to(pixels: np.ndarray, head: HeadRegion) -> np.ndarray:
    """Crop a slice to a region from `find_head`; see `crop_head`."""
    air = 0 if pixels.dtype == np.uint8 else -1000
    height, width = pixels.shape[:2]
    square = np.full((head.side, head.side, *pixels.shape[2:]), air, pixels.dtype)
    top, left = max(head.top, 0), max(head.left, 0)
    bottom, right = min(head.top + head.side, height), min(head.left + head.side, width)
    inside = square[top - head.top : bottom - head.top, left - head.left : right - head.left]
    inside[...] = pixels[top:bottom, left:right]
    if head.is_found:
        inside[~head_pixels(head, (height, width))[top:bottom, left:right]] = air
    return np.rot90(square, head.turns) if head.turns else square


def head_pixels(head: HeadRegion, shape: tuple[int, int], rim: int = 0) -> np.ndarray:
    """Return which pixels of a slice the head crop shows: bool `(height, width)`.

    Args:
        head: From `find_head`; one that was not found shows the whole slice.
        shape: Height and width of the slice.
        rim: Cells to leave out along the edge of the head: with `DISPLAY_RIM` or `HU_RIM` the air
            around it. Defaults to 0.
    """
    if not head.is_found:
        return np.ones(shape, bool)
    cells = head.cells
    for _ in range(rim):
        cells = _eroded(cells)
    shown = cells_to_pixels(cells, head.cell, shape)
    return shown if head.shells is None else shown & ~head.shells


def uncrop(square: np.ndarray, head: HeadRegion, shape: tuple[int, int]) -> np.ndarray:
    """Place a map of the head crop back on its slice.

    Args:
        square: `(side, side)`, a map of the head crop.
        head: The region that was cropped.
        shape: Height and width of the slice.

    Returns:
        The same dtype, `(height, width)`; 0 outside the square.
    """
    turned = np.rot90(square, -head.turns)
    placed = np.zeros(shape, square.dtype)
    top, left = max(head.top, 0), max(head.left, 0)
    bottom, right = min(head.top + head.side, shape[0]), min(head.left + head.side, shape[1])
    placed[top:bottom, left:right] = turned[
        top - head.top : bottom - head.top, left - head.left : right - head.left
    ]
    return placed


def tissue_level(levels: np.ndarray) -> int:
    """Return the gray level above which a pixel is skull or tissue.

    It lies between the background, which is not 0 in every display image, and the skull.

    Args:
        levels: int64 `(256,)`, from `count_levels`.
    """
    cumulative = np.cumsum(levels)
    size, cumulative = int(cumulative[-1]), cumulative * 1000
    dark = int(np.searchsorted(cumulative, DARK_PER_MILLE * size))
    bright = int(np.searchsorted(cumulative, BRIGHT_PER_MILLE * size))
    return dark + (bright - dark) * TISSUE_SIXTEENTHS // 16


def count_levels(gray: np.ndarray) -> np.ndarray:
    """Count the pixels of each gray level.

    Args:
        gray: uint8, of any shape.

    Returns:
        int64 `(256,)`.
    """
    flat = gray.ravel()
    if len(flat) < _PAIRS_FROM:
        return np.bincount(flat, minlength=256)
    paired = len(flat) // 2 * 2
    pairs = flat[:paired].view(np.uint16)  # counted two at a time, which takes half of the steps
    counts = np.zeros(1 << 16, np.int64)
    for begin in range(0, len(pairs), _BLOCK_PIXELS):  # bincount takes 8 bytes per pair
        counts += np.bincount(pairs[begin : begin + _BLOCK_PIXELS], minlength=1 << 16)
    square = counts.reshape(256, 256)
    return square.sum(axis=0) + square.sum(axis=1) + np.bincount(flat[paired:], minlength=256)


def edge_depths(cells: np.ndarray) -> np.ndarray:
    """Return the depth of each cell in its body, int32: 1 at the edge, 0 outside."""
    rows, columns = cells.shape
    eroded = _erosions(_packed(cells), columns + 1)
    if not eroded:
        return np.zeros(cells.shape, np.int32)
    size = -(-rows * (columns + 1) // 8)
    flat = np.frombuffer(b"".join(bits.to_bytes(size, "little") for bits in eroded), np.uint8)
    layers = np.unpackbits(flat.reshape(len(eroded), size), axis=1, bitorder="little")
    depth = layers.sum(axis=0, dtype=np.int32)[: rows * (columns + 1)]
    return np.ascontiguousarray(depth.reshape(rows, columns + 1)[:, :columns])


def cell_coverage(flags: np.ndarray, cell: int) -> np.ndarray:
    """Compute the share of the pixels of each cell that is set, float64 `(rows, columns)`."""
    if cell == 1:
        return flags.astype(np.float64)
    count, area = _count_in_cells(flags, cell)
    return count / area


def _tissue_cells(tissue: np.ndarray) -> tuple[np.ndarray, int]:
    """Return the cells of which at least half is tissue, and the side of a cell in pixels."""
    cell = -(-max(tissue.shape) // GRID)
    if cell == 1:
        return tissue, cell
    count, area = _count_in_cells(tissue, cell)
    return 2 * count >= area, cell


def _count_in_cells(flags: np.ndarray, cell: int) -> tuple[np.ndarray, np.ndarray]:
    """Count the pixels of each cell that are set, and all of its pixels."""
    height, width = flags.shape
    rows, columns, whole = -(-height // cell), -(-width // cell), height // cell
    # Whole rows are added first, as bytes, which is several times faster than summing squares.
    dtype = np.uint8 if cell < 256 else np.uint16
    strips = np.zeros((rows, columns * cell), dtype)
    squares = flags[: whole * cell].reshape(whole, cell, width)
    np.add.reduce(squares, axis=1, dtype=dtype, out=strips[:whole, :width])
    if whole < rows:
        np.add.reduce(flags[whole * cell :], axis=0, dtype=dtype, out=strips[whole, :width])
    count = strips.reshape(rows, columns, cell).sum(axis=2, dtype=np.int32)
    heights = np.minimum(np.arange(1, rows + 1) * cell, height) - np.arange(rows) * cell
    widths = np.minimum(np.arange(1, columns + 1) * cell, width) - np.arange(columns) * cell
    return count, heights[:, np.newaxis] * widths


def cells_to_pixels(cells: np.ndarray, cell: int, shape: tuple[int, int]) -> np.ndarray:
    """Expand each cell to its pixels, for a slice of a height and width."""
    if cell == 1:
        return cells[: shape[0], : shape[1]]
    wide = np.repeat(cells, cell, axis=1)[:, : shape[1]]
    return np.repeat(wide, cell, axis=0)[: shape[0]]


def _fill_holes(cells: np.ndarray) -> np.ndarray:
    """Fill the holes of bodies: ventricles, sinuses, a dark brain in its skull."""
    rows, columns = cells.shape
    free_cells = np.ones((rows + 2, columns + 2), bool)
    np.logical_not(cells, out=free_cells[1:-1, 1:-1])
    width = columns + 3
    free, outside = _packed(free_cells), _border(rows + 2, columns + 2)
    while True:
        grown = outside | outside << 1 | outside >> 1 | outside << width | outside >> width
        grown &= free
        if grown == outside:
            return ~_unpacked(outside, free_cells.shape)[1:-1, 1:-1]
        outside = grown


@functools.lru_cache(maxsize=64)  # slices of a data set have few shapes
def _border(rows: int, columns: int) -> int:
    """Return the outermost cells of a grid, packed."""
    border = np.ones((rows, columns), bool)
    border[1:-1, 1:-1] = False
    return _packed(border)


def _thickest_body(cells: np.ndarray, opening: int) -> np.ndarray:
    """Return the body with the cell farthest from any edge, without its thin parts."""
    width = cells.shape[1] + 1
    packed = _packed(cells)
    eroded = _erosions(packed, width)
    if len(eroded) < MIN_DEPTH:
        return np.zeros_like(cells)
    opening = min(opening, len(eroded) - 1)
    core = eroded[opening]
    body = eroded[-1] & -eroded[-1]  # the first of the deepest cells
    while True:
        grown = _grown(body, width) & core
        if grown == body:
            break
        body = grown
    for _ in range(opening):
        body = _grown(body, width) & packed
    return _unpacked(body, cells.shape)


def _packed(cells: np.ndarray, width: int | None = None) -> int:
    """Pack a grid into one integer, so that a shift moves all cells at once.

    Each row has a spare bit, so that cells shifted out of a row do not reach the next. This is
    much faster than shifting arrays (see docs/decisions.md).

    Args:
        cells: bool `(rows, columns)`.
        width: Bits of a row; None for one more than there are columns.
    """
    rows, columns = cells.shape
    spaced = np.zeros((rows, width or columns + 1), bool)
    spaced[:, :columns] = cells
    return int.from_bytes(np.packbits(spaced, bitorder="little").tobytes(), "little")


def _unpacked(bits: int, shape: tuple[int, ...], width: int | None = None) -> np.ndarray:
    rows, columns = shape
    width = width or columns + 1
    count = rows * width
    flat = np.frombuffer(bits.to_bytes(-(-count // 8), "little"), np.uint8)
    spaced = np.unpackbits(flat, count=count, bitorder="little").reshape(rows, width)
    return spaced[:, :columns].astype(bool)


def _erosions(bits: int, width: int) -> list[int]:
    """Return a packed grid after 0, 1, 2 ... erosions by a cell, as long as cells remain."""
    eroded = []
    while bits:
        eroded.append(bits)
        bits &= bits << 1 & bits >> 1
        bits &= bits << width & bits >> width
    return eroded


def _grown(bits: int, width: int) -> int:
    bits |= bits << 1 | bits >> 1
    return bits | bits << width | bits >> width


def _without_shells(body: np.ndarray, cell: int) -> np.ndarray:
    """Remove structures thinner than a cell: a holder's shell, also where an ear touches it."""
    radius, (rows, columns) = cell // 2, body.shape
    width = columns + max(radius, 1)
    every = _whole_grid(rows, columns, width)
    air = every & ~_packed(body, width)
    for step in (1, width):
        air = _dilated_along(air, radius, step)
    solid = every & ~air
    for step in (1, width):
        solid = _dilated_along(solid, radius, step)
    return _unpacked(solid & every, body.shape, width)


@functools.lru_cache(maxsize=64)
def _whole_grid(rows: int, columns: int, width: int) -> int:
    """Return a grid with every cell set, packed with rows of a width."""
    return _packed(np.ones((rows, columns), bool), width)


def _dilated_along(bits: int, radius: int, step: int) -> int:
    """Dilate a packed grid along an axis whose neighbors are `step` bits apart."""
    reached = 0
    while reached < radius:  # shifts may double, since each dilates the result of those before
        shift = min(reached + 1, radius - reached)
        bits |= bits << shift * step | bits >> shift * step
        reached += shift
    return bits


def _quarter_turns(head: np.ndarray) -> int:
    """Return the quarter turns that bring a sideways head upright.

    The back of a head is wider than its front, so the half with more cells belongs at the bottom.
    """
    start, stop = _extent(head, axis=1)
    middle = (start + stop) // 2
    left = int(head[:, start:middle].sum())
    right = int(head[:, stop - (middle - start) : stop].sum())
    # A counterclockwise turn brings the left half to the bottom.
    return 1 if left > right else 3


def _dilated(cells: np.ndarray) -> np.ndarray:
    rows = cells.copy()
    rows[1:] |= cells[:-1]
    rows[:-1] |= cells[1:]
    grown = rows.copy()
    grown[:, 1:] |= rows[:, :-1]
    grown[:, :-1] |= rows[:, 1:]
    return grown


def _eroded(cells: np.ndarray) -> np.ndarray:
    """Remove the outermost cells of every body, also along the border of the grid."""
    return ~_dilated(np.pad(~cells, 1, constant_values=True))[1:-1, 1:-1]


def _extent(flags: np.ndarray, axis: int) -> tuple[int, int]:
    """Return the first index along an axis with a set flag, and the one after the last."""
    occupied = np.asarray(flags.any(axis=1 - axis))
    return int(occupied.argmax()), int(len(occupied) - occupied[::-1].argmax())
