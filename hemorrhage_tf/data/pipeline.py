"""The `tf.data` pipelines: from image files to model input, as slices or as augmented views."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image

from hemorrhage_tf.data.augmentation import Augmentation
from hemorrhage_tf.data.readers import content_hash, read_slice, to_rgb
from hemorrhage_tf.errors import DataError, SliceError

# Part of the feature cache's key: raise it when the same file would give other model input.
PIPELINE_VERSION = 1

_THREADS = 4  # Pillow releases the interpreter's lock while it decodes and resizes


def to_model_input(pixels: np.ndarray, image_size: int) -> np.ndarray:
    """Brings a slice to the form that every model takes.

    The slice is stretched to a square with an antialiased triangle filter, in floating point and
    without rounding, which is what `tf.image.resize(..., antialias=True)` computes too.

    Args:
        pixels: uint8 `(height, width)` or `(height, width, 3)`.
        image_size: side of the square, in pixels.

    Returns:
        float32 `(image_size, image_size, 3)`, RGB, in [0, 255].
    """
    size = (image_size, image_size)
    if pixels.shape[:2] == size:
        return to_rgb(pixels).astype(np.float32)
    channels = [pixels] if pixels.ndim == 2 else [pixels[..., k] for k in range(3)]
    resized = [
        np.asarray(
            Image.fromarray(channel.astype(np.float32)).resize(size, Image.Resampling.BILINEAR)
        )
        for channel in channels
    ]
    return to_rgb(resized[0]) if len(resized) == 1 else np.stack(resized, axis=-1)


def input_batches(paths: Sequence[Path], image_size: int, batch_size: int) -> Iterator[np.ndarray]:
    """Reads slices as batches of model input, without TensorFlow, a batch ahead of the caller.

    Args:
        paths: image files.
        image_size: side of the model input, in pixels.
        batch_size: slices in a batch; the last may have fewer.

    Yields:
        float32 `(n, size, size, 3)` in [0, 255].

    Raises:
        SliceError: a file cannot be read.
    """

    def read(path: Path) -> np.ndarray:
        return to_model_input(read_slice(path), image_size)

    pool = ThreadPoolExecutor(_THREADS)
    try:
        ahead: list[Future] = []
        for begin in range(0, len(paths) + batch_size, batch_size):
            ready = ahead
            ahead = [pool.submit(read, path) for path in paths[begin : begin + batch_size]]
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


def slice_dataset(paths: Sequence[Path], image_size: int, hashes: Sequence[str] | None = None):
    """Makes a dataset of unbatched slices in the order of the paths.

    Args:
        paths: image files that are known to be readable.
        image_size: side of the model input, in pixels.
        hashes: content hash that each had when it was scanned, or None not to compare. A file that
            has changed since is an error: its features would be kept under a wrong name.

    Returns:
        `tf.data.Dataset` of `(index, image)`: int64 scalar, float32 `(size, size, 3)` in [0, 255].
    """
    import tensorflow as tf

    def read(index: int) -> np.ndarray:
        pixels = read_slice(paths[index])
        if hashes is not None and content_hash(pixels) != hashes[index]:
            raise SliceError(paths[index], "was changed while the command ran")
        return to_model_input(pixels, image_size)

    def load(index):
        image = tf.numpy_function(read, [index], tf.float32, stateful=False)
        return index, tf.ensure_shape(image, (image_size, image_size, 3))

    return tf.data.Dataset.range(len(paths)).map(
        load, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True
    )


def view_dataset(
    paths: Sequence[Path],
    hashes: Sequence[str],
    views: Sequence[Sequence[int]],
    image_size: int,
    augmentation: Augmentation,
):
    """Makes a dataset of unbatched views; each slice is read once, whatever its number of views.

    Args:
        paths: image files that are known to be readable.
        hashes: content hash of each.
        views: the view numbers that are wanted of each; may be of different lengths.
        image_size: side of the model input, in pixels.
        augmentation: what makes the views.

    Returns:
        `tf.data.Dataset` of float32 `(size, size, 3)` in [0, 255]: the views of the first path in
        their order, then those of the second, and so on.
    """
    import tensorflow as tf

    seeds = np.array([augmentation.slice_seed(key) for key in hashes], np.int32).reshape(-1, 2)
    flat = tf.ragged.constant([list(each) for each in views], dtype=tf.int32, ragged_rank=1)

    def expand(index, image):
        repeated = tf.data.Dataset.from_tensor_slices(flat[index])
        return repeated.map(lambda view: (image, tf.gather(seeds, index), view))

    return (
        slice_dataset(paths, image_size, hashes)
        .flat_map(expand)
        .map(augmentation, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    )
