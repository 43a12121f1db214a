"""The outline of head and neck: skin, and the outer table of the skull where there is one."""

from __future__ import annotations

import numpy as np

from hemorrhage_tf.synthesis.head import PhantomHead, interpolate, visibility

# Below this level the face and the neck widen the outline of the skull.
_FACE_TOP = 0.33
_BLEND = 9.0  # mm over which two outlines merge into one

# Front half of the head: half width, and y of its foremost point, by level. In mm.
_FACE_LEVELS = (-0.62, -0.52, -0.46, -0.38, -0.25, -0.12, 0.0, 0.1, 0.18, 0.26, 0.34)
_FACE_WIDTHS = (36.0, 44.0, 52.0, 58.0, 61.0, 62.0, 64.0, 65.0, 62.0, 58.0, 40.0)
_FACE_FRONTS = (-38.0, -52.0, -70.0, -86.0, -92.0, -94.0, -93.0, -91.0, -89.0, -88.0, -80.0)
# Back half: half width, and y of its hindmost point.
_NECK_LEVELS = (-1.1, -0.98, -0.88, -0.75, -0.6, -0.4, -0.2, 0.0, 0.12, 0.25)
_NECK_WIDTHS = (190.0, 130.0, 88.0, 66.0, 59.0, 58.0, 61.0, 64.0, 58.0, 40.0)
_NECK_BACKS = (106.0, 98.0, 86.0, 78.0, 76.0, 78.0, 83.0, 88.0, 84.0, 70.0)
_NECK_FRONT = -40.0  # y of the throat


def set_outline(head: PhantomHead) -> None:
    """Set `cosine`, `sine`, `half_width`, `half_length`, `depth` and `skin` of a head."""
    _set_habitus(head)
    _set_skull(head)
    scalp = _scalp_thickness(head)
    head.skin = head.depth + scalp
    if min(head.front, head.back) < _FACE_TOP:
        _add_face_and_neck(head)
        # Without a skull, depth is that under the skin.
        under = head.skin - np.float32(4.0)
        head.depth = np.minimum(head.depth, under) if head.has_brain else under


def _set_habitus(head: PhantomHead) -> None:
    """Choose how fat the head is, and how far its mouth is open."""
    rng = head.own_stream()
    head.fat = float(rng.beta(1.2, 1.5))
    head.ridges = float(rng.uniform(0.3, 1.7))
    closed, opened = abs(rng.normal(0, 0.015)), rng.uniform(0.04, 0.13)
    head.jaw_drop = float(closed if rng.random() < 0.82 else opened)


def _set_skull(head: PhantomHead) -> None:
    canvas, rng, level = head.canvas, head.rng, head.level
    if level > 0.4:
        share = max(1 - ((level - 0.4) / 0.625) ** 2, 0.06) ** 0.5
    else:
        share = 1 - 0.12 * (0.4 - max(level, 0.0))
    half_width = head.half_width = (72 + rng.normal(0, 2.5)) * head.scale * share
    half_length = head.half_length = (89 + rng.normal(0, 3)) * head.scale * share
    distance = np.sqrt(canvas.x * canvas.x + canvas.y * canvas.y) + np.float32(1e-3)
    cosine, sine = canvas.x / distance, canvas.y / distance
    a, b = cosine * np.float32(1 / half_width), sine * np.float32(1 / half_length)
    radius = 1 / np.sqrt(a * a + b * b)
    egg, square, skew = rng.normal(0.05, 0.02), rng.normal(0, 0.012), rng.normal(0, 0.01)
    doubled = 2 * cosine * sine
    radius *= 1 + egg * sine * (1 - sine * sine) * 2.2 + square * doubled * doubled + skew * doubled
    if min(head.front, head.back) < _FACE_TOP:  # the skull ends below
        front = interpolate(head.front, (-0.3, 0.0, 0.25), (0.5, 0.1, 0.0))
        back = interpolate(head.back, (-0.15, 0.0, 0.2), (0.75, 0.25, 0.0))
        side = interpolate(level, (-0.15, 0.0, 0.25), (0.6, 0.12, 0.0))
        before, behind = np.clip(-sine, 0, 1), np.clip(sine, 0, 1)
        radius *= 1 - np.float32(front) * before * before - np.float32(back) * behind * behind
        radius *= 1 - np.float32(side) * cosine * cosine
    head.cosine, head.sine = cosine, sine
    head.depth = radius - distance


def _scalp_thickness(head: PhantomHead) -> np.ndarray:
    """Return the thickness of the scalp in each pixel's direction, in mm."""
    canvas, rng = head.canvas, head.rng
    scalp = rng.uniform(3.0, 7.5) * (0.8 + 0.08 * canvas.texture(26.0, head.sine.shape, rng))
    temporal = rng.uniform(3, 9) * visibility(head.level, -1, 0.5, 0.3)
    sides = head.cosine * head.cosine
    thickness: np.ndarray = scalp + np.float32(temporal) * (sides * sides)
    return thickness


def _add_face_and_neck(head: PhantomHead) -> None:
    """Widen `skin` by the face in front and the neck behind."""
    rng, k = head.rng, head.scale
    # A child's face is narrow and flat below its wide skull.
    face = rng.normal(0.97, 0.035) + 0.09 * head.fat - 0.08 * head.youth
    neck, chin = rng.normal(0.92, 0.05) + 0.2 * head.fat, rng.normal(0, 2.5)
    front, back = head.front, head.back
    if front < -0.2:  # an open mouth lowers the chin
        front = min(front + head.jaw_drop, -0.2)
    if -0.7 < front < _FACE_LEVELS[-1]:
        foremost = interpolate(front, _FACE_LEVELS, _FACE_FRONTS) * k + chin
        foremost *= 1 - 0.06 * head.youth
        width = interpolate(front, _FACE_LEVELS, _FACE_WIDTHS) * k * face
        rear = 20.0 * k
        shape = _egg(head, (foremost, rear), width, narrow=0.22)
        head.skin = _merge(head.skin, shape)
    if back > _NECK_LEVELS[-1]:
        return
    hindmost = interpolate(back, _NECK_LEVELS, _NECK_BACKS) * k * (0.6 + 0.4 * neck)
    width = interpolate(back, _NECK_LEVELS, _NECK_WIDTHS) * k * neck
    throat = _NECK_FRONT * k * interpolate(back, (-0.9, -0.6), (1.1, 1.0)) * neck
    head.skin = _merge(head.skin, _egg(head, (throat, hindmost), width, narrow=-0.1))


def _egg(
    head: PhantomHead, ends: tuple[float, float], half_width: float, narrow: float
) -> np.ndarray:
    """Return the depth inside an oval that is narrower in front.

    Args:
        head: The head.
        ends: y of the front and the back, in mm.
        half_width: Half of its width in the middle, in mm.
        narrow: Share by which it is narrower in front and wider behind.
    """
    middle, half_length = (ends[0] + ends[1]) / 2, (ends[1] - ends[0]) / 2
    along = (head.canvas.y - np.float32(middle)) * np.float32(1 / half_length)
    wide = 1 + np.float32(narrow) * np.clip(along, -1, 1)
    across = head.canvas.x / (np.float32(half_width) * wide)
    away = np.sqrt(across * across + along * along)
    return (1 - away) * np.float32(min(half_width, half_length))


def _merge(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return the depth inside either of two outlines, with a rounded notch between them."""
    near = np.clip(np.float32(_BLEND) - np.abs(first - second), 0, None)
    return np.maximum(first, second) + near * near * np.float32(1 / (4 * _BLEND))
