"""Hemorrhages inside the brain, its ventricles and its sulci."""

from __future__ import annotations

import numpy as np

from hemorrhage_tf.synthesis.along_skull import place_toward
from hemorrhage_tf.synthesis.blood_density import Bleeding, blood_density
from hemorrhage_tf.synthesis.canvas import Roughness, Shape, step
from hemorrhage_tf.synthesis.head import PhantomHead
from hemorrhage_tf.synthesis.hemorrhage_plans import Plan, hematoma_radius

_SMALLEST_ROOM = 40.0  # mm2 of ventricle

_Focus = tuple[tuple[float, float], float]  # x and y of the center, and the radius, in mm


def draw_intraparenchymal(
    head: PhantomHead, plan: Plan, rng: np.random.Generator
) -> Bleeding | None:
    """Draw a hematoma or contusions; return None without room."""
    contused = plan.extent < 0.6 and rng.random() < 0.35
    foci = (_contusions if contused else _hematoma)(head, plan, rng)
    if foci is None:
        return None
    canvas, room = head.canvas, step(head.inside - 0.5, head.canvas.blur)
    mask = np.zeros(head.inside.shape, bool)
    edema = rng.uniform(0, 9) * rng.integers(0, 2) + rng.uniform(0, 2)
    if plan.age in ("isodense", "mixed"):  # it lasts longer than the clot
        edema += rng.uniform(2, 6)
    amount, swollen = rng.uniform(0.08, 0.32), 22 + 5 * rng.random()
    shapes: list[Shape] = []
    windows: list[tuple[slice, slice]] = []
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
        canvas.paint(edematous, np.minimum(part, swollen), 0.85)
        windows.append(edematous.window)
        blood = canvas.ellipse(
            center,
            (radius, radius * slim),
            angle,
            Roughness(amount, np.random.default_rng(outline)),
            rng.uniform(0.8, 2.5) + (0.5 * radius if plan.age == "isodense" else 0),
        )
        blood.alpha[...] *= room[blood.window]
        shapes.append(blood)
    for blood in shapes:
        canvas.paint(blood, blood_density(head, plan, blood, rng))
        mask[blood.window] |= blood.alpha > 0.5
    window = _around(windows)
    return Bleeding(window, mask[window])


def _around(windows: list[tuple[slice, slice]]) -> tuple[slice, slice]:
    """Return the smallest window that contains all of some."""
    rows, columns = (
        slice(min(part.start for part in parts), max(part.stop for part in parts))
        for parts in zip(*windows, strict=True)
    )
    return rows, columns


def _place(
    head: PhantomHead, plan: Plan, rng: np.random.Generator, depths: tuple[float, float]
) -> tuple[float, float] | None:
    """Choose a place between two depths inside the dura, in mm, in the planned direction."""
    if plan.place is not None:
        return plan.place
    angle = float(rng.uniform(0, 2 * np.pi)) if plan.angle is None else plan.angle
    return place_toward(head, angle, depths, rng)


def _contusions(head: PhantomHead, plan: Plan, rng: np.random.Generator) -> list[_Focus] | None:
    """Choose one or several small foci near the surface; None without a place for the first."""
    count = int(rng.integers(1, 7))
    first = _place(head, plan, rng, (1.5, 13))
    if first is None:
        return None
    size = (0.5 + plan.extent) * plan.share
    foci = [(first, float(rng.uniform(2.5, 8)) * size)]
    for _ in range(count - 1):
        offset = rng.normal(0, 11 * size, 2)
        center = (first[0] + offset[0], first[1] + offset[1])
        foci.append((center, float(rng.uniform(1.2, 7)) * size))
    return foci


def _hematoma(head: PhantomHead, plan: Plan, rng: np.random.Generator) -> list[_Focus] | None:
    """Choose one focus, sometimes with a second; None without a place for the first."""
    k = head.scale
    if plan.place is not None:
        first = plan.place
    elif 0.34 < head.level < 0.53 and rng.random() < 0.5:  # in the basal ganglia or thalamus
        first = (plan.side * rng.uniform(9, 34) * k, rng.uniform(-18, 16) * k)
    else:
        anywhere = head.random_place(rng, 3.5, 70)
        if anywhere is None:
            return None
        first = (plan.side * abs(anywhere[0]), anywhere[1])
    radius = hematoma_radius(plan) * plan.share
    foci = [(first, min(radius, 0.5 * head.half_width))]
    if rng.random() < 0.2:  # a second one, or a lobe of the first
        offset = rng.normal(0, radius, 2)
        center = (first[0] + offset[0], first[1] + offset[1])
        foci.append((center, radius * rng.uniform(0.3, 1)))
    return foci


