"""Read slices as model input, in batches or as `tf.data` datasets of slices or augmented views."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from hemorrhage_tf.core.errors import DataError, SliceError
from hemorrhage_tf.core.native_output import is_tensorflow_imported
from hemorrhage_tf.imaging.readers import SliceRef, content_hash, read_slice
from hemorrhage_tf.pipeline.augmentation import Augmentation
from hemorrhage_tf.pipeline.model_input import ModelInput

# Pillow and NumPy release the interpreter lock while they decode and compute; more threads than
# cores read more slowly.
READING_THREADS = min(4, os.cpu_count() or 1)


def input_batches(
    slices: Sequence[SliceRef | Path],
    model_input: ModelInput,
    batch_size: int,
    threads: int = READING_THREADS,
) -> Iterator[np.ndarray]:
    """Read slices as batches of model input without TensorFlow, one batch ahead of the caller.

    Args:
        slices: The slices.
        model_input: The form they are brought to.
        batch_size: Slices per batch; the last batch may have fewer.
        threads: Number of reading threads. Defaults to 4, or the number of cores if that is lower.

    Yields:
        float32 `(n, size, size, 3)` in [0, 255].

    Raises:
        SliceError: A file cannot be read.
    """

    def read(ref: SliceRef | Path) -> np.ndarray:
        return model_input(read_slice(ref))

    pool = ThreadPoolExecutor(threads)
    try:
        pending: list[Future[np.ndarray]] = []
        for start in range(0, len(slices) + batch_size, batch_size):
            ready = pending
            pending = [pool.submit(read, ref) for ref in slices[start : start + batch_size]]
            if ready:
                yield np.stack([future.result() for future in ready])
    finally:
        pool.shutdown(cancel_futures=True)


@contextmanager
def translate_read_errors() -> Iterator[None]:
    """Turn the error that `tf.data` raises for an unreadable slice into a DataError."""
    try:
        yield
    except Exception as error:
        if not is_tensorflow_imported():
            raise
        import tensorflow as tf

        if not isinstance(error, tf.errors.OpError):
            raise
        match = re.search(r"SliceError: (.*)", error.message)
        if match is None:
            raise
        raise DataError(
            f"{match[1]}: the slice could be read before. Leave the data unchanged and run again; "
            "touch a file that was replaced under its old time."
        ) from None


def without_autograph(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function that TensorFlow traces as it is.

    Rewriting it would take seconds, and is only needed where Python's `if` and `for` depend on
    tensors.
    """
    import tensorflow as tf

    return tf.autograph.experimental.do_not_convert(function)


def slice_dataset(
    slices: Sequence[SliceRef | Path],
    model_input: ModelInput,
    hashes: Sequence[str] | None = None,
) -> Any:
    """Create a dataset of unbatched slices in order.

    Args:
        slices: The slices; they are known to be readable.
        model_input: The form they are brought to.
        hashes: Content hash of each slice in the slice index. A file that has changed since is an
            error: its features would be cached under a wrong key. Defaults to None, not to compare.

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

    def load(index: Any) -> tuple[Any, Any]:
        image = tf.numpy_function(read, [index], tf.float32, stateful=False)
        return index, tf.ensure_shape(image, (size, size, 3))

    return tf.data.Dataset.range(len(slices)).map(
        without_autograph(load), num_parallel_calls=tf.data.AUTOTUNE, deterministic=True
    )


def view_dataset(
    slices: Sequence[SliceRef | Path],
    hashes: Sequence[str],
    views: Sequence[Sequence[int]],
    model_input: ModelInput,
    augmentation: Augmentation,
) -> Any:
    """Create a dataset of unbatched views; each slice is read once for all of its views.

    Args:
        slices: The slices; they are known to be readable.
        hashes: Content hash of each slice.
        views: View numbers of each slice; their count may differ.
        model_input: The form the slices are brought to.
        augmentation: Creates the views.

    Returns:
        `tf.data.Dataset` of float32 `(size, size, 3)` in [0, 255]: the views of the first slice in
        order, then those of the second, and so on.
    """
    import tensorflow as tf

    seeds = np.array([augmentation.slice_seed(key) for key in hashes], np.int32).reshape(-1, 2)
    flat = tf.ragged.constant([list(each) for each in views], dtype=tf.int32, ragged_rank=1)

    def expand(index: Any, image: Any) -> Any:
        views_of_slice = tf.data.Dataset.from_tensor_slices(flat[index])
        return views_of_slice.map(
            without_autograph(lambda view: (image, tf.gather(seeds, index), view))
        )

    return (
        slice_dataset(slices, model_input, hashes)
        .flat_map(without_autograph(expand))
        .map(
            without_autograph(augmentation.__call__),
            num_parallel_calls=tf.data.AUTOTUNE,
            deterministic=True,
        )
    )
