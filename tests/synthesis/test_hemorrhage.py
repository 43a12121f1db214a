import numpy as np
import pytest

from hemorrhage_tf.synthesis import hemorrhage
from hemorrhage_tf.synthesis.anatomy import PhantomHead, draw_head
from hemorrhage_tf.synthesis.canvas import Canvas
from hemorrhage_tf.synthesis.hemorrhage import Plan, draw_hemorrhages


@pytest.fixture(scope="module")
def heads():
    drawn = []
    for seed in range(60):
        rng = np.random.default_rng(seed)
        canvas = Canvas(128, 230.0, (0.0, 0.0), 0.0, rng)
        head = PhantomHead(canvas, rng, front=0.5, back=0.5, scale=1.0, atrophy=0.3, roll=0.0)
        draw_head(head)
        drawn.append((head, canvas.hounsfield.copy()))
    return drawn


def small_ones(heads) -> list[float]:
    """Contrast to brain times diameter, in HU mm, of small hemorrhages before they are scanned."""
    found = []
    for seed, (head, before) in enumerate(heads):
        head.canvas.hounsfield[...] = before
        plan = Plan("intraparenchymal", 1, 0.05)
        blood, complete = draw_hemorrhages(head, [plan], np.random.default_rng(seed))
        assert complete == blood.any()
        if complete:
            after = head.canvas.hounsfield[blood > 0].clip(0, 80)
            # Of what differs from what was there.
            shown = after[np.abs(after - before[blood > 0].clip(0, 80)) >= 6]
            area = len(shown) * head.canvas.pixel**2
            assert area >= 75
            found.append((shown.mean() - 33) * 2 * np.sqrt(area / np.pi))
    return found


def test_what_is_small_is_dense_enough_to_be_seen(heads, monkeypatch):
    products = small_ones(heads)
    assert len(products) > 10
    assert min(products) >= 200
    # Without that rule some would be drawn that nobody can tell from noise.
    monkeypatch.setattr(hemorrhage, "LEAST_CONTRAST_DETAIL", 0.0)
    without = small_ones(heads)
    assert len(without) > len(products) and min(without) < 200
