"""Read every slice once, and keep the values that the slice index and the audit need.

Small sets are read in threads, large ones in processes, because much of the work holds the
interpreter's lock. How slices relate to each other is determined in `near_duplicates`.
"""

from __future__ import annotations

import os
import signal
import threading
import time
import warnings
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np

from hemorrhage_tf.core.errors import Problem, SliceError
from hemorrhage_tf.core.progress import Progress
from hemorrhage_tf.datasets import thumbnails
from hemorrhage_tf.datasets.file_array import FileArray
from hemorrhage_tf.datasets.image_statistics import (
    ARRAYS,
    NUMBERS,
    ImageStatistics,
    ImageStatisticsTable,
    SavedFormat,
    image_statistics,
    pack_statistics,
)
from hemorrhage_tf.datasets.thumbnails import Thumbnails, make_thumbnails
from hemorrhage_tf.imaging.file_format import FileFormat
from hemorrhage_tf.imaging.head_crop import find_head
from hemorrhage_tf.imaging.input_checks import check_input
from hemorrhage_tf.imaging.readers import SliceRef, content_hash, read_slice_and_format
from hemorrhage_tf.imaging.windows import to_display_image

# Pillow and NumPy release the interpreter's lock while they decode and compute; more threads than
# cores are slower.
THREADS = min(4, os.cpu_count() or 1)

# For fewer slices, starting processes takes longer than it saves.
PROCESSES_FROM = 3000
MAX_PROCESSES = 16

CHUNK = 128  # slices that are read and packed together
BATCH_BYTES = 1 << 20  # of pixels that are processed together, step by step

# How often a worker process checks that the process that started it is still there.
_CHECK_SECONDS = 2.0

# The small values of each slice, besides those of `NUMBERS`.
_VALUES = np.dtype(
    [
        ("index", np.int64),
        ("hash", np.uint8, 16),
        ("is_hounsfield", np.bool_),
        ("head_share", np.float64),
        ("gray_shares", np.float32, thumbnails.GRAY_BINS),
    ]
)


@dataclass
class SliceReadings:
    """The values read from the `n` slices that are readable.

    Attributes:
        good: int64 `(n,)`: the indices of these slices.
        problems: Why each other slice cannot be read, by its index.
        hashes: uint8 `(n, 16)`: content hashes.
        is_hounsfield: bool `(n,)`: whether the pixels are in HU.
        head_shares: float64 `(n,)`: side of the head's square over the longer side of the slice.
        input_warnings: Why each may not be a slice of a head CT, or None.
        statistics: The image statistics.
        gray: `(2, 1024)` of each slice, see `thumbnails.Thumbnails`: float32, or float16 in sets of
            more than `thumbnails.ALL_PAIRS_UP_TO` slices.
        contents: `(64, 64)` of each slice: uint8, or float32 in small sets to audit.
        gray_shares: float32 `(n, 22)`.
    """

    good: np.ndarray
    problems: dict[int, Problem]
    hashes: np.ndarray
    is_hounsfield: np.ndarray
    head_shares: np.ndarray
    input_warnings: list[str | None]
    statistics: ImageStatisticsTable
    gray: FileArray
    contents: FileArray
    gray_shares: np.ndarray

    def __len__(self) -> int:
        return len(self.good)


