import numpy as np
from phantom_heads import drawn_head


def test_the_skull_encloses_the_brain():
    head = drawn_head(level=0.6)
    assert head.depth.max() > head.inside.max() > 40  # mm
    ring = (head.depth > 1) & (head.inside < -1.5)
    assert np.mean(head.canvas.hounsfield[ring] > 250) > 0.95


def test_the_head_is_smaller_near_the_vertex():
    areas = [float(drawn_head(level=level).brain.sum()) for level in (0.5, 0.8, 0.95)]
    assert areas == sorted(areas, reverse=True) and areas[2] < 0.6 * areas[0]


def test_the_cavity_at_the_base_is_divided_into_fossae():
    base, above = (drawn_head(level=level) for level in (0.15, 0.5))
    middle = [(head.inside > 0).sum() / (head.depth > 8).sum() for head in (base, above)]
    assert middle[0] < 0.6 < middle[1]
