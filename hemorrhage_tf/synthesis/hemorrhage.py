"""Hemorrhages: the five subtypes, drawn into a head by their anatomy, with a mask for each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from hemorrhage_tf.synthesis.anatomy import PhantomHead, between
from hemorrhage_tf.synthesis.canvas import step

SUBTYPES = ("intraparenchymal", "intraventricular", "subarachnoid", "subdural", "epidural")

# From which level to which a subtype is drawn, and how often in comparison with the others there:
# those that have fewer levels are drawn more often at them, so that all occur about as often.
_LEVELS = {
    "intraparenchymal": ((0.0, 0.93), 0.9),
    "intraventricular": ((0.37, 0.635), 5.0),
    "subarachnoid": ((0.15, 0.97), 1.25),
    "subdural": ((0.12, 0.98), 1.25),
    "epidural": ((0.05, 0.96), 0.8),
}
FOSSA_TOP = 0.25  # level below which an epidural one is in the posterior fossa
MIXED = 0.25  # share of hemorrhages that are of two subtypes

# A hemorrhage is there if it can be seen in a brain window: if it covers this many mm2, and differs
# by so many HU from what was there and from brain. What lies along bone has to differ more, since
# bone that covers a part of a slice, and beam hardening, look alike there.
LEAST_AREA, LEAST_CONTRAST, LEAST_CONTRAST_AT_BONE = 75.0, 12.0, 16.0
LEAST_THIN_AREA = 110.0  # of what is spread along sulci
# What is small has to be the denser for it: contrast times diameter, in HU mm.
LEAST_CONTRAST_DETAIL = 200.0
# What is as dense as brain shows by its mass alone, and has to be large for that.
BRAIN, LARGE_AREA = 33.0, 1200.0
_BRAIN_WINDOW = 0.0, 80.0  # HU


@dataclass(frozen=True, slots=True)
class Plan:
    """What is known of a hemorrhage before the head is drawn, so that the head can make room.

    Attributes:
        subtype: one of `SUBTYPES`.
        side: -1 for the left of the picture, 1 for the right.
        extent: 0 for the smallest to 1 for a massive one.
        place: of its middle, in mm, where it lies in brain or sulci; None to choose one.
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
    """Chooses subtypes that occur at a level.

    Args:
        level: 0 to 1.
        rng: where the choice comes from.
        subtype: the first one; None for any. Where it does not occur at the level, it is left to
            `level_for` to have chosen another.

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


def level_for(subtype: str, rng: np.random.Generator) -> float:
    """Draws a level at which a subtype occurs."""
    low, high = _LEVELS[subtype][0]
    return float(rng.uniform(low, high))


def _density(rng: np.random.Generator) -> float:
    """Draws the HU of blood: mostly of hours to days old, at times thin or of an anemic patient."""
    if rng.random() < 0.12:
        return float(rng.uniform(46, 54))
    return float(rng.uniform(53, 79))


def _blood(
    head: PhantomHead, rng: np.random.Generator, value: float, spread: float = 3.5
) -> np.ndarray:
    """Gives the HU of uneven blood all over the canvas."""
    shape = head.inside.shape
    return value + np.float32(rng.uniform(0.2, 1) * spread) * head.canvas.wobble(12.0, shape, rng)


def _paint(head: PhantomHead, alpha: np.ndarray, value: float | np.ndarray) -> np.ndarray:
    canvas = head.canvas
    canvas.paint(canvas.everywhere(alpha), value)
    return alpha > 0.5


def _intraparenchymal(head: PhantomHead, plan: Plan, rng: np.random.Generator) -> np.ndarray | None:
    canvas, k = head.canvas, head.scale
    mask = np.zeros(head.inside.shape, bool)
    if plan.extent < 0.6 and rng.random() < 0.25:  # contusions: several, near the surface
        spots = int(rng.integers(2, 7))
        first = plan.place or head.random_place(rng, 2, 13)
        if first is None:
            return None
        places = [(first, rng.uniform(3, 8))]
        for _ in range(spots - 1):
            near = rng.normal(0, 11, 2)
            places.append(((first[0] + near[0], first[1] + near[1]), rng.uniform(1.5, 7)))
    else:
        if plan.place is not None:
            first = plan.place
        elif 0.34 < head.level < 0.53 and rng.random() < 0.5:
            first = (plan.side * rng.uniform(9, 34) * k, rng.uniform(-18, 16) * k)
        else:
            first = head.random_place(rng, 5, 70)
            if first is None:
                return None
            first = (plan.side * abs(first[0]), first[1])
        radius = 4.0 * (27.0 / 4.0) ** plan.extent
        places = [(first, min(radius, 0.5 * head.half_width))]
        if rng.random() < 0.2:  # a second one, or a lobe of the first
            near = rng.normal(0, radius, 2)
            places.append(((first[0] + near[0], first[1] + near[1]), radius * rng.uniform(0.3, 1)))
    value, room = _density(rng), step(head.inside - 0.5, canvas.blur)
    edema = rng.uniform(0, 9) * rng.integers(0, 2) + rng.uniform(0, 2)
    wobble = rng.uniform(0.08, 0.32)
    shapes = []
    for (x, y), radius in places:
        slim, angle = rng.uniform(0.55, 1), rng.uniform(0, np.pi)
        state = rng.integers(2**31)
        grown = canvas.ellipse(
            x, y, radius + edema, radius * slim + edema, angle, wobble, 2.0 + edema / 2,
            np.random.default_rng(state),
        )  # fmt: skip
        grown.alpha[...] *= room[grown.window] * (1 - head.fluid[grown.window])
        part = canvas.hounsfield[grown.window]
        low = np.minimum(part, 22 + 5 * rng.random())
        canvas.paint(grown, low, 0.85)
        blood = canvas.ellipse(
            x, y, radius, radius * slim, angle, wobble, rng.uniform(0.8, 2.5),
            np.random.default_rng(state),
        )  # fmt: skip
        blood.alpha[...] *= room[blood.window]
        shapes.append((blood, y, radius))
    settled = max(shape[2] for shape in shapes) > 10 and rng.random() < 0.12
    for blood, y, radius in shapes:
        density = _blood(head, rng, value, 4.0)[blood.window]
        if settled:  # plasma above, cells below
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
    if kind < 0.3:  # a cast of all, or of one side
        region = np.ones_like(room)
        if rng.random() < 0.6:
            region = step(plan.side * canvas.inner_x + rng.uniform(-2, 6), 2.0)
    elif kind < 0.7:  # settled at the back
        cut = np.quantile(y, 1 - rng.uniform(0.12, 0.55))
        region = step(canvas.y - np.float32(cut), rng.uniform(1, 3))
        if rng.random() < 0.4:
            region = region * step(plan.side * canvas.inner_x + rng.uniform(-1, 4), 2.0)
    else:  # a clot somewhere
        chosen = int(rng.random() * len(x))
        radius = 5 + 16 * plan.extent
        clot = canvas.ellipse(
            float(x[chosen]), float(y[chosen]), radius, radius * rng.uniform(0.6, 1),
            rng.uniform(0, 3), 0.2, rng=rng,
        )  # fmt: skip
        region = np.zeros_like(room)
        region[clot.window] = clot.alpha
    # A clot stretches the ventricle that it fills a little.
    alpha = np.clip(room * rng.uniform(1.0, 1.6), 0, 1) * region
    return _paint(head, alpha, _blood(head, rng, _density(rng)))


def _subarachnoid(head: PhantomHead, plan: Plan, rng: np.random.Generator) -> np.ndarray | None:
    canvas, k = head.canvas, head.scale
    # Blood makes sulci visible that are hardly open otherwise.
    reach = rng.uniform(9, 20)
    ridges = step(rng.uniform(0.14, 0.34) - head.sulci, 0.16) * step(reach - head.inside, 5.0)
    rim = step(rng.uniform(0.3, 2.2) - head.inside, canvas.blur) * rng.uniform(0, 1)
    spaces = np.maximum(np.maximum(head.fluid, ridges), rim) * head.brain
    spaces = spaces * (1 - head.ventricles)
    if plan.place is not None:
        x, y = plan.place
        wide, long = 9 + 22 * plan.extent, 11 + 28 * plan.extent
    elif head.front < 0.37 and rng.random() < 0.65:  # of an aneurysm, in the cisterns
        x, y = rng.normal(0, 6), -8 * k + rng.normal(0, 4)
        wide, long = 14 + 34 * plan.extent, 12 + 24 * plan.extent
    elif head.level < 0.55 and rng.random() < 0.45:  # around the Sylvian fissure
        x, y = plan.side * rng.normal(48, 7) * k, rng.normal(-8, 8) * k
        wide, long = 10 + 16 * plan.extent, 14 + 28 * plan.extent
    elif rng.random() < 0.15 and plan.extent > 0.5:  # everywhere
        x, y, wide, long = 0.0, 0.0, 90.0, 100.0
    else:
        place = head.random_place(rng, 0.5, 10)
        if place is None:
            return None
        x, y = place
        wide, long = 9 + 22 * plan.extent, 11 + 28 * plan.extent
    region = np.zeros_like(spaces)
    shape = canvas.ellipse(x, y, wide, long, rng.uniform(-0.4, 0.4), 0.25, 8.0, rng)
    region[shape.window] = shape.alpha
    alpha = spaces * region * np.float32(rng.uniform(0.7, 1.0))
    before = canvas.hounsfield.copy()
    mask = _paint(head, alpha, _blood(head, rng, rng.uniform(48, 76)))
    # Where blood only thins out the fluid it does not show.
    return mask & (canvas.hounsfield - before > 6)


def _arc(head: PhantomHead, rng: np.random.Generator, middle: float, half: float) -> np.ndarray:
    """Gives the angle from the middle of an arc along the skull, 0 there and 1 at its ends."""
    cosine = head.cosine * np.float32(np.cos(middle)) + head.sine * np.float32(np.sin(middle))
    return np.arccos(np.clip(cosine, -1, 1)) / np.float32(half)


def _subdural(head: PhantomHead, plan: Plan, rng: np.random.Generator) -> np.ndarray | None:
    canvas, k = head.canvas, head.scale
    x, y, inside = canvas.x, canvas.y, head.inside
    kind = rng.random()
    if head.level > 0.42 and kind < 0.16:  # along the falx
        thick = 4.0 + 6 * plan.extent  # thicker than a dense falx
        middle, half = rng.uniform(-0.8, 0.8), rng.uniform(0.2, 0.6)
        along = np.clip(1 - np.abs(y / np.float32(head.half_length) - middle) / half, 0, 1)
        if head.level < 0.6:
            along = along * step(np.abs(y) - 0.36 * head.half_length, 6)
        width = thick * np.sqrt(along) * (1 + 0.25 * canvas.wobble(12.0, y.shape, rng))
        beside = np.minimum(plan.side * canvas.inner_x + 0.3, width - plan.side * canvas.inner_x)
        alpha = step(beside, canvas.blur) * head.brain * step(width - 0.8, 0.8)
    elif 0.24 < head.back < 0.36 and kind < 0.4:  # along the tentorium
        spread = between(head.back, (0.21, 0.37), (52, 26)) * k
        points = [
            (plan.side * 3.0, 58 * k),
            (plan.side * (spread * 0.55 + 2), 40 * k),
            (plan.side * (spread + 3), rng.uniform(5, 22) * k),
        ]
        line = canvas.line(points, (4.5 + 5 * plan.extent, 3.5 + 3 * plan.extent))
        alpha = np.zeros_like(inside)
        alpha[line.window] = line.alpha
        alpha *= head.brain
    else:
        middle = rng.normal(0.0, 0.55)
        middle = middle if plan.side > 0 else np.pi - middle
        half = rng.uniform(0.55, 1.5)
        away = _arc(head, rng, middle, half)
        thick = min(3.2 + 17 * plan.extent**1.3, 0.4 * head.half_width)
        profile = thick * np.clip(1 - away**2, 0, 1) ** rng.uniform(0.35, 0.75)
        profile *= 1 + rng.uniform(0, 0.18) * canvas.wobble(26.0, away.shape, rng)
        alpha = step(profile - inside, rng.uniform(1, 2) * canvas.blur) * head.brain
        # It ends at the falx, and covers nothing where it has run out.
        alpha = alpha * step(profile - 1.0, 1.0)
        alpha = alpha * step(plan.side * canvas.inner_x - 0.5, 1.5)
    age = rng.random()
    value = _blood(head, rng, _density(rng))
    thick_enough = plan.extent > 0.35
    if plan.extent > 0.5 and age < 0.1:  # as dense as brain
        value = _blood(head, rng, rng.uniform(38, 45), 2.0)
    elif thick_enough and age < 0.22:  # old and fresh mixed
        mixed = step(canvas.wobble(12.0, x.shape, rng), 0.8)
        value = value - mixed * rng.uniform(12, 35)
    elif thick_enough and age < 0.32:  # plasma above, cells below
        level = rng.uniform(-0.3, 0.5) * head.half_length
        value = value - step(level - y, 3.0) * rng.uniform(20, 38)
    return _paint(head, alpha, value)


def _epidural(head: PhantomHead, plan: Plan, rng: np.random.Generator) -> np.ndarray | None:
    canvas = head.canvas
    inside = head.inside
    side = 0.0 if plan.side > 0 else np.pi
    middle = side + rng.normal(0, 0.75)
    if head.level < FOSSA_TOP:  # in the posterior fossa
        middle = np.pi / 2 + rng.normal(0, 0.5)
    half = rng.uniform(0.28, 0.7)
    chord = half * min(head.half_width, head.half_length)
    thick = min(chord * rng.uniform(0.35, 0.8) * (0.5 + plan.extent), 32.0, head.half_width * 0.55)
    thick = max(thick, 4.5)
    away = _arc(head, rng, middle, half)
    profile = thick * np.clip(1 - away**2, 0, 1)
    profile *= 1 + 0.05 * canvas.wobble(26.0, away.shape, rng)
    alpha = step(profile - inside, canvas.blur) * head.brain * step(profile - 1.0, 1.0)
    value = _blood(head, rng, _density(rng))
    if thick > 10 and rng.random() < 0.25:  # still bleeding: the swirl sign
        value = value - step(canvas.wobble(12.0, away.shape, rng) - 0.6, 0.6) * rng.uniform(8, 28)
    return _paint(head, alpha, value)


_DRAW: dict[str, Callable[[PhantomHead, Plan, np.random.Generator], np.ndarray | None]] = {
    "intraparenchymal": _intraparenchymal,
    "intraventricular": _intraventricular,
    "subarachnoid": _subarachnoid,
    "subdural": _subdural,
    "epidural": _epidural,
}


def _seen(subtype: str, before: np.ndarray, after: np.ndarray, pixel: float) -> bool:
    """Says whether a hemorrhage can be seen.

    Args:
        subtype: of it.
        before: float32 `(n,)`, HU of its pixels before it was drawn.
        after: float32 `(n,)`, HU of its pixels with it.
        pixel: side of a pixel, in mm.

    Reference:
        A. Rose, The sensitivity performance of the human eye on an absolute scale, J. Opt. Soc.
        Am. 38 (1948): what can be told from its background has a contrast that falls with its
        diameter.
    """
    before, after = np.clip(before, *_BRAIN_WINDOW), np.clip(after, *_BRAIN_WINDOW)
    change = np.abs(after - before)
    shown = change >= LEAST_CONTRAST / 2  # blood over bone changes nothing that can be seen
    area = float(shown.sum()) * pixel**2
    if area < (LEAST_THIN_AREA if subtype == "subarachnoid" else LEAST_AREA):
        return False
    if float(change[shown].mean()) < LEAST_CONTRAST:
        return False
    contrast = float(after[shown].mean()) - BRAIN
    at_bone = subtype in ("subdural", "epidural")
    dense = contrast >= (LEAST_CONTRAST_AT_BONE if at_bone else LEAST_CONTRAST)
    diameter = 2 * (area / np.pi) ** 0.5
    return (dense and contrast * diameter >= LEAST_CONTRAST_DETAIL) or area >= LARGE_AREA


def draw_hemorrhages(
    head: PhantomHead, plans: list[Plan], rng: np.random.Generator
) -> tuple[np.ndarray, bool]:
    """Draws hemorrhages into a head.

    Args:
        head: drawn already.
        plans: what to draw.
        rng: where the rest comes from.

    Returns:
        uint8 `(size, size)`: bit k is set where there is blood of the subtype `SUBTYPES[k]`; and
        whether every one planned is large and dense enough to be seen.
    """
    canvas = head.canvas
    bits = np.zeros(head.inside.shape, np.uint8)
    complete = True
    for plan in plans:
        before = canvas.hounsfield.copy()
        mask = _DRAW[plan.subtype](head, plan, rng)
        seen = False
        if mask is not None:
            # Blood takes the place of no bone.
            bone = np.clip((before - np.float32(90)) / np.float32(60), 0, 1)
            canvas.hounsfield += bone * (before - canvas.hounsfield)
            mask &= bone < 0.5
            seen = _seen(plan.subtype, before[mask], canvas.hounsfield[mask], canvas.pixel)
        if seen:
            bits |= mask.astype(np.uint8) << SUBTYPES.index(plan.subtype)
        else:  # what is too faint or small to be seen is not left behind with the other label
            canvas.hounsfield[...] = before
            complete = False
    return bits, complete
