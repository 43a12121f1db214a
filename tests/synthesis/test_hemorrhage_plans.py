from collections import Counter
from functools import cache

import numpy as np
import pytest

from hemorrhage_tf.synthesis.hemorrhage_plans import (
    AGES,
    FOSSA_TOP,
    SUBTYPES,
    Plan,
    draw_plan,
    level_for,
    plan_hemorrhages,
    reach_of,
)


@cache
def plans_of(subtype: str, level: float = 0.5, impact: float | None = None) -> list[Plan]:
    rng = np.random.default_rng(0)
    return [draw_plan(subtype, level, rng, impact) for _ in range(240)]


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


def test_levels_lie_within_the_limits_where_the_subtype_occurs_there():
    rng = np.random.default_rng(0)
    assert all(0.4 <= level_for("intraventricular", rng, (0.4, 0.5)) <= 0.5 for _ in range(50))
    # In the fourth ventricle and in the lateral ones, not between them.
    levels = np.array([level_for("intraventricular", rng) for _ in range(200)])
    assert not ((levels > 0.25) & (levels < 0.36)).any()
    assert (levels < 0.25).any() and (levels > 0.36).any()


def test_a_large_hemorrhage_moves_the_midline_away():
    assert Plan("subdural", 1, 1.0).shift < 0 < Plan("subdural", -1, 1.0).shift
    assert Plan("subdural", 1, 0.2).shift == Plan("subarachnoid", 1, 1.0).shift == 0
    assert Plan("epidural", 1, 1.0, share=0.5).shift == Plan("epidural", 1, 1.0).shift / 2


def test_small_hemorrhages_are_as_frequent_as_large_ones():
    extents = np.array([plan.extent for plan in plans_of("epidural")])
    assert 0.2 < np.median(extents) < 0.45
    assert np.mean(extents < 0.15) > 0.15 and np.mean(extents > 0.6) > 0.15


def test_hemorrhages_have_every_age():
    ages = Counter(plan.age for name in SUBTYPES for plan in plans_of(name))
    assert set(ages) == set(AGES)
    dural = [plan.age for name in ("subdural", "epidural") for plan in plans_of(name)]
    # 0.09 to 0.12 of each are drawn, and the smallest of them become acute.
    assert 0.04 < dural.count("old") / len(dural) < 0.13
    assert 0.03 < dural.count("isodense") / len(dural) < 0.13


def test_density_belongs_to_the_age():
    plans = [plan for name in SUBTYPES for plan in plans_of(name)]
    assert all(plan.density >= 50 for plan in plans if plan.age == "acute")
    assert all(36 <= plan.density <= 45 for plan in plans if plan.age == "isodense")
    old = [plan for plan in plans if plan.age == "old"]
    assert all(14 <= plan.liquid <= 24 for plan in old)  # denser than a hygroma
    with_membrane = [plan.density - plan.liquid > 10 for plan in old]
    assert 0.3 < np.mean(with_membrane) < 0.7


@pytest.mark.parametrize("subtype", ["subdural", "epidural", "intraparenchymal"])
def test_traumatic_hemorrhages_gather_around_the_impact(subtype):
    impact = 1.0
    angles = np.array([plan.angle for plan in plans_of(subtype, impact=impact)])
    along = np.cos(angles - impact)
    near = np.abs(along) if subtype != "epidural" else along  # or on the other side of the brain
    assert np.mean(near > 0.8) > 0.5


def test_the_side_is_that_of_the_angle():
    assert all(plan.side == np.sign(np.cos(plan.angle)) for plan in plans_of("subdural"))


def test_a_low_epidural_hemorrhage_lies_mostly_in_the_posterior_fossa():
    behind = [np.sin(plan.angle) > 0.5 for plan in plans_of("epidural", FOSSA_TOP - 0.05)]
    assert 0.5 < np.mean(behind) < 0.85


def test_a_clearer_hemorrhage_is_larger_and_denser():
    plan = Plan("subdural", 1, 0.3, age="isodense", density=40.0)
    clearer = plan.clearer()
    assert clearer.extent > plan.extent and clearer.density > plan.density
    assert clearer.age == "acute" and clearer.side == plan.side
    assert Plan("subdural", 1, 1.0).clearer().extent == 1.0


def test_a_large_hematoma_reaches_farther():
    rng = np.random.default_rng(0)
    small, large = (
        np.mean([reach_of(Plan(name, 1, extent), rng) for name in SUBTYPES for _ in range(20)])
        for extent in (0.05, 0.9)
    )
    assert 5 < small < large < 40
