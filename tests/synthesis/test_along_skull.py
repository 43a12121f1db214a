import numpy as np
import pytest
from phantom_heads import drawn_head

from hemorrhage_tf.synthesis.along_skull import (
    angle_within,
    distance_of_skull,
    mm_along,
    place_toward,
    window_along,
)


@pytest.fixture(scope="module")
def head():
    return drawn_head()


def test_the_skull_is_as_far_as_the_head_is_wide_and_long(head):
    distances = distance_of_skull(head, np.array([0.0, np.pi / 2, np.pi]))
    np.testing.assert_allclose(distances, [head.half_width, head.half_length, head.half_width])


@pytest.mark.parametrize("angle", [0.0, 1.5, 3.0, -1.5])
def test_a_window_contains_the_skull_around_its_direction(head, angle):
    window = window_along(head, angle, 0.4, 5.0)
    contained = np.zeros(head.depth.shape, bool)
    contained[window] = True
    skull = (np.abs(head.depth) < 2) & (head.angle_from(angle) < 0.4)
    assert skull.any() and contained[skull].all()
    assert contained.mean() < 0.6


def test_angles_and_distances_agree(head):
    window = window_along(head, 0.5, 0.3, 5.0)
    angles, along = angle_within(head, 0.5, window), mm_along(head, 0.5, window)
    np.testing.assert_allclose(angles, head.angle_from(0.5)[window], atol=1e-3)
    near = angles < 0.2
    radius = distance_of_skull(head, np.array(0.5))
    np.testing.assert_allclose(np.abs(along[near]), angles[near] * radius, rtol=0.02, atol=0.6)
    assert along.min() < 0 < along.max()


def test_places_lie_in_the_brain_toward_a_direction(head):
    rng = np.random.default_rng(0)
    places = np.array([place_toward(head, 0.0, (2.0, 10.0), rng) for _ in range(40)])
    assert np.mean(places[:, 0] > 0) > 0.9
    assert (np.hypot(*places.T) < head.half_length).all()
    assert place_toward(head, 0.0, (500.0, 600.0), rng) is None
