"""The neck: muscles, vessels, airway, larynx and thyroid gland, down to the shoulders."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from hemorrhage_tf.synthesis.canvas import step
from hemorrhage_tf.synthesis.head import MUSCLE, SINUS_AIR, PhantomHead, interpolate
from hemorrhage_tf.synthesis.parts import Band, Oval, paint_bands, paint_oval, paint_ovals
from hemorrhage_tf.synthesis.vertebrae import draw_spine

# Levels above which no part of the neck, and of the shoulders, is left.
_NECK_TOP, _SHOULDER_TOP = 0.06, -0.7


def draw_neck(head: PhantomHead) -> None:
    """Draw the neck into a head; nothing in slices above it."""
    if min(head.front, head.back) > _NECK_TOP:
        return
    muscles, spine, vessels, airway, shoulders = (head.own_stream() for _ in range(5))
    muscle = MUSCLE + muscles.normal(0, 5)
    _draw_muscles(head, muscles, muscle)
    _draw_front_muscles(head, muscles, muscle)
    _draw_vessels(head, vessels)
    if head.back < _SHOULDER_TOP:
        _draw_shoulders(head, shoulders, muscle)
    draw_spine(head, spine)
    _draw_airway(head, airway, muscle)
    _draw_larynx(head, airway)


def _fat_layer(head: PhantomHead) -> float:
    """Return the thickness of the fat under the skin, in mm."""
    return 3.0 + 9.0 * head.fat


def _draw_muscles(head: PhantomHead, rng: np.random.Generator, muscle: float) -> None:
    """Draw the muscles behind and beside the spine."""
    level = head.level_at(0.0, 45.0)
    back = interpolate(level, (-0.9, -0.6, -0.3, 0.0), (72.0, 64.0, 68.0, 74.0))
    fatty = rng.uniform(2, 14)
    far = (-1.2, 0.0)
    ovals = (
        Oval((9, back - 10), (6.5, 13), muscle, far, 0.1),  # semispinalis
        Oval((21, back - 13), (8, 14), muscle, far, -0.5),
        Oval((33, back - 19), (6, 15), muscle, far, -0.75),  # splenius
        Oval((12, back - 27), (8, 8), muscle, (-1.2, -0.1), 0.3),  # multifidus
        Oval((25, back - 30), (9, 7), muscle, (-0.28, -0.03), 0.5),  # obliquus capitis
        Oval((12, back - 22), (8, 9), muscle, (-0.14, -0.01), 0.2),  # rectus capitis
        Oval((40, back - 36), (6, 11), muscle, (-1.2, -0.15), -0.5),  # levator scapulae
        Oval((30, 16), (7, 8), muscle, (-1.2, -0.4), 0.4),  # scalenes
        Oval((9, 5), (6, 4.5), muscle, (-1.2, 0.04), 0.1),  # longus colli
    )
    full = 1.24 - 0.2 * head.fat
    uneven = tuple(
        replace(o, radii=(o.radii[0] * full, o.radii[1] * full), rough=0.1, uneven=fatty)
        for o in ovals
    )
    paint_ovals(head, rng, uneven)
    at = head.level_at(45.0, 10.0)
    x = interpolate(at, (-0.95, -0.7, -0.4, -0.05), (20, 40, 53, 59))
    y = interpolate(at, (-0.95, -0.7, -0.4, -0.05), (-30, -12, 12, 32))
    turn = interpolate(at, (-0.95, -0.7, -0.4, -0.05), (1.2, 0.8, 0.35, 0.1))
    paint_ovals(head, rng, [Oval((x, y), (6, 16), muscle, (-1.0, -0.02), turn, uneven=fatty / 2)])
    if level < -0.1:
        _draw_trapezius(head, rng, muscle)


def _draw_trapezius(head: PhantomHead, rng: np.random.Generator, muscle: float) -> None:
    """Draw the trapezius, a sheet under the fat of the back."""
    canvas, k = head.canvas, head.scale
    thick = rng.uniform(2.5, 5) * k
    level = head.level_at(0.0, 60.0 * k)
    wide = interpolate(level, (-0.95, -0.7, -0.4, -0.15), (90, 52, 36, 16)) * k
    sheet = head.skin - np.float32(_fat_layer(head) + 1 + thick / 2)
    alpha = step(np.float32(thick / 2) - np.abs(sheet), canvas.blur)
    alpha *= step(canvas.y - np.float32(34 * k), 12.0) * step(wide - np.abs(canvas.x), 8.0)
    canvas.paint(canvas.everywhere(alpha), muscle)


def _draw_front_muscles(head: PhantomHead, rng: np.random.Generator, muscle: float) -> None:
    """Draw pharynx and strap muscles."""
    paint_oval(head, rng, Oval((0, -16), (19, 11), muscle, (-0.6, 0.03), uneven=3))
    straps = (
        Oval((10, -41), (9, 3.5), muscle, (-0.95, -0.5), 0.3),
        Oval((17, -30), (6, 9), muscle, (-0.62, -0.45), 0.5),
    )
    paint_ovals(head, rng, straps)


def _draw_vessels(head: PhantomHead, rng: np.random.Generator) -> None:
    blood = rng.uniform(38, 52)
    dense = rng.uniform(100, 900) if rng.random() < 0.15 else 0.0  # plaques of the bifurcation
    ovals = (
        Oval((27, 0), (3.6, 3.6), blood, (-1.1, 0.03), rough=0.05),
        Oval((32, 7), (rng.uniform(3.5, 7), rng.uniform(4, 7)), blood, (-1.1, 0.03)),
        Oval((37, -4), (2.0, 2.0), blood, (-0.4, 0.02), rough=0.05),
    )
    paint_ovals(head, rng, ovals)
    for place in ((37, -1), (38, 14)):  # lymph nodes
        paint_ovals(head, rng, [Oval(place, (2.5, 3.5), blood, (-0.6, -0.05))])
    if dense:
        paint_ovals(head, rng, [Oval((28, -2), (1.5, 2.2), dense, (-0.5, -0.4))])


def _draw_airway(head: PhantomHead, rng: np.random.Generator, muscle: float) -> None:
    level = head.level_at(0.0, -15.0)
    levels = (-1.1, -0.8, -0.74, -0.6, -0.5, -0.42, -0.3, -0.15, -0.05, 0.04)
    wide = interpolate(level, levels, (8.5, 8.5, 7, 4, 11, 9, 9, 10, 11, 11)) * rng.uniform(
        0.6, 1.25
    )
    long = interpolate(level, levels, (8.5, 8.5, 9, 10, 6, 7, 6, 5, 7.5, 6)) * rng.uniform(
        0.5, 1.25
    )
    y = interpolate(level, levels, (-17, -19, -20, -24, -24, -18, -15, -17, -23, -24))
    closed = rng.random() < 0.06  # or intubated
    tube = rng.random() < 0.12
    if closed:
        long *= 0.3
    if level < -0.42:  # the wall of larynx and trachea
        wall = interpolate(level, (-0.8, -0.72, -0.5, -0.42), (2.5, 8.0, 9.0, 5.0))
        soft = Oval((0, y + 1), (wide + wall, long + 0.6 * wall), muscle, (-1.3, 0.0), rough=0.05)
        paint_oval(head, rng, soft)
    paint_oval(head, rng, Oval((0, y), (wide, long), SINUS_AIR, (-1.3, 0.035), rough=0.15))
    ring = Oval((0, y), (5.4, 5.4), 250, (-1.3, -0.02), rough=0.0)
    inside = Oval((0, y), (3.9, 3.9), SINUS_AIR, (-1.3, -0.02), rough=0.0)
    if tube:
        seed = int(rng.integers(2**31))
        for part in (ring, inside):
            paint_oval(head, np.random.default_rng(seed), part)


def _draw_larynx(head: PhantomHead, rng: np.random.Generator) -> None:
    """Draw hyoid bone, thyroid and cricoid cartilage, and the thyroid gland."""
    cartilage = float(np.exp(rng.uniform(np.log(80), np.log(600))))
    iodine = rng.uniform(70, 125)
    bands = (
        Band([(21, -14), (16, -32), (0, -43)], (3, 6), 700, (-0.54, -0.47), 0.025),
        Band([(21, -8), (17, -28), (1, -44)], (3, 3.5), cartilage, (-0.72, -0.56)),
        Band([(0, -12), (11, -16), (9, -28), (0, -32)], (4.5, 3), cartilage, (-0.8, -0.73)),
    )
    paint_bands(head, rng, bands)
    gland = Oval((16, -19), (7, 12), iodine, (-0.98, -0.77), 0.3, 0.2)
    paint_ovals(head, rng, [gland])


def _draw_shoulders(head: PhantomHead, rng: np.random.Generator, muscle: float) -> None:
    """Draw muscles, clavicles, first ribs and the tips of the lungs at the shoulders."""
    ovals = (
        Oval((78, 40), (34, 13), muscle, (-1.3, -0.9), -0.3, 0.2, 0.08, 6),
        Oval((50, 40), (18, 10), muscle, (-1.3, -0.88), -0.4, 0.2, 0.06, 6),
        Oval((46, 8), (10, 9), muscle, (-1.3, -0.86), 0.3, 0.2, 0.06, 6),
        Oval((110, 20), (22, 24), muscle, (-1.3, -0.95), 0, 0.2, 0.06, 6),
        Oval((118, 18), (14, 15), 350, (-1.3, -0.98), 0, 0.1, 0.04, 60),
        Oval((34, 18), (14, 18), -850, (-1.3, -1.0), 0, 0.1, 0.04),
    )
    paint_ovals(head, rng, ovals)
    bands = (
        Band([(24, 26), (44, 30), (58, 14)], (7, 7), 600, (-1.05, -0.93)),
        Band([(28, -36), (70, -28), (110, -8)], (11, 9), 700, (-1.3, -0.96)),
    )
    paint_bands(head, rng, bands)
