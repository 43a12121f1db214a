"""The `tf.data` pipelines: from image files to model input, as slices or as augmented views."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from hemorrhage_tf.data.augmentation import Augmentation
from hemorrhage_tf.data.readers import read_slice, to_rgb

# Part of the feature cache's key: raise it when the same file would give other model input.
PIPELINE_VERSION = 1


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


def slice_dataset(paths: Sequence[Path], image_size: int):
    """Makes a dataset of unbatched slices in the order of the paths.

    Args:
        paths: image files that are known to be readable.
        image_size: side of the model input, in pixels.

    Returns:
        `tf.data.Dataset` of `(index, image)`: int64 scalar, float32 `(size, size, 3)` in [0, 255].
    """
    import tensorflow as tf

    def read(index: int) -> np.ndarray:
        return to_model_input(read_slice(paths[index]), image_size)

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
        slice_dataset(paths, image_size)
        .flat_map(expand)
        .map(augmentation, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    )