def read_slices(
    slices: Sequence[SliceRef], progress: Progress, description: str, for_audit: bool = False
) -> SliceReadings:
    """Read every slice.

    Args:
        slices: Their locations.
        progress: Where to report progress, and a lost worker process.
        description: The description of the progress.
        for_audit: Skip head detection and input checks, and keep the gray levels of contents
            unrounded in sets of up to `thumbnails.ALL_PAIRS_UP_TO` slices. Defaults to False.
    """
    options = ReadingOptions(len(slices) <= thumbnails.ALL_PAIRS_UP_TO, for_audit)
    gray = FileArray(options.gray_dtype, (2, thumbnails.THUMBNAIL_SIZE**2))
    contents = FileArray(options.content_dtype, (thumbnails.CONTENT_SIZE,) * 2)
    arrays = FileArray(ARRAYS)
    values, numbers = [np.zeros(0, _VALUES)], [np.zeros(0, NUMBERS)]
    formats: dict[SavedFormat, int] = {}
    problems: dict[int, Problem] = {}
    input_warnings: list[str | None] = []
    with progress.track(description, len(slices)) as advance:
        for chunk in _read_chunks(slices, options, progress):
            gray.append(chunk.gray)
            contents.append(chunk.contents)
            arrays.append(chunk.arrays)
            chunk.numbers["format"] = [formats.setdefault(f, len(formats)) for f in chunk.formats]
            values.append(chunk.values)
            numbers.append(chunk.numbers)
            input_warnings += chunk.input_warnings
            problems |= chunk.problems
            advance(len(chunk.values) + len(chunk.problems))
    columns = np.concatenate(values)
    statistics = ImageStatisticsTable(
        np.concatenate(numbers), tuple(formats), arrays, np.arange(len(columns))
    )
    return SliceReadings(
        good=columns["index"].copy(),
        problems=problems,
        hashes=columns["hash"].copy(),
        is_hounsfield=columns["is_hounsfield"].copy(),
        head_shares=columns["head_share"].copy(),
        input_warnings=input_warnings,
        statistics=statistics,
        gray=gray,
        contents=contents,
        gray_shares=columns["gray_shares"].copy(),
    )


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


@dataclass(frozen=True, slots=True)
class SliceReading:
    """The values read from one slice."""

    content_hash: bytes
    is_hounsfield: bool
    reductions: Thumbnails
    statistics: ImageStatistics
    head_share: float
    input_warning: str | None


def read_chunk(begin: int, refs: Sequence[SliceRef], options: ReadingOptions) -> Chunk:
    """Read consecutive slices; this runs in worker processes.

    Args:
        begin: The index of the first slice.
        refs: Their locations.
        options: What to read.
    """
    return _pack(begin, read_batches(refs, options.for_audit), options)


def read_batches(refs: Sequence[SliceRef], for_audit: bool) -> list[SliceReading | Problem]:
    """Read slices, in batches of up to `BATCH_BYTES` of pixels.

    Each step is done for a whole batch before the next one, so that code and tables stay in the
    processor's cache.
    """
    readings: list[SliceReading | Problem] = []
    batch: list[tuple[np.ndarray, FileFormat] | Problem] = []
    size = 0
    for ref in refs:
        try:
            pixels, saved = read_slice_and_format(ref)
            batch.append((pixels, saved))
            size += pixels.nbytes
        except SliceError as error:
            batch.append(error.problem)
        if size > BATCH_BYTES:
            readings += _measure(batch, for_audit)
            batch, size = [], 0
    return readings + _measure(batch, for_audit)


def _measure(
    batch: Sequence[tuple[np.ndarray, FileFormat] | Problem], for_audit: bool
) -> list[SliceReading | Problem]:
    good = [each for each in batch if not isinstance(each, Problem)]
    pixels = [each[0] for each in good]
    keys = [bytes.fromhex(content_hash(each)) for each in pixels]
    images = [to_display_image(each) for each in pixels]
    reductions = [make_thumbnails(each) for each in images]
    statistics = [
        image_statistics(saved, image) for (_, saved), image in zip(good, images, strict=True)
    ]
    head_shares = [0.0] * len(good)
    warnings: list[str | None] = [None] * len(good)
    if not for_audit:
        heads = [find_head(each) for each in pixels]
        both = list(zip(pixels, heads, strict=True))
        head_shares = [head.side / max(each.shape[:2]) for each, head in both]
        warnings = [check_input(each, head) for each, head in both]
    readings = (
        SliceReading(
            content_hash=keys[at],
            is_hounsfield=pixels[at].dtype != np.uint8,
            reductions=reductions[at],
            statistics=statistics[at],
            head_share=head_shares[at],
            input_warning=warnings[at],
        )
        for at in range(len(good))
    )
    return [each if isinstance(each, Problem) else next(readings) for each in batch]


