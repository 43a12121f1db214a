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
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np

from hemorrhage_tf.core.errors import Problem, SliceError
from hemorrhage_tf.core.lookahead import results_in_order
from hemorrhage_tf.core.processes import KEEP_FREED_MEMORY, ONE_THREAD
from hemorrhage_tf.core.progress import Progress
from hemorrhage_tf.core.workers import ALONE, Workers
from hemorrhage_tf.datasets import thumbnails
from hemorrhage_tf.datasets.file_array import FileArray
from hemorrhage_tf.datasets.image_statistics import (
    ARRAYS,
    NUMBERS,
    ImageStatisticsTable,
    SavedFormat,
    image_statistics,
)
from hemorrhage_tf.datasets.kept_readings import KeptReadings
from hemorrhage_tf.datasets.reading_chunks import (
    VALUES,
    Chunk,
    ReadingOptions,
    SliceReading,
    chunk_from_bytes,
    chunk_to_bytes,
    join_chunks,
    pack_readings,
)
from hemorrhage_tf.datasets.thumbnails import make_thumbnails
from hemorrhage_tf.imaging.file_format import FileFormat
from hemorrhage_tf.imaging.head_crop import HeadRegion, count_levels, find_head
from hemorrhage_tf.imaging.input_checks import check_input
from hemorrhage_tf.imaging.readers import (
    SliceRef,
    content_hash,
    drop_equal_channels,
    read_slice_and_format,
)
from hemorrhage_tf.imaging.windows import to_display_image

# Pillow and NumPy release the interpreter's lock while they decode and compute; more threads than
# cores are slower.
THREADS = min(4, os.cpu_count() or 1)

# For fewer slices, starting processes takes longer than it saves.
PROCESSES_FROM = 500
MAX_PROCESSES = 16

CHUNK = 64  # slices that are read and packed together
Part = Sequence[int]  # the indices of slices that are read together
BATCH_BYTES = 1 << 20  # of pixels that are processed together, step by step

# How often a worker process checks that the process that started it is still there.
_CHECK_SECONDS = 2.0


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
    slices: Sequence[SliceRef],
    progress: Progress,
    description: str,
    for_audit: bool = False,
    kept: KeptReadings | None = None,
    workers: Workers = ALONE,
) -> SliceReadings:
    """Read every slice.

    Args:
        slices: Their locations.
        progress: Where to report progress, and a lost worker process.
        description: The description of the progress.
        for_audit: Skip head detection and input checks, and keep the gray levels of contents
            unrounded in sets of up to `thumbnails.ALL_PAIRS_UP_TO` slices. Defaults to False.
        kept: What earlier commands read, and where to keep what this one reads. Defaults to None,
            to read every file.
        workers: The workers that share the reading, whose `slices` are the same. All have all
            results. Defaults to this process alone.
    """
    options = ReadingOptions(len(slices) <= thumbnails.ALL_PAIRS_UP_TO, for_audit)
    gray = FileArray(options.gray_dtype, (2, thumbnails.THUMBNAIL_SIZE**2))
    contents = FileArray(options.content_dtype, (thumbnails.CONTENT_SIZE,) * 2)
    arrays = FileArray(ARRAYS)
    values, numbers = [np.zeros(0, VALUES)], [np.zeros(0, NUMBERS)]
    formats: dict[SavedFormat, int] = {}
    problems: dict[int, Problem] = {}
    input_warnings: list[str | None] = []
    with progress.track(description, len(slices)) as advance:
        for chunk in _read_together(slices, options, progress, kept, workers):
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


def read_chunk(indices: Sequence[int], refs: Sequence[SliceRef], options: ReadingOptions) -> Chunk:
    """Read some slices; this runs in worker processes.

    Args:
        indices: Their indices.
        refs: Their locations.
        options: What to read.
    """
    return pack_readings(indices, read_batches(refs, options.for_audit), options)


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
    pixels = [drop_equal_channels(each[0]) for each in good]
    keys = [bytes.fromhex(content_hash(each)) for each in pixels]
    images = [to_display_image(each) for each in pixels]
    head_shares = [0.0] * len(good)
    warnings: list[str | None] = [None] * len(good)
    heads: list[HeadRegion | None] = [None] * len(good)
    if not for_audit:
        both = [(each, find_head(each)) for each in pixels]
        heads = [head for _, head in both]
        head_shares = [head.side / max(each.shape[:2]) for each, head in both]
        warnings = [check_input(each, head) for each, head in both]
    levels = [_count_levels(*each) for each in zip(pixels, images, heads, strict=True)]
    reductions = [make_thumbnails(*each) for each in zip(images, levels, strict=True)]
    statistics = [
        image_statistics(saved, image, counts)
        for (_, saved), image, counts in zip(good, images, levels, strict=True)
    ]
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


