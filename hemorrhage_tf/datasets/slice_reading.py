"""SliceReadings: every slice read once, and all that the scan and the audit need of it kept in columns.

Small sets are read in threads, large ones in processes, since much of a look holds the
interpreter's lock. What the slices have to do with each other is found in `data.duplicates`.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from hemorrhage_tf.core.errors import Problem, SliceError
from hemorrhage_tf.core.progress import Progress
from hemorrhage_tf.datasets import near_duplicates
from hemorrhage_tf.datasets.column_store import FileColumn, Hashes, Interned
from hemorrhage_tf.datasets.image_statistics import (
    ImageStatistics,
    ImageStatisticsTable,
    image_statistics,
    packed,
)
from hemorrhage_tf.imaging.file_format import FileFormat
from hemorrhage_tf.imaging.head_crop import find_head
from hemorrhage_tf.imaging.input_checks import check_input
from hemorrhage_tf.imaging.readers import SliceRef, content_hash, read_slice_and_format
from hemorrhage_tf.imaging.windows import display_image

# Pillow and NumPy release the interpreter's lock while they decode and compute; more threads than
# cores read more slowly.
THREADS = min(4, os.cpu_count() or 1)
# Processes take a while to start, which is not worth it for fewer.
PROCESSES_FROM = 3000
_CHUNK = 128  # slices that are read and packed together
_TOGETHER = 1 << 20  # bytes of pixels that are looked at together
_MOST_PROCESSES = 16


@dataclass
class SliceReadings:
    """What was seen of the slices that could be read, `n` of them.

    Attributes:
        good: int64 `(n,)`: which of the slices these are.
        problems: what is wrong with each of the others, by its index.
        hashes: the content hash of each.
        is_hounsfield: bool `(n,)`.
        head_shares: float64 `(n,)`: side of the head's square over the longer side of the slice.
        input_warnings: what makes each look like something else than a head CT, or None.
        statistics: of each, see `data.statistics`.
        thumbnails: `(2, 1024)` of each, see `near_duplicates.thumbnails`: float32, and float16 in sets
            of more than `near_duplicates.ALL_PAIRS_UP_TO` slices.
        contents: `(64, 64)` of each, see `near_duplicates.contents`.
        shares: float32 `(22,)` of each, the second of the same.
    """

    good: np.ndarray
    problems: dict[int, Problem]
    hashes: Hashes
    is_hounsfield: np.ndarray
    head_shares: np.ndarray
    input_warnings: Interned
    statistics: ImageStatisticsTable
    thumbnails: FileColumn
    contents: FileColumn
    shares: np.ndarray

    def __len__(self) -> int:
        return len(self.good)


def read_slices(
    slices: Sequence[SliceRef], progress: Progress, description: str, for_audit: bool = False
) -> SliceReadings:
    """Reads every slice.

    Args:
        slices: where they are.
        progress: where progress goes.
        description: of the progress.
        for_audit: leave the head and the input_warning out, and the content's gray levels unrounded in
            sets up to `near_duplicates.ALL_PAIRS_UP_TO`. Default False.
    """
    exact = len(slices) <= near_duplicates.ALL_PAIRS_UP_TO
    kind = _Kind(exact, for_audit)
    statistics, input_warnings = ImageStatisticsTable(), Interned()
    thumbnails = FileColumn(kind.of_thumbnails, (2, near_duplicates.THUMBNAIL_SIZE**2))
    contents = FileColumn(kind.of_contents, (64, 64))
    problems: dict[int, Problem] = {}
    kept: dict[str, list[np.ndarray]] = {
        name: [empty] for name, empty in _EMPTY.items() if name in _IN_MEMORY
    }
    places = [np.zeros(0, np.int64)]
    with progress.track(description, len(slices)) as advance:
        for begin, chunk in _chunks(slices, kind):
            bad = {int(place): Problem(*given) for place, given in chunk.problems.items()}
            problems |= {begin + place: problem for place, problem in bad.items()}
            read = min(_CHUNK, len(slices) - begin)
            places.append(begin + np.array([p for p in range(read) if p not in bad], np.int64))
            statistics.append(chunk.arrays, [text[:3] for text in chunk.texts])
            for text in chunk.texts:
                input_warnings.append(text[3])
            thumbnails.append(chunk.arrays["thumbnails"])
            contents.append(chunk.arrays["contents"])
            for name in _IN_MEMORY:
                kept[name].append(chunk.arrays[name])
            advance(read)
    columns = {name: np.concatenate(parts) for name, parts in kept.items()}
    return SliceReadings(
        np.concatenate(places),
        problems,
        Hashes(columns["hashes"]),
        columns["is_hounsfield"],
        columns["head_shares"],
        input_warnings,
        statistics,
        thumbnails,
        contents,
        columns["shares"],
    )


_IN_MEMORY = ("hashes", "is_hounsfield", "head_shares", "shares")
_EMPTY = {
    "hashes": np.zeros((0, 16), np.uint8),
    "is_hounsfield": np.zeros(0, bool),
    "head_shares": np.zeros(0, np.float64),
    "shares": np.zeros((0, 22), np.float32),
}


@dataclass(frozen=True)
class _Kind:
    """What is kept of each slice."""

    exact: bool
    for_audit: bool

    @property
    def of_thumbnails(self) -> type:
        return np.float32 if self.exact else np.float16

    @property
    def of_contents(self) -> type:
        return np.float32 if self.exact and self.for_audit else np.uint8


@dataclass
class _Chunk:
    """What was seen of some slices: arrays by name, texts of the good ones, problems by place."""

    arrays: dict[str, np.ndarray]
    texts: list[list[Any]]
    problems: dict[Any, Sequence[str]]


@dataclass(frozen=True, slots=True)
class _Look:
    content_hash: bytes
    is_hounsfield: bool
    thumbnails: np.ndarray
    content: np.ndarray
    shares: np.ndarray
    statistics: ImageStatistics
    head_share: float
    input_warning: str | None


def _looks(refs: Sequence[SliceRef], for_audit: bool) -> list[_Look | Problem]:
    """SliceReadings at slices, as many together as are small enough.

    Each step is done for all of them before the next: with 100 small slices that took three
    quarters of the time that one slice after the other did, since code and tables stay in the
    processor's cache.
    """
    found: list[_Look | Problem] = []
    read: list[tuple[np.ndarray, FileFormat] | Problem] = []
    held = 0
    for ref in refs:
        try:
            read.append(read_slice_and_format(ref))
            held += read[-1][0].nbytes
        except SliceError as error:
            read.append(error.problem)
        if held > _TOGETHER:
            found += _looks_of(read, for_audit)
            read, held = [], 0
    return found + _looks_of(read, for_audit)


def _looks_of(
    read: Sequence[tuple[np.ndarray, FileFormat] | Problem], for_audit: bool
) -> list[_Look | Problem]:
    good = [each for each in read if not isinstance(each, Problem)]
    pixels = [each[0] for each in good]
    keys = [bytes.fromhex(content_hash(each)) for each in pixels]
    pictures = [display_image(each) for each in pixels]
    reductions = [near_duplicates.reductions(each) for each in pictures]
    statistics = [
        image_statistics(saved, picture) for (_, saved), picture in zip(good, pictures, strict=True)
    ]
    head_shares, warnings = [0.0] * len(good), [None] * len(good)
    if not for_audit:
        heads = [find_head(each) for each in pixels]
        both = list(zip(pixels, heads, strict=True))
        head_shares = [head.side / max(each.shape[:2]) for each, head in both]
        warnings = [check_input(each, head) for each, head in both]
    readings = (
        _Look(
            keys[at], pixels[at].dtype != np.uint8, *reductions[at], statistics[at], share, warning
        )
        for at, (share, warning) in enumerate(zip(head_shares, warnings, strict=True))
    )
    return [each if isinstance(each, Problem) else next(readings) for each in read]


def _pack(readings: Sequence[_Look | Problem], kind: _Kind) -> _Chunk:
    problems = {
        place: (look.path, look.reason)
        for place, look in enumerate(readings)
        if isinstance(look, Problem)
    }
    good = [look for look in readings if isinstance(look, _Look)]
    arrays, texts = packed([look.statistics for look in good])
    content = np.array([look.content for look in good], np.float32).reshape(-1, 64, 64)
    if kind.of_contents is np.uint8:
        content = np.rint(content)
    size = near_duplicates.THUMBNAIL_SIZE**2
    arrays |= {
        "hashes": np.frombuffer(b"".join(look.content_hash for look in good), np.uint8).reshape(
            -1, 16
        ),
        "is_hounsfield": np.array([look.is_hounsfield for look in good], bool),
        "head_shares": np.array([look.head_share for look in good], np.float64),
        "shares": np.array([look.shares for look in good], np.float32).reshape(-1, 22),
        "thumbnails": np.array([look.thumbnails for look in good], kind.of_thumbnails).reshape(
            -1, 2, size
        ),
        "contents": content.astype(kind.of_contents),
    }
    texts = [[*text, look.input_warning] for text, look in zip(texts, good, strict=True)]
    return _Chunk(arrays, texts, problems)


def _chunks(slices: Sequence[SliceRef], kind: _Kind) -> Iterator[tuple[int, _Chunk]]:
    """Reads the slices chunk by chunk, some ahead; gives each with the index of its first."""
    in_processes = len(slices) >= PROCESSES_FROM and bool(sys.executable)
    count = min(os.cpu_count() or 1, _MOST_PROCESSES) if in_processes else THREADS
    processes: list[_Process] = []
    pool = ThreadPoolExecutor(count)
    # In threads each slice is a task, in processes each chunk, since every message costs something.
    waiting: deque[tuple[int, Callable[[], _Chunk]]] = deque()
    try:
        if in_processes:
            processes += [_Process(kind) for _ in range(count)]
        idle = deque(processes)

        def in_process(begin: int) -> _Chunk:
            process = idle.popleft()
            try:
                found = process.look([slices[at] for at in _range(begin, len(slices))])
            finally:
                idle.append(process)
            return found or in_threads(begin)()

        def in_threads(begin: int) -> Callable[[], _Chunk]:
            refs = [slices[at] for at in _range(begin, len(slices))]
            if in_processes:  # one process was lost; there is no thread to spare
                return lambda: _pack(_looks(refs, kind.for_audit), kind)
            tasks: list[Future] = [pool.submit(_looks, [ref], kind.for_audit) for ref in refs]
            return lambda: _pack([look for task in tasks for look in task.result()], kind)

        for begin in range(0, len(slices), _CHUNK):
            if in_processes:
                waiting.append((begin, pool.submit(in_process, begin).result))
            else:
                waiting.append((begin, in_threads(begin)))
            if len(waiting) > 2 * count:
                first, result = waiting.popleft()
                yield first, result()
        while waiting:
            first, result = waiting.popleft()
            yield first, result()
    finally:
        for process in processes:
            process.end()
        pool.shutdown(cancel_futures=True)  # so that Ctrl-C does not wait for the rest


def _range(begin: int, count: int) -> range:
    return range(begin, min(begin + _CHUNK, count))


class _Process:
    """A Python process of its own that looks at slices.

    It is no child of `multiprocessing`, which would import the caller's own script again. It ends
    when its input does, so also when this process is killed.
    """

    def __init__(self, kind: _Kind) -> None:
        start = (
            "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
            "from hemorrhage_tf.datasets.slice_reading import serve; serve(*json.loads(sys.argv[2]))"
        )
        given = (json.dumps(sys.path), json.dumps([kind.exact, kind.for_audit]))
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-c", start, *given],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env={**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
            )
        except OSError:
            self._process = None

    def look(self, slices: Sequence[SliceRef]) -> _Chunk | None:
        """SliceReadings at slices; None where the process is lost."""
        if self._process is None:
            return None
        try:
            given = [[str(ref.path), ref.frame] for ref in slices]
            self._process.stdin.write(json.dumps(given).encode() + b"\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
            if not line:
                raise EOFError
            told = json.loads(line)
            arrays = {
                name: _received(self._process.stdout, dtype, shape)
                for name, dtype, shape in told["arrays"]
            }
        except (OSError, EOFError, ValueError):
            self.end()
            self._process = None
            return None
        return _Chunk(arrays, told["texts"], told["problems"])

    def end(self) -> None:
        """Ends the process, whatever it is at."""
        process = self._process
        if process is None:
            return
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            try:
                pipe.close()
            except OSError:  # what could not be written to a process that is gone
                pass


def _received(pipe: BinaryIO, dtype: Any, shape: Sequence[int]) -> np.ndarray:
    kind = np.dtype([tuple(field) for field in dtype] if isinstance(dtype, list) else dtype)
    rows = np.empty(shape, kind)
    if rows.nbytes and pipe.readinto(memoryview(rows.reshape(-1).view(np.uint8))) != rows.nbytes:
        raise EOFError
    return rows


def serve(exact: bool, for_audit: bool) -> None:
    """SliceReadings at the slices that each line of the standard input names, until it ends.

    For each line a line of JSON goes out, and the bytes of the arrays behind it.
    """
    # Ctrl-C reaches the whole group of processes; the one that waits for this one ends it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints is no answer
    kind = _Kind(exact, for_audit)
    for line in sys.stdin.buffer:
        refs = [SliceRef(Path(path), frame) for path, frame in json.loads(line)]
        chunk = _pack(_looks(refs, for_audit), kind)
        arrays = {name: np.ascontiguousarray(each) for name, each in chunk.arrays.items()}
        told = {
            "texts": chunk.texts,
            "problems": chunk.problems,
            "arrays": [
                [name, each.dtype.descr if each.dtype.names else each.dtype.str, each.shape]
                for name, each in arrays.items()
            ],
        }
        out.write(json.dumps(told).encode() + b"\n")
        for each in arrays.values():
            out.write(each.tobytes())
        out.flush()
