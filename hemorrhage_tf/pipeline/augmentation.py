"""Augmentation: seeded views of a slice, with the layers of keras-cv, which only this file imports.

A keras-cv layer draws from a stateful generator, so its result depends on the order in which
`tf.data` runs. Here each draw is a pure function of the random seed, the content of the slice and
the view, and is passed to the layer's own `augment_images`. The same seed results in the same bytes
for any order, batch size and parallelism.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from typing import Any

from hemorrhage_tf.core.errors import OptionError

DEFAULT_AUGMENTATIONS = ("horizontal_flip", "vertical_flip", "contrast")

# In the order in which they are applied. They are mild, since the brain window of 80 HU is narrow:
# a contrast change of 20 % moves fresh blood by 6 to 8 HU.
AUGMENTATIONS = {
    "horizontal_flip": "left-right flip of half of the views",
    "vertical_flip": "top-bottom flip of half of the views",
    "rotation": "rotation by up to 15 degrees either way, black outside",
    "contrast": "contrast around the mean, factor 0.8 to 1.2",
    "brightness": "brightness, up to 10 % of the range either way",
    "color": "a shift of each color channel by up to 5 % of the range: a tint",
    "noise": "Gaussian noise, standard deviation up to 8 gray levels",
}

_CONTRAST = 0.2
_BRIGHTNESS = 0.1
_COLOR = 0.1  # keras-cv halves it
_ROTATION = 15 / 360  # of a full turn
_NOISE = 8.0


def parse_augmentations(names: str | Sequence[str]) -> tuple[str, ...]:
    """Validate a list of augmentations.

    Args:
        names: A comma-separated list or a sequence; "none" or empty for no augmentation.

    Returns:
        The names in the order in which they are applied.

    Raises:
        OptionError: A name is unknown.
    """
    if isinstance(names, str):
        names = [name.strip() for name in names.split(",") if name.strip()]
    names = [name for name in names if name != "none"]
    unknown = [name for name in names if name not in AUGMENTATIONS]
    if unknown:
        raise OptionError(
            f"--augment {', '.join(unknown)}: no such augmentation. "
            f"Pass some of {', '.join(AUGMENTATIONS)}, or none."
        )
    return tuple(name for name in AUGMENTATIONS if name in names)


class Augmentation:
    """Views of slices, created inside `tf.data`.

    View 0 is the slice itself. The flips of each block of four views are drawn without replacement
    (view 0 is one of the first four), so that four views show a slice in all four orientations.

    Args:
        names: Augmentations to apply, keys of `AUGMENTATIONS`.
        seed: Random seed; the same seed results in the same views.
    """

    def __init__(self, names: Sequence[str], seed: int) -> None:
        self.names = parse_augmentations(names)
        self.seed = seed
        self._is_built = False

    def _build(self) -> None:
        """Create the layers, on first use: features from the cache need none."""
        if self._is_built:
            return
        import keras_cv

        self._is_built = True
        value_range = (0, 255)
        layers = keras_cv.layers
        self._flips = {
            "horizontal_flip": layers.RandomFlip("horizontal", rate=0.5),
            "vertical_flip": layers.RandomFlip("vertical", rate=0.5),
        }
        self._rotation = layers.RandomRotation(_ROTATION, fill_mode="constant")
        self._contrast = layers.RandomContrast(value_range, _CONTRAST)
        self._brightness = layers.RandomBrightness(_BRIGHTNESS, value_range)
        self._color = layers.RandomChannelShift(value_range, _COLOR)

    def slice_seed(self, content_hash: str) -> tuple[int, int]:
        """Derive the random seed of a slice, two int32 numbers, from its content hash."""
        digest = hashlib.blake2b(f"{self.seed}:{content_hash}".encode(), digest_size=8).digest()
        return (
            int.from_bytes(digest[:4], "little", signed=True),
            int.from_bytes(digest[4:], "little", signed=True),
        )

    def view_key(self, view: int) -> str:
        """Return the key of a view in the feature cache: equal keys mean equal pixels."""
        if view == 0 or not self.names:
            return "0"
        return f"{view}/seed {self.seed}/{'+'.join(self.names)}"

    def __call__(self, image: Any, slice_seed: Any, view: Any) -> Any:
        """Create one view; works eagerly and inside `tf.data`.

        Args:
            image: float32 `(height, width, 3)` in [0, 255].
            slice_seed: int32 `(2,)`, from `slice_seed`.
            view: int32 scalar; 0 returns the image.

        Returns:
            float32 `(height, width, 3)` in [0, 255].
        """
        import tensorflow as tf

        if not self.names:
            return image
        with tf.init_scope():
            self._build()
        view = tf.convert_to_tensor(view, tf.int32)
        return tf.cond(view > 0, lambda: self._view(image, slice_seed, view), lambda: image)

    def _view(self, image: Any, slice_seed: Any, view: Any) -> Any:
        import tensorflow as tf

        # One stream of random numbers per slice and view, folded with a number per use.
        view_seed = tf.stack([slice_seed[0] + view, slice_seed[1]])

        def draw(use: int, shape: Sequence[int] = ()) -> Any:
            seed = tf.random.experimental.stateless_fold_in(view_seed, use)
            return tf.random.stateless_uniform(shape, seed)

        image = tf.convert_to_tensor(image, tf.float32)
        images = tf.expand_dims(image, 0)
        flips = self._draw_flips(slice_seed, view)
        for bit, (name, layer) in enumerate(self._flips.items()):
            if name in self.names:
                # The layer flips if its random number exceeds 1 - rate.
                flag = tf.cast(flips // 2**bit % 2, tf.float32)
                images = layer.augment_images(images, _flip_numbers(name, flag))
        if "rotation" in self.names:
            angle = (2 * draw(1, (1,)) - 1) * self._rotation.upper * math.tau
            rotated = self._rotation.augment_images(images, {"angles": angle})
            images = tf.clip_by_value(rotated, 0.0, 255.0)  # interpolation may round out of range
        if "contrast" in self.names:
            factor = 1 + (2 * draw(2, (1, 1, 1, 1)) - 1) * _CONTRAST
            images = self._contrast.augment_images(images, factor)
        if "brightness" in self.names:
            shift = (2 * draw(3, (1, 1, 1, 1)) - 1) * _BRIGHTNESS * 255
            images = self._brightness.augment_images(images, shift)
        if "color" in self.names:
            shifts = tf.unstack((2 * draw(4, (3,)) - 1) * _COLOR / 2)
            images = tf.expand_dims(self._color.augment_image(images[0], shifts), 0)
        if "noise" in self.names:
            seed = tf.random.experimental.stateless_fold_in(view_seed, 6)
            noise = tf.random.stateless_normal(tf.shape(images), seed) * draw(5) * _NOISE
            images = tf.clip_by_value(images + noise, 0.0, 255.0)
        return tf.ensure_shape(images[0], image.shape)

    def _draw_flips(self, slice_seed: Any, view: Any) -> Any:
        """Draw which of the four flips a view shows: bit 0 left-right, bit 1 top-bottom."""
        import tensorflow as tf

        block, place = view // 4, view % 4
        seed = tf.random.experimental.stateless_fold_in(slice_seed, -1 - block)
        order = tf.argsort(tf.random.stateless_uniform((4,), seed))
        # The first block starts with the slice itself, as view 0.
        first_block = tf.concat([[0], tf.boolean_mask(order, order > 0)], 0)
        return tf.where(block == 0, first_block, order)[place]


def _flip_numbers(name: str, flag: Any) -> dict[str, Any]:
    """Return the random numbers with which the layer flips if the flag is 1."""
    import tensorflow as tf

    number = tf.reshape(flag, (1, 1))
    zero = tf.zeros((1, 1))
    horizontal = name == "horizontal_flip"
    return {
        "flip_horizontals": number if horizontal else zero,
        "flip_verticals": zero if horizontal else number,
    }
