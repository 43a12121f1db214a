import numpy as np
import pytest
from phantom_heads import drawn_head


def area(head) -> float:
    """Return the area inside the skin, in mm2."""
    return float((head.skin > 0).sum()) * head.canvas.pixel**2


def test_the_shoulders_are_wider_than_the_neck():
    shoulders, neck = (
        np.mean([area(drawn_head(seed, level, size=64)) for seed in range(4)])
        for level in (-0.97, -0.65)
    )
    assert shoulders > 1.5 * neck
    assert 6_000 < neck < 20_000


@pytest.mark.parametrize("tilt", [-0.08, 0.08])
def test_outlines_change_smoothly_with_the_level(tilt):
    areas = []
    for level in np.arange(-0.95, 0.5, 0.05):
        head = drawn_head(1, level, size=64, front=level + tilt, back=level - tilt)
        areas.append(area(head))
    steps = np.abs(np.diff(areas)) / np.array(areas)[1:]
    assert max(steps) < 0.35 and np.median(steps) < 0.06


def test_slices_of_the_neck_have_no_brain():
    for level in (-0.9, -0.5, -0.1):
        head = drawn_head(level=level, size=64)
        assert not head.has_brain and head.brain_area == 0 and head.inside.max() <= 0
        assert not head.fluid.any() and not head.ventricles.any()


def test_a_tilted_slice_shows_brain_in_front_of_the_neck():
    head = drawn_head(size=96, front=0.3, back=-0.1)
    brain = head.inside > 1
    assert brain.any() and head.brain_area > 2_000
    assert head.canvas.y[brain].max() < 30  # mm; the spine lies behind
    assert head.level_at(0, -60) == pytest.approx(0.3) and head.level_at(0, 60) == pytest.approx(
        -0.1
    )
