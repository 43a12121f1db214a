import numpy as np
from phantom_heads import drawn_head


def chin(level: float) -> float:
    """Return the share of eight heads with bone in the chin."""
    found = []
    for seed in range(8):
        head = drawn_head(seed, level, size=64)
        front = (np.abs(head.canvas.x) < 12) & (head.canvas.y < -60)
        found.append(bool((head.canvas.hounsfield[front] > 600).any()))
    return float(np.mean(found))


def test_the_chin_ends_above_the_larynx():
    assert chin(-0.36) == 1 and chin(-0.72) == 0


def test_the_rami_lie_on_both_sides():
    head = drawn_head(level=-0.15, size=128)
    x, y = head.canvas.x, head.canvas.y
    for side in (-1, 1):
        ramus = (side * x > 38) & (side * x < 62) & (y > -45) & (y < 5)
        assert (head.canvas.hounsfield[ramus] > 700).sum() > 20


def test_some_heads_have_dental_metal_and_know_where():
    heads = [drawn_head(seed, -0.2, size=96) for seed in range(16)]
    metal = [head for head in heads if head.metal]
    assert 0.1 < len(metal) / len(heads) < 0.7
    for head in metal:
        for x, y in head.metal:
            nearest = np.hypot(head.canvas.x - x, head.canvas.y - y).argmin()
            assert head.canvas.hounsfield.flat[nearest] > 1800
    assert not any(drawn_head(seed, 0.5, size=64).metal for seed in range(4))
