"""Phantoms: seeded head-CT slices in Hounsfield units that show nobody, with masks of the blood."""

from hemorrhage_tf.synthesis.display_image import Picture, draw_picture
from hemorrhage_tf.synthesis.draw import (
    DEFAULT_SIZE,
    GENERATOR_VERSION,
    LARGEST,
    SMALLEST,
    Phantom,
    draw_phantom,
    draw_phantom_scan,
)
from hemorrhage_tf.synthesis.hemorrhage import SUBTYPES
from hemorrhage_tf.synthesis.mimics import MIMICS
from hemorrhage_tf.synthesis.phantom_sets import FORMATS, phantom_set, write_phantoms

__all__ = [
    "DEFAULT_SIZE",
    "FORMATS",
    "GENERATOR_VERSION",
    "LARGEST",
    "MIMICS",
    "SMALLEST",
    "SUBTYPES",
    "Phantom",
    "Picture",
    "draw_phantom",
    "draw_phantom_scan",
    "draw_picture",
    "phantom_set",
    "write_phantoms",
]