def _pack(begin: int, readings: Sequence[SliceReading | Problem], options: ReadingOptions) -> Chunk:
    problems: dict[int, Problem] = {}
    good: list[SliceReading] = []
    indices: list[int] = []
    for index, reading in enumerate(readings, start=begin):
        if isinstance(reading, Problem):
            problems[index] = reading
        else:
            good.append(reading)
            indices.append(index)
    count = len(good)
    values = np.zeros(count, _VALUES)
    gray = np.zeros((count, 2, thumbnails.THUMBNAIL_SIZE**2), options.gray_dtype)
    contents = np.zeros((count, *(thumbnails.CONTENT_SIZE,) * 2), np.float32)
    for at, each in enumerate(good):
        values[at] = (
            indices[at],
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


def _read_chunks(
    slices: Sequence[SliceRef], options: ReadingOptions, progress: Progress
) -> Iterator[Chunk]:
    """Yield the chunks in order, some of them read ahead."""
    begins = deque(range(0, len(slices), CHUNK))
    if len(slices) >= PROCESSES_FROM:
        try:
            for chunk in _read_in_processes(slices, list(begins), options):
                begins.popleft()
                yield chunk
        except (BrokenProcessPool, NotImplementedError, OSError) as error:
            progress.warn(
                f"a process that reads slices was lost ({error}). This process reads the remaining "
                "slices, which takes longer."
            )
    yield from _read_in_threads(slices, list(begins), options)


def start_processes(count: int) -> Any:
    """Start processes that read slices.

    They import this module but no TensorFlow, and not the script that runs here. They ignore
    Ctrl-C, because this process ends them, and end by themselves if this process is killed.

    Args:
        count: The number of processes.

    Returns:
        An executor as in `concurrent.futures`, whose `shutdown` also takes `kill_workers`.
    """
    from joblib.externals.loky import ProcessPoolExecutor

    # A worker whose memory grows by 300 MB, as by cached volumes, is replaced between two tasks.
    warnings.filterwarnings("ignore", "A worker stopped while some jobs", UserWarning)
    return ProcessPoolExecutor(
        count,
        initializer=_prepare_process,
        initargs=(os.getpid(),),
        env={"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
    )


def _prepare_process(parent: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.dup2(2, 1)  # standard output belongs to results, not to messages of libraries

    def exit_with_parent() -> None:
        while os.getppid() == parent:
            time.sleep(_CHECK_SECONDS)
        os._exit(1)

    threading.Thread(target=exit_with_parent, daemon=True).start()


def _read_in_processes(
    slices: Sequence[SliceRef], begins: Sequence[int], options: ReadingOptions
) -> Iterator[Chunk]:
    count = min(os.cpu_count() or 1, MAX_PROCESSES)
    pool = start_processes(count)
    try:
        tasks = (
            pool.submit(read_chunk, begin, slices[begin : begin + CHUNK], options).result
            for begin in begins
        )
        yield from _with_lookahead(tasks, 2 * count)
    finally:
        pool.shutdown(wait=True, kill_workers=True)  # at once, also after Ctrl-C


def _read_in_threads(
    slices: Sequence[SliceRef], begins: Sequence[int], options: ReadingOptions
) -> Iterator[Chunk]:
    pool = ThreadPoolExecutor(THREADS)

    def start(begin: int) -> Callable[[], Chunk]:
        tasks = [
            pool.submit(read_batches, [ref], options.for_audit)
            for ref in slices[begin : begin + CHUNK]
        ]
        return lambda: _pack(
            begin, list(chain.from_iterable(task.result() for task in tasks)), options
        )

    try:
        yield from _with_lookahead(map(start, begins), 2 * THREADS)
    finally:
        pool.shutdown(cancel_futures=True)  # so that Ctrl-C does not wait for the rest


def _with_lookahead(tasks: Iterator[Callable[[], Chunk]], ahead: int) -> Iterator[Chunk]:
    """Start tasks some steps before their results are needed, and yield the results in order."""
    pending: deque[Callable[[], Chunk]] = deque()
    for task in tasks:
        pending.append(task)
        if len(pending) > ahead:
            yield pending.popleft()()
    while pending:
        yield pending.popleft()()
