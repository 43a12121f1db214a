import numpy as np
import pytest

from hemorrhage_tf.synthesis.anatomy import PhantomHead, draw_head
from hemorrhage_tf.synthesis.canvas import Canvas


def petrous_bone(roll: float) -> tuple[int, int]:
    """Pixels of bone left and right of the middle, where the petrous bones lie, of 20 heads."""
    found = np.zeros(2, int)
    for seed in range(20):
        rng = np.random.default_rng(seed)
        canvas = Canvas(128, 230.0, (0.0, 0.0), 0.0, rng)
        draw_head(
            PhantomHead(canvas, rng, front=0.23, back=0.23, scale=1.0, atrophy=0.3, roll=roll)
        )
        bone = (canvas.hounsfield > 500) & (canvas.y > -5) & (canvas.y < 25)
        for at, side in enumerate((-1, 1)):
            across = side * canvas.x
            found[at] += (bone & (across > 18) & (across < 55)).sum()
    return int(found[0]), int(found[1])


@pytest.mark.parametrize("roll", [0.06, -0.06])
def test_the_lower_side_of_a_head_that_lies_askew_shows_more_of_the_base(roll):
    left, right = petrous_bone(roll)
    lower, higher = (left, right) if roll > 0 else (right, left)
    assert lower > 2 * higher


def test_both_sides_of_a_straight_head_show_as_much():
    left, right = petrous_bone(0.0)
    assert 0.8 < left / right < 1.25
