"""Duplicates: which slices show the same picture, and the groups that must stay on one side.

Exact duplicates have the same pixels (`readers.content_hash`). Near-duplicates are found by the
correlation of small gray thumbnails, of the whole slice and of the slice cropped to its content,
so that a rescaled copy, a copy with a letter drawn on it and a neighboring slice of the same scan
are all noticed. Flipped copies are found on request, and copies that lost a strip of the head by
a search of their own.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Hashable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from PIL import Image

THUMBNAIL_SIZE = 32

# The functions here compare every slice with every other, whose time grows with the square of their
# number. Larger sets are compared by `data.resemblance`.
ALL_PAIRS_UP_TO = 4_000

# On the Kaggle head-CT set every pair at or above this correlation is, by eye, the same slice at
# another size (188/189, 198/199, 11/61, 5/22/58, 10/66, 105/187) or a neighboring slice of the same
# scan (107/108, 168/169/170/172, 173/174/176); the pairs just below are different patients too.
NEAR_DUPLICATE_CORRELATION = 0.95

# The axes of a thumbnail that a flip reverses.
FLIPS = {"left to right": (1,), "top to bottom": (0,), "both ways": (0, 1)}

# On the Kaggle set crops that were made for a trial, of up to a tenth at each side, reach 0.98 and
# different patients 0.95. Of its own pairs those at or above 0.97 are, by eye, the same picture
# (73/95, 4/57, 145/148, 147/150, 12/30, 9/65, 146/149) or neighbors of one scan (109/110/111 ...).
CROPPED_CORRELATION = 0.97

_CONTENT_LEVEL = 24  # gray levels: what is darker counts as background when cropping
_BONE_LEVEL = 200  # what is brighter is bone or mark, and is what a crop cuts off
_CHUNK = 2048
THREADS = min(os.cpu_count() or 1, 8)  # that compare; NumPy's own would wait for each other

_CONTENT_SIZE = 64  # of the thumbnail that crops are taken from
_COARSE_SIZE = 16  # of the crops that are searched first
_LARGEST_CROP = 0.1  # of each side
_CROP_STEP = 0.025
# A crop is searched among the slices that are nearest in gray levels, which hardly change with it,
# and those most alike to a few crops. On the Kaggle set a crop always was among the four nearest in
# gray levels, at a distance of at most 0.4, and reached 0.95 in the coarse search when it fell
# between two steps. Among 1,000 phantoms 56 % were among the 24 nearest, and 91 % among the 24 most
# alike.
_CROP_CANDIDATES = 24
_FEW_CROPS = (0.02, 0.08)  # of each side, for the candidates
LARGEST_DISTANCE = 0.5
_WORTH_A_CLOSER_LOOK = 0.93


def reductions(pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Reduces a slice to what it is compared with others by.

    Args:
        pixels: uint8 `(height, width)` or `(height, width, 3)`.

    Returns:
        For near-duplicates, float32 `(2, 1024)`: the whole slice and the slice cropped to its
        content, each as a 32 x 32 gray thumbnail with zero mean and unit length (zeros for a slice
        of one color). For crops, float32 `(64, 64)`, the content as a gray thumbnail, and float32
        `(22,)`, the shares of the gray levels between background and bone in it.
    """
    gray = _gray(pixels)
    whole = _boxed(Image.fromarray(gray), THUMBNAIL_SIZE)
    content = _content(gray)
    image = Image.fromarray(content)
    small = np.stack([whole.ravel(), _boxed(image, THUMBNAIL_SIZE).ravel()])
    larger = _boxed(image, _CONTENT_SIZE)
    del image  # a copy, and counting takes another of twice the size
    counts = np.bincount(content.astype(np.uint8).ravel(), minlength=256)
    shares = counts[_CONTENT_LEVEL:_BONE_LEVEL].reshape(-1, 8).sum(axis=1).astype(np.float32)
    return _unit(small), larger, shares / max(shares.sum(), 1)


def _boxed(image: Image.Image, side: int) -> np.ndarray:
    return np.asarray(image.resize((side, side), Image.Resampling.BOX))


def thumbnails(pixels: np.ndarray) -> np.ndarray:
    """Gives the first of the `reductions` of a slice: what near-duplicates are compared by."""
    return reductions(pixels)[0]


