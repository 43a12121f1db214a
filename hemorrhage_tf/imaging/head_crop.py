"""The head crop: a slice cut to its head, padded to a square, without couch and marks.

NumPy and the standard library only, without the rest of the package, so that a device runs this
very file. Every step on pictures has its counterpart in a TensorFlow graph
(`exporters/canonical_graph.py`), and all that decides anything is integer arithmetic, so that both
give the same pixels.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np

# The head is looked for on a grid of at most this many cells a side: at the usual field of view of
# 230 to 250 mm a cell is about 4 mm, less than a skull and its scalp, more than a headrest's shell.
GRID = 64
# Between the darkest and the brightest of a slice, where tissue begins: per mille of the pixels
# that are taken as darkest and as brightest, and the share of the range in sixteenths.
DARK_PER_MILLE, BRIGHT_PER_MILLE = 50, 980
TISSUE_SIXTEENTHS = 5
# In HU, what is not air: between fat (-100) and air (-1000), well above foam and blankets.
SKIN = -300
# Structures up to twice as many cells thick are not the head: couch, headrest, holders, letters.
# In a picture the skull base falls apart into thin parts; in HU it is one solid body, and what an
# ear touches can be cut off with the ear.
PICTURE_OPENING, HU_OPENING = 2, 3
# How far from the edge of a head in HU, in cells, what is thinner than a cell is no part of it.
RIND = 3
# Cells around the head that are shown too: in a picture the scalp, which a brain window leaves
# dark.
# In HU the scalp is part of the head, and what lies on it is not.
PICTURE_RIM, HU_RIM = 2, 0
# A head this many cells thick at the least, from its edge to its middle; else the whole slice is
# taken. Near the vertex a head is small.
MIN_DEPTH = 4
# A body that fills more of the grid than this, in sixteenths, is no head but noise or one color;
# the most tightly cropped head fills 14.
MOST_SIXTEENTHS = 15
# Around the head, in 1/64 of its longer side.
MARGIN = 1
# A head is longer than wide; where it is wider by this share (in sixteenths) it lies sideways.
SIDEWAYS_SIXTEENTHS = 17

_BLOCK = 1 << 20  # pixels


@dataclass(frozen=True, slots=True)
class HeadRegion:
    """Where the head is in a slice.

    Attributes:
        top: first row of the square, in pixels of the slice; negative where it begins above it.
        left: first column of the square.
        side: of the square, in pixels.
        cells: bool `(rows, columns)`: the cells that show the head; empty where none was found.
        cell: side of a cell, in pixels.
        turns: quarter turns, counterclockwise, that bring the square upright.
        shells: bool `(height, width)`, in HU only: what is thin at the head's edge and so no part
            of it, such as a holder that is pressed against an ear.
    """

    top: int
    left: int
    side: int
    cells: np.ndarray
    cell: int
    turns: int = 0
    shells: np.ndarray | None = None

    @property
    def is_found(self) -> bool:
        """Whether there is a head; otherwise the square holds the whole slice."""
        return self.cells.size > 0


def gray_levels(pixels: np.ndarray) -> np.ndarray:
    """Gives what the head is looked for in.

    Args:
        pixels: float32 `(height, width)` in HU, or uint8 `(height, width)` or `(height, width, 3)`.

    Returns:
        uint8 `(height, width)`: HU through the brain window (0 to 80 HU), the brightest channel of
        a color picture, gray as it is.
    """
    if pixels.dtype != np.uint8:
        return (pixels.clip(0, 80) * np.float32(255 / 80)).astype(np.uint8)
    return pixels if pixels.ndim == 2 else pixels.max(axis=-1)


def find_head(pixels: np.ndarray, upright: bool = False) -> HeadRegion:
    """Finds the head: the thickest body of skull and tissue.

    Args:
        pixels: see `gray_levels`.
        upright: also find the quarter turn that brings a sideways head upright. Default False.

    Returns:
        Where it is; of a slice without one, the square around all of it.
    """
    gray = gray_levels(pixels)
    tissue = gray > tissue_level(gray)
    is_display_image = pixels.dtype == np.uint8
    # In HU skin and fat are told from air too, which makes one body of face and skull base.
    body = tissue if is_display_image else pixels > SKIN
    cells, cell = _cells(body)
    head = _thickest(_filled(cells), PICTURE_OPENING if is_display_image else HU_OPENING)
    height, width = gray.shape
    if not head.any() or 16 * head.sum() > MOST_SIXTEENTHS * head.size:
        side = max(height, width)
        return HeadRegion((height - side) // 2, (width - side) // 2, side, head[:0, :0], cell)
    shells = None
    if not is_display_image:
        inner = head
        for _ in range(RIND):
            inner = _eroded(inner)
        shells = body & ~_without_shells(body, cell) & ~pixels_of(inner, cell, gray.shape)
        tissue &= ~shells
    shown = pixels_of(head, cell, gray.shape) & tissue
    top, bottom = _ends(shown.any(axis=1))
    left, right = _ends(shown.any(axis=0))
    longer = max(bottom - top, right - left)
    side = longer + 2 * (longer * MARGIN // 64)
    turns = 0
    if upright and 16 * (right - left) > SIDEWAYS_SIXTEENTHS * (bottom - top):
        turns = _turns(head)
    for _ in range(PICTURE_RIM if is_display_image else HU_RIM):
        head = _dilated(head)
    top, left = (top + bottom - side) // 2, (left + right - side) // 2
    return HeadRegion(top, left, side, head, cell, turns, shells)


def crop_head(pixels: np.ndarray, upright: bool = False) -> np.ndarray:
    """Brings a slice to the head crop.

    Args:
        pixels: float32 `(height, width)` in HU, or uint8 `(height, width)` or `(height, width, 3)`.
        upright: turn a sideways head upright. Default False.

    Returns:
        The same dtype, `(side, side)` or `(side, side, 3)`: the head with a margin, and around it
        air (-1000 HU, or 0). Where no head was found: the whole slice, padded to a square.
    """
    return cut(pixels, find_head(pixels, upright))


def cut(pixels: np.ndarray, head: HeadRegion) -> np.ndarray:
    """Cuts out a head that was found; see `crop_head`."""
    air = 0 if pixels.dtype == np.uint8 else -1000
    height, width = pixels.shape[:2]
    square = np.full((head.side, head.side, *pixels.shape[2:]), air, pixels.dtype)
    top, left = max(head.top, 0), max(head.left, 0)
    bottom, right = min(head.top + head.side, height), min(head.left + head.side, width)
    inside = square[top - head.top : bottom - head.top, left - head.left : right - head.left]
    inside[...] = pixels[top:bottom, left:right]
    if head.is_found:
        rows, columns = np.arange(top, bottom) // head.cell, np.arange(left, right) // head.cell
        inside[~head.cells[rows][:, columns]] = air
        if head.shells is not None:
            inside[head.shells[top:bottom, left:right]] = air
    return np.rot90(square, head.turns) if head.turns else square


def put_back(square: np.ndarray, head: HeadRegion, shape: tuple[int, int]) -> np.ndarray:
    """Puts what was computed on the square of a head back in its place on the slice.

    Args:
        square: `(side, side)`, of the head crop.
        head: where its head was found.
        shape: height and width of the slice.

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


