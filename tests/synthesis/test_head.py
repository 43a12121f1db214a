import numpy as np
import pytest
from phantom_heads import drawn_head

from hemorrhage_tf.synthesis.canvas import Shape
from hemorrhage_tf.synthesis.head import interpolate, partial_volume_density, visibility


def test_a_structure_appears_and_disappears_gradually():
    shares = [visibility(level, 0.3, 0.5, 0.02) for level in (0.2, 0.3, 0.4, 0.5, 0.6)]
    assert shares == pytest.approx([0, 0.5, 1, 0.5, 0])


def test_sizes_are_constant_beyond_the_given_levels():
    sizes = [interpolate(level, (0.2, 0.4), (1, 3)) for level in (0, 0.3, 1)]
    assert sizes == pytest.approx([1, 2, 3])


def test_random_places_have_the_required_depth():
    head = drawn_head()
    rng = np.random.default_rng(1)
    for _ in range(20):
        x, y = head.random_place(rng, 5, 10)
        nearest = np.hypot(head.canvas.x - x, head.canvas.y - y).argmin()
        assert 5 < head.inside.flat[nearest] < 10
    assert head.random_place(rng, 500, 600) is None


def test_a_shape_is_clipped_to_the_brain():
    head = drawn_head()
    everywhere = head.canvas.everywhere(np.ones_like(head.depth))
    clipped = head.clip_to_brain(everywhere)
    assert isinstance(clipped, Shape)
    np.testing.assert_array_equal(clipped.alpha, head.brain)


def test_angles_are_measured_from_the_right_to_the_back():
    head = drawn_head(size=64)
    away = head.angle_from(np.pi / 2)
    assert away[-1, 32] < 0.1 and away[0, 32] > 3
    assert head.direction_cosine(0.0)[32, -1] > 0.99


def test_partial_volume_bone_covers_a_part_of_the_slice():
    head = drawn_head()
    alpha = head.partial_volume_bone((0, 0), (12, 8), 0.0, np.random.default_rng(0)).alpha
    assert alpha.max() > 0.8 and alpha[0].max() == 0
    densities = [partial_volume_density(np.random.default_rng(seed)) for seed in range(30)]
    assert 50 <= min(densities) < 100 and 400 < max(densities) <= 900
