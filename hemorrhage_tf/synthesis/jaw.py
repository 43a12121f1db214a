"""The jaw: mandible, teeth and dental metal, tongue, and the muscles and glands around them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hemorrhage_tf.synthesis.head import MUSCLE, SIDES, PhantomHead, interpolate
from hemorrhage_tf.synthesis.parts import (
    Band,
    Oval,
    Point,
    paint_band,
    paint_bands,
    paint_oval,
    paint_ovals,
)

# Levels above and below which no part of the jaw is left.
_JAW_TOP, _JAW_FLOOR = 0.2, -0.85
_METAL_HU = 3000.0
_TOOTHLESS = 0.75  # youth above which no teeth have come through
_TEETH = np.linspace(0.04, 0.72, 7)  # their places along half an arch


@dataclass(frozen=True, slots=True)
class _Arch:
    """A row of teeth, or the body of the mandible: half an ellipse that is open behind.

    Attributes:
        front: y of its foremost point, in mm of a head of scale 1.
        half_width: Half of its width behind.
        length: From front to back.
    """

    front: float
    half_width: float
    length: float

    def point(self, along: float) -> Point:
        """Return x and y of a point on the right: 0 is in front, 1 behind."""
        angle = along * np.pi / 2
        # Narrower in front than an ellipse.
        return self.half_width * float(np.sin(angle)) ** 1.2, self.front + self.length * float(
            1 - np.cos(angle)
        )

    def points(self, end: float = 1.0) -> list[Point]:
        """Return points from the left to the right."""
        right = [self.point(along) for along in np.linspace(0, end, 5)]
        return [(-x, y) for x, y in right[:0:-1]] + right


@dataclass(frozen=True, slots=True)
class _Dentition:
    """Teeth of a head.

    Attributes:
        missing: Share of the teeth that are missing.
        metal: Share of the teeth with a filling or crown.
    """

    missing: float
    metal: float

    @classmethod
    def draw(cls, rng: np.random.Generator, youth: float) -> _Dentition:
        missing = rng.beta(0.5, 4) if rng.random() < 0.82 else rng.uniform(0.5, 1)
        if youth > _TOOTHLESS:
            missing = 1.0
        metal = rng.uniform(0.04, 0.5) if rng.random() < 0.4 else 0.0
        return cls(float(missing), float(metal))


def draw_jaw(head: PhantomHead) -> None:
    """Draw the jaw into a head; nothing in slices above it."""
    if head.front > _JAW_TOP or head.front < _JAW_FLOOR:
        return
    soft, bone, upper, lower, dentition = (head.own_stream() for _ in range(5))
    teeth = _Dentition.draw(dentition, head.youth)
    muscle = MUSCLE + soft.normal(2, 5)
    _draw_soft_parts(head, soft, muscle)
    _draw_ramus(head, bone)
    maxilla = _Arch(-88, 30 + bone.normal(0, 1.5), 48)
    mandible = _Arch(-87, 46 + bone.normal(0, 2), 74)
    _draw_mandible(head, bone, mandible)
    level = head.level_at(0.0, -65.0 * head.scale)
    _draw_alveolar_bone(head, bone, maxilla, (-0.165, -0.085))
    _draw_teeth(head, upper, maxilla, teeth, level + 0.2)
    row = _Arch(-85, 29, 46)
    _draw_teeth(head, lower, row, teeth, level + 0.245 + head.jaw_drop)


def _draw_soft_parts(head: PhantomHead, rng: np.random.Generator, muscle: float) -> None:
    """Draw tongue, floor of the mouth, muscles of mastication and salivary glands."""
    low = head.jaw_drop
    gland, parotid = rng.uniform(15, 55), rng.uniform(-70, 40)
    paint_ovals(
        head,
        rng,
        (
            Oval((57, 4), (11, 16), parotid, (-0.32, 0.04), -0.25, 0.2, uneven=10),
            Oval((31, -32), (9, 14), gland, (-0.5 - low, -0.35 - low), 0.5, 0.15, uneven=4),
            Oval((57, -29), (8.5, 19), muscle, (-0.35, 0.05), -0.25, 0.1, uneven=3),  # masseter
            Oval((37, -22), (7, 15), muscle, (-0.32, -0.01), -0.35, 0.1, uneven=3),
            Oval((35, -24), (9, 16), muscle, (-0.05, 0.09), 0.65, 0.1, uneven=3),
            Oval((53, -36), (7, 16), muscle, (0.0, 0.2), -0.1, 0.1, uneven=3),  # temporalis
            Oval((10, -62), (7, 17), muscle, (-0.49 - low, -0.34 - low), -0.15, 0.15, uneven=4),
            Oval((24, -56), (5, 20), muscle, (-0.47 - low, -0.33 - low), -0.3, 0.15, uneven=4),
        ),
    )
    tongue = Oval((0, -52), (21, 27), muscle - 2, (-0.4 - low, -0.1 - low / 2), uneven=5, edge=0.06)
    if low > 0.04:  # air over the tongue of an open mouth
        paint_oval(head, rng, Oval((0, -62), (20, 22), -950, (-0.2 - low, -0.1), rough=0.2))
    paint_oval(head, rng, tongue)
    paint_oval(head, rng, Oval((0, -54), (1.6, 18), -40, (-0.4 - low, -0.2 - low), rough=0.3))
    paint_oval(head, rng, Oval((0, -26), (12, 8), muscle, (-0.24, -0.09), uneven=3))  # soft palate
    cheeks = [(32, -84), (43, -68), (44, -44)]
    lips = [(-26, -84), (0, -91), (26, -84)]
    paint_bands(head, rng, [Band(cheeks, (3, 4), muscle, (-0.38, -0.02), 0.05)])
    paint_band(head, rng, Band(lips, (7, 7), muscle - 8, (-0.33, -0.08), 0.05))


def _draw_ramus(head: PhantomHead, rng: np.random.Generator) -> None:
    """Draw rami, coronoid processes and condyles."""
    hard, wide = rng.uniform(900, 1500), rng.uniform(6, 9)
    level = head.level_at(0.0, -20.0 * head.scale)
    front = interpolate(level, (-0.34, -0.25, 0.0), (-22, -34, -34))
    back = interpolate(level, (-0.34, -0.25, 0.0), (-14, -6, -4))
    x = interpolate(level, (-0.3, 0.0), (46, 50))
    ramus = Band([(x - 2, front), (x, (front + back) / 2), (x + 2, back)], (wide, wide + 1), hard)
    ovals = (
        Oval((49, -31), (3, 6), hard, (-0.03, 0.07), -0.1),
        Oval((52, -5), (4.5, 5), hard, (-0.03, 0.06), 0.1),
        Oval((51, -5), (9, 4.5), hard, (0.055, 0.11), 0.25, edge=0.02),
    )
    for side in SIDES:
        band = Band(ramus.points, ramus.widths, hard, (-0.345, 0.0), 0.02)
        paint_band(head, rng, band, side)
    marrow = Band(ramus.points[:2], (wide - 5, wide - 5), 300, (-0.33, -0.05))
    paint_bands(head, rng, [marrow])
    paint_ovals(head, rng, ovals)


def _draw_mandible(head: PhantomHead, rng: np.random.Generator, arch: _Arch) -> None:
    """Draw the body of the mandible: the whole arch above, only the chin at its lower edge."""
    hard, wide = rng.uniform(1000, 1600), rng.uniform(9, 12)
    level = head.level_at(0.0, -60.0 * head.scale) + head.jaw_drop
    end = interpolate(level, (-0.49, -0.46, -0.4, -0.3), (0.12, 0.3, 0.66, 1.0))
    levels = (-0.485 - head.jaw_drop, -0.255 - head.jaw_drop)
    points = arch.points(end)
    seed = int(rng.integers(2**31))
    paint_band(head, np.random.default_rng(seed), Band(points, (wide, wide), hard, levels))
    marrow = Band(points, (wide - 6.5, wide - 6.5), rng.uniform(100, 500), levels)
    paint_band(head, np.random.default_rng(seed), marrow)


def _draw_alveolar_bone(
    head: PhantomHead, rng: np.random.Generator, arch: _Arch, levels: Point
) -> None:
    """Draw the bone that holds the upper teeth, and the hard palate above it."""
    paint_band(head, rng, Band(arch.points(), (10, 10), rng.uniform(500, 900), levels))
    palate = Oval((0, -64), (25, 27), rng.uniform(350, 800), (-0.1, -0.075), rough=0.1, edge=0.02)
    paint_oval(head, rng, palate)


def _draw_teeth(
    head: PhantomHead, rng: np.random.Generator, arch: _Arch, teeth: _Dentition, height: float
) -> None:
    """Draw a row of teeth.

    Args:
        head: The head.
        rng: Random generator of the teeth.
        arch: The row.
        teeth: What is missing and of metal.
        height: Level of the slice above the middle of the teeth.
    """
    chance = rng.random((len(_TEETH), 2, 2))
    spread = rng.normal(0, 1, (len(_TEETH), 2, 3))
    enamel = rng.uniform(1600, 2600)
    away = abs(height) / 0.05
    if away > 1:
        return
    k, canvas = head.scale, head.canvas
    for row, along in enumerate(_TEETH):
        x, y = arch.point(float(along))
        for column, side in enumerate(SIDES):
            lost, filled = chance[row, column]
            if lost < teeth.missing:
                continue
            wide, long, value = spread[row, column]
            radius = (3.0 + 2.2 * along) * (1 - 0.35 * away)
            place = side * x * k + 0.3 * wide, y * k + 0.3 * long
            radii = radius * (1 + 0.08 * wide) * k, radius * (1 + 0.08 * long) * k
            tooth = canvas.ellipse(place, radii, 0, None, inner=False)
            canvas.paint(tooth, enamel + 150 * value, min(1.0, 2.5 * (1 - away)))
            if filled < teeth.metal and away < 0.75:
                size = radii[0] * (0.6 + 0.5 * filled / teeth.metal)
                canvas.paint(canvas.ellipse(place, (size, size), inner=False), _METAL_HU)
                head.metal.append(place)