def draw_intraventricular(
    head: PhantomHead, plan: Plan, rng: np.random.Generator
) -> Bleeding | None:
    """Draw blood in the ventricles; return None without ventricles."""
    canvas = head.canvas
    rows, columns = np.nonzero(head.ventricles > 0.5)
    if len(rows) * canvas.pixel**2 < _SMALLEST_ROOM:
        return None
    x, y = canvas.inner_x[rows, columns], canvas.y[rows, columns]
    window = slice(rows.min(), rows.max() + 1), slice(columns.min(), columns.max() + 1)
    room = head.ventricles[window]
    kind, one_side = rng.random(), rng.random() < 0.45
    if kind < 0.2:  # a cast of all ventricles, or of one side
        region = np.ones_like(room)
    elif kind < 0.7:  # blood that settled at the back, often only a few mm in the occipital horns
        deep = y.max() - np.float32(1.5 + 7 * plan.extent * plan.share + rng.uniform(0, 2))
        cut = deep if kind < 0.5 else np.quantile(y, 1 - rng.uniform(0.12, 0.55))
        region = step(canvas.y[window] - np.float32(cut), rng.uniform(0.5, 3))
    else:  # a clot somewhere
        chosen = int(rng.random() * len(x))
        radius = (3 + 18 * plan.extent) * plan.share
        clot = canvas.ellipse(
            (float(x[chosen]), float(y[chosen])),
            (radius, radius * rng.uniform(0.6, 1)),
            rng.uniform(0, 3),
            Roughness(0.2, rng),
        )
        everywhere = np.zeros_like(head.ventricles)
        everywhere[clot.window] = clot.alpha
        region = everywhere[window]
    if one_side and kind < 0.7:
        region = region * step(plan.side * canvas.inner_x[window] + rng.uniform(-2, 5), 2.0)
    # A clot widens the ventricle a little.
    alpha = np.clip(room * rng.uniform(1.0, 1.6), 0, 1) * region
    shape = Shape(window, alpha)
    canvas.paint(shape, blood_density(head, plan, shape, rng))
    return Bleeding(window, alpha > 0.5)


def draw_subarachnoid(head: PhantomHead, plan: Plan, rng: np.random.Generator) -> Bleeding | None:
    """Draw blood in sulci and cisterns; return None without a place for it."""
    canvas = head.canvas
    # Blood also makes sulci visible that are hardly open.
    reach, ridge, rim = rng.uniform(9, 20), rng.uniform(0.14, 0.34), rng.uniform(0.3, 2.2)
    along_the_bone = rng.uniform(0, 1)
    extent = _subarachnoid_extent(head, plan, rng)
    if extent is None:
        return None
    center, radii = extent
    region = canvas.ellipse(center, radii, rng.uniform(-0.4, 0.4), Roughness(0.25, rng), 8.0)
    window = region.window
    inside = head.inside[window]
    ridges = step(ridge - head.sulci[window], 0.16) * step(reach - inside, 5.0)
    edge = step(rim - inside, canvas.blur) * np.float32(along_the_bone)
    spaces = np.maximum(np.maximum(head.fluid[window], ridges), edge)
    spaces = spaces * step(inside, canvas.blur) * (1 - head.ventricles[window])
    shape = Shape(window, spaces * region.alpha * np.float32(rng.uniform(0.55, 1.0)))
    before = canvas.hounsfield[window].copy()
    canvas.paint(shape, blood_density(head, plan, shape, rng))
    # Where blood is too diluted it does not change the image.
    return Bleeding(window, (shape.alpha > 0.35) & (canvas.hounsfield[window] - before > 6))


def _subarachnoid_extent(
    head: PhantomHead, plan: Plan, rng: np.random.Generator
) -> tuple[tuple[float, float], tuple[float, float]] | None:
    """Choose center and radii of the ellipse with blood in its sulci and cisterns, in mm."""
    k, extent = head.scale, plan.extent * plan.share
    local = 7 + 26 * extent, 8 + 34 * extent
    if plan.place is not None:
        return plan.place, local
    if head.front < 0.37 and rng.random() < 0.65:  # from an aneurysm, in the cisterns
        center = rng.normal(0, 6), -8 * k + rng.normal(0, 4)
        return center, (12 + 36 * extent, 10 + 26 * extent)
    if head.level < 0.55 and rng.random() < 0.45:  # around the Sylvian fissure
        center = plan.side * rng.normal(48, 7) * k, rng.normal(-8, 8) * k
        return center, (10 + 16 * extent, 12 + 30 * extent)
    if rng.random() < 0.15 and extent > 0.5:  # everywhere
        return (0.0, 0.0), (90.0, 100.0)
    place = _place(head, plan, rng, (0.5, 10))
    return None if place is None else (place, local)
