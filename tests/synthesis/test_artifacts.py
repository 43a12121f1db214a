from functools import lru_cache

import numpy as np
import pytest
from phantom_heads import drawn_head

from hemorrhage_tf.synthesis.artifacts import (
    METAL,
    add_beam_hardening,
    add_metal,
    add_motion,
    add_rings,
    add_shading,
)


@lru_cache
def _drawn(level, size):
    head = drawn_head(level=level, size=size)
    return head, head.canvas.hounsfield


def fresh(level=0.6, size=96):
    """Return a head that may be changed. Drawing one takes long, so all are the same."""
    head, image = _drawn(level, size)
    head.canvas.hounsfield = image.copy()
    return head


def changed(add, seed, level=0.6, size=96, **rngs):
    """Return a head, and what an artifact adds to it."""
    head = fresh(level, size)
    before = head.canvas.hounsfield.copy()
    extra = [np.random.default_rng(each) for each in rngs.values()]
    names = add(head, np.random.default_rng(seed), *extra)
    return head, head.canvas.hounsfield - before, names


def test_shading_may_darken_one_hemisphere():
    drawn = [changed(add_shading, seed) for seed in range(60)]
    assert 0.03 < np.mean([names == ("shading",) for _, _, names in drawn]) < 0.35
    for head, change, _ in drawn:
        assert np.abs(change[head.depth < -15]).max(initial=0) < 1 and np.abs(change).max() < 30


def test_beam_hardening_darkens_what_lies_between_two_bones():
    for seed in range(4):
        head = fresh()
        x, y = head.canvas.x, head.canvas.y
        head.canvas.hounsfield = np.where(np.hypot(x, y) < 80, 30, -1000).astype(np.float32)
        for side in (-1, 1):
            bone = head.canvas.ellipse((side * 40, 0), (20, 8), inner=False)
            head.canvas.paint(bone, 1500)
        before = head.canvas.hounsfield.copy()
        streaks = np.random.default_rng(seed)
        add_beam_hardening(head, np.random.default_rng(seed), streaks)
        change = head.canvas.hounsfield - before
        between, beside = (change[(np.abs(x) < 12) & (np.abs(y - at) < 5)].mean() for at in (0, 35))
        assert between < beside - 1


def test_brain_keeps_its_hounsfield_units():
    for level in (0.15, 0.3, 0.6):
        for seed in range(4):
            head, change, _ = changed(add_beam_hardening, seed, level=level, streaks=seed)
            brain = (head.inside > 5) & (np.abs(head.canvas.hounsfield - change - 30) < 30)
            assert np.abs(change[brain].mean()) < 9
            assert change[brain].std() < 22


def test_streaks_have_their_own_generator():
    first, second = (
        changed(add_beam_hardening, 1, level=0.15, streaks=streaks)[1] for streaks in (0, 1)
    )
    assert np.abs(first - second).max() > 1


def test_all_metal_has_streaks():
    head = fresh()
    for x in (-20, 20):
        head.canvas.paint(head.canvas.ellipse((x, 0), (4, 4), inner=False), 4000)
    before = head.canvas.hounsfield
    assert before.max() > METAL
    between = (np.abs(head.canvas.x) < 8) & (np.abs(head.canvas.y) < 2)
    bands = []
    for seed in range(30):
        head.canvas.hounsfield = before.copy()
        assert add_metal(head, np.random.default_rng(seed)) == ("metal",)
        change = head.canvas.hounsfield - before
        assert np.abs(change[head.inside > 0]).mean() > 3
        bands.append(change[between].mean())
    assert np.mean(bands) < -15  # dark from one to the other, between rays of noise


def test_metal_lies_in_some_slices_of_a_scan():
    shares = []
    for seed in range(40):
        drawn = [
            bool(changed(add_metal, seed, level=level, size=64)[2]) for level in (0.2, 0.5, 0.9)
        ]
        shares.append(np.mean(drawn))
    assert 0 < np.mean(shares) < 0.15 and max(shares) < 1


def test_a_restless_head_moves_in_some_slices():
    moved = [
        [bool(changed(add_motion, seed, size=64, movement=each)[2]) for each in range(6)]
        for seed in range(30)
    ]
    shares = np.mean(moved, axis=1)
    assert 0.05 < np.mean(shares) < 0.25
    assert np.mean(shares == 0) > 0.5 and np.mean((shares > 0) & (shares < 1)) > 0.1


def test_motion_makes_streaks_that_leave_the_mean_as_it_was():
    for seed in range(40):
        head, change, names = changed(add_motion, seed, movement=seed)
        if names:
            assert names == ("motion",)
            brain = head.inside > 4
            assert change[brain].std() > 0.2
            assert change.mean() == pytest.approx(0, abs=4)


def test_rings_are_rare():
    names = [changed(add_rings, seed, size=64)[2] for seed in range(150)]
    assert 0 < names.count(("rings",)) < 12
