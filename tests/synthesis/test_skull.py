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


def bone(head) -> float:
    """Return the share of the area inside the outer table that is bone."""
    return float((head.canvas.hounsfield > 250).sum() / (head.depth > 0).sum())


def test_the_skull_of_a_child_is_thin():
    child, adult = (
        np.mean([bone(drawn_head(seed, 0.6, youth=youth)) for seed in range(4)])
        for youth in (0.9, 0.0)
    )
    assert child < 0.55 * adult


def test_the_fontanelle_of_an_infant_is_open():
    widths = []
    for youth in (1.0, 0.0):
        head = drawn_head(2, 0.88, size=192, youth=youth)
        front = (head.depth > 0.5) & (head.inside < -0.5) & (head.canvas.y < 0)
        middle = front & (np.abs(head.canvas.x) < 4)
        widths.append(np.mean(head.canvas.hounsfield[middle] < 120))
    assert widths[0] > 0.8 > 0.2 > widths[1]


def test_the_middle_of_the_base_is_bone():
    shares = []
    for seed in range(6):
        head = drawn_head(seed, 0.09, size=96)
        base = (np.abs(head.canvas.x) < 45) & (np.abs(head.canvas.y + 8) < 8) & (head.inside < -2)
        shares.append(np.mean(head.canvas.hounsfield[base] > 200))
    assert np.mean(shares) > 0.55
