"""Chunks: the values read from some slices, packed into arrays. Reading is in `slice_reading`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from itertools import chain
from typing import Any

import numpy as np

from hemorrhage_tf.core.errors import Problem
from hemorrhage_tf.datasets import thumbnails
from hemorrhage_tf.datasets.image_statistics import (
    ImageStatistics,
    SavedFormat,
    pack_statistics,
)
from hemorrhage_tf.datasets.thumbnails import Thumbnails

# The small values of each slice, besides those of `NUMBERS`.
VALUES = np.dtype(
    [
        ("index", np.int64),
        ("hash", np.uint8, 16),
        ("is_hounsfield", np.bool_),
        ("head_share", np.float64),
        ("gray_shares", np.float32, thumbnails.GRAY_BINS),
    ]
)

_ARRAYS = ("values", "numbers", "arrays", "gray", "contents")


@dataclass(frozen=True)
class ReadingOptions:
    """What to read of each slice, and how precisely to keep it."""

    is_small_set: bool
    for_audit: bool

    @property
    def gray_dtype(self) -> np.dtype:
        """The dtype of gray thumbnails."""
        return np.dtype(np.float32 if self.is_small_set else np.float16)

    @property
    def content_dtype(self) -> np.dtype:
        """The dtype of content thumbnails."""
        return np.dtype(np.float32 if self.is_small_set and self.for_audit else np.uint8)


@dataclass
class Chunk:
    """The values read from some slices: an array row for each readable one, and the problems."""

    values: np.ndarray
    numbers: np.ndarray
    arrays: np.ndarray
    gray: np.ndarray
    contents: np.ndarray
    formats: list[SavedFormat]
    input_warnings: list[str | None]
    problems: dict[int, Problem]

    def take(self, rows: np.ndarray) -> Chunk:
        """Return some rows, without the problems."""
        return Chunk(
            values=self.values[rows],
            numbers=self.numbers[rows],
            arrays=self.arrays[rows],
            gray=self.gray[rows],
            contents=self.contents[rows],
            formats=[self.formats[row] for row in rows],
            input_warnings=[self.input_warnings[row] for row in rows],
            problems={},
        )


@dataclass(frozen=True, slots=True)
class SliceReading:
    """The values read from one slice."""

    content_hash: bytes
    is_hounsfield: bool
    reductions: Thumbnails
    statistics: ImageStatistics
    head_share: float
    input_warning: str | None


def pack_readings(
    indices: Sequence[int], readings: Sequence[SliceReading | Problem], options: ReadingOptions
) -> Chunk:
    """Pack the values of slices into arrays.

    Args:
        indices: The index of each slice.
        readings: What was read of each, or why it cannot be read.
        options: What was read, and how precisely to keep it.
    """
    problems: dict[int, Problem] = {}
    good: list[SliceReading] = []
    places: list[int] = []
    for index, reading in zip(indices, readings, strict=True):
        if isinstance(reading, Problem):
            problems[index] = reading
        else:
            good.append(reading)
            places.append(index)
    count = len(good)
    values = np.zeros(count, VALUES)
    gray = np.zeros((count, 2, thumbnails.THUMBNAIL_SIZE**2), options.gray_dtype)
    contents = np.zeros((count, *(thumbnails.CONTENT_SIZE,) * 2), np.float32)
    for at, each in enumerate(good):
        values[at] = (
            places[at],
            np.frombuffer(each.content_hash, np.uint8),
            each.is_hounsfield,
            each.head_share,
            each.reductions.gray_shares,
        )
        gray[at], contents[at] = each.reductions.gray, each.reductions.content
    if options.content_dtype == np.uint8:
        contents = np.rint(contents).astype(np.uint8)
    numbers, arrays, formats = pack_statistics([each.statistics for each in good])
    return Chunk(
        values=values,
        numbers=numbers,
        arrays=arrays,
        gray=gray,
        contents=contents,
        formats=formats,
        input_warnings=[each.input_warning for each in good],
        problems=problems,
    )


def empty_chunk(options: ReadingOptions) -> Chunk:
    """Return a chunk of no slices."""
    return pack_readings([], [], options)


def join_chunks(chunks: Sequence[Chunk], in_order: bool = True) -> Chunk:
    """Join chunks.

    Args:
        chunks: At least one.
        in_order: Sort the slices by their indices. Defaults to True.
    """
    if len(chunks) == 1:
        return chunks[0]
    joined = Chunk(
        values=np.concatenate([each.values for each in chunks]),
        numbers=np.concatenate([each.numbers for each in chunks]),
        arrays=np.concatenate([each.arrays for each in chunks]),
        gray=np.concatenate([each.gray for each in chunks]),
        contents=np.concatenate([each.contents for each in chunks]),
        formats=list(chain.from_iterable(each.formats for each in chunks)),
        input_warnings=list(chain.from_iterable(each.input_warnings for each in chunks)),
        problems={},
    )
    ordered = joined.take(np.argsort(joined.values["index"])) if in_order else joined
    for each in chunks:
        ordered.problems |= each.problems
    return ordered


def chunk_to_arrays(chunk: Chunk) -> dict[str, np.ndarray]:
    """Return arrays that an NPZ file can hold without pickle; the problems are left out."""
    texts = {
        "formats": [[*each[:2], sorted(each[2])] for each in chunk.formats],
        "input_warnings": chunk.input_warnings,
    }
    arrays = {name: getattr(chunk, name) for name in _ARRAYS}
    return arrays | {name: _pack_text(text) for name, text in texts.items()}


def chunk_from_arrays(
    arrays: Mapping[str, np.ndarray], options: ReadingOptions, count: int
) -> Chunk:
    """Return the chunk that `chunk_to_arrays` packed.

    Args:
        arrays: Its arrays.
        options: How its slices were read.
        count: The number of its slices.

    Raises:
        ValueError: The arrays are not those of such a chunk.
        KeyError: An array is missing.
    """
    expected = empty_chunk(options)
    found = {name: arrays[name] for name in _ARRAYS}
    for name, array in found.items():
        like = getattr(expected, name)
        if array.dtype != like.dtype or array.shape != (count, *like.shape[1:]):
            raise ValueError(f"{name} of another format")
    formats, warnings = (_unpack_text(arrays[name]) for name in ("formats", "input_warnings"))
    saved: list[SavedFormat] = [(mode, kind, frozenset(names)) for mode, kind, names in formats]
    if len(saved) != count or len(warnings) != count:
        raise ValueError("rows are missing")
    return Chunk(**found, formats=saved, input_warnings=warnings, problems={})


def chunk_to_bytes(chunk: Chunk) -> bytes:
    """Return a chunk, with its problems, as bytes for another worker."""
    problems = [[index, each.path, each.reason] for index, each in chunk.problems.items()]
    stream = BytesIO()
    np.savez(stream, problems=_pack_text(problems), **chunk_to_arrays(chunk))  # type: ignore[arg-type]
    return stream.getvalue()


def chunk_from_bytes(data: bytes, options: ReadingOptions) -> Chunk:
    """Return the chunk of another worker from the bytes of `chunk_to_bytes`."""
    with np.load(BytesIO(data), allow_pickle=False) as file:
        chunk = chunk_from_arrays(file, options, len(file["values"]))
        problems = _unpack_text(file["problems"])
    chunk.problems.update({index: Problem(path, reason) for index, path, reason in problems})
    return chunk


def _pack_text(content: Any) -> np.ndarray:
    return np.frombuffer(json.dumps(content).encode(), np.uint8)


def _unpack_text(array: np.ndarray) -> Any:
    return json.loads(array.tobytes())
