import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hemorrhage_tf.synthesis.canvas import AIR, Canvas, Roughness, step


def canvas(size=128, field_of_view=256.0, center=(0.0, 0.0), rotation=0.0):
    return Canvas(size, field_of_view, center, rotation, np.random.default_rng(0))


class TestStep:
    def test_is_half_on_the_edge_and_one_half_a_width_inside(self):
        depth = np.array([-1.0, -0.5, 0.0, 0.5, 1.0], np.float32)
        np.testing.assert_allclose(step(depth, 1.0), [0, 0, 0.5, 1, 1])

    def test_does_not_change_its_argument(self):
        depth = np.array([0.2], np.float32)
        step(depth, 2.0)
        assert depth[0] == np.float32(0.2)


class TestCanvas:
    def test_is_air_at_first(self):
        assert (canvas().hounsfield == AIR).all()

    def test_coordinates_are_millimeters_from_the_center_of_the_head(self):
        drawn = canvas(size=100, field_of_view=200.0, center=(10.0, -20.0))
        assert drawn.pixel == 2
        # The center of this pixel lies 11 mm to the right of the canvas' center and 19 mm above.
        assert drawn.x[40, 55] == pytest.approx(1)
        assert drawn.y[40, 55] == pytest.approx(1)

    @given(
        st.floats(5, 40), st.floats(5, 40), st.floats(-30, 30), st.floats(-30, 30),
        st.floats(0, 3.1), st.floats(-0.5, 0.5),
    )  # fmt: skip
    @settings(max_examples=30, deadline=None)
    def test_an_ellipse_covers_its_area(self, wide, high, x, y, angle, rotation):
        drawn = canvas(rotation=rotation)
        shape = drawn.ellipse((x, y), (wide, high), angle)
        area = float(shape.alpha.sum()) * drawn.pixel**2
        assert area == pytest.approx(np.pi * wide * high, rel=0.06)

    @given(st.floats(0, 0.32), st.integers(0, 1000))
    @settings(max_examples=30, deadline=None)
    def test_an_uneven_outline_is_not_cut_off_by_its_window(self, amount, seed):
        drawn = canvas()
        rng = np.random.default_rng(seed)
        alpha = drawn.ellipse((0, 0), (20, 12), 0.5, Roughness(amount, rng)).alpha
        for edge in (alpha[0], alpha[-1], alpha[:, 0], alpha[:, -1]):
            assert not edge.any()

    def test_a_line_has_its_width(self):
        drawn = canvas()
        shape = drawn.line([(-40, 0), (40, 0)], 6.0)
        column = shape.alpha[:, shape.alpha.shape[1] // 2]
        assert float(column.sum()) * drawn.pixel == pytest.approx(6, rel=0.03)

    def test_the_width_of_a_line_changes_from_end_to_end(self):
        drawn = canvas()
        shape = drawn.line([(-40, 0), (0, 0), (40, 0)], (4.0, 12.0))
        widths = shape.alpha.sum(axis=0) * drawn.pixel
        middle = np.flatnonzero(widths > 1).mean().round().astype(int)
        assert widths[middle] == pytest.approx(8, rel=0.08)

    def test_painting_blends_by_coverage(self):
        drawn = canvas()
        alpha = np.full(drawn.hounsfield.shape, 0.25, np.float32)
        drawn.paint(drawn.everywhere(alpha), 0.0)
        np.testing.assert_allclose(drawn.hounsfield, AIR * 0.75)
        drawn.paint(drawn.everywhere(np.ones_like(alpha)), 40.0, opacity=0.5)
        np.testing.assert_allclose(drawn.hounsfield, (AIR * 0.75 + 40) / 2)

    def test_a_shape_outside_the_canvas_draws_nothing(self):
        drawn = canvas()
        drawn.paint(drawn.ellipse((500, 500), (10, 10)), 99)
        assert (drawn.hounsfield == AIR).all()

    def test_a_field_is_the_same_at_any_size(self):
        small, large = (canvas(size).field(20.0, np.random.default_rng(3)) for size in (64, 256))
        np.testing.assert_allclose(large.reshape(64, 4, 64, 4).mean(axis=(1, 3)), small, atol=0.1)
        assert 0.6 < large.std() < 1.5
