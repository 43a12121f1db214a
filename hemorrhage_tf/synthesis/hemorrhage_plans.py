"""Plans of hemorrhages: which kind, where, how large and how old, before the head is drawn.

All slices of a scan share a plan, so everything that must be the same in them belongs to it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

SUBTYPES = ("intraparenchymal", "intraventricular", "subarachnoid", "subdural", "epidural")

FOSSA_TOP = 0.25  # below this level the tentorium separates the posterior fossa
FALX_BOTTOM = 0.42  # level
TENTORIUM = 0.24, 0.36  # lowest and highest level
MIXED = 0.25  # share of hemorrhages with two subtypes

_RADII = 2.2, 30.0  # mm, of the smallest and of a massive hematoma in the brain
_FARTHEST = 35.0  # mm that a hemorrhage reaches up and down from its center
_NEAR_IMPACT = 0.6  # share of traumatic hemorrhages that lie where the head was hit, or opposite


@dataclass(frozen=True, slots=True)
class _Occurrence:
    """Levels at which a subtype occurs.

    Attributes:
        low: Lowest level.
        high: Highest level.
        weight: Its weight against other subtypes at a level. Subtypes with fewer levels have larger
            weights, so that all occur about as often.
    """

    low: float
    high: float
    weight: float


_OCCURRENCES = {
    "intraparenchymal": (_Occurrence(0.02, 0.93, 0.9),),
    # In the fourth ventricle, and in the lateral ones.
    "intraventricular": (_Occurrence(0.13, 0.24, 0.5), _Occurrence(0.37, 0.635, 5.5)),
    "subarachnoid": (_Occurrence(0.15, 0.97, 1.25),),
    "subdural": (_Occurrence(0.12, 0.98, 1.25),),
    "epidural": (_Occurrence(0.05, 0.96, 1.0),),
}


@dataclass(frozen=True, slots=True)
class _Age:
    """What blood of an age looks like on CT.

    Attributes:
        dense: Lowest and highest HU of its densest part.
        liquid: Lowest and highest HU of its liquid part.
    """

    dense: tuple[float, float]
    liquid: tuple[float, float]


# Hyperacute blood has not clotted everywhere; a clot becomes as dense as brain within weeks, and
# darker later; it may bleed again, or settle. Old blood is darker than brain, in half of the cases
# with a denser membrane, but never as dark as a hygroma.
_AGES = {
    "hyperacute": _Age((50.0, 68.0), (28.0, 42.0)),
    "acute": _Age((50.0, 79.0), (30.0, 40.0)),
    "pale": _Age((43.0, 54.0), (30.0, 40.0)),
    "isodense": _Age((36.0, 45.0), (28.0, 36.0)),
    "old": _Age((42.0, 60.0), (14.0, 24.0)),
    "mixed": _Age((50.0, 72.0), (15.0, 34.0)),
    "layered": _Age((52.0, 76.0), (14.0, 36.0)),
}
AGES = tuple(_AGES)
_WITH_MEMBRANE = 0.5  # share of old collections

# Weights of the ages of each subtype.
_AGE_WEIGHTS = {
    "intraparenchymal": {
        "acute": 0.58,
        "pale": 0.12,
        "hyperacute": 0.12,
        "isodense": 0.06,
        "layered": 0.07,
        "mixed": 0.05,
    },
    "intraventricular": {"acute": 0.65, "pale": 0.35},
    "subarachnoid": {"acute": 0.6, "pale": 0.35, "isodense": 0.05},
    "subdural": {
        "acute": 0.4,
        "pale": 0.14,
        "hyperacute": 0.05,
        "isodense": 0.12,
        "old": 0.11,
        "mixed": 0.1,
        "layered": 0.08,
    },
    "epidural": {
        "acute": 0.43,
        "pale": 0.17,
        "hyperacute": 0.14,
        "isodense": 0.07,
        "old": 0.09,
        "mixed": 0.07,
        "layered": 0.03,
    },
}
# Extent below which blood of an age would not be visible; it is acute then.
_SMALLEST_EXTENT = {"isodense": 0.35, "old": 0.2, "mixed": 0.2, "layered": 0.25, "hyperacute": 0.2}
_PALE_EXTENT = 0.08


@dataclass(frozen=True, slots=True)
class Plan:
    """A hemorrhage before the head is drawn, so that the head can make room for it.

    Attributes:
        subtype: One of `SUBTYPES`.
        side: -1 for the left of the image, 1 for the right.
        extent: 0 for the smallest to 1 for a massive one.
        place: x and y of its center, in mm, if it lies in brain or sulci; None to choose one.
        angle: Direction of its center from the middle of the head, in radians, if it lies along
            the skull or near it; None to choose one on its side.
        surface: Where a subdural hemorrhage lies: along the "convexity", "falx" or "tentorium".
            Defaults to "convexity".
        age: One of `AGES`. Defaults to "acute".
        density: Its densest part, in HU. Defaults to 64.
        liquid: Its liquid part, in HU. Defaults to 32.
        settled: Share of a layered hemorrhage that lies above its cells. Defaults to 0.5.
        share: Size in this slice as a share of that in the middle of a scan's hemorrhage. Defaults
            to 1.
    """

    subtype: str
    side: int
    extent: float
    place: tuple[float, float] | None = None
    angle: float | None = None
    surface: str = "convexity"
    age: str = "acute"
    density: float = 64.0
    liquid: float = 32.0
    settled: float = 0.5
    share: float = 1.0

    @property
    def shift(self) -> float:
        """How far the midline moves away from it, in mm."""
        most = {"intraparenchymal": 12.0, "subdural": 16.0, "epidural": 14.0}.get(self.subtype, 0)
        return -self.side * most * self.share * max(0.0, self.extent - 0.3) / 0.7

    def clearer(self) -> Plan:
        """Return a hemorrhage like it that is a little larger and denser."""
        return replace(
            self,
            extent=min(self.extent + 0.07, 1.0),
            age="acute" if self.age in ("isodense", "pale") else self.age,
            density=min(max(self.density, 46.0) + 5.0, 75.0),
        )


def plan_hemorrhages(
    level: float,
    rng: np.random.Generator,
    subtype: str | None = None,
    impact: float | None = None,
) -> list[Plan]:
    """Choose hemorrhages that occur at a level.

    Args:
        level: Level of the slice, 0 to 1.
        rng: Random generator of the choice.
        subtype: Subtype of the first one, which must occur at the level (see `level_for`); None
            for any. Defaults to None.
        impact: Direction of a blow to the head, in radians; None for none. Defaults to None.

    Returns:
        One plan or two.
    """
    found = {name: _weight_at(name, level) for name in SUBTYPES}
    names = [name for name, weight in found.items() if weight] or ["intraparenchymal"]
    weights = np.array([found[name] or 1.0 for name in names])
    count = 2 if rng.random() < MIXED and len(names) > 1 else 1
    chosen = list(rng.choice(names, count, replace=False, p=weights / weights.sum()))
    if subtype is not None:
        chosen = [subtype, *(name for name in chosen if name != subtype)][:count]
    return [draw_plan(str(name), level, rng, impact) for name in chosen]


def draw_plan(
    subtype: str, level: float, rng: np.random.Generator, impact: float | None = None
) -> Plan:
    """Draw size, age and direction of a hemorrhage.

    Args:
        subtype: One of `SUBTYPES`.
        level: Level of its center.
        rng: Random generator of the plan.
        impact: Direction of a blow to the head, in radians; None for none. Defaults to None.
    """
    # Small and thin ones are as frequent as large ones.
    extent = float(rng.beta(1.0, 4.0) if rng.random() < 0.5 else rng.beta(1.6, 1.4))
    weights = _AGE_WEIGHTS[subtype]
    # Several times as fast as `rng.choice`.
    chosen = int(np.searchsorted(np.cumsum(list(weights.values())), rng.random()))
    age = list(weights)[min(chosen, len(weights) - 1)]
    if extent < _SMALLEST_EXTENT.get(age, 0.0):
        age = "pale" if extent > _PALE_EXTENT and rng.random() < 0.3 else "acute"
    look = _AGES[age]
    density, liquid = float(rng.uniform(*look.dense)), float(rng.uniform(*look.liquid))
    if age == "old" and rng.random() > _WITH_MEMBRANE:
        density = liquid + 3.0
    angle = _draw_angle(subtype, level, rng, impact)
    return Plan(
        subtype,
        side=1 if np.cos(angle) > 0 else -1,
        extent=extent,
        angle=angle,
        surface=_draw_surface(level, rng),
        age=age,
        density=density,
        liquid=liquid,
        settled=float(rng.uniform(0.3, 0.75)),
    )


def _draw_surface(level: float, rng: np.random.Generator) -> str:
    """Draw where a subdural hemorrhage lies."""
    kind = rng.random()
    if level > FALX_BOTTOM and kind < 0.16:
        return "falx"
    low, high = TENTORIUM
    return "tentorium" if low < level < high and kind < 0.3 else "convexity"


def reach_of(plan: Plan, rng: np.random.Generator) -> float:
    """Draw how far a hemorrhage reaches up and down from its center, in mm."""
    if plan.subtype == "intraparenchymal":
        return min(hematoma_radius(plan) * float(rng.uniform(0.9, 1.8)) + 2.0, _FARTHEST)
    return min(float(rng.uniform(8, 16) + rng.uniform(2, 22) * plan.extent), _FARTHEST)


def hematoma_radius(plan: Plan) -> float:
    """Return the largest radius of a hematoma in the brain, in mm."""
    return _RADII[0] * (_RADII[1] / _RADII[0]) ** plan.extent


def _draw_angle(
    subtype: str, level: float, rng: np.random.Generator, impact: float | None
) -> float:
    """Draw a direction from the middle of the head, in radians; 0 is the right of the image."""
    side = np.pi * (rng.random() < 0.5)
    near = impact is not None and rng.random() < _NEAR_IMPACT
    opposite = np.pi * (rng.random() < 0.5)
    away = float(rng.normal(0, 1))
    if subtype == "epidural" and level < FOSSA_TOP and rng.random() < 0.6:
        return np.pi / 2 + 0.5 * away  # in the posterior fossa
    if near and impact is not None:
        if subtype == "epidural":  # under the blow
            return impact + 0.25 * away
        return impact + float(opposite) + 0.4 * away  # under the blow, or on the other side
    spread = {"epidural": 0.75, "subdural": 0.55}.get(subtype, 1.2)
    return float(side) + spread * away


def _weight_at(subtype: str, level: float) -> float:
    """Return the weight of a subtype at a level, 0 where it does not occur."""
    return sum(each.weight for each in _OCCURRENCES[subtype] if each.low <= level <= each.high)


def level_for(
    subtype: str, rng: np.random.Generator, within: tuple[float, float] = (0.0, 1.0)
) -> float:
    """Draw a random level at which a subtype occurs, 0 to 1.

    Args:
        subtype: One of `SUBTYPES`.
        rng: Random generator of the level.
        within: Lowest and highest level of the choice, if the subtype occurs there; else the
            result is outside. Defaults to all levels.
    """
    ranges = [(each.low, each.high) for each in _OCCURRENCES[subtype]]
    inside = [
        (max(low, within[0]), min(high, within[1]))
        for low, high in ranges
        if within[0] < high and low < within[1]
    ]
    ranges = inside or ranges
    # One random number, however many ranges there are.
    at = float(rng.random()) * sum(high - low for low, high in ranges)
    for low, high in ranges:
        if at <= high - low:
            break
        at -= high - low
    return low + min(at, high - low)
