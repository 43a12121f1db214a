"""The same image under two patients: pairs of slices that are too similar for two people.

Heads are so similar that slices of one level of two patients reach the correlations of
near-duplicates. What differs between people is the fine structure: thumbnails minus blurred ones.
From which correlation of it a pair is the same image, the nearest pairs of different patients of
the set determine.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator
from statistics import NormalDist

import numpy as np

from hemorrhage_tf.datasets.crops import (
    COARSE_SIZE,
    CROP_STEP,
    Ends,
    crop_ends,
    neighboring_ends,
    resampling,
    shrink,
    take_crops,
)
from hemorrhage_tf.datasets.file_array import FileArray
from hemorrhage_tf.datasets.thumbnails import (
    FLIPS,
    THUMBNAIL_SIZE,
    flip_thumbnails,
    unit_vectors,
)

# The limit stays in this range, above the different patients and below the copies that were
# measured; see docs/decisions.md.
LOWEST_LIMIT, HIGHEST_LIMIT = 0.95, 0.97

# The expected number of pairs of different patients in a set that exceed the limit by chance.
_CHANCE = 0.1

_QUERIES = 256  # slices whose nearest slice of another patient is searched
_BLUR = 1.0  # standard deviation in pixels of a thumbnail
_BLOCK = 512  # slices read together: little memory beside the search of near-duplicates
_COARSE_STEP = 0.05  # between the crops that the nearest slices are aligned by first
_FINEST_STEP = CROP_STEP / 4


def number_patients(patients: Iterable[str | None]) -> np.ndarray:
    """Give each patient a number.

    Args:
        patients: The patient of each slice, None or empty if unknown.

    Returns:
        int64 `(n,)`: numbers from 0, -1 for slices without a patient.
    """
    numbers: dict[str, int] = {}
    codes = (numbers.setdefault(each, len(numbers)) if each else -1 for each in patients)
    return np.fromiter(codes, np.int64)


def are_of_different_patients(
    patients: np.ndarray, first: np.ndarray, second: np.ndarray
) -> np.ndarray:
    """Return which pairs are of two patients, both known.

    Args:
        patients: int64 `(n,)` from `number_patients`.
        first: int64 `(k,)`: the first slice of each pair.
        second: int64 `(k,)`: the second one.

    Returns:
        bool `(k,)`.
    """
    one, other = patients[first], patients[second]
    return (one >= 0) & (other >= 0) & (one != other)


def fine_structure(flat: np.ndarray) -> np.ndarray:
    """Subtract the blurred thumbnails, and scale to unit length.

    Args:
        flat: `(..., 1024)` thumbnails.

    Returns:
        float32 `(..., 1024)`.
    """
    square = flat.reshape(*flat.shape[:-1], THUMBNAIL_SIZE, THUMBNAIL_SIZE)
    blur = _blur()
    return unit_vectors((square - blur @ square @ blur.T).reshape(flat.shape))


def fine_correlations(
    gray: FileArray, first: np.ndarray, second: np.ndarray, flip: str | None = None
) -> np.ndarray:
    """Compute the correlations of the fine structure of pairs, without cropping them.

    Args:
        gray: `(2, 1024)` of each slice, see `thumbnails.Thumbnails`.
        first: int64 `(k,)`: rows of `gray`.
        second: int64 `(k,)`: rows of `gray`, flipped before they are compared.
        flip: A key of `thumbnails.FLIPS`. Defaults to None.

    Returns:
        float64 `(k,)`: the larger one of both kinds of thumbnails.
    """
    values = np.empty(len(first))
    for begin in range(0, len(first), _BLOCK // 2):
        part = slice(begin, begin + _BLOCK // 2)
        needed, places = np.unique(np.concatenate([first[part], second[part]]), return_inverse=True)
        fine = fine_structure(gray.take(needed).astype(np.float32))
        one, other = np.split(places.reshape(-1), 2)
        similar = np.einsum("ikv,ikv->ik", fine[one], flip_thumbnails(fine[other], flip))
        values[part] = similar.max(axis=1)
    return values


def fine_correlation_of_crop(
    content: np.ndarray, whole: np.ndarray, ends: tuple[Ends, Ends], step: float
) -> float:
    """Compare the fine structure of crops near a guess with that of a whole slice.

    Args:
        content: float32 `(64, 64)`, the content thumbnail to crop.
        whole: float32 `(64, 64)`, that of the other slice, flipped as guessed.
        ends: The guess: the ends of the rows and of the columns.
        step: The step between the crops that were guessed from, as a share of the axis.

    Returns:
        The highest correlation.
    """
    fine = fine_structure(shrink(whole[np.newaxis], THUMBNAIL_SIZE))[0]
    best, (rows, columns) = -1.0, ends
    while step > _FINEST_STEP:
        step /= 2
        # One axis after the other takes 18 crops instead of 81.
        near = neighboring_ends(rows, step)
        similar = _fine_crops(content, near, [columns]) @ fine
        rows = near[int(similar.argmax())]
        near = neighboring_ends(columns, step)
        similar = _fine_crops(content, [rows], near) @ fine
        columns, best = near[int(similar.argmax())], max(best, float(similar.max()))
    return best


def _fine_crops(content: np.ndarray, rows: list[Ends], columns: list[Ends]) -> np.ndarray:
    axes = (resampling(tuple(ends), THUMBNAIL_SIZE) for ends in (rows, columns))
    return fine_structure(take_crops(content, *axes))


def same_image_limit(
    gray: FileArray, contents: FileArray, rows: np.ndarray, patients: np.ndarray
) -> float | None:
    """Determine from which correlation of the fine structure two patients' slices are one image.

    The correlation of each of up to 256 slices with the nearest slice of another patient is
    transformed by Fisher's z. The limit is the value that one of as many normal variables as there
    are slices exceeds in one of ten sets, their mean and standard deviation being estimated by the
    median and the quartiles, which a few copies do not move. It is at least 0.95 and at most 0.97.

    Args:
        gray: `(2, 1024)` of each slice, see `thumbnails.Thumbnails`.
        contents: `(64, 64)` of each slice.
        rows: int64 `(n,)`: the slices to compare.
        patients: int64 `(n,)` from `number_patients`.

    Returns:
        The limit; None without two patients.
    """
    from threadpoolctl import threadpool_limits

    known = np.flatnonzero(patients >= 0)
    if not len(known) or (patients[known] == patients[known[0]]).all():
        return None
    drawn = np.random.default_rng(0).choice(known, min(_QUERIES, len(known)), replace=False)
    queries = np.sort(drawn)
    with threadpool_limits(1, "blas"):  # The matrix products are many and small.
        nearest, similar = _nearest_of_others(gray, rows, patients, queries)
        ones, others = (contents.take(rows[each]).astype(np.float32) for each in (queries, nearest))
        aligned = [
            max(_aligned_correlation(one, other), _aligned_correlation(other, one))
            for one, other in zip(ones, others, strict=True)
        ]
    z = np.arctanh(np.maximum(similar, aligned).clip(-0.9999, 0.9999))
    low, median, high = np.quantile(z, [0.25, 0.5, 0.75])
    normal = NormalDist()
    deviation = (high - low) / (normal.inv_cdf(0.75) - normal.inv_cdf(0.25))
    limit = np.tanh(median + deviation * normal.inv_cdf(1 - _CHANCE / len(known)))
    return float(np.clip(limit, LOWEST_LIMIT, HIGHEST_LIMIT))


def is_single_color(gray: FileArray, rows: np.ndarray) -> np.ndarray:
    """Return which slices have a single color, bool `(k,)`."""
    return np.array([not gray.take([row]).any() for row in rows.tolist()], bool)


def describe_alike(pairs: int, limit: float | None) -> list[str]:
    """Describe the pairs of different patients that only look alike, in at most one sentence.

    Args:
        pairs: Their number.
        limit: From `same_image_limit`.
    """
    if not pairs or limit is None:
        return []
    count, verb = ("1 pair", "looks") if pairs == 1 else (f"{pairs} pairs", "look")
    return [
        f"{count} of different patients {verb} alike; kept apart. Across patients only the same "
        f"image counts: in this set a correlation of the fine structure of {limit:.3f} or more."
    ]


def flip_content(content: np.ndarray, flip: str | None) -> np.ndarray:
    """Flip a content thumbnail `(64, 64)`; None returns it unchanged."""
    return content if flip is None else np.flip(content, FLIPS[flip])


@functools.cache
def _blur() -> np.ndarray:
    from scipy.ndimage import gaussian_filter1d

    return gaussian_filter1d(np.eye(THUMBNAIL_SIZE, dtype=np.float32), _BLUR, axis=0)


def _aligned_correlation(content: np.ndarray, whole: np.ndarray) -> float:
    ends = crop_ends(_COARSE_STEP)
    axis = resampling(tuple(ends), COARSE_SIZE)
    similar = take_crops(content, axis, axis) @ shrink(whole[np.newaxis], COARSE_SIZE)[0]
    row, column = divmod(int(similar.argmax()), len(ends))
    return fine_correlation_of_crop(content, whole, (ends[row], ends[column]), _COARSE_STEP)


def _nearest_of_others(
    gray: FileArray, rows: np.ndarray, patients: np.ndarray, queries: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the slice of another patient nearest to each query, and the correlation."""
    of_queries = patients[queries][:, np.newaxis]
    asked = fine_structure(gray.take(rows[queries]).astype(np.float32))
    nearest, highest = np.zeros(len(queries), np.int64), np.full(len(queries), -1.0)
    for places, block in _known_blocks(gray, rows, patients):
        fine = fine_structure(block)
        similar = np.max([asked[:, kind] @ fine[:, kind].T for kind in range(2)], axis=0)
        similar[of_queries == patients[places]] = -2
        value, at = similar.max(axis=1), similar.argmax(axis=1)
        better = value > highest
        nearest[better], highest[better] = places[at[better]], value[better]
    return nearest, highest


def _known_blocks(
    gray: FileArray, rows: np.ndarray, patients: np.ndarray
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    known = np.flatnonzero(patients >= 0)
    for begin in range(0, len(known), _BLOCK):
        places = known[begin : begin + _BLOCK]
        yield places, gray.take(rows[places]).astype(np.float32)