def contents(pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Gives the other two of the `reductions` of a slice: what crops are searched by."""
    return reductions(pixels)[1:]


def _gray(pixels: np.ndarray) -> np.ndarray:
    if pixels.ndim == 2:
        return pixels.astype(np.float32)
    # Several times faster than the mean along the last axis.
    red, green, blue = (pixels[..., channel].astype(np.float32) for channel in range(3))
    return (red + green + blue) / np.float32(3)


def _content(gray: np.ndarray) -> np.ndarray:
    """Cuts off the rows and columns at the edges that hold background only."""
    content = gray > _CONTENT_LEVEL
    rows, columns = np.flatnonzero(content.any(axis=1)), np.flatnonzero(content.any(axis=0))
    return gray[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] if rows.size else gray


def _unit(small: np.ndarray) -> np.ndarray:
    """Takes the mean off along the last axis, and scales to unit length."""
    small = small - small.mean(axis=-1, keepdims=True)
    length = np.linalg.norm(small, axis=-1, keepdims=True)
    # Rounding leaves a slice of one color with a tiny residue that must not be blown up.
    return np.where(length > 1e-3, small / np.maximum(length, 1e-3), 0).astype(np.float32)


def near_duplicates(
    stacked: np.ndarray,
    correlation: float = NEAR_DUPLICATE_CORRELATION,
    flip: str | None = None,
) -> list[tuple[int, int, float]]:
    """Finds the pairs of slices that look alike.

    Args:
        stacked: float32 `(n, 2, 1024)`, the `thumbnails` of each slice.
        correlation: pairs at or above it count, in [-1, 1]. Default 0.95.
        flip: look for pairs of which one is flipped, a key of `FLIPS`; None for unflipped ones.
            Default None.

    Returns:
        `(i, j, correlation)` with i < j, the most alike first.
    """
    pairs: list[tuple[int, int, float]] = []
    count = len(stacked)
    others = stacked if flip is None else flipped(stacked, flip)
    for begin in range(0, count, _CHUNK):
        for other in range(begin, count, _CHUNK):
            alike = np.max(
                [
                    stacked[begin : begin + _CHUNK, kind] @ others[other : other + _CHUNK, kind].T
                    for kind in range(stacked.shape[1])
                ],
                axis=0,
            )
            for i, j in np.argwhere(alike >= correlation):
                if begin + i < other + j:
                    pairs.append((int(begin + i), int(other + j), float(alike[i, j])))
    return sorted(pairs, key=lambda pair: (-pair[2], pair[0], pair[1]))


def flipped(flat: np.ndarray, flip: str) -> np.ndarray:
    """Flips thumbnails that lie flat in the last axis; `flip` is a key of `FLIPS`."""
    square = flat.reshape(*flat.shape[:-1], THUMBNAIL_SIZE, THUMBNAIL_SIZE)
    axes = tuple(axis - 2 for axis in FLIPS[flip])
    return np.flip(square, axes).reshape(flat.shape)


def cropped_duplicates(
    thumbnails: np.ndarray, shares: np.ndarray, correlation: float = CROPPED_CORRELATION
) -> list[tuple[int, int, float, str | None]]:
    """Finds the pairs of which one slice is a crop of the other, rescaled or flipped as may be.

    Crops of up to a tenth of the content at each side are tried, in small steps, on the slices
    whose gray levels are most alike, since those hardly change with a crop, a scale or a flip, and
    on those that a few crops resemble most.

    Args:
        thumbnails: float32 `(n, 64, 64)`, the first of the `contents` of each slice.
        shares: float32 `(n, 22)`, the second.
        correlation: pairs at or above it count, in [-1, 1]. Default 0.97.

    Returns:
        `(i, j, correlation, flip)` with i < j and a key of `FLIPS` or None; the most alike first,
        each pair once.
    """
    from threadpoolctl import threadpool_limits

    # The matrix products are many and small: threads would mostly wait for each other.
    with threadpool_limits(1, "blas"):
        best = _search_crops(thumbnails, shares, correlation)
    pairs = [(i, j, value, flip) for (i, j), (value, flip) in best.items()]
    return sorted(pairs, key=lambda pair: (-pair[2], pair[0], pair[1]))


def _search_crops(
    thumbnails: np.ndarray, shares: np.ndarray, correlation: float
) -> dict[tuple[int, int], tuple[float, str | None]]:
    ends = crop_ends()
    coarse = _resampling(ends, _COARSE_SIZE)
    first = _resampling([(low, high) for low in _FEW_CROPS for high in _FEW_CROPS], _COARSE_SIZE)
    few, many = (_flips_of(thumbnails, size) for size in (_COARSE_SIZE, THUMBNAIL_SIZE))

    def search(index: int) -> list[tuple[int, float, str | None]]:
        others = _candidates(few, shares, index, _crops(thumbnails[index], first, first))
        found = _crops_found(
            thumbnails[index], few[:, others], many[:, others], ends, coarse, correlation
        )
        return [(int(others[other]), value, flip) for other, value, flip in found]

    best: dict[tuple[int, int], tuple[float, str | None]] = {}
    with ThreadPoolExecutor(THREADS) as pool:
        for index, found in enumerate(pool.map(search, range(len(thumbnails)))):
            for other, value, flip in found:
                pair = (min(index, other), max(index, other))
                if value > best.get(pair, (-1.0, None))[0]:
                    best[pair] = (value, flip)
    return best


def _crops_found(
    thumbnail: np.ndarray,
    few: np.ndarray,
    many: np.ndarray,
    ends: Sequence[tuple[float, float]],
    coarse: np.ndarray,
    correlation: float,
) -> Iterator[tuple[int, float, str | None]]:
    """Gives which of others are, in which flip, a crop's whole: `(other, correlation, flip)`."""
    found = few @ _crops(thumbnail, coarse, coarse).T
    for flip, other in np.argwhere(found.max(axis=-1) >= _WORTH_A_CLOSER_LOOK):
        rows, columns = divmod(int(found[flip, other].argmax()), len(ends))
        closer = _crops(thumbnail, _around(ends[rows]), _around(ends[columns]))
        value = float((closer @ many[flip, other]).max())
        if value >= correlation:
            yield int(other), value, (None, *FLIPS)[flip]


def crop_near(
    thumbnail: np.ndarray,
    other: np.ndarray,
    rows: tuple[float, float],
    columns: tuple[float, float],
    correlation: float = CROPPED_CORRELATION,
) -> float | None:
    """SliceReadings whether a crop of a slice, near a guess, shows all of another.

    Args:
        thumbnail: float32 `(64, 64)`, the first of its `contents`.
        other: float32 `(64, 64)`, that of the other, flipped as is guessed.
        rows: the guess: the shares of the height that are cut off above and below.
        columns: those of the width, to the left and right.
        correlation: as in `cropped_duplicates`. Default 0.97.

    Returns:
        The correlation, None for one below.
    """
    near = [_stepped(ends, _CROP_STEP) for ends in (rows, columns)]
    crops = _crops(thumbnail, *(_resampled(tuple(ends), _COARSE_SIZE) for ends in near))
    found = crops @ reduced(other[np.newaxis], _COARSE_SIZE)[0]
    if found.max() < _WORTH_A_CLOSER_LOOK:
        return None
    best = divmod(int(found.argmax()), len(near[1]))
    closer = (_around(ends[place]) for ends, place in zip(near, best, strict=True))
    value = float(
        (_crops(thumbnail, *closer) @ reduced(other[np.newaxis], THUMBNAIL_SIZE)[0]).max()
    )
    return value if value >= correlation else None


def some_crops(thumbnails: np.ndarray, places: np.ndarray, size: int, step: float) -> np.ndarray:
    """Takes one crop of each slice, of those that `coarse_crops` takes.

    Args:
        thumbnails: float32 `(n, 64, 64)`.
        places: `(n,)`: which crop, as `coarse_crops` counts them.
        size: side of the crops, in pixels.
        step: of the crops.

    Returns:
        float32 `(n, size * size)`, of unit length.
    """
    axis = _resampled(tuple(crop_ends(step)), size)
    rows, columns = np.divmod(places, len(axis))
    crops = axis[rows] @ thumbnails @ axis[columns].transpose(0, 2, 1)
    return _unit(crops.reshape(len(crops), -1))


def reduced(thumbnails: np.ndarray, size: int) -> np.ndarray:
    """Reduces `(n, 64, 64)` thumbnails to `(n, size * size)` of unit length."""
    whole = _resampling([(0.0, 0.0)], size)[0]
    return _unit((whole @ thumbnails @ whole.T).reshape(len(thumbnails), size * size))


def coarse_crops(thumbnails: np.ndarray, size: int, step: float) -> np.ndarray:
    """Takes every crop in steps, of up to a tenth at each side.

    Args:
        thumbnails: float32 `(n, 64, 64)`.
        size: side of the crops that are made, in pixels.
        step: of the crops, in shares of a side.

    Returns:
        float32 `(n, k, size * size)`, of unit length.
    """
    axis = _resampled(tuple(crop_ends(step)), size)
    count, flat = len(axis), axis.reshape(-1, _CONTENT_SIZE)
    half = flat @ thumbnails @ flat.T
    crops = half.reshape(-1, count, size, count, size).transpose(0, 1, 3, 2, 4)
    return _unit(crops.reshape(len(thumbnails), count * count, size * size))


def crop_ends(step: float = _CROP_STEP) -> list[tuple[float, float]]:
    """Lists what is cut off at both ends of an axis, as shares, for every crop in steps."""
    offsets = np.arange(0, _LARGEST_CROP + 1e-9, step)
    return [(low, high) for low in offsets for high in offsets]


def _flips_of(thumbnails: np.ndarray, size: int) -> np.ndarray:
    """Gives every thumbnail as it is and in every flip, `(4, n, size * size)`, of unit length."""
    whole = _resampling([(0.0, 0.0)], size)[0]
    small = whole @ thumbnails @ whole.T
    turned = [small, *(np.flip(small, [axis + 1 for axis in axes]) for axes in FLIPS.values())]
    return _unit(np.stack(turned).reshape(len(turned), len(thumbnails), size * size))


def _candidates(few: np.ndarray, shares: np.ndarray, index: int, crops: np.ndarray) -> np.ndarray:
    """Finds the slices that one may hold all of in a crop.

    Args:
        few: what `_flips_of` gave at the size of the crops.
        shares: `(n, 22)` of each slice.
        index: of the one.
        crops: float32 `(k, size * size)`, some crops of it.

    Returns:
        int64: those nearest in gray levels, and those most alike to one of the crops.
    """
    distances = np.abs(shares - shares[index]).sum(axis=1)
    distances[index] = np.inf
    nearest = np.argsort(distances, kind="stable")[:_CROP_CANDIDATES]
    alike = (few @ crops.T).max(axis=(0, 2))
    alike[distances > LARGEST_DISTANCE] = -1
    most_alike = np.argsort(-alike, kind="stable")[:_CROP_CANDIDATES]
    chosen = np.union1d(nearest, most_alike)
    return chosen[distances[chosen] <= LARGEST_DISTANCE]


def _resampling(ends: Sequence[tuple[float, float]], size: int) -> np.ndarray:
    """Makes the matrices that average an axis, less a share at each end, down to a size."""
    made = []
    for low, high in ends:
        edges = np.linspace(low * _CONTENT_SIZE, (1 - high) * _CONTENT_SIZE, size + 1)
        pixels = np.arange(_CONTENT_SIZE)
        begin, end = edges[:-1, np.newaxis], edges[1:, np.newaxis]
        overlap = np.minimum(end, pixels + 1) - np.maximum(begin, pixels)
        made.append(overlap.clip(0) / (end - begin))
    return np.array(made, np.float32)


@functools.lru_cache(maxsize=512)
def _resampled(ends: tuple[tuple[float, float], ...], size: int) -> np.ndarray:
    return _resampling(ends, size)


def _stepped(ends: tuple[float, float], step: float) -> list[tuple[float, float]]:
    low, high = ends
    steps = (-step, 0, step)
    return [(max(0.0, low + one), max(0.0, high + other)) for one in steps for other in steps]


def _around(ends: tuple[float, float]) -> np.ndarray:
    """Makes the matrices of the crops half a step around one, for the closer look."""
    return _resampled(tuple(_stepped(ends, _CROP_STEP / 2)), THUMBNAIL_SIZE)


def _crops(thumbnail: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Takes every crop of the rows with every crop of the columns, a line each, of unit length."""
    size = rows.shape[1]
    # Two plain matrix products are several times faster than a stack of small ones.
    half = (rows.reshape(-1, _CONTENT_SIZE) @ thumbnail) @ columns.reshape(-1, _CONTENT_SIZE).T
    crops = half.reshape(len(rows), size, len(columns), size).transpose(0, 2, 1, 3)
    return _unit(crops.reshape(len(rows) * len(columns), size * size))


def merge_groups(
    count: int,
    pairs: Iterable[tuple[int, int]] | np.ndarray,
    shared: Sequence[Sequence[Hashable | None]] = (),
) -> np.ndarray:
    """Joins slices that must not be split: by pairs, and by equal keys such as a patient.

    Args:
        count: the number of slices.
        pairs: indices of two slices that belong together.
        shared: sequences of `count` keys each; slices with equal keys belong together, None with
            no other. Default none.

    Returns:
        int64 `(count,)`: group numbers, counted from 0 in the order of first appearance.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    if not isinstance(pairs, np.ndarray):
        pairs = np.array(list(pairs), np.int64)
    edges = [pairs.reshape(-1, 2)]
    for keys in shared:
        first: dict[Hashable, int] = {}
        # Those without a key are joined with themselves.
        begins = (
            index if key is None else first.setdefault(key, index) for index, key in enumerate(keys)
        )
        joined = np.fromiter(begins, np.int64, count)
        edges.append(np.stack([joined, np.arange(count)], axis=1))
    rows, columns = np.concatenate(edges).T
    graph = coo_array((np.ones(len(rows), np.int8), (rows, columns)), shape=(count, count))
    _, component = connected_components(graph, directed=False)
    _, first_index, inverse = np.unique(component, return_index=True, return_inverse=True)
    order = np.argsort(np.argsort(first_index))
    return order[inverse].astype(np.int64)
