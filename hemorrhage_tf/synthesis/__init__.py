"""Phantoms: seeded head-CT slices in Hounsfield units that show nobody, with masks of the blood."""

from hemorrhage_tf.synthesis.display_image import DisplayImage, draw_display_image
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
    "DisplayImage",
    "draw_phantom",
    "draw_phantom_scan",
    "draw_display_image",
    "phantom_set",
    "write_phantoms",
]
