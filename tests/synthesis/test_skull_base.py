import numpy as np
import pytest
from phantom_heads import drawn_head


def petrous_bone(roll: float) -> tuple[int, int]:
    """Count the pixels of petrous bone on the left and right in 20 heads."""
    pixels = np.zeros(2, int)
    for seed in range(20):
        canvas = drawn_head(seed, level=0.23, size=96, roll=roll).canvas
        bone = (canvas.hounsfield > 500) & (canvas.y > -5) & (canvas.y < 25)
        for index, side in enumerate((-1, 1)):
            across = side * canvas.x
            pixels[index] += (bone & (across > 18) & (across < 55)).sum()
    return int(pixels[0]), int(pixels[1])


@pytest.mark.parametrize("roll", [0.06, -0.06])
def test_the_lower_side_of_a_rolled_head_shows_more_of_the_base(roll):
    left, right = petrous_bone(roll)
    lower, higher = (left, right) if roll > 0 else (right, left)
    assert lower > 2 * higher


def test_both_sides_of_a_straight_head_show_the_same():
    left, right = petrous_bone(0.0)
    assert 0.8 < left / right < 1.25


def test_slices_above_the_base_have_no_bone_in_the_brain():
    head = drawn_head(level=0.6)
    assert not ((head.canvas.hounsfield > 300) & (head.inside > 5)).any()
