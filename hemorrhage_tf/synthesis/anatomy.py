"""A head without pathology, from the shoulders (level -1) over the base (0) to the vertex (1).

Positions and sizes are those of an adult head in atlases of sectional anatomy, in mm; x runs to the
right of the image and y to the back. Every one of them varies from head to head.
"""

from __future__ import annotations

from hemorrhage_tf.synthesis.brain import draw_brain, leave_empty
from hemorrhage_tf.synthesis.dura import draw_dura_and_vessels
from hemorrhage_tf.synthesis.head import PhantomHead
from hemorrhage_tf.synthesis.neck import draw_neck
from hemorrhage_tf.synthesis.skull import draw_skull
from hemorrhage_tf.synthesis.skull_base import draw_skull_base


def draw_head(head: PhantomHead) -> None:
    """Draw a head without pathology on its canvas.

    Args:
        head: The head, with its canvas, levels and proportions; the maps derived from them are
            filled in.
    """
    draw_skull(head)
    if head.has_brain:
        draw_brain(head)
        draw_dura_and_vessels(head)
    else:
        leave_empty(head)
    draw_skull_base(head)
    draw_neck(head)
