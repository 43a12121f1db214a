import numpy as np
import pytest
from phantom_heads import drawn_head

from hemorrhage_tf.synthesis.trauma import (
    draw_air,
    draw_fracture,
    draw_scalp_swelling,
    draw_surgery,
)

DRAWERS = draw_scalp_swelling, draw_fracture, draw_surgery, draw_air


def changes(draw, seeds=range(24), impact: float = 0.0):
    """Return a head, and the HU before and after for each seed."""
    head = drawn_head(impact=impact)
    before, inside, skin = (
        part.copy() for part in (head.canvas.hounsfield, head.inside, head.skin)
    )
    drawn = []
    for seed in seeds:
        head.canvas.hounsfield[...] = before
        head.inside[...], head.skin[...] = inside, skin
        assert draw(head, np.random.default_rng(seed), [])
        drawn.append(head.canvas.hounsfield.copy())
    head.inside[...], head.skin[...] = inside, skin
    return head, before, drawn


def test_swelling_lifts_the_skin_and_leaves_skull_and_brain_alone():
    head, before, drawn = changes(draw_scalp_swelling)
    for after in drawn:
        changed = np.abs(after - before) > 5
        assert changed.any() and not changed[head.depth > 2].any()
    outside = [(after > -300).sum() > (before > -300).sum() for after in drawn]
    assert np.mean(outside) > 0.8
    values = np.concatenate(
        [after[(head.depth < -4) & (after > 20) & (before < -200)] for after in drawn]
    )
    assert 30 < np.median(values) < 75  # a hematoma, more often than edema


def test_a_fracture_is_a_gap_in_the_skull():
    head, before, drawn = changes(draw_fracture)
    for after in drawn:
        lost = (before > 400) & (after < before - 100)
        assert lost.any() and (lost.sum() * head.canvas.pixel**2) < 700
        assert not (np.abs(after - before) > 5)[head.inside > 14].any()
    inward = [(after > 400) & (before < 100) & (head.inside > 2) for after in drawn]
    assert 0.05 < np.mean([part.any() for part in inward]) < 0.6  # pressed in


def test_findings_lie_near_the_impact():
    near = []
    for draw in (draw_scalp_swelling, draw_fracture):
        head, before, drawn = changes(draw, impact=2.0)
        for after in drawn:
            changed = np.abs(after - before) > 5
            near.append(np.median(head.direction_cosine(2.0)[changed]) > 0.7)
    assert np.mean(near) > 0.6  # seven in ten, and some by chance


def test_surgery_and_air_change_the_head():
    for draw in (draw_surgery, draw_air):
        head, before, drawn = changes(draw)
        areas = [(np.abs(after - before) > 5).sum() * head.canvas.pixel**2 for after in drawn]
        assert min(areas) > 0 and max(areas) < 6000
    assert all((after[head.inside > 0] < -100).any() for after in drawn)  # air


@pytest.mark.parametrize("draw", DRAWERS)
def test_no_finding_in_slices_of_the_neck(draw):
    head = drawn_head(level=-0.5, size=64)
    before = head.canvas.hounsfield.copy()
    assert not draw(head, np.random.default_rng(0), [])
    np.testing.assert_array_equal(head.canvas.hounsfield, before)
