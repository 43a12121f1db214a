"""Hemorrhages of the five subtypes, drawn into a head by their anatomy, with a mask for each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from hemorrhage_tf.synthesis.canvas import Roughness, Shape, step
from hemorrhage_tf.synthesis.head import PhantomHead, interpolate

SUBTYPES = ("intraparenchymal", "intraventricular", "subarachnoid", "subdural", "epidural")

# Lowest and highest level of each subtype, and its weight against the others at a level. Subtypes
# with fewer levels have larger weights, so that all occur about as often.
_LEVELS = {
    "intraparenchymal": ((0.0, 0.93), 0.9),
    "intraventricular": ((0.37, 0.635), 5.0),
    "subarachnoid": ((0.15, 0.97), 1.25),
    "subdural": ((0.12, 0.98), 1.25),
    "epidural": ((0.05, 0.96), 0.8),
}
FOSSA_TOP = 0.25  # below this level an epidural hemorrhage lies in the posterior fossa
MIXED = 0.25  # share of hemorrhages with two subtypes

_BRAIN_WINDOW = 0.0, 80.0  # HU
BRAIN = 33.0  # HU


@dataclass(frozen=True, slots=True)
class VisibilityLimits:
    """What a hemorrhage needs to be visible in a brain window.

    Attributes:
        area: Least area, in mm2.
        thin_area: Least area of blood that is spread along sulci, in mm2.
        contrast: Least difference from the tissue before and from brain, in HU.
        contrast_at_bone: The same along bone, in HU. It is larger, since partial-volume bone and
            beam hardening resemble blood there.
        contrast_detail: Least product of contrast and diameter, in HU mm: small hemorrhages must
            be denser.
        isodense_area: Area above which blood as dense as brain is visible by its mass, in mm2.
    """

    area: float = 75.0
    thin_area: float = 110.0
    contrast: float = 12.0
    contrast_at_bone: float = 16.0
    contrast_detail: float = 200.0
    isodense_area: float = 1200.0


LIMITS = VisibilityLimits()


@dataclass(frozen=True, slots=True)
class Plan:
    """A hemorrhage before the head is drawn, so that the head can make room for it.

    Attributes:
        subtype: One of `SUBTYPES`.
        side: -1 for the left of the image, 1 for the right.
        extent: 0 for the smallest to 1 for a massive one.
        place: x and y of its center, in mm, if it lies in brain or sulci; None to choose one.
    """

    subtype: str
    side: int
    extent: float
    place: tuple[float, float] | None = None

    @property
    def shift(self) -> float:
        """How far the midline moves away from it, in mm."""
        most = {"intraparenchymal": 12.0, "subdural": 16.0, "epidural": 14.0}.get(self.subtype, 0)
        return -self.side * most * max(0.0, self.extent - 0.3) / 0.7


def plan_hemorrhages(
    level: float, rng: np.random.Generator, subtype: str | None = None
) -> list[Plan]:
    """Choose hemorrhages that occur at a level.

    Args:
        level: Level of the slice, 0 to 1.
        rng: Random generator of the choice.
        subtype: Subtype of the first one, which must occur at the level (see `level_for`); None
            for any. Defaults to None.

    Returns:
        One plan or two.
    """
    names = [name for name, ((low, high), _) in _LEVELS.items() if low <= level <= high]
    names = names or ["intraparenchymal"]
    weights = np.array([_LEVELS[name][1] for name in names])
    count = 2 if rng.random() < MIXED and len(names) > 1 else 1
    chosen = list(rng.choice(names, count, replace=False, p=weights / weights.sum()))
    if subtype is not None:
        chosen = [subtype, *(name for name in chosen if name != subtype)][:count]
    return [Plan(str(name), int(rng.choice((-1, 1))), float(rng.beta(1.3, 1.5))) for name in chosen]


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
    low, high = _LEVELS[subtype][0]
    if within[0] < high and low < within[1]:
        low, high = max(low, within[0]), min(high, within[1])
    return float(rng.uniform(low, high))


def draw_hemorrhages(
    head: PhantomHead,
    plans: list[Plan],
    rng: np.random.Generator,
    limits: VisibilityLimits = LIMITS,
) -> tuple[np.ndarray, bool]:
    """Draw hemorrhages into a head; leave out those that would not be visible.

    Args:
        head: The head, drawn.
        plans: The hemorrhages.
        rng: Random generator of everything that the plans leave open.
        limits: What a hemorrhage needs to be visible. Defaults to `LIMITS`.

    Returns:
        uint8 `(size, size)`: bit k is set where there is blood of the subtype `SUBTYPES[k]`; and
        whether every plan gave a visible hemorrhage.
    """
    canvas = head.canvas
    bits = np.zeros(head.inside.shape, np.uint8)
    complete = True
    for plan in plans:
        before = canvas.hounsfield.copy()
        mask = _DRAW[plan.subtype](head, plan, rng)
        visible = False
        if mask is not None:
            # Blood does not replace bone.
            bone = np.clip((before - np.float32(90)) / np.float32(60), 0, 1)
            canvas.hounsfield += bone * (before - canvas.hounsfield)
            mask &= bone < 0.5
            after = canvas.hounsfield[mask]
            visible = _is_visible(plan.subtype, before[mask], after, canvas.pixel, limits)
        if visible and mask is not None:
            bits |= mask.astype(np.uint8) << SUBTYPES.index(plan.subtype)
        else:  # a trace that is not visible must not stay in a slice with the other label
            canvas.hounsfield[...] = before
            complete = False
    return bits, complete


def _is_visible(
    subtype: str, before: np.ndarray, after: np.ndarray, pixel: float, limits: VisibilityLimits
) -> bool:
    """Return whether a hemorrhage is visible in a brain window.

    Args:
        subtype: One of `SUBTYPES`.
        before: float32 `(n,)`, its pixels before it was drawn, in HU.
        after: float32 `(n,)`, its pixels with it, in HU.
        pixel: Side of a pixel, in mm.
        limits: What it needs to be visible.

    Reference:
        A. Rose, The sensitivity performance of the human eye on an absolute scale, J. Opt. Soc.
        Am. 38 (1948): the contrast threshold falls with the diameter.
    """
    before, after = np.clip(before, *_BRAIN_WINDOW), np.clip(after, *_BRAIN_WINDOW)
    change = np.abs(after - before)
    changed = change >= limits.contrast / 2  # blood over bone changes nothing in a brain window
    area = float(changed.sum()) * pixel**2
    if area < (limits.thin_area if subtype == "subarachnoid" else limits.area):
        return False
    if float(change[changed].mean()) < limits.contrast:
        return False
    contrast = float(after[changed].mean()) - BRAIN
    at_bone = subtype in ("subdural", "epidural")
    dense = contrast >= (limits.contrast_at_bone if at_bone else limits.contrast)
    diameter = 2 * (area / np.pi) ** 0.5
    detail = contrast * diameter
    return (dense and detail >= limits.contrast_detail) or area >= limits.isodense_area


def _density(rng: np.random.Generator) -> float:
    """Draw the HU of blood: mostly hours to days old, sometimes thin or of an anemic patient."""
    if rng.random() < 0.12:
        return float(rng.uniform(46, 54))
    return float(rng.uniform(53, 79))


def _uneven_blood(
    head: PhantomHead, rng: np.random.Generator, value: float, spread: float = 3.5
) -> np.ndarray:
    """Return the HU of uneven blood: float32 `(size, size)`."""
    shape = head.inside.shape
    return value + np.float32(rng.uniform(0.2, 1) * spread) * head.canvas.texture(12.0, shape, rng)


def _paint(head: PhantomHead, alpha: np.ndarray, value: float | np.ndarray) -> np.ndarray:
    """Paint blood and return its mask: bool `(size, size)`."""
    canvas = head.canvas
    canvas.paint(canvas.everywhere(alpha), value)
    return alpha > 0.5


_Focus = tuple[tuple[float, float], float]  # x and y of the center, and the radius, in mm


def _contusions(head: PhantomHead, plan: Plan, rng: np.random.Generator) -> list[_Focus] | None:
    """Choose several small foci near the surface; None without a place for the first."""
    count = int(rng.integers(2, 7))
    first = plan.place or head.random_place(rng, 2, 13)
    if first is None:
        return None
    foci = [(first, float(rng.uniform(3, 8)))]
    for _ in range(count - 1):
        offset = rng.normal(0, 11, 2)
        center = (first[0] + offset[0], first[1] + offset[1])
        foci.append((center, float(rng.uniform(1.5, 7))))
    return foci


def _hematoma(head: PhantomHead, plan: Plan, rng: np.random.Generator) -> list[_Focus] | None:
    """Choose one large focus, sometimes with a second; None without a place for the first."""
    k = head.scale
    if plan.place is not None:
        first = plan.place
    elif 0.34 < head.level < 0.53 and rng.random() < 0.5:  # in the basal ganglia or thalamus
        first = (plan.side * rng.uniform(9, 34) * k, rng.uniform(-18, 16) * k)
    else:
        anywhere = head.random_place(rng, 5, 70)
        if anywhere is None:
            return None
        first = (plan.side * abs(anywhere[0]), anywhere[1])
    radius = 4.0 * (27.0 / 4.0) ** plan.extent
    foci = [(first, min(radius, 0.5 * head.half_width))]
    if rng.random() < 0.2:  # a second one, or a lobe of the first
        offset = rng.normal(0, radius, 2)
        center = (first[0] + offset[0], first[1] + offset[1])
        foci.append((center, radius * rng.uniform(0.3, 1)))
    return foci


def _intraparenchymal(head: PhantomHead, plan: Plan, rng: np.random.Generator) -> np.ndarray | None:
    canvas = head.canvas
    mask = np.zeros(head.inside.shape, bool)
    contused = plan.extent < 0.6 and rng.random() < 0.25
    foci = (_contusions if contused else _hematoma)(head, plan, rng)
    if foci is None:
        return None
    value, room = _density(rng), step(head.inside - 0.5, canvas.blur)
    edema = rng.uniform(0, 9) * rng.integers(0, 2) + rng.uniform(0, 2)
    amount = rng.uniform(0.08, 0.32)
    bleedings: list[tuple[Shape, float, float]] = []
    for center, radius in foci:
        slim, angle = rng.uniform(0.55, 1), rng.uniform(0, np.pi)
        outline = rng.integers(2**31)  # edema and blood share it
        edematous = canvas.ellipse(
            center,
            (radius + edema, radius * slim + edema),
            angle,
            Roughness(amount, np.random.default_rng(outline)),
            2.0 + edema / 2,
        )
        edematous.alpha[...] *= room[edematous.window] * (1 - head.fluid[edematous.window])
        part = canvas.hounsfield[edematous.window]
        canvas.paint(edematous, np.minimum(part, 22 + 5 * rng.random()), 0.85)
        blood = canvas.ellipse(
            center,
            (radius, radius * slim),
            angle,
            Roughness(amount, np.random.default_rng(outline)),
            rng.uniform(0.8, 2.5),
        )
        blood.alpha[...] *= room[blood.window]
        bleedings.append((blood, center[1], radius))
    settled = max(radius for _, _, radius in bleedings) > 10 and rng.random() < 0.12
    for blood, y, radius in bleedings:
        density = _uneven_blood(head, rng, value, 4.0)[blood.window]
        if settled:  # plasma in front, cells behind
            above = step(y + radius * 0.1 - canvas.y[blood.window], 2.0)
            density = density - (value - 36) * above
        canvas.paint(blood, density)
        mask[blood.window] |= blood.alpha > 0.5
    return mask


def _intraventricular(head: PhantomHead, plan: Plan, rng: np.random.Generator) -> np.ndarray | None:
    canvas = head.canvas
    room = head.ventricles
    rows, columns = np.nonzero(room > 0.5)
    if len(rows) * canvas.pixel**2 < 40:
        return None
    x, y = canvas.inner_x[rows, columns], canvas.y[rows, columns]
    kind = rng.random()
    if kind < 0.3:  # a cast of all ventricles, or of one side
        region = np.ones_like(room)
        if rng.random() < 0.6:
            region = step(plan.side * canvas.inner_x + rng.uniform(-2, 6), 2.0)
    elif kind < 0.7:  # blood that settled at the back
        cut = np.quantile(y, 1 - rng.uniform(0.12, 0.55))
        region = step(canvas.y - np.float32(cut), rng.uniform(1, 3))
        if rng.random() < 0.4:
            region = region * step(plan.side * canvas.inner_x + rng.uniform(-1, 4), 2.0)
    else:  # a clot somewhere
        chosen = int(rng.random() * len(x))
        radius = 5 + 16 * plan.extent
        clot = canvas.ellipse(
            (float(x[chosen]), float(y[chosen])),
            (radius, radius * rng.uniform(0.6, 1)),
            rng.uniform(0, 3),
            Roughness(0.2, rng),
        )
        region = np.zeros_like(room)
        region[clot.window] = clot.alpha
    # A clot widens the ventricle a little.
    alpha = np.clip(room * rng.uniform(1.0, 1.6), 0, 1) * region
    return _paint(head, alpha, _uneven_blood(head, rng, _density(rng)))


def _subarachnoid(head: PhantomHead, plan: Plan, rng: np.random.Generator) -> np.ndarray | None:
    canvas = head.canvas
    # Blood also makes sulci visible that are hardly open.
    reach = rng.uniform(9, 20)
    ridges = step(rng.uniform(0.14, 0.34) - head.sulci, 0.16) * step(reach - head.inside, 5.0)
    rim = step(rng.uniform(0.3, 2.2) - head.inside, canvas.blur) * rng.uniform(0, 1)
    spaces = np.maximum(np.maximum(head.fluid, ridges), rim) * head.brain
    spaces = spaces * (1 - head.ventricles)
    extent = _subarachnoid_extent(head, plan, rng)
    if extent is None:
        return None
    center, radii = extent
    region = np.zeros_like(spaces)
    shape = canvas.ellipse(center, radii, rng.uniform(-0.4, 0.4), Roughness(0.25, rng), 8.0)
    region[shape.window] = shape.alpha
    alpha = spaces * region * np.float32(rng.uniform(0.7, 1.0))
    before = canvas.hounsfield.copy()
    mask = _paint(head, alpha, _uneven_blood(head, rng, rng.uniform(48, 76)))
    # Where blood is too diluted it does not change the image.
    return mask & (canvas.hounsfield - before > 6)


def _subarachnoid_extent(
    head: PhantomHead, plan: Plan, rng: np.random.Generator
) -> tuple[tuple[float, float], tuple[float, float]] | None:
    """Choose center and radii of the ellipse with blood in its sulci and cisterns, in mm."""
    k, extent = head.scale, plan.extent
    local = 9 + 22 * extent, 11 + 28 * extent
    if plan.place is not None:
        return plan.place, local
    if head.front < 0.37 and rng.random() < 0.65:  # from an aneurysm, in the cisterns
        center = rng.normal(0, 6), -8 * k + rng.normal(0, 4)
        return center, (14 + 34 * extent, 12 + 24 * extent)
    if head.level < 0.55 and rng.random() < 0.45:  # around the Sylvian fissure
        center = plan.side * rng.normal(48, 7) * k, rng.normal(-8, 8) * k
        return center, (10 + 16 * extent, 14 + 28 * extent)
    if rng.random() < 0.15 and extent > 0.5:  # everywhere
        return (0.0, 0.0), (90.0, 100.0)
    place = head.random_place(rng, 0.5, 10)
    return None if place is None else (place, local)


def _subdural(head: PhantomHead, plan: Plan, rng: np.random.Generator) -> np.ndarray | None:
    kind = rng.random()
    if head.level > 0.42 and kind < 0.16:
        alpha = _along_falx(head, plan, rng)
    elif 0.24 < head.back < 0.36 and kind < 0.4:
        alpha = _along_tentorium(head, plan, rng)
    else:
        alpha = _along_convexity(head, plan, rng)
    age = rng.random()
    value = _uneven_blood(head, rng, _density(rng))
    thick_enough = plan.extent > 0.35
    if plan.extent > 0.5 and age < 0.1:  # as dense as brain
        value = _uneven_blood(head, rng, rng.uniform(38, 45), 2.0)
    elif thick_enough and age < 0.22:  # old and fresh mixed
        mixed = step(head.canvas.texture(12.0, value.shape, rng), 0.8)
        value = value - mixed * rng.uniform(12, 35)
    elif thick_enough and age < 0.32:  # plasma in front, cells behind
        level = rng.uniform(-0.3, 0.5) * head.half_length
        value = value - step(level - head.canvas.y, 3.0) * rng.uniform(20, 38)
    return _paint(head, alpha, value)


def _along_falx(head: PhantomHead, plan: Plan, rng: np.random.Generator) -> np.ndarray:
    canvas, y = head.canvas, head.canvas.y
    thick = 4.0 + 6 * plan.extent  # thicker than a dense falx
    middle, half = rng.uniform(-0.8, 0.8), rng.uniform(0.2, 0.6)
    along = np.clip(1 - np.abs(y / np.float32(head.half_length) - middle) / half, 0, 1)
    if head.level < 0.6:
        along = along * step(np.abs(y) - 0.36 * head.half_length, 6)
    width = thick * np.sqrt(along) * (1 + 0.25 * canvas.texture(12.0, y.shape, rng))
    across = plan.side * canvas.inner_x
    inside = np.minimum(across + 0.3, width - across)
    return step(inside, canvas.blur) * head.brain * step(width - 0.8, 0.8)


def _along_tentorium(head: PhantomHead, plan: Plan, rng: np.random.Generator) -> np.ndarray:
    canvas, k = head.canvas, head.scale
    spread = interpolate(head.back, (0.21, 0.37), (52, 26)) * k
    points = [
        (plan.side * 3.0, 58 * k),
        (plan.side * (spread * 0.55 + 2), 40 * k),
        (plan.side * (spread + 3), rng.uniform(5, 22) * k),
    ]
    line = canvas.line(points, (4.5 + 5 * plan.extent, 3.5 + 3 * plan.extent))
    alpha = np.zeros_like(head.inside)
    alpha[line.window] = line.alpha
    alpha *= head.brain
    return alpha


def _along_convexity(head: PhantomHead, plan: Plan, rng: np.random.Generator) -> np.ndarray:
    canvas = head.canvas
    middle = rng.normal(0.0, 0.55)
    middle = middle if plan.side > 0 else np.pi - middle
    half = rng.uniform(0.55, 1.5)
    away = head.angle_from(middle) / np.float32(half)
    thick = min(3.2 + 17 * plan.extent**1.3, 0.4 * head.half_width)
    profile = thick * np.clip(1 - away**2, 0, 1) ** rng.uniform(0.35, 0.75)
    profile *= 1 + rng.uniform(0, 0.18) * canvas.texture(26.0, away.shape, rng)
    alpha = step(profile - head.inside, rng.uniform(1, 2) * canvas.blur) * head.brain
    alpha = alpha * step(profile - 1.0, 1.0)  # nothing where it has thinned out
    return alpha * step(plan.side * canvas.inner_x - 0.5, 1.5)  # it does not cross the falx


def _epidural(head: PhantomHead, plan: Plan, rng: np.random.Generator) -> np.ndarray | None:
    canvas = head.canvas
    inside = head.inside
    side = 0.0 if plan.side > 0 else np.pi
    middle = side + rng.normal(0, 0.75)
    if head.level < FOSSA_TOP:
        middle = np.pi / 2 + rng.normal(0, 0.5)
    half = rng.uniform(0.28, 0.7)
    chord = half * min(head.half_width, head.half_length)
    thick = min(chord * rng.uniform(0.35, 0.8) * (0.5 + plan.extent), 32.0, head.half_width * 0.55)
    thick = max(thick, 4.5)
    away = head.angle_from(middle) / np.float32(half)
    profile = thick * np.clip(1 - away**2, 0, 1)
    profile *= 1 + 0.05 * canvas.texture(26.0, away.shape, rng)
    alpha = step(profile - inside, canvas.blur) * head.brain * step(profile - 1.0, 1.0)
    value = _uneven_blood(head, rng, _density(rng))
    if thick > 10 and rng.random() < 0.25:  # the swirl sign of active bleeding
        value = value - step(canvas.texture(12.0, away.shape, rng) - 0.6, 0.6) * rng.uniform(8, 28)
    return _paint(head, alpha, value)


_DRAW: dict[str, Callable[[PhantomHead, Plan, np.random.Generator], np.ndarray | None]] = {
    "intraparenchymal": _intraparenchymal,
    "intraventricular": _intraventricular,
    "subarachnoid": _subarachnoid,
    "subdural": _subdural,
    "epidural": _epidural,
}