def tissue_level(gray: np.ndarray) -> int:
    """Gives the gray level above which a pixel is skull or tissue.

    It lies between the dark around the head, which not every picture has at 0, and the bright of
    the skull.
    """
    counts = np.zeros(256, np.int64)
    step = max(1, _BLOCK // gray.shape[1])
    for row in range(0, len(gray), step):  # counting makes 8 bytes of each pixel
        counts += np.bincount(gray[row : row + step].ravel(), minlength=256)
    cumulated = np.cumsum(counts) * 1000
    dark = int(np.searchsorted(cumulated, DARK_PER_MILLE * gray.size))
    bright = int(np.searchsorted(cumulated, BRIGHT_PER_MILLE * gray.size))
    return dark + (bright - dark) * TISSUE_SIXTEENTHS // 16


def depths(cells: np.ndarray) -> np.ndarray:
    """Counts how many cells each lies from the edge: 1 at the edge, 0 outside."""
    rows, columns = cells.shape
    left = _erosions(_packed(cells), columns + 1)
    if not left:
        return np.zeros(cells.shape, np.int32)
    size = -(-rows * (columns + 1) // 8)
    flat = np.frombuffer(b"".join(bits.to_bytes(size, "little") for bits in left), np.uint8)
    each = np.unpackbits(flat.reshape(len(left), size), axis=1, bitorder="little")
    depth = each.sum(axis=0, dtype=np.int32)[: rows * (columns + 1)]
    return np.ascontiguousarray(depth.reshape(rows, columns + 1)[:, :columns])


def shares_of_cells(flags: np.ndarray, cell: int) -> np.ndarray:
    """Computes which share of its pixels is set in each cell, float64 `(rows, columns)`."""
    if cell == 1:
        return flags.astype(np.float64)
    count, area = _counted(flags, cell)
    return count / area


def _cells(tissue: np.ndarray) -> tuple[np.ndarray, int]:
    """Marks the cells of which at least half is tissue."""
    cell = _cell(tissue.shape)
    if cell == 1:
        return tissue, cell
    count, area = _counted(tissue, cell)
    return 2 * count >= area, cell


def _counted(flags: np.ndarray, cell: int) -> tuple[np.ndarray, np.ndarray]:
    """Counts the pixels that are set in each cell, and all its pixels."""
    height, width = flags.shape
    padded = np.zeros((-(-height // cell) * cell, -(-width // cell) * cell), bool)
    padded[:height, :width] = flags
    rows, columns = padded.shape[0] // cell, padded.shape[1] // cell
    count = padded.reshape(rows, cell, columns, cell).sum(axis=3, dtype=np.int32).sum(axis=1)
    heights = np.minimum(np.arange(1, rows + 1) * cell, height) - np.arange(rows) * cell
    widths = np.minimum(np.arange(1, columns + 1) * cell, width) - np.arange(columns) * cell
    return count, heights[:, np.newaxis] * widths


def pixels_of(cells: np.ndarray, cell: int, shape: tuple[int, int]) -> np.ndarray:
    """Spreads cells over their pixels."""
    if cell == 1:
        return cells[: shape[0], : shape[1]]
    rows, columns = cells.shape
    spread = np.broadcast_to(cells[:, np.newaxis, :, np.newaxis], (rows, cell, columns, cell))
    return spread.reshape(rows * cell, columns * cell)[: shape[0], : shape[1]]


def _cell(shape: tuple[int, ...]) -> int:
    return -(-max(shape) // GRID)


def _filled(cells: np.ndarray) -> np.ndarray:
    """Fills what the outside does not reach: ventricles, sinuses, a dark brain in its skull."""
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


@functools.lru_cache(maxsize=64)  # slices of a set have few shapes
def _border(rows: int, columns: int) -> int:
    """Gives the outermost cells of a grid, packed."""
    border = np.ones((rows, columns), bool)
    border[1:-1, 1:-1] = False
    return _packed(border)


def _thickest(cells: np.ndarray, opening: int) -> np.ndarray:
    """Keeps the body that holds the cell farthest from any edge, without its thin parts."""
    width = cells.shape[1] + 1
    packed = _packed(cells)
    left = _erosions(packed, width)
    if len(left) < MIN_DEPTH:
        return np.zeros_like(cells)
    opening = min(opening, len(left) - 1)
    core = left[opening]
    body = left[-1] & -left[-1]  # the first of the deepest
    while True:
        grown = _grown(body, width) & core
        if grown == body:
            break
        body = grown
    for _ in range(opening):
        body = _grown(body, width) & packed
    return _unpacked(body, cells.shape)


# A grid as one whole number, a bit for each cell and one to spare behind each row, so that what is
# shifted out of a row is not in the next. All cells are then shifted in one go: with arrays
# instead, `find_head` took five times as long on slices of 64 pixels.


def _packed(cells: np.ndarray) -> int:
    rows, columns = cells.shape
    spaced = np.zeros((rows, columns + 1), bool)
    spaced[:, :columns] = cells
    return int.from_bytes(np.packbits(spaced, bitorder="little").tobytes(), "little")


def _unpacked(bits: int, shape: tuple[int, ...]) -> np.ndarray:
    rows, columns = shape
    count = rows * (columns + 1)
    flat = np.frombuffer(bits.to_bytes(-(-count // 8), "little"), np.uint8)
    spaced = np.unpackbits(flat, count=count, bitorder="little").reshape(rows, columns + 1)
    return spaced[:, :columns].astype(bool)


def _erosions(bits: int, width: int) -> list[int]:
    """Gives what is left after 0, 1, 2 ... times taking a cell off every edge, until nothing is."""
    found = []
    while bits:
        found.append(bits)
        bits &= bits << 1 & bits >> 1
        bits &= bits << width & bits >> width
    return found


def _grown(bits: int, width: int) -> int:
    bits |= bits << 1 | bits >> 1
    return bits | bits << width | bits >> width


def _without_shells(body: np.ndarray, cell: int) -> np.ndarray:
    """Takes away what is thinner than a cell: a holder's shell, also where an ear touches it."""
    radius = cell // 2
    air = ~body
    for axis in (0, 1):
        air = _spread(air, radius, axis)
    solid = ~air
    for axis in (0, 1):
        solid = _spread(solid, radius, axis)
    return solid


def _spread(flags: np.ndarray, radius: int, axis: int) -> np.ndarray:
    """Dilates along one axis."""
    spread = flags.copy()
    along = spread if axis == 0 else spread.T
    reached = 0
    while reached < radius:  # the steps may double, since what was spread spreads on
        step = min(reached + 1, radius - reached)
        before = spread.copy() if axis == 0 else spread.copy().T
        along[step:] |= before[:-step]
        along[:-step] |= before[step:]
        reached += step
    return spread


def _turns(head: np.ndarray) -> int:
    """Finds which quarter turn brings a sideways head upright.

    The back of a head is wider than its front, so the half with more cells comes to lie below.
    """
    begin, end = _ends(head.any(axis=0))
    middle = (begin + end) // 2
    first = int(head[:, begin:middle].sum())
    second = int(head[:, end - (middle - begin) : end].sum())
    # Turned counterclockwise, what was on the left comes to lie below.
    return 1 if first > second else 3


def _dilated(cells: np.ndarray) -> np.ndarray:
    rows = cells.copy()
    rows[1:] |= cells[:-1]
    rows[:-1] |= cells[1:]
    grown = rows.copy()
    grown[:, 1:] |= rows[:, :-1]
    grown[:, :-1] |= rows[:, 1:]
    return grown


def _eroded(cells: np.ndarray) -> np.ndarray:
    """Takes a cell off every edge, also off the picture's own."""
    return ~_dilated(np.pad(~cells, 1, constant_values=True))[1:-1, 1:-1]


def _ends(flags: np.ndarray) -> tuple[int, int]:
    """Gives the first index that is True, and the one after the last."""
    return int(flags.argmax()), int(len(flags) - flags[::-1].argmax())
