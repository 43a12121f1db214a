"""The middle of the face: nose, nasal cavity, maxillary sinuses, cheekbones, pterygoid plates."""

from __future__ import annotations

import numpy as np

from hemorrhage_tf.synthesis.canvas import Roughness
from hemorrhage_tf.synthesis.head import SIDES, SINUS_AIR, PhantomHead, interpolate, visibility
from hemorrhage_tf.synthesis.parts import (
    Band,
    Oval,
    paint_band,
    paint_bands,
    paint_oval,
    paint_ovals,
)

_FACE_TOP = 0.3  # level above which no part of the face is left


def draw_face(head: PhantomHead) -> None:
    """Draw the middle of the face into a head; nothing in slices above or below it."""
    if not -0.25 < head.front < _FACE_TOP:
        return
    sinuses, nose, cavity, bones = (head.own_stream() for _ in range(4))
    _draw_nose(head, nose)
    _draw_bones(head, bones)
    _draw_maxillary_sinuses(head, sinuses)
    _draw_nasal_cavity(head, cavity)


def _draw_nose(head: PhantomHead, rng: np.random.Generator) -> None:
    """Draw the outer nose, which is highest above the upper lip."""
    far, wide, bent = (
        rng.uniform(12, 26) * (1 - 0.5 * head.youth),
        rng.uniform(15, 20),
        rng.normal(0, 2),
    )
    levels = (-0.1, -0.07, -0.03, 0.06, 0.14, 0.2)
    reach = interpolate(head.front, levels, (0, 0.5, 1.0, 0.8, 0.45, 0.1)) * far
    broad = interpolate(head.front, levels, (1.0, 1.6, 1.8, 1.2, 0.8, 0.6)) * wide
    if not visibility(head.front, -0.1, 0.21) or reach < 1:
        return
    root = -86.0 + 0.15 * far
    tip = root - 5 - reach
    points = [(0.0, root), (bent, tip + 3)]
    paint_band(head, rng, Band(points, (broad, 10), 25, outside=True))
    if head.front < 0.03:  # the nostrils
        for side in SIDES:
            inner = side * (0.12 * broad + 2.5)
            nostril = [(inner, root), (inner * 0.7 + bent, tip + 7)]
            paint_band(head, rng, Band(nostril, (5, 3), SINUS_AIR, outside=True))
    else:
        roof = [(0.06 * broad, root + 4), (0.0, root - reach * 0.4), (-0.06 * broad, root + 4)]
        paint_band(head, rng, Band(roof, (3, 3), 700, (0.07, 0.2), outside=True))


def _draw_bones(head: PhantomHead, rng: np.random.Generator) -> None:
    """Draw cheekbones, zygomatic arches and pterygoid plates."""
    hard = rng.uniform(700, 1200)
    bands = (
        Band([(38, -76), (50, -68), (57, -56)], (5, 8), hard, (-0.02, 0.1)),  # cheekbone
        Band([(57, -58), (60, -50), (57, -42)], (5, 4), hard, (0.09, 0.2)),  # orbital wall
        Band([(57, -56), (66, -34), (64, -8)], (4, 4), hard, (0.045, 0.1), 0.02),  # arch
        Band([(14, -38), (15, -30), (13, -22)], (3, 2), hard * 0.8, (-0.08, 0.08)),
        Band([(17, -38), (22, -30), (24, -23)], (2.5, 2), hard * 0.8, (-0.08, 0.08)),
        Band([(11, -38), (17, -40), (22, -42)], (3, 3), hard * 0.8, (-0.08, 0.1)),
    )
    paint_bands(head, rng, bands)


def _draw_maxillary_sinuses(head: PhantomHead, rng: np.random.Generator) -> None:
    """Draw the maxillary sinuses: air in thin walls, or some fluid or swollen mucosa."""
    canvas, k = head.canvas, head.scale
    wall, size, both = rng.uniform(1.0, 2.0), rng.uniform(0.8, 1.15), rng.random(2)
    size *= 1 - 0.6 * head.youth  # it grows with the face
    x, y, turn = rng.normal(28, 1.2), rng.normal(-60, 2), rng.normal(0.45, 0.1)
    for index, side in enumerate(SIDES):
        outline = int(rng.integers(2**31))
        grade, swelling = rng.random(2)
        share = visibility(head.level_at(side * x, y), -0.115, 0.11, 0.05)
        if not share:
            continue
        grown = k * size * (0.35 + 0.65 * share)
        for extra, value in ((wall, 750.0), (0.0, SINUS_AIR)):
            radii = 12 * grown + extra, 17.5 * grown + extra
            rough = Roughness(0.08, np.random.default_rng(outline))
            sinus = canvas.ellipse((side * x * k, y * k), radii, side * turn, rough, inner=False)
            if extra:
                canvas.paint(sinus, value, share)
                continue
            content: float | np.ndarray = value
            if both[index] < 0.12:  # filled
                content = 15.0 + 30 * grade
            elif both[index] < 0.25:  # fluid behind
                down = canvas.y[sinus.window] > np.float32((y - 14 + 26 * grade) * k)
                content = np.where(down, np.float32(18), np.float32(value))
            canvas.paint(sinus, content, min(1.0, 2.5 * share))
            if 0.25 < both[index] < 0.5:  # swollen mucosa
                inner = 9.5 * grown - 4 * swelling, 15 * grown - 4 * swelling
                canvas.paint(sinus, 30.0)
                smaller = Roughness(0.12, np.random.default_rng(outline))
                place = side * x * k, y * k
                air = canvas.ellipse(place, inner, side * turn, smaller, inner=False)
                canvas.paint(air, value)


def _draw_nasal_cavity(head: PhantomHead, rng: np.random.Generator) -> None:
    """Draw the nasal cavity with septum and turbinates."""
    bent, swollen = rng.normal(0, 1.8), rng.uniform(0.6, 1.4)
    levels = (-0.1, 0.13)
    floor = interpolate(head.front, (-0.1, 0.0, 0.1), (9, 13, 10))
    paint_oval(head, rng, Oval((0, -60), (floor + 2.5, 27), 650, levels, rough=0.05))
    paint_oval(head, rng, Oval((0, -60), (floor, 29), SINUS_AIR, levels, rough=0.05))
    paint_oval(head, rng, Oval((0, -30), (10, 9), SINUS_AIR, (-0.09, 0.06), rough=0.1))
    septum = [(0, -88), (bent, -66), (0, -40)]
    paint_bands(head, rng, [Band(septum, (2.4, 1.5), 180, levels)], (1,))
    turbinates = (
        Oval((6.5, -52), (2.2 * swollen, 15), 45, (-0.08, -0.005), rough=0.15),
        Oval((6.0, -56), (1.8 * swollen, 13), 45, (0.0, 0.07), rough=0.15),
    )
    paint_ovals(head, rng, turbinates)
    paint_bands(head, rng, [Band([(6, -60), (6, -46)], (1, 1), 250, (-0.06, 0.06))])
