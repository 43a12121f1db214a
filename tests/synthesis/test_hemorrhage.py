import numpy as np
import pytest
from phantom_heads import drawn_head

from hemorrhage_tf.synthesis.hemorrhage import (
    LIMITS,
    SUBTYPES,
    Plan,
    VisibilityLimits,
    draw_hemorrhages,
    draw_plan,
)


@pytest.fixture(scope="module")
def heads():
    drawn = [drawn_head(seed) for seed in range(24)]
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
    assert min(without) < 140


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


def test_noise_hides_small_hemorrhages():
    noisy = LIMITS.at_noise(12.0)
    assert LIMITS.at_noise(2.0) == LIMITS
    assert noisy.contrast_detail == 3 * LIMITS.contrast_detail and noisy.area == LIMITS.area


@pytest.mark.parametrize("subtype", SUBTYPES)
def test_nearly_every_plan_gives_a_visible_hemorrhage(heads, subtype):
    complete = []
    for seed, (head, before) in enumerate(heads[:20]):
        head.canvas.hounsfield[...] = before
        rng = np.random.default_rng(seed)
        plan = draw_plan(subtype, head.level, rng, head.impact)
        blood, drawn = draw_hemorrhages(head, [plan], rng)
        assert drawn == blood.any() and not (head.canvas.hounsfield[blood > 0] > 150).any()
        complete.append(drawn)
    assert np.mean(complete) > 0.8


def test_blood_along_bone_must_reach_away_from_it(heads):
    head, before = heads[0]
    head.canvas.hounsfield[...] = before
    plan = Plan("epidural", 1, 0.1, place=(0.0, 0.0), angle=0.1)
    far = VisibilityLimits(away_from_bone=30.0)
    assert draw_hemorrhages(head, [plan], np.random.default_rng(0))[1]
    head.canvas.hounsfield[...] = before
    assert not draw_hemorrhages(head, [plan], np.random.default_rng(0), far)[1]
