import numpy as np
import pytest
from phantom_heads import drawn_head

LEVELS = (-0.9, -0.7, -0.5, -0.3, -0.15)


@pytest.mark.parametrize("level", LEVELS)
def test_the_cord_lies_in_fluid_in_the_spine(level):
    found = []
    for seed in range(4):
        head = drawn_head(seed, level, size=192)
        values, x, y = head.canvas.hounsfield, head.canvas.x, head.canvas.y
        canal = (np.abs(x) < 9) & (y > 20) & (y < 46)
        cord, fluid = canal & (values > 28) & (values < 42), canal & (values > 3) & (values < 23)
        bone = (np.abs(x) < 30) & (y < 30) & (y > -10) & (values > 250)
        found.append((cord.sum() > 8, fluid.sum() > 8, bone.sum() > 60))
    assert np.mean(found) > 0.9


@pytest.mark.parametrize("level", LEVELS)
def test_there_is_air_in_the_throat(level):
    open_ways = 0
    for seed in range(5):
        head = drawn_head(seed, level, size=128)
        throat = (np.abs(head.canvas.x) < 15) & (head.skin > 6) & (head.canvas.y < 5)
        open_ways += bool((head.canvas.hounsfield[throat] < -600).any())
    assert open_ways >= 4  # some are closed


def test_muscles_have_the_density_of_muscle():
    head = drawn_head(level=-0.5, size=128)
    behind = (head.canvas.y > 40) & (head.skin > 12)
    values = head.canvas.hounsfield[behind]
    assert 40 < np.median(values[(values > 20) & (values < 90)]) < 66


def test_the_neck_of_a_fat_person_has_more_fat():
    shares, fatness = [], []
    for seed in range(14):
        head = drawn_head(seed, -0.5, size=64)
        shares.append(np.mean(head.canvas.hounsfield[head.skin > 3] < -30))
        fatness.append(head.fat)
    assert np.corrcoef(shares, fatness)[0, 1] > 0.7
