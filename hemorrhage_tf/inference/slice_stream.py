"""Read slices for prediction: each file once, in threads, one batch ahead of the network."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from hemorrhage_tf.core.errors import Problem, SliceError
from hemorrhage_tf.imaging.input_checks import check_input
from hemorrhage_tf.imaging.readers import SliceRef, drop_equal_channels, read_slice
from hemorrhage_tf.pipeline.model_input import ModelInput

# Decoding releases the interpreter's lock; more threads than cores are slower.
_THREADS = min(4, os.cpu_count() or 1)


@dataclass(frozen=True)
class ValidSlice:
    """A slice that was read.

    Attributes:
        index: Position in the list of slices.
        pixels: float32 `(height, width)` in HU, or uint8 `(height, width[, 3])` in [0, 255].
        image: float32 `(size, size, 3)` in [0, 255], the model input.
        warning: Why it does not look like a head CT, or None.
    """

    index: int
    pixels: np.ndarray
    image: np.ndarray
    warning: str | None

    @property
    def is_hounsfield(self) -> bool:
        """Whether the pixels are Hounsfield units, not display pixels."""
        return self.pixels.dtype != np.uint8


@dataclass(frozen=True)
class SliceBatch:
    """Some consecutive slices of the stream.

    Attributes:
        first: Position of its first slice in the list of slices.
        size: Number of slices in the batch.
        valid: Those that could be read.
        problems: What is wrong with the others.
        model_input: The conversion to model input.
    """

    first: int
    size: int
    valid: tuple[ValidSlice, ...]
    problems: tuple[Problem, ...]
    model_input: ModelInput


def stream_slices(
    slices: Sequence[SliceRef], model_input: ModelInput, batch_size: int
) -> Iterator[SliceBatch]:
    """Read slices and convert them to model input, one batch ahead of the caller.

    Args:
        slices: Where the slices are.
        model_input: The conversion to model input.
        batch_size: Slices in a batch; the last may have fewer.

    Yields:
        The batches in order. A file that cannot be read is a problem of its batch, not an error.
    """

    def read(index: int) -> ValidSlice | Problem:
        try:
            pixels = read_slice(slices[index])
        except SliceError as error:
            return error.problem
        gray = drop_equal_channels(pixels)
        head = model_input.find_head(gray)  # for both of the following
        return ValidSlice(index, pixels, model_input(gray, head), check_input(gray, head))

    count = len(slices)
    pool = ThreadPoolExecutor(_THREADS)
    try:
        ahead: list[Future[ValidSlice | Problem]] = []
        for begin in range(0, count + batch_size, batch_size):
            ready = ahead
            ahead = [pool.submit(read, i) for i in range(begin, min(begin + batch_size, count))]
            if ready:
                results = [future.result() for future in ready]
                yield SliceBatch(
                    first=begin - batch_size,
                    size=len(results),
                    valid=tuple(one for one in results if isinstance(one, ValidSlice)),
                    problems=tuple(one for one in results if isinstance(one, Problem)),
                    model_input=model_input,
                )
    finally:
        pool.shutdown(cancel_futures=True)  # Ctrl-C does not wait for the remaining slices
