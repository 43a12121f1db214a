import numpy as np
from phantom_heads import drawn_head

from hemorrhage_tf.synthesis.mimics import MIMICS, draw_mimics


def test_every_mimic_occurs_somewhere():
    names = set()
    for level in (0.25, 0.45, 0.8):
        head = drawn_head(level=level, size=64)
        before = head.canvas.hounsfield.copy()
        for seed in range(40):
            head.canvas.hounsfield[...] = before
            names |= set(draw_mimics(head, np.random.default_rng(seed))[0])
    assert names == set(MIMICS)


def test_bright_areas_lie_where_the_image_changed():
    head = drawn_head(level=0.45)
    before = head.canvas.hounsfield.copy()
    names, bright = draw_mimics(head, np.random.default_rng(3))
    assert names and bright.any() and bright.dtype == bool
    assert np.mean(head.canvas.hounsfield[bright] != before[bright]) > 0.9


def test_the_same_generator_draws_the_same():
    heads = [drawn_head(level=0.3, size=64) for _ in range(2)]
    names = [draw_mimics(head, np.random.default_rng(5))[0] for head in heads]
    assert names[0] == names[1]
    np.testing.assert_array_equal(*(head.canvas.hounsfield for head in heads))
