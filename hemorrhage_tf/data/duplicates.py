"""Duplicates: which slices show the same picture, and the groups that must stay on one side.

Exact duplicates have the same pixels (`readers.content_hash`). Near-duplicates are found by the
correlation of small grey thumbnails, of the whole slice and of the slice cropped to its content,
so that a rescaled copy, a copy with a letter drawn on it and a neighboring slice of the same scan
are all noticed. Flipped copies are not.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence

import numpy as np
from PIL import Image

THUMBNAIL_SIZE = 32

# On the Kaggle head-CT set every pair at or above this correlation is, by eye, the same slice at
# another size (188/189, 198/199, 11/61, 5/22/58, 10/66, 105/187) or a neighboring slice of the same
# scan (107/108, 168/169/170/172, 173/174/176); the pairs just below are different patients too.
NEAR_DUPLICATE_CORRELATION = 0.95

_CONTENT_LEVEL = 24  # grey levels: what is darker counts as background when cropping
_CHUNK = 2048


def thumbnails(pixels: np.ndarray) -> np.ndarray:
    """Reduces a slice to what near-duplicates are compared by.

    Args:
        pixels: uint8 `(height, width)` or `(height, width, 3)`.

    Returns:
        float32 `(2, 1024)`: the whole slice and the slice cropped to its content, each as a 32 x 32
        grey thumbnail with zero mean and unit length (zeros for a slice of one color).
    """
    grey = pixels if pixels.ndim == 2 else pixels.mean(axis=-1)
    grey = grey.astype(np.float32)
    content = grey > _CONTENT_LEVEL
    rows, columns = np.flatnonzero(content.any(axis=1)), np.flatnonzero(content.any(axis=0))
    cropped = grey[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] if rows.size else grey
    return np.stack([_unit_thumbnail(grey), _unit_thumbnail(cropped)])


def _unit_thumbnail(grey: np.ndarray) -> np.ndarray:
    size = (THUMBNAIL_SIZE, THUMBNAIL_SIZE)
    small = np.asarray(Image.fromarray(grey).resize(size, Image.Resampling.BOX)).ravel()
    small = small - small.mean()
    length = np.linalg.norm(small)
    # Rounding leaves a slice of one color with a tiny residue that must not be blown up.
    return small / length if length > 1e-3 else np.zeros_like(small)


def near_duplicates(
    stacked: np.ndarray, correlation: float = NEAR_DUPLICATE_CORRELATION
) -> list[tuple[int, int, float]]:
    """Finds the pairs of slices that look alike.

    Args:
        stacked: float32 `(n, 2, 1024)`, the `thumbnails` of each slice.
        correlation: pairs at or above it count, in [-1, 1]. Default 0.95.

    Returns:
        `(i, j, correlation)` with i < j, the most alike first.
    """
    pairs: list[tuple[int, int, float]] = []
    count = len(stacked)
    for begin in range(0, count, _CHUNK):
        for other in range(begin, count, _CHUNK):
            alike = np.max(
                [
                    stacked[begin : begin + _CHUNK, kind] @ stacked[other : other + _CHUNK, kind].T
                    for kind in range(stacked.shape[1])
                ],
                axis=0,
            )
            for i, j in np.argwhere(alike >= correlation):
                if begin + i < other + j:
                    pairs.append((int(begin + i), int(other + j), float(alike[i, j])))
    return sorted(pairs, key=lambda pair: (-pair[2], pair[0], pair[1]))


def merge_groups(
    count: int,
    pairs: Iterable[tuple[int, int]],
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

    edges = list(pairs)
    for keys in shared:
        first: dict[Hashable, int] = {}
        for index, key in enumerate(keys):
            if key is not None:
                edges.append((first.setdefault(key, index), index))
    rows, columns = np.array(edges, np.int64).reshape(-1, 2).T
    graph = coo_array((np.ones(len(rows), np.int8), (rows, columns)), shape=(count, count))
    _, component = connected_components(graph, directed=False)
    _, first_index, inverse = np.unique(component, return_index=True, return_inverse=True)
    order = np.argsort(np.argsort(first_index))
    return order[inverse].astype(np.int64)
