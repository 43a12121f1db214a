"""A head without pathology, from the shoulders (level -1) over the base (0) to the vertex (1).

Positions and sizes are those of an adult head in atlases of sectional anatomy, in mm; x runs to the
right of the image and y to the back. Every one of them varies from head to head.
"""

from __future__ import annotations

import numpy as np

from hemorrhage_tf.synthesis.brain import draw_brain
from hemorrhage_tf.synthesis.dura import draw_dura_and_vessels
from hemorrhage_tf.synthesis.face import draw_face
from hemorrhage_tf.synthesis.head import PhantomHead
from hemorrhage_tf.synthesis.jaw import draw_jaw
from hemorrhage_tf.synthesis.neck import draw_neck
from hemorrhage_tf.synthesis.skull import draw_skull
from hemorrhage_tf.synthesis.skull_base import draw_skull_base

_PARTS = (
    draw_skull,
    draw_brain,
    draw_dura_and_vessels,
    draw_skull_base,
    draw_neck,
    draw_face,
    draw_jaw,
)


def draw_head(head: PhantomHead) -> None:
    """Draw a head without pathology on its canvas.

    Args:
        head: The head, with its canvas, levels and proportions; the maps derived from them are
            filled in.
    """
    # Each part has a generator of its own: which parts a slice shows must not change the others.
    for draw, seed in zip(_PARTS, head.rng.integers(2**31, size=len(_PARTS)), strict=True):
        head.rng = np.random.default_rng(seed)
        draw(head)
