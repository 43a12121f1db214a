import numpy as np
import pytest
from phantom_heads import drawn_head

from hemorrhage_tf.synthesis.hemorrhage import (
    LIMITS,
    SUBTYPES,
    Plan,
    VisibilityLimits,
    draw_hemorrhages,
    level_for,
    plan_hemorrhages,
)


@pytest.fixture(scope="module")
def heads():
    drawn = [drawn_head(seed) for seed in range(40)]
    return [(head, head.canvas.hounsfield.copy()) for head in drawn]


def contrast_details(heads, limits=LIMITS) -> list[float]:
    """Return contrast to brain times diameter, in HU mm, of small hemorrhages before the scan."""
    products = []
    for seed, (head, before) in enumerate(heads):
        head.canvas.hounsfield[...] = before
        plan = Plan("intraparenchymal", 1, 0.05)
        blood, complete = draw_hemorrhages(head, [plan], np.random.default_rng(seed), limits)
        assert complete == blood.any()
        if complete:
            after = head.canvas.hounsfield[blood > 0].clip(0, 80)
            changed = after[np.abs(after - before[blood > 0].clip(0, 80)) >= 4]
            area = len(changed) * head.canvas.pixel**2
            assert area >= 25
            products.append((changed.mean() - 33) * 2 * np.sqrt(area / np.pi))
    return products


def test_small_hemorrhages_are_dense_enough_to_be_visible(heads):
    products = contrast_details(heads)
    assert len(products) > 6
    assert min(products) >= 140
    without = contrast_details(heads, VisibilityLimits(contrast_detail=0.0))
    assert len(without) > len(products) and min(without) < 140


def test_an_invisible_hemorrhage_leaves_no_trace(heads):
    head, before = heads[0]
    head.canvas.hounsfield[...] = before
    blood, complete = draw_hemorrhages(
        head,
        [Plan("intraparenchymal", 1, 0.5)],
        np.random.default_rng(0),
        VisibilityLimits(area=1e9),
    )
    assert not complete and not blood.any()
    np.testing.assert_array_equal(head.canvas.hounsfield, before)


def test_plans_occur_at_their_level():
    rng = np.random.default_rng(0)
    low = {plan.subtype for _ in range(60) for plan in plan_hemorrhages(0.02, rng)}
    assert low == {"intraparenchymal"}
    middle = {plan.subtype for _ in range(60) for plan in plan_hemorrhages(0.5, rng)}
    assert middle == set(SUBTYPES)


@pytest.mark.parametrize("name", SUBTYPES)
def test_a_required_subtype_is_planned_first(name):
    rng = np.random.default_rng(0)
    for _ in range(10):
        assert plan_hemorrhages(level_for(name, rng), rng, name)[0].subtype == name


def test_a_large_hemorrhage_moves_the_midline_away():
    assert Plan("subdural", 1, 1.0).shift < 0 < Plan("subdural", -1, 1.0).shift
    assert Plan("subdural", 1, 0.2).shift == Plan("subarachnoid", 1, 1.0).shift == 0
