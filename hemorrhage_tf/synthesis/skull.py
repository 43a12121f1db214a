"""Skull and scalp, and the cavity that the dura encloses."""

from __future__ import annotations

import numpy as np

from hemorrhage_tf.synthesis.canvas import Roughness, step
from hemorrhage_tf.synthesis.head import (
    CORTICAL_BONE,
    DIPLOE,
    FAT,
    FORAMEN_MAGNUM,
    MIDDLE_FOSSA_FLOOR,
    MUSCLE,
    SIDES,
    PhantomHead,
    interpolate,
    visibility,
)
from hemorrhage_tf.synthesis.outline import set_outline

# Level of the vault's lower edge from the forehead to the back of the head, at y in mm.
_VAULT_Y, _VAULT_FLOOR = (-60.0, -44.0, -30.0, 0.0, 20.0), (0.215, 0.19, 0.1, 0.06, -0.01)

_WIDEST_WALL = 30.0  # mm of bone around a fossa, at most
_Fossa = tuple[float, float, float, float]  # x and y of the center, and both radii, in mm


def draw_skull(head: PhantomHead) -> None:
    """Draw scalp and skull; fill in the head's outline, `depth` and `inside`."""
    set_outline(head)
    thickness = _skull_thickness(head)
    _set_cavity(head, thickness)
    _draw_soft_tissue(head)
    if head.has_brain:
        _draw_bone(head, thickness)


def _skull_thickness(head: PhantomHead) -> np.ndarray:
    """Return the thickness of the skull in each pixel's direction, in mm."""
    rng = head.rng
    thick = rng.uniform(4.5, 8.5) * (0.75 + 0.25 * head.scale) * (1 - 0.72 * head.youth)
    front, back, bumpy = rng.uniform(0, 0.3), rng.uniform(0, 0.45), rng.uniform(0.04, 0.12)
    side = rng.uniform(-0.15, 0.1)
    s, c = head.sine, head.cosine
    before, behind = np.clip(-s, 0, 1), np.clip(s, 0, 1)
    behind *= behind
    thickness = 1 + front * (before * before) + back * (behind * behind) + side * (c * c)
    thickness += np.float32(bumpy) * head.canvas.texture(26.0, s.shape, rng)
    return np.clip(thickness * thick, 2.0 - head.youth, None)


def _set_cavity(head: PhantomHead, thickness: np.ndarray) -> None:
    """Set `inside`: one cavity above, three fossae at the skull base."""
    canvas, rng = head.canvas, head.rng
    whole = head.depth - thickness - np.float32(0.6)
    lowest = min(head.front, head.back)
    if lowest >= 0.31:
        head.inside = whole
        return
    k, y = head.scale, canvas.y
    inside = np.full_like(whole, -np.float32(k * 40))
    for cx, cy, rx, ry in (*_posterior_fossa(head), *_upper_fossae(head)):
        rx, ry = max(rx, 2.0) * k, max(ry, 2.0) * k
        window = canvas.window(cx * k, cy * k, max(rx, ry) + _WIDEST_WALL)
        across = (canvas.x[window] - np.float32(cx * k)) * np.float32(1 / rx)
        down = (y[window] - np.float32(cy * k)) * np.float32(1 / ry)
        across *= across
        down *= down
        fossa = (1 - np.sqrt(across + down)) * np.float32(min(rx, ry))
        np.maximum(inside[window], fossa, out=inside[window])
    if head.front > 0.19:  # the ridges of the orbital roofs
        ridged = step(-y - np.float32(34 * k), 10.0) * np.float32(3.5 * head.ridges)
        inside = inside + ridged * canvas.texture(12.0, y.shape, rng)
    head.inside = np.minimum(inside, whole)


def _posterior_fossa(head: PhantomHead) -> list[_Fossa]:
    """Return the foramen magnum, and the hollows of the cerebellum that widen it above."""
    rng, back = head.own_stream(), head.back
    x, y = rng.normal(0, 1.5), 36 + rng.normal(0, 2)
    wide, lobes = 15 * rng.normal(1, 0.08), rng.normal(1, 0.06, 2)
    shapes: list[_Fossa] = []
    if back > FORAMEN_MAGNUM:
        size = interpolate(back, (FORAMEN_MAGNUM, 0.03, 0.12, 0.2, 0.3), (1, 1.15, 2.2, 3.2, 4.0))
        length = interpolate(back, (FORAMEN_MAGNUM, 0.03, 0.12, 0.2, 0.3), (16, 19, 32, 42, 49))
        shapes.append((x, y + 0.1 * (length - 16), wide * size, length))
    for side, lobe in zip(SIDES, lobes, strict=True):
        at = back + side * head.roll
        if at > 0.0:
            size = interpolate(at, (0.0, 0.03, 0.1, 0.2), (0.3, 0.75, 1.05, 1.25)) * lobe
            shapes.append((x + side * 28, 43.0, 26 * size, 22 * size))
    return shapes


