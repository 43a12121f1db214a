"""The cervical spine: atlas, axis and the vertebrae below, with the cord in its canal."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from hemorrhage_tf.synthesis.head import CSF, SIDES, PhantomHead, interpolate
from hemorrhage_tf.synthesis.parts import (
    Band,
    Oval,
    paint_band,
    paint_bands,
    paint_oval,
    paint_ovals,
)

ATLAS_TOP = 0.0  # level
# Level of each vertebra's lower edge: C1, C2 ... C7, T1, T2.
_LOWER_EDGES = (-0.13, -0.27, -0.37, -0.47, -0.57, -0.68, -0.80, -0.94, -1.1)
_DISC = 0.2  # share of a vertebra's height that the disc below takes
_CANAL_LEVELS, _CANAL_Y = (-1.0, -0.7, -0.4, -0.1, 0.0), (35.0, 29.0, 27.0, 32.0, 36.0)
_DISC_HU = 85.0
_SHELL = 1.6  # mm, thickness of the dense surface of a bone


@dataclass(frozen=True, slots=True)
class _Spine:
    """A spine as one slice shows it.

    Attributes:
        y: y of the canal's center, in mm of a head of scale 1.
        level: Level of the slice there.
        number: Number of the vertebra, 1 for the atlas.
        phase: 0 at its upper edge to 1 at its lower.
        cortical: HU of the bone's surface.
        spongy: HU of its inside.
    """

    y: float
    level: float
    number: int
    phase: float
    cortical: float
    spongy: float


def draw_spine(head: PhantomHead, rng: np.random.Generator) -> None:
    """Draw the spine below the skull base."""
    shift, bow, cortical = rng.normal(0, 2), rng.normal(0, 4), rng.uniform(700, 1300)
    spongy, nudge = rng.uniform(160, 480), rng.normal(0, 0.012)
    level = head.level_at(0.0, 30.0 * head.scale)
    if level > ATLAS_TOP + 0.04:
        return
    y = interpolate(level, _CANAL_LEVELS, _CANAL_Y) + shift + bow * max(-level, 0.0)
    number = int(sum(level + nudge < edge for edge in _LOWER_EDGES[:-1])) + 1
    upper = ATLAS_TOP if number == 1 else _LOWER_EDGES[number - 2]
    phase = (upper - level - nudge) / (upper - _LOWER_EDGES[number - 1])
    spine = _Spine(y, level, number, float(np.clip(phase, 0, 1)), cortical, spongy)
    draw = {1: _draw_atlas, 2: _draw_axis}.get(number, _draw_lower_vertebra)
    draw(head, spine, np.random.default_rng(rng.integers(2**31)))
    _draw_canal(head, spine, rng)


def _bone(
    head: PhantomHead, rng: np.random.Generator, spine: _Spine, oval: Oval, sides: tuple[int, ...]
) -> None:
    """Paint an oval bone with a dense surface."""
    seed = int(rng.integers(2**31))
    outer = replace(oval, value=spine.cortical)
    paint_ovals(head, np.random.default_rng(seed), [outer], sides)
    x, y = oval.radii
    if min(x, y) > _SHELL + 2.5:
        # Both take the same random numbers, so that the inside follows the outline.
        inner = replace(oval, radii=(x - _SHELL, y - _SHELL), value=spine.spongy)
        paint_ovals(head, np.random.default_rng(seed), [inner], sides)


def _draw_atlas(head: PhantomHead, spine: _Spine, rng: np.random.Generator) -> None:
    y, hard = spine.y, spine.cortical
    low, high = -0.145, 0.01
    _bone(head, rng, spine, Oval((20, y - 11), (8.5, 10.5), 0, (low, high), -0.35), SIDES)
    _bone(head, rng, spine, Oval((36, y - 8), (9, 4.5), 0, (-0.11, -0.035), 0.2), SIDES)
    paint_ovals(head, rng, [Oval((30, y - 9), (2.6, 2.6), 30, (-0.11, -0.03))])
    ring = [(22, y - 2), (19, y + 9), (10, y + 16), (0, y + 18)]
    paint_bands(head, rng, [Band(ring, (6, 5), hard, (-0.105, -0.04), 0.02)])
    front = [(17, y - 19), (8, y - 24), (0, y - 25.5)]
    paint_bands(head, rng, [Band(front, (6, 6), hard, (-0.11, -0.02), 0.02)])
    _bone(head, rng, spine, Oval((0, y - 16), (5.2, 5.8), 0, (-0.3, 0.0)), (1,))


def _draw_axis(head: PhantomHead, spine: _Spine, rng: np.random.Generator) -> None:
    y, hard = spine.y, spine.cortical
    tall = interpolate(spine.phase, (0.0, 0.35), (0.5, 1.0))
    _bone(head, rng, spine, Oval((0, y - 17), (6 + 5 * tall, 6 + 2.5 * tall), 0), (1,))
    _bone(head, rng, spine, Oval((17, y - 13), (9.5, 8), 0, (-0.21, -0.1), -0.3), SIDES)
    _bone(head, rng, spine, Oval((21, y - 5), (6.5, 7.5), 0, (-0.3, -0.17)), SIDES)
    lamina = [(20, y), (11, y + 11), (0, y + 17)]
    paint_bands(head, rng, [Band(lamina, (6, 7), hard, (-0.25, -0.15), 0.03)])
    for side in SIDES:
        points = [(0, y + 15), (side * 3, y + 27), (side * 6, y + 32)]
        paint_band(head, rng, Band(points, (9, 6), hard, (-0.27, -0.17), 0.03))
    if spine.phase > 0.9:
        paint_oval(head, rng, Oval((0, y - 18), (11, 6.5), _DISC_HU))


def _draw_lower_vertebra(head: PhantomHead, spine: _Spine, rng: np.random.Generator) -> None:
    y, phase, number = spine.y, spine.phase, spine.number
    grown = 1 + 0.04 * (number - 3)
    body = Oval((0, y - 19 * grown), (13 * grown, 8.5 * grown), 0)
    _bone(head, rng, spine, body, (1,))
    if phase > 1 - _DISC:
        disc = Oval(body.center, (11.5 * grown, 7.2 * grown), _DISC_HU + rng.normal(0, 10))
        paint_oval(head, rng, disc)
    _bone(head, rng, spine, Oval((14 * grown, y - 15), (5, 5), 0), SIDES)  # uncinate, pedicle
    _bone(head, rng, spine, Oval((20, y - 5), (7.5, 7.5), 0, angle=-0.4), SIDES)
    if phase < 0.65:
        _bone(head, rng, spine, Oval((23 + 2 * grown, y - 15), (6, 4), 0, angle=0.4), SIDES)
        paint_ovals(head, rng, [Oval((20, y - 14), (2.6, 2.6), 35)])
    share = float(np.clip((phase - 0.1) / 0.25, 0, 1) * np.clip((1.1 - phase) / 0.2, 0, 1))
    if share > 0.2:
        length = 9 + 4.5 * max(number - 3, 0)
        lamina = [(20, y - 1), (11, y + 8), (0, y + 14)]
        paint_bands(head, rng, [Band(lamina, (5, 5.5), spine.cortical * share + 60)])
        spinous = Band([(0, y + 12), (rng.normal(0, 1), y + 14 + length)], (6, 6), 500 * share + 60)
        paint_band(head, rng, spinous)


def _draw_canal(head: PhantomHead, spine: _Spine, rng: np.random.Generator) -> None:
    """Draw the fluid in the canal, and the cord in the fluid."""
    wide = interpolate(spine.level, (-0.5, -0.1, 0.0), (10.5, 13.0, 15.0))
    long = interpolate(spine.level, (-0.5, -0.1, 0.0), (7.5, 9.5, 13.0))
    fluid, cord = CSF + rng.uniform(0, 14), rng.uniform(30, 40)
    narrow = interpolate(spine.level, (-0.5, -0.1, 0.0), (6.5, 6.5, 9.0))
    flat = interpolate(spine.level, (-0.5, -0.1, 0.0), (4.0, 5.0, 7.5))
    y = spine.y + 1
    paint_oval(head, rng, Oval((0, y), (wide, long), fluid, rough=0.06))
    paint_oval(head, rng, Oval((0, y), (narrow, flat), cord, rough=0.05))
