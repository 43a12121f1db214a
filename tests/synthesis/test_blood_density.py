import numpy as np
import pytest
from phantom_heads import drawn_head

from hemorrhage_tf.synthesis.blood_density import blood_density
from hemorrhage_tf.synthesis.canvas import Shape
from hemorrhage_tf.synthesis.hemorrhage_plans import AGES, Plan


@pytest.fixture(scope="module")
def values():
    """Return the HU of a ball of blood of each age, and its y."""
    head = drawn_head()
    ball: Shape = head.canvas.ellipse((20.0, 0.0), (18.0, 18.0))
    inside = ball.alpha > 0.5
    drawn = {}
    for age in AGES:
        plan = Plan("epidural", 1, 0.5, age=age, density=62.0, liquid=24.0)
        drawn[age] = blood_density(head, plan, ball, np.random.default_rng(0))[inside]
    return drawn, head.canvas.y[ball.window][inside]


@pytest.mark.parametrize("age", ["acute", "pale", "isodense"])
def test_a_clot_has_its_planned_density(values, age):
    assert np.median(values[0][age]) == pytest.approx(62, abs=4)
    assert values[0][age].std() < 6


def test_old_blood_is_as_dark_as_planned(values):
    assert np.median(values[0]["old"]) == pytest.approx(24, abs=4)


@pytest.mark.parametrize("age", ["hyperacute", "mixed"])
def test_blood_of_several_ages_has_dense_and_dark_parts(values, age):
    assert np.ptp(np.quantile(values[0][age], (0.02, 0.98))) > 15


def test_cells_settle_at_the_back(values):
    layered, y = values[0]["layered"], values[1]
    front, back = y < np.quantile(y, 0.2), y > np.quantile(y, 0.8)
    assert np.median(layered[front]) == pytest.approx(24, abs=5)
    assert np.median(layered[back]) == pytest.approx(62, abs=5)
