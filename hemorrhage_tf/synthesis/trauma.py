"""Traces of trauma and surgery: swelling of the scalp, fractures, air, craniotomies, shunts.

They are mimics: drawn with the same probabilities with and without a hemorrhage. A hemorrhage of a
trauma lies near them because both lie near the blow to the head.
"""

from __future__ import annotations

import numpy as np

from hemorrhage_tf.synthesis.along_skull import angle_within, mm_along, place_toward, window_along
from hemorrhage_tf.synthesis.canvas import Roughness, Shape, step
from hemorrhage_tf.synthesis.head import (
    CORTICAL_BONE,
    CSF,
    FAT,
    MUSCLE,
    SINUS_AIR,
    PhantomHead,
)

_NEAR_IMPACT = 0.7  # share of the findings that lie where the head was hit


def _direction(head: PhantomHead, rng: np.random.Generator, spread: float) -> float:
    """Choose a direction near the blow, or any."""
    near, anywhere = head.impact + spread * rng.normal(), rng.uniform(0, 2 * np.pi)
    return float(near if rng.random() < _NEAR_IMPACT else anywhere)


def draw_scalp_swelling(head: PhantomHead, rng: np.random.Generator, masks: list[Shape]) -> bool:
    """Draw edema or a hematoma of the scalp, outside the skull, which lifts the skin."""
    if not head.has_brain:
        return False
    canvas = head.canvas
    middle, half = _direction(head, rng, 0.2), float(rng.uniform(0.25, 0.95))
    thick = float(rng.uniform(2, 7) if rng.random() < 0.55 else rng.uniform(7, 22))
    thick = min(thick, 0.3 * half * head.half_length)
    window = window_along(head, middle, half, thick + 12)
    away = angle_within(head, middle, window) / np.float32(half)
    profile = np.float32(thick) * np.clip(1 - away * away, 0, 1)
    profile *= 1 + np.float32(0.1) * canvas.texture(26.0, away.shape, rng)
    depth, skin = head.depth[window], head.skin[window] + profile
    outside = step(np.minimum(skin, -depth), canvas.blur) * step(profile, 1.0)
    rim = rng.uniform(1.0, 3.5)
    canvas.paint(Shape(window, outside), FAT + (MUSCLE - FAT) * step(1.5 - skin, 1.5))
    swollen = step(np.minimum(skin - rim, -depth - 0.5), 1.5) * step(profile - 1, 1)
    texture = canvas.texture(12.0, away.shape, rng)
    mean = rng.uniform(35, 75) if rng.random() < 0.75 else rng.uniform(-20, 35)
    value = np.float32(mean) + np.float32(rng.uniform(1, 10)) * texture
    canvas.paint(Shape(window, swollen), value)
    if rng.random() < 0.15:  # an open wound
        bubbles = step(canvas.texture(5.0, away.shape, rng) - 1.2, 0.4) * swollen
        canvas.paint(Shape(window, bubbles), -700.0)
    head.skin[window] = skin
    return True


def draw_fracture(head: PhantomHead, rng: np.random.Generator, masks: list[Shape]) -> bool:
    """Draw lines through the skull, or a piece that is pressed in."""
    if not head.has_brain:
        return False
    middle = _direction(head, rng, 0.15)
    kind = rng.random()
    if kind < 0.25:
        _press_in(head, middle, rng)
        return True
    count = 1 if kind < 0.7 else int(rng.integers(2, 4))
    for _ in range(count):
        width = rng.uniform(0.5, 2.0) if rng.random() < 0.8 else rng.uniform(2.0, 5.0)
        _draw_gap(head, middle, width, rng)
        middle += rng.normal(0, 0.15)
    return True


def _draw_gap(head: PhantomHead, angle: float, width: float, rng: np.random.Generator) -> None:
    """Draw an oblique gap of a width in mm through the skull."""
    canvas = head.canvas
    window = window_along(head, angle, 0.1, 22)
    along, depth = mm_along(head, angle, window), head.depth[window]
    bend = np.float32(rng.normal(0, 0.6))
    across = np.float32(width / 2) - np.abs(along - bend * (depth - 4))
    gap = step(across, canvas.blur) * min(1.0, width / canvas.pixel)
    gap *= step(np.minimum(depth + 1, 1 - head.inside[window]), 1.0)
    gap *= step(depth + 3, 1.0) * (angle_within(head, angle, window) < 1)
    canvas.paint(Shape(window, gap), rng.uniform(15, 60))


