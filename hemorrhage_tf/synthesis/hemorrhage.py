"""Hemorrhages of the five subtypes, drawn into a head by their anatomy, with a mask for each.

What they look like is in `brain_hemorrhage`, `dural_hemorrhage` and `blood_density`, and how they
are chosen in `hemorrhage_plans`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from hemorrhage_tf.synthesis.blood_density import Bleeding
from hemorrhage_tf.synthesis.brain_hemorrhage import (
    draw_intraparenchymal,
    draw_intraventricular,
    draw_subarachnoid,
)
from hemorrhage_tf.synthesis.dural_hemorrhage import draw_epidural, draw_subdural
from hemorrhage_tf.synthesis.head import PhantomHead
from hemorrhage_tf.synthesis.hemorrhage_plans import (
    AGES,
    FOSSA_TOP,
    MIXED,
    SUBTYPES,
    Plan,
    draw_plan,
    level_for,
    plan_hemorrhages,
    reach_of,
)

__all__ = [
    "AGES",
    "BRAIN",
    "FOSSA_TOP",
    "LIMITS",
    "MIXED",
    "SUBTYPES",
    "Plan",
    "VisibilityLimits",
    "draw_hemorrhages",
    "draw_plan",
    "level_for",
    "plan_hemorrhages",
    "reach_of",
]

_AIR = -150.0  # HU, the highest of air that fills a part of a pixel
_BRAIN_WINDOW = 0.0, 80.0  # HU
BRAIN = 33.0  # HU
_USUAL_NOISE = 4.0  # HU, the most for which the limits hold as they are
_AT_BONE = "subdural", "epidural"
# How often a hemorrhage is drawn again, a little clearer each time, before the head is.
_TRIES = 5


@dataclass(frozen=True, slots=True)
class VisibilityLimits:
    """What a hemorrhage needs to be visible in a brain window.

    The contrast of 8 HU is 25 of 255 gray levels in a window that is 80 HU wide, and 17 in one
    that is 120 HU wide. A contrast of 20 HU is enough for a diameter of 7 mm.

    Along bone, only what lies away from it counts: the scanner blurs bone over the rest.

    Attributes:
        area: Least area, in mm2.
        area_at_bone: The same along bone, in mm2.
        away_from_bone: Distance from the dura within which subdural and epidural blood does not
            count, in mm.
        thin_area: Least area of blood that is spread along sulci, in mm2.
        contrast: Least difference from the tissue before and from brain, in HU.
        contrast_at_bone: The same along bone, in HU. It is larger, since partial-volume bone and
            beam hardening resemble blood there.
        contrast_detail: Least product of contrast and diameter, in HU mm: small hemorrhages must
            be denser.
        dark_area: Area above which blood darker than brain is visible, in mm2.
        isodense_area: Area above which blood as dense as brain is visible by its mass, in mm2.
    """

    area: float = 25.0
    area_at_bone: float = 60.0
    away_from_bone: float = 2.0
    thin_area: float = 45.0
    contrast: float = 8.0
    contrast_at_bone: float = 12.0
    contrast_detail: float = 140.0
    dark_area: float = 150.0
    isodense_area: float = 700.0

    def at_noise(self, noise: float) -> VisibilityLimits:
        """Return the limits in noise of a standard deviation in HU, which hides small contrasts."""
        factor = max(1.0, noise / _USUAL_NOISE)
        return replace(
            self,
            contrast_detail=self.contrast_detail * factor,
            dark_area=self.dark_area * factor,
            isodense_area=self.isodense_area * factor,
        )


LIMITS = VisibilityLimits()


def draw_hemorrhages(
    head: PhantomHead,
    plans: list[Plan],
    rng: np.random.Generator,
    limits: VisibilityLimits = LIMITS,
) -> tuple[np.ndarray, bool]:
    """Draw hemorrhages into a head; leave out those that would not be visible.

    Blood replaces neither bone nor air.

    Args:
        head: The head, drawn.
        plans: The hemorrhages for which it made room.
        rng: Random generator of their shapes.
        limits: What they need to be visible. Defaults to `LIMITS`.

    Returns:
        uint8 `(size, size)`: bit k is set where there is blood of the subtype `SUBTYPES[k]`; and
        whether every plan gave a visible hemorrhage.
    """
    bits = np.zeros(head.inside.shape, np.uint8)
    complete = True
    for plan in plans:
        bleeding = _draw_if_visible(head, plan, rng, limits)
        # The slices of a scan share a place, and must all draw the same shape.
        tries = _TRIES if plan.place is None else 0
        while bleeding is None and tries:
            plan, tries = plan.clearer(), tries - 1
            bleeding = _draw_if_visible(head, plan, rng, limits)
        if bleeding is None:
            complete = False
        else:
            part = bits[bleeding.window]
            part |= bleeding.mask.astype(np.uint8) << SUBTYPES.index(plan.subtype)
    return bits, complete


def _draw_if_visible(
    head: PhantomHead, plan: Plan, rng: np.random.Generator, limits: VisibilityLimits
) -> Bleeding | None:
    """Draw a hemorrhage; leave no trace of one that is not visible."""
    canvas = head.canvas
    original = canvas.hounsfield.copy()
    bleeding = _DRAW[plan.subtype](head, plan, rng)
    if bleeding is None:
        return None
    window, mask = bleeding.window, bleeding.mask
    before, after = original[window], canvas.hounsfield[window]
    if mask.any():
        kept = np.clip((before - np.float32(90)) / np.float32(60), 0, 1)
        kept[before < _AIR] = 1
        after += kept * (before - after)
        mask &= kept < 0.5
        seen = mask
        if plan.subtype in _AT_BONE:
            seen = mask & (head.inside[window] > limits.away_from_bone)
        if _is_visible(plan.subtype, before[seen], after[seen], canvas.pixel, limits):
            return bleeding
    # A trace that is not visible must not stay in a slice with the other label.
    after[...] = before
    return None


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
    if area < _least_area(subtype, limits):
        return False
    if float(change[changed].mean()) < limits.contrast:
        return False
    contrast = float(after[changed].mean()) - BRAIN
    least = limits.contrast_at_bone if subtype in _AT_BONE else limits.contrast
    diameter = 2 * (area / np.pi) ** 0.5
    dark = contrast <= -limits.contrast and area >= limits.dark_area
    return (
        (contrast >= least and contrast * diameter >= limits.contrast_detail)
        or dark
        or area >= limits.isodense_area
    )


def _least_area(subtype: str, limits: VisibilityLimits) -> float:
    if subtype in _AT_BONE:
        return limits.area_at_bone
    return limits.thin_area if subtype == "subarachnoid" else limits.area


_DRAW: dict[str, Callable[[PhantomHead, Plan, np.random.Generator], Bleeding | None]] = {
    "intraparenchymal": draw_intraparenchymal,
    "intraventricular": draw_intraventricular,
    "subarachnoid": draw_subarachnoid,
    "subdural": draw_subdural,
    "epidural": draw_epidural,
}
