"""Phantom heads without pathology, for tests of single parts."""

import numpy as np

from hemorrhage_tf.synthesis.anatomy import draw_head
from hemorrhage_tf.synthesis.canvas import Canvas
from hemorrhage_tf.synthesis.head import PhantomHead


def drawn_head(seed: int = 0, level: float = 0.5, size: int = 128, **changes) -> PhantomHead:
    """Draw a head at a level; `front` and `back` tilt it."""
    rng = np.random.default_rng(seed)
    canvas = Canvas(size, 230.0, (0.0, 0.0), 0.0, rng)
    proportions = {"front": level, "back": level, "scale": 1.0, "atrophy": 0.3, "roll": 0.0}
    head = PhantomHead(canvas, rng, **proportions | changes)
    draw_head(head)
    return head
