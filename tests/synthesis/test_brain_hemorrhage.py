import numpy as np
import pytest
from phantom_heads import drawn_head

from hemorrhage_tf.synthesis.brain_hemorrhage import (
    draw_intraparenchymal,
    draw_intraventricular,
    draw_subarachnoid,
)
from hemorrhage_tf.synthesis.hemorrhage_plans import Plan


@pytest.fixture(scope="module")
def head():
    return drawn_head(atrophy=0.6)


def masks_of(head, drawer, plan: Plan, count: int = 12) -> list[np.ndarray]:
    before, drawn = head.canvas.hounsfield.copy(), []
    for seed in range(count):
        bleeding = drawer(head, plan, np.random.default_rng(seed))
        head.canvas.hounsfield[...] = before
        mask = np.zeros(before.shape, bool)
        mask[bleeding.window] = bleeding.mask
        drawn.append(mask)
    return drawn


def test_hematomas_run_from_a_few_mm_to_massive_ones(head):
    areas = [
        np.median([mask.sum() for mask in masks_of(head, draw_intraparenchymal, plan)])
        for plan in (Plan("intraparenchymal", 1, extent, (20.0, 0.0)) for extent in (0.0, 0.5, 1.0))
    ]
    areas = np.array(areas) * head.canvas.pixel**2
    assert areas[0] < 60 < 150 < areas[1] < 1000 < areas[2]


def test_a_planned_direction_is_kept(head):
    plan = Plan("intraparenchymal", 1, 0.1, angle=np.pi / 2)
    masks = masks_of(drawn_head(level=0.75), draw_intraparenchymal, plan)
    assert masks[0].any()
    contused = [mask for mask in masks if mask.any()]
    assert len(contused) > 8


def test_a_little_blood_lies_in_the_back_of_the_ventricles(head):
    y = head.canvas.y
    masks = masks_of(head, draw_intraventricular, Plan("intraventricular", 1, 0.0), 30)
    ventricle = head.ventricles > 0.5
    assert all((head.ventricles[mask] > 0.2).all() for mask in masks)
    low = y > np.quantile(y[ventricle], 0.75)
    settled = [mask[low].sum() / max(mask.sum(), 1) > 0.9 for mask in masks]
    assert 0.25 < np.mean(settled) < 0.8


def test_subarachnoid_blood_lies_in_fluid_and_near_the_surface(head):
    masks = masks_of(head, draw_subarachnoid, Plan("subarachnoid", 1, 0.4, (45.0, 0.0)))
    assert np.mean([mask.any() for mask in masks]) > 0.8
    for mask in masks:
        assert not (head.ventricles[mask] > 0.5).any() and (head.inside[mask] > -1).all()


def test_a_head_without_ventricles_has_no_blood_in_them():
    head = drawn_head(level=0.9, size=64)
    plan = Plan("intraventricular", 1, 0.5)
    assert draw_intraventricular(head, plan, np.random.default_rng(0)) is None
