import numpy as np
from phantom_heads import drawn_head


def test_maxillary_sinuses_are_mostly_air_in_bone():
    air = []
    for seed in range(8):
        head = drawn_head(seed, 0.0, size=96)
        x, y = np.abs(head.canvas.x), head.canvas.y
        sinuses = np.hypot(x - 28, y + 60) < 6
        air.append(np.mean(head.canvas.hounsfield[sinuses] < -600))
        walls = np.hypot(x - 28, y + 60) < 30
        assert (head.canvas.hounsfield[walls] > 300).any()
    assert np.mean(np.array(air) > 0.5) > 0.6


def test_the_nose_reaches_out_of_the_face():
    head = drawn_head(level=0.0, size=128)
    tissue = head.canvas.hounsfield > -300
    ahead = tissue & (head.canvas.y < -96)
    assert ahead.any() and np.abs(head.canvas.x[ahead]).max() < 25


def test_slices_of_neck_and_vault_have_no_face():
    for level in (-0.6, 0.5):
        head = drawn_head(level=level, size=96)
        inner = (head.skin > 8) & (head.canvas.y < -45)
        assert not (head.canvas.hounsfield[inner] < -600).any()
