"""The `tf.data` pipelines: from image files to model input, as slices or as augmented views."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from hemorrhage_tf.core.errors import DataError, SliceError
from hemorrhage_tf.imaging.readers import SliceRef, content_hash, read_slice
from hemorrhage_tf.pipeline.augmentation import Augmentation
from hemorrhage_tf.pipeline.model_input import ModelInput

# Pillow and NumPy release the interpreter's lock while they decode and compute; more threads than
# cores read more slowly.
_THREADS = min(4, os.cpu_count() or 1)


def input_batches(
    slices: Sequence[SliceRef | Path], model_input: ModelInput, batch_size: int
) -> Iterator[np.ndarray]:
    """Reads slices as batches of model input, without TensorFlow, a batch ahead of the caller.

    Args:
        slices: where they are.
        model_input: what they are brought to.
        batch_size: slices in a batch; the last may have fewer.

    Yields:
        float32 `(n, size, size, 3)` in [0, 255].

    Raises:
        SliceError: a file cannot be read.
    """

    def read(ref: SliceRef | Path) -> np.ndarray:
        return model_input(read_slice(ref))

    pool = ThreadPoolExecutor(_THREADS)
    try:
        ahead: list[Future] = []
        for begin in range(0, len(slices) + batch_size, batch_size):
            ready = ahead
            ahead = [pool.submit(read, ref) for ref in slices[begin : begin + batch_size]]
            if ready:
                yield np.stack([future.result() for future in ready])
    finally:
        pool.shutdown(cancel_futures=True)


@contextmanager
def explained_read_errors() -> Iterator[None]:
    """Turns what `tf.data` makes of a slice that could not be read back into a DataError."""
    import tensorflow as tf

    try:
        yield
    except tf.errors.OpError as error:
        found = re.search(r"SliceError: (.*)", error.message)
        if found is None:
            raise
        raise DataError(f"a slice could not be read any more: {found[1]}") from None


def slice_dataset(
    slices: Sequence[SliceRef | Path],
    model_input: ModelInput,
    hashes: Sequence[str] | None = None,
):
    """Makes a dataset of unbatched slices in their order.

    Args:
        slices: where they are; they are known to be readable.
        model_input: what they are brought to.
        hashes: content hash that each had when it was scanned, or None not to compare. A file that
            has changed since is an error: its features would be kept under a wrong name.

    Returns:
        `tf.data.Dataset` of `(index, image)`: int64 scalar, float32 `(size, size, 3)` in [0, 255].
    """
    import tensorflow as tf

    size = model_input.image_size

    def read(index: int) -> np.ndarray:
        pixels = read_slice(slices[index])
        if hashes is not None and content_hash(pixels) != hashes[index]:
            raise SliceError(slices[index], "was changed while the command ran")
        return model_input(pixels)

    def load(index):
        image = tf.numpy_function(read, [index], tf.float32, stateful=False)
        return index, tf.ensure_shape(image, (size, size, 3))

    return tf.data.Dataset.range(len(slices)).map(
        load, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True
    )


def view_dataset(
    slices: Sequence[SliceRef | Path],
    hashes: Sequence[str],
    views: Sequence[Sequence[int]],
    model_input: ModelInput,
    augmentation: Augmentation,
):
    """Makes a dataset of unbatched views; each slice is read once, whatever its number of views.

    Args:
        slices: where they are; they are known to be readable.
        hashes: content hash of each.
        views: the view numbers that are wanted of each; may be of different lengths.
        model_input: what they are brought to.
        augmentation: what makes the views.

    Returns:
        `tf.data.Dataset` of float32 `(size, size, 3)` in [0, 255]: the views of the first slice in
        their order, then those of the second, and so on.
    """
    import tensorflow as tf

    seeds = np.array([augmentation.slice_seed(key) for key in hashes], np.int32).reshape(-1, 2)
    flat = tf.ragged.constant([list(each) for each in views], dtype=tf.int32, ragged_rank=1)

    def expand(index, image):
        repeated = tf.data.Dataset.from_tensor_slices(flat[index])
        return repeated.map(lambda view: (image, tf.gather(seeds, index), view))

    return (
        slice_dataset(slices, model_input, hashes)
        .flat_map(expand)
        .map(augmentation, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    )