def _upper_fossae(head: PhantomHead) -> list[_Fossa]:
    """Return the middle fossae, the room between them, and the anterior fossa."""
    rng, front = head.own_stream(), head.front
    shapes: list[_Fossa] = []
    for side in SIDES:
        at = front + side * head.roll
        deep = rng.normal(0, 2)
        if at > MIDDLE_FOSSA_FLOOR:
            lobe = interpolate(at, (MIDDLE_FOSSA_FLOOR, 0.2, 0.3), (0.25, 1.0, 1.25))
            shapes.append((side * 42, -12 + deep, 25 * lobe, 29 * lobe))
    if front > 0.17:
        shapes.append((0.0, 2.0, 22.0, 26.0))
    if front > 0.19:  # first the straight gyrus between the orbits, then all over their roofs
        wide = interpolate(front, (0.19, 0.23, 0.28, 0.33), (7, 13, 36, 68))
        length = interpolate(front, (0.19, 0.23, 0.28, 0.33), (15, 30, 42, 49))
        shapes.append((rng.normal(0, 1), -45.0, wide, length))
    return shapes


def _draw_soft_tissue(head: PhantomHead) -> None:
    canvas, rng, skin = head.canvas, head.rng, head.skin
    if -0.2 < head.back < 0.2 and rng.random() < 0.6:
        for side in SIDES:
            ear = canvas.ellipse(
                (side * (head.half_width + rng.uniform(4, 9)), rng.uniform(8, 22)),
                (rng.uniform(2, 4), rng.uniform(9, 16)),
                side * rng.uniform(-0.5, 0.1),
                Roughness(0.2, rng),
                inner=False,
            )
            canvas.paint(ear, 20)
    soft = FAT + (MUSCLE - 12 - FAT) * step(rng.uniform(1.5, 3.5) - skin, 1.5)
    # Below the skull the muscles are drawn one by one, in the loose tissue between them.
    above = visibility(min(head.front, head.back), 0.0, 2.0, 0.2)
    texture = canvas.texture(12.0, skin.shape, rng)
    muscle = _muscles_of_the_skull(head, rng, texture, above)
    if above < 1:
        loose = step(np.float32(-0.4 - 2 * head.fat) + texture, 1.0) * np.float32(1 - above)
        loose *= step(skin - np.float32(4 + 9 * head.fat * (1 - above)), 4.0)
        muscle = np.maximum(muscle, loose)
    soft = np.maximum(soft, (MUSCLE - FAT) * muscle + FAT)
    canvas.paint(canvas.everywhere(step(skin, canvas.blur)), soft)


def _muscles_of_the_skull(
    head: PhantomHead, rng: np.random.Generator, texture: np.ndarray, above: float
) -> np.ndarray:
    """Return the share of temporal and nape muscles outside the skull: float32 `(size, size)`."""
    high, strong = 4 * max(head.level - 0.4, 0.0) + rng.uniform(0, 0.6), rng.uniform(3, 8)
    muscle = np.zeros_like(texture)
    if above and high < 2.3:
        temporal = 4 * (head.cosine * head.cosine - np.float32(0.62)) - np.float32(high)
        muscle = step(temporal + np.float32(0.25) * texture, 0.8) * np.float32(above)
    if low := visibility(head.back, FORAMEN_MAGNUM, 0.22, 0.08):
        nape = step(np.float32(strong) * head.sine + np.float32(0.25) * texture - 1.2, 0.8)
        # Fat lies between both sides, and between the layers.
        layers = np.abs(texture) - np.float32(0.1 + 0.25 * head.fat)
        nape *= step(np.minimum(np.abs(head.canvas.x) - 1.5, 4 * layers), 1.5)
        muscle = np.maximum(muscle, nape * np.float32(min(1.0, 2 * low)))
    muscle *= step(-head.depth - 0.5, 1.0) * step(head.skin - 2.5, 1.5)
    return muscle


def _vault_share(head: PhantomHead) -> np.ndarray:
    """Return where the vault's ring is closed: not over the face, nor below the fossae."""
    y = head.canvas.y
    tilt, k = (head.front - head.back) / 2, head.scale
    level = head.level + (head.roll * head.canvas.x - tilt * y) * np.float32(1 / (60 * k))
    lowest = np.interp(y, np.array(_VAULT_Y) * k, _VAULT_FLOOR).astype(np.float32)
    return step(level - lowest, 0.05)