def _count_levels(
    pixels: np.ndarray, image: np.ndarray, head: HeadRegion | None
) -> np.ndarray | None:
    """Return how many pixels of a gray display image have each level; None for one in color."""
    if image.ndim == 3:
        return None
    if head is not None and pixels.dtype == np.uint8:
        return head.levels  # the head was found in the same gray levels
    return count_levels(image)


class _Part(Sequence[SliceRef]):
    """The slices of one worker, block by block, created on access to save memory."""

    def __init__(self, slices: Sequence[SliceRef], workers: Workers) -> None:
        blocks = workers.part(-(-len(slices) // CHUNK))
        starts = CHUNK * np.array(blocks, np.int64)[:, np.newaxis]
        indices = (starts + np.arange(CHUNK)).ravel()
        self.indices = indices[indices < len(slices)]
        self._slices = slices

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: Any) -> Any:
        return self._slices[int(self.indices[index])]


def _read_together(
    slices: Sequence[SliceRef],
    options: ReadingOptions,
    progress: Progress,
    kept: KeptReadings | None,
    workers: Workers,
) -> Iterator[Chunk]:
    """Yield the chunks of all workers in the order of the slices."""
    if workers.count == 1:
        yield from _read_or_keep(slices, options, progress, kept)
        return
    part = _Part(slices, workers)
    own = _read_or_keep(part, options, progress, kept)
    with closing(own):
        for _ in range(0, len(slices), CHUNK * workers.count):
            data, chunk = b"", next(own, None)
            if chunk is not None:
                chunk.values["index"] = part.indices[chunk.values["index"]]
                chunk.problems = {int(part.indices[i]): each for i, each in chunk.problems.items()}
                data = chunk_to_bytes(chunk)
            for of_worker in workers.gather_bytes(data):
                if of_worker:
                    yield chunk_from_bytes(of_worker, options)
        next(own, None)  # after the last one, what is kept is written


def _read_or_keep(
    slices: Sequence[SliceRef],
    options: ReadingOptions,
    progress: Progress,
    kept: KeptReadings | None,
) -> Generator[Chunk]:
    """Yield the chunks in order; unchanged files that are kept are not read."""
    every = range(len(slices))
    blocks = [every[begin : begin + CHUNK] for begin in range(0, len(slices), CHUNK)]
    if kept is None:
        yield from _read_chunks(slices, blocks, options, progress)
        return
    is_kept = kept.find(slices, options)
    missing = [[i for i in block if not is_kept[i]] for block in blocks]
    fresh = _read_chunks(slices, [part for part in missing if part], options, progress)
    try:
        for block, part in zip(blocks, missing, strict=True):
            chunks = []
            if part:
                chunks.append(next(fresh))
                kept.add(chunks[0])
            if len(part) < len(block):
                chunk, lost = kept.read(np.array([i for i in block if is_kept[i]]))
                chunks.append(chunk)
                if len(lost):
                    chunks += _read_in_threads(slices, [lost.tolist()], options)
                    kept.add(chunks[-1])
            yield join_chunks(chunks)
    finally:
        fresh.close()
    kept.close()


def _read_chunks(
    slices: Sequence[SliceRef], parts: Sequence[Part], options: ReadingOptions, progress: Progress
) -> Generator[Chunk]:
    """Yield a chunk for each part in order, some of them read ahead."""
    left = deque(parts)
    if sum(map(len, parts)) >= PROCESSES_FROM:
        try:
            for chunk in _read_in_processes(slices, parts, options):
                left.popleft()
                yield chunk
        except (BrokenProcessPool, NotImplementedError, OSError) as error:
            progress.warn(
                f"a process that reads slices was lost ({error}). This process reads the remaining "
                "slices, which takes longer."
            )
    yield from _read_in_threads(slices, list(left), options)


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
        env=ONE_THREAD | KEEP_FREED_MEMORY,
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
    slices: Sequence[SliceRef], parts: Sequence[Part], options: ReadingOptions
) -> Iterator[Chunk]:
    count = min(os.cpu_count() or 1, MAX_PROCESSES)
    pool = start_processes(count)
    try:
        tasks = (
            pool.submit(read_chunk, part, [slices[i] for i in part], options).result
            for part in parts
        )
        yield from results_in_order(tasks, 2 * count)
    finally:
        pool.shutdown(wait=True, kill_workers=True)  # at once, also after Ctrl-C


def _read_in_threads(
    slices: Sequence[SliceRef], parts: Sequence[Part], options: ReadingOptions
) -> Iterator[Chunk]:
    pool = ThreadPoolExecutor(THREADS)

    def start(part: Part) -> Callable[[], Chunk]:
        tasks = [pool.submit(read_batches, [slices[i]], options.for_audit) for i in part]
        return lambda: pack_readings(
            part, list(chain.from_iterable(task.result() for task in tasks)), options
        )

    try:
        yield from results_in_order(map(start, parts), 2 * THREADS)
    finally:
        pool.shutdown(cancel_futures=True)  # so that Ctrl-C does not wait for the rest
