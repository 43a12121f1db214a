"""Subdural and epidural hemorrhages: along the skull, the falx and the tentorium."""

from __future__ import annotations

import numpy as np

from hemorrhage_tf.synthesis.along_skull import angle_within, distance_of_skull, window_along
from hemorrhage_tf.synthesis.blood_density import Bleeding, blood_density
from hemorrhage_tf.synthesis.canvas import Shape, step
from hemorrhage_tf.synthesis.head import PhantomHead, interpolate
from hemorrhage_tf.synthesis.hemorrhage_plans import FALX_BOTTOM, FOSSA_TOP, TENTORIUM, Plan

# Thickness of the thinnest and of a massive collection, in mm.
_SUBDURAL_THICKNESS = 3.6, 20.0
_EPIDURAL_THICKNESS = 4.8, 30.0
_THICKEST_SKULL = 14.0  # mm
_MEMBRANE = 1.6  # mm


def draw_subdural(head: PhantomHead, plan: Plan, rng: np.random.Generator) -> Bleeding | None:
    """Draw a subdural hemorrhage; return None where its surface is not in the slice."""
    core = None
    if plan.surface == "convexity":
        shape, core = _along_convexity(head, plan, rng)
    elif plan.surface == "falx" and head.level > FALX_BOTTOM:
        shape = _along_falx(head, plan, rng)
    elif plan.surface == "tentorium" and TENTORIUM[0] < head.back < TENTORIUM[1]:
        shape = _along_tentorium(head, plan, rng)
    else:  # in another slice of the scan
        return None
    return _paint(head, shape, blood_density(head, plan, shape, rng, core))


def draw_epidural(head: PhantomHead, plan: Plan, rng: np.random.Generator) -> Bleeding:
    """Draw an epidural hemorrhage, a lens beside the skull."""
    canvas = head.canvas
    middle = _middle(plan, rng)
    thin, thickest = _EPIDURAL_THICKNESS
    thick = thin * (thickest / thin) ** plan.extent * np.exp(rng.normal(0, 0.12))
    thick = float(min(thick, head.half_width * 0.55)) * plan.share
    chord = thick * rng.uniform(1.0, 2.0) + rng.uniform(6, 22) * plan.share
    chord = np.clip(chord, 9.0, 58.0)
    half = float(chord / distance_of_skull(head, np.array(middle)))
    window = window_along(head, middle, half, thick)
    away = angle_within(head, middle, window) / np.float32(half)
    profile = np.float32(thick) * np.clip(1 - away * away, 0, 1) ** rng.uniform(0.7, 1.1)
    uneven = rng.uniform(0.03, 0.12)
    profile *= 1 + np.float32(uneven) * canvas.texture(26.0, away.shape, rng)
    inside = head.inside[window]
    alpha = step(profile - inside, canvas.blur) * step(inside, canvas.blur)
    alpha *= step(profile - 1.0, 1.0)
    if head.level < FOSSA_TOP:  # along the vault only, not along the other walls of a fossa
        alpha *= step(profile + _THICKEST_SKULL - head.depth[window], 4.0)
    shape = Shape(window, alpha)
    core = step(profile - np.float32(_MEMBRANE) - inside, canvas.blur)
    return _paint(head, shape, blood_density(head, plan, shape, rng, core))


def _paint(head: PhantomHead, shape: Shape, value: np.ndarray) -> Bleeding:
    head.canvas.paint(shape, value)
    return Bleeding(shape.window, shape.alpha > 0.5)


def _middle(plan: Plan, rng: np.random.Generator) -> float:
    """Return the direction of the middle of a collection."""
    chosen = (0.0 if plan.side > 0 else np.pi) + rng.normal(0, 0.6)
    return float(chosen if plan.angle is None else plan.angle)


def _along_falx(head: PhantomHead, plan: Plan, rng: np.random.Generator) -> Shape:
    canvas = head.canvas
    window = canvas.window(0.0, 0.0, head.half_length)
    y = canvas.y[window]
    thick = (3.2 + 7 * plan.extent) * plan.share  # thicker than a dense falx
    middle, half = rng.uniform(-0.8, 0.8), rng.uniform(0.2, 0.6)
    along = np.clip(1 - np.abs(y / np.float32(head.half_length) - middle) / half, 0, 1)
    if head.level < 0.6:
        along = along * step(np.abs(y) - 0.36 * head.half_length, 6)
    width = thick * np.sqrt(along) * (1 + 0.25 * canvas.texture(12.0, y.shape, rng))
    across = plan.side * canvas.inner_x[window]
    alpha = step(np.minimum(across + 0.3, width - across), canvas.blur)
    alpha = alpha * step(head.inside[window], canvas.blur) * step(width - 0.8, 0.8)
    return Shape(window, alpha.astype(np.float32))


def _along_tentorium(head: PhantomHead, plan: Plan, rng: np.random.Generator) -> Shape:
    canvas, k = head.canvas, head.scale
    spread = interpolate(head.back, (0.21, 0.37), (52, 26)) * k
    points = [
        (plan.side * 3.0, 58 * k),
        (plan.side * (spread * 0.55 + 2), 40 * k),
        (plan.side * (spread + 3), rng.uniform(5, 22) * k),
    ]
    widths = (3.8 + 5.5 * plan.extent) * plan.share, (3 + 3 * plan.extent) * plan.share
    return head.clip_to_brain(canvas.line(points, widths))


def _along_convexity(
    head: PhantomHead, plan: Plan, rng: np.random.Generator
) -> tuple[Shape, np.ndarray]:
    """Return a crescent, and what lies inside its membrane."""
    canvas = head.canvas
    middle = _middle(plan, rng)
    half = float(rng.uniform(0.3, 1.5)) * (0.4 + 0.6 * plan.share)
    thin, thickest = _SUBDURAL_THICKNESS
    thick = thin * (thickest / thin) ** plan.extent * np.exp(rng.normal(0, 0.12))
    thick = float(min(thick, 0.4 * head.half_width)) * plan.share
    window = window_along(head, middle, half, thick)
    away = angle_within(head, middle, window) / np.float32(half)
    profile = np.float32(thick) * np.clip(1 - away * away, 0, 1) ** rng.uniform(0.3, 0.75)
    profile *= 1 + np.float32(rng.uniform(0, 0.18)) * canvas.texture(26.0, away.shape, rng)
    inside = head.inside[window]
    edge = rng.uniform(1, 2) * canvas.blur
    alpha = step(profile - inside, edge) * step(inside, canvas.blur)
    alpha *= step(profile - 1.0, 1.0)  # nothing where it has thinned out
    # It does not cross the falx.
    alpha *= step(plan.side * canvas.inner_x[window] - np.float32(0.5), 1.5)
    core = step(profile - np.float32(_MEMBRANE) - inside, edge)
    return Shape(window, alpha), core