def _press_in(head: PhantomHead, angle: float, rng: np.random.Generator) -> None:
    """Move a piece of the skull inward, and the dura with it."""
    canvas = head.canvas
    length, deep = rng.uniform(6, 20), rng.uniform(2.5, 9)
    window = window_along(head, angle, 0.25, deep + 16)
    along, depth = mm_along(head, angle, window), head.depth[window]
    inside = head.inside[window]
    near = (angle_within(head, angle, window) < 1).astype(np.float32)
    # Higher on one end than on the other.
    end = np.float32(rng.uniform(-0.6, 0.6))
    share = np.clip((along / np.float32(length) * end + 1) * 0.7, 0, 1)
    piece = step(np.float32(length) - np.abs(along), canvas.blur) * near
    moved = np.float32(deep) * share * piece
    ring = step(np.minimum(depth, -inside), canvas.blur) * piece
    canvas.paint(Shape(window, ring), rng.uniform(20, 65))
    bone = step(np.minimum(depth - moved, moved - inside), canvas.blur) * piece
    canvas.paint(Shape(window, bone), CORTICAL_BONE * rng.uniform(0.6, 1.0))
    head.inside[window] = inside - moved


def draw_surgery(head: PhantomHead, rng: np.random.Generator, masks: list[Shape]) -> bool:
    """Draw a shunt, a burr hole, a bone flap with what lies under it, or a missing one."""
    if not head.has_brain:
        return False
    kind = rng.random()
    if kind < 0.35 and head.level > 0.25:
        return _draw_shunt(head, rng, masks)
    angle = _direction(head, rng, 0.3)
    if kind < 0.55:
        _draw_gap(head, angle, rng.uniform(5, 14), rng)
    elif kind < 0.85:
        _draw_flap(head, angle, rng)
    else:
        _remove_flap(head, angle, rng)
    return True


def _draw_shunt(head: PhantomHead, rng: np.random.Generator, masks: list[Shape]) -> bool:
    """Draw a shunt or drain, along or across the slice."""
    canvas = head.canvas
    place = head.random_place(rng, 12, 60)
    if place is None:
        return False
    x, y = place
    if rng.random() < 0.5:
        shape = canvas.ellipse((x, y), (1.4, 1.4))
    else:
        shape = canvas.line([(x, y), (x + rng.normal(0, 14), y + rng.normal(0, 14))], 2.2)
    canvas.paint(shape, rng.uniform(150, 600))
    masks.append(shape)
    return True


def _draw_flap(head: PhantomHead, angle: float, rng: np.random.Generator) -> None:
    """Draw the gaps around a bone flap, plates over them, and air or fluid under the flap."""
    canvas = head.canvas
    half = rng.uniform(0.2, 0.7)
    plated = rng.random() < 0.5
    for end in (-half, half):
        _draw_gap(head, angle + end, rng.uniform(1.0, 3.0), rng)
        if plated:
            window = window_along(head, angle + end, 0.1, 22)
            along, depth = mm_along(head, angle + end, window), head.depth[window]
            plate = step(np.minimum(1.0 - np.abs(depth + 0.5), 7 - np.abs(along)), canvas.blur)
            plate *= angle_within(head, angle + end, window) < 1
            canvas.paint(Shape(window, plate), rng.uniform(1500, 3000))
    if rng.random() < 0.6:
        value = rng.choice((SINUS_AIR, CSF + 5.0, CSF + 5.0))
        _draw_layer(head, angle, (half * 1.1, rng.uniform(2, 8)), value)


def _draw_layer(head: PhantomHead, angle: float, size: tuple[float, float], value: float) -> None:
    """Draw air or fluid under the skull: half its angle, and its thickness in mm."""
    half, thick = size
    window = window_along(head, angle, half, thick)
    away = angle_within(head, angle, window) / np.float32(half)
    profile = np.float32(thick) * np.sqrt(np.clip(1 - away * away, 0, 1))
    inside = head.inside[window]
    layer = step(np.minimum(profile - inside, inside), head.canvas.blur) * step(profile - 1, 1.0)
    head.canvas.paint(Shape(window, layer), value)


def _remove_flap(head: PhantomHead, angle: float, rng: np.random.Generator) -> None:
    """Draw a part of the skull that is missing: brain and scalp lie on each other."""
    canvas = head.canvas
    half = rng.uniform(0.3, 0.9)
    window = window_along(head, angle, half, 16)
    away = angle_within(head, angle, window)
    beside = np.float32(half) - away
    gap = step(beside * np.float32(head.half_width), 1.5)
    gap *= step(np.minimum(head.depth[window] + 1, 1 - head.inside[window]), 1.0)
    value = rng.uniform(8, 45) + 4 * canvas.texture(12.0, away.shape, rng)
    canvas.paint(Shape(window, gap), value)


def draw_air(head: PhantomHead, rng: np.random.Generator, masks: list[Shape]) -> bool:
    """Draw air inside the skull: bubbles, or a layer under the bone."""
    middle = _direction(head, rng, 0.3)
    if rng.random() < 0.2 and head.has_brain:
        size = rng.uniform(0.15, 0.6), rng.uniform(1.5, 8)
        _draw_layer(head, middle if rng.random() < 0.5 else -np.pi / 2, size, SINUS_AIR)
        return True
    for _ in range(int(rng.integers(1, 6))):
        place = place_toward(head, middle, (0.5, 8.0), rng)
        if place is None:
            return False
        shape = head.canvas.ellipse(place, rng.uniform(0.6, 4, 2), 0, Roughness(0.2, rng))
        head.canvas.paint(shape, rng.uniform(-900, -200))
    return True
