import numpy as np
import pytest
from phantom_heads import drawn_head

from hemorrhage_tf.synthesis.dural_hemorrhage import draw_epidural, draw_subdural
from hemorrhage_tf.synthesis.hemorrhage_plans import Plan


@pytest.fixture(scope="module")
def head():
    return drawn_head()


def draw(head, plan: Plan, seed: int = 0):
    """Return the mask on the whole canvas, and the HU; leave the head as it was."""
    before = head.canvas.hounsfield.copy()
    drawer = draw_epidural if plan.subtype == "epidural" else draw_subdural
    bleeding = drawer(head, plan, np.random.default_rng(seed))
    after = head.canvas.hounsfield.copy()
    head.canvas.hounsfield[...] = before
    mask = np.zeros(before.shape, bool)
    if bleeding is not None:
        mask[bleeding.window] = bleeding.mask
        outside = np.ones(before.shape, bool)
        outside[bleeding.window] = False
        np.testing.assert_array_equal(after[outside], before[outside])
    return mask, after


@pytest.mark.parametrize("subtype", ["subdural", "epidural"])
@pytest.mark.parametrize("angle", [0.2, 2.6])
def test_collections_lie_inside_the_skull_at_their_angle(head, subtype, angle):
    mask, _ = draw(head, Plan(subtype, int(np.sign(np.cos(angle))), 0.4, angle=angle))
    assert mask.any() and (head.inside[mask] > -1).all()
    assert np.median(head.angle_from(angle)[mask]) < 0.8
    assert head.inside[mask].min() < 2


def test_thickness_grows_with_the_extent_and_with_the_share(head):
    def thickness(**changes):
        masks = [
            draw(head, Plan("epidural", 1, angle=0.1, **changes), seed)[0] for seed in range(6)
        ]
        return np.median([head.inside[mask].max() for mask in masks])

    thin, middle, thick = (thickness(extent=extent) for extent in (0.0, 0.4, 1.0))
    assert 3 < thin < 7 < middle < thick < 45
    assert thickness(extent=1.0, share=0.5) == pytest.approx(thick / 2, abs=3)


def test_a_subdural_is_longer_for_its_thickness_than_an_epidural(head):
    def length(subtype):
        masks = [draw(head, Plan(subtype, 1, 0.3, angle=0.1), seed)[0] for seed in range(8)]
        return np.median([head.angle_from(0.1)[mask].max() for mask in masks])

    assert length("subdural") > 1.3 * length("epidural")


def test_a_membrane_is_denser_than_the_old_blood_inside(head):
    plan = Plan("epidural", 1, 0.7, angle=0.1, age="old", density=55.0, liquid=18.0)
    mask, after = draw(head, plan)
    deep = head.inside[mask]
    rim, middle = deep > np.quantile(deep, 0.97), (deep > 2) & (deep < 6)
    assert np.median(after[mask][rim]) > np.median(after[mask][middle]) + 10
    assert np.median(after[mask][middle]) == pytest.approx(18, abs=5)


def test_a_subdural_along_the_falx_lies_in_the_middle():
    head = drawn_head(level=0.7)
    mask, _ = draw(head, Plan("subdural", 1, 0.5, surface="falx"))
    assert mask.any() and np.abs(head.canvas.inner_x[mask]).max() < 15
    below = drawn_head(level=0.3)
    assert not draw(below, Plan("subdural", 1, 0.5, surface="falx"))[0].any()
    assert draw(below, Plan("subdural", 1, 0.5, surface="tentorium"))[0].any()
