import numpy as np
from phantom_heads import drawn_head

from hemorrhage_tf.synthesis.parts import Band, Oval, paint_band, paint_oval, paint_ovals


def test_a_part_takes_the_same_random_numbers_outside_the_slice():
    head, states = drawn_head(level=-0.4, size=64), []
    for levels in ((-1.0, 0.0), (0.5, 1.0)):
        rng = np.random.default_rng(3)
        paint_oval(head, rng, Oval((20, 10), (6, 8), 90.0, levels, uneven=4.0))
        paint_band(head, rng, Band([(0, 0), (20, 5)], (3, 3), 90.0, levels))
        states.append(rng.bit_generator.state["state"])
    assert states[0] == states[1]


def test_a_part_is_painted_only_between_its_levels():
    for level, painted in ((-0.4, True), (-0.8, False)):
        head = drawn_head(level=level, size=64)
        oval = Oval((0, 20), (9, 9), 2000.0, (-0.5, -0.3))
        assert paint_oval(head, np.random.default_rng(0), oval) == painted
        assert (head.canvas.hounsfield > 1900).any() == painted


def test_paired_parts_lie_on_both_sides():
    head = drawn_head(level=-0.4, size=96)
    paint_ovals(head, np.random.default_rng(0), [Oval((30, 20), (5, 5), 2500.0)])
    x = head.canvas.x[head.canvas.hounsfield > 2400]
    assert (x < -20).sum() > 3 < (x > 20).sum() and not (np.abs(x) < 20).any()


def test_parts_stay_under_the_skin_and_out_of_the_dura():
    head = drawn_head(level=0.1, size=96)
    paint_oval(head, np.random.default_rng(0), Oval((0, 30), (200, 200), 2500.0))
    painted = head.canvas.hounsfield > 2400
    assert painted.any() and not painted[head.skin < 0].any() and not painted[head.inside > 1].any()