def _draw_bone(head: PhantomHead, thickness: np.ndarray) -> None:
    """Draw the vault, and at the base the bone and soft tissue between the fossae."""
    canvas, rng = head.canvas, head.rng
    base, shape = min(head.front, head.back), thickness.shape
    table = rng.uniform(1.0, 2.2)
    edge = np.minimum(head.depth, thickness - head.depth)
    spongy = step(edge - table, 1.5) * np.float32(rng.uniform(0.3, 1.0))
    cortical = CORTICAL_BONE * rng.uniform(0.75, 1.15) * (1 - 0.45 * head.youth)
    bone = cortical + (DIPLOE * rng.uniform(0.6, 1.3) - CORTICAL_BONE) * spongy
    ring = step(edge, canvas.blur)
    if base < 0.31:
        ring = ring * _vault_share(head)
    if base < 0.31:
        within = step(head.depth, canvas.blur)
        tissue = FAT + (MUSCLE - FAT) * step(canvas.texture(12.0, shape, rng) + 0.5, 0.5)
        around = step(canvas.y + np.float32(20 * head.scale), 20.0)
        solid = step(-head.inside, 1.0) * within
        canvas.paint(canvas.everywhere(solid * around), tissue)
        if head.front > 0.19:  # the orbital roofs
            share = visibility(head.front, 0.21, 2.0, 0.03) * rng.uniform(0.7, 1)
            roofs = step(-canvas.y - np.float32(32 * head.scale), 6.0) * solid
            canvas.paint(canvas.everywhere(roofs), 1000, share)
        wall = rng.uniform(2.5, 6.0) * (1 + 0.5 * canvas.texture(12.0, shape, rng))
        # The occipital bone lies nearly in the slice around the foramen magnum.
        flat = interpolate(head.back, (FORAMEN_MAGNUM, 0.0, 0.08, 0.16), (8.0, 13.0, 8.0, 0.0))
        wall = wall + np.float32(flat * rng.uniform(0.6, 1.2)) * step(canvas.y - 24, 30.0)
        flat = interpolate(head.front, (0.06, 0.1, 0.17), (9.0, 7.0, 0.0))
        wall = wall + np.float32(flat * rng.uniform(0.6, 1.2)) * step(-4 - canvas.y, 30.0)
        walls = np.minimum(-head.inside, wall + head.inside) + np.float32(0.3)
        trabecular = CORTICAL_BONE * 0.8 + 320 * canvas.texture(5.0, shape, rng)
        canvas.paint(canvas.everywhere(step(walls, canvas.blur) * within), trabecular)
    sutures = head.own_stream()
    if head.youth > 0.15:
        opened = ring * _open_sutures(head, sutures)
        canvas.paint(canvas.everywhere(opened), sutures.uniform(18, 40))
        ring = ring - opened
    canvas.paint(canvas.everywhere(ring), bone)


def _open_sutures(head: PhantomHead, rng: np.random.Generator) -> np.ndarray:
    """Return where the skull of a child is open: at the sutures, and wide at the fontanelles."""
    canvas, level, youth = head.canvas, head.level, head.youth
    gap = rng.uniform(0.8, 2.2) * (0.4 + youth)
    soft = rng.uniform(6, 16) * max(youth - 0.35, 0.0) / 0.65
    # The coronal suture runs forward to the anterior fontanelle, the lambdoid one backward.
    coronal = interpolate(level, (0.3, 0.9), (0.55, 1.15))
    lambdoid = interpolate(level, (0.3, 0.8), (0.6, 1.35))
    front = gap + soft * visibility(level, 0.78, 1.1, 0.12)
    back = gap + 0.4 * soft * visibility(level, 0.66, 0.82, 0.06)
    bent = np.float32(1.5) * canvas.texture(5.0, canvas.x.shape, rng)
    opened = np.zeros_like(canvas.x)
    for side in SIDES:
        for angle, half in ((-coronal, gap), (lambdoid, gap)):
            away = head.angle_from(angle if side > 0 else np.pi - angle)
            across = away * np.float32(head.half_width) + bent
            np.maximum(opened, step(half - np.abs(across), canvas.blur), out=opened)
    for sign, half in ((-1, front), (1, back)):
        middle = step(half - np.abs(canvas.x + bent), canvas.blur)
        np.maximum(opened, middle * (sign * canvas.y > 0), out=opened)
    return opened * np.float32(min(1.0, 3 * youth))
