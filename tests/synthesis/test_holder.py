import numpy as np
import pytest
from phantom_heads import drawn_head

from hemorrhage_tf.synthesis.holder import draw_holder


@pytest.fixture(scope="module")
def drawn():
    """Return heads with the change that a holder makes to each."""
    head, results = drawn_head(size=64), []
    before = head.canvas.hounsfield
    for seed in range(60):
        head.canvas.hounsfield = before.copy()
        draw_holder(head, np.random.default_rng(seed))
        results.append((head, before, head.canvas.hounsfield - before))
    return results


def test_the_holder_stays_outside_the_head(drawn):
    for head, before, change in drawn:
        assert not ((change != 0) & (head.depth > 0)).any()
        assert not change[before > -300].any()


def test_most_heads_lie_on_something(drawn):
    assert 0.5 < np.mean([bool((change != 0).any()) for _, _, change in drawn]) < 0.95


def test_many_holders_are_as_bright_as_bone_in_a_brain_window(drawn):
    bright = [bool((before + change > 150)[change != 0].any()) for _, before, change in drawn]
    assert 0.3 < np.mean(bright) < 0.9
