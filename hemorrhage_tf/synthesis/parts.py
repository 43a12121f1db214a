"""Parts of the face and neck: ovals and lines that appear between two levels of the head.

A part takes the same random numbers whether or not it lies in a slice, so that all slices of a scan
show the same head.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hemorrhage_tf.synthesis.canvas import Roughness, Shape, step
from hemorrhage_tf.synthesis.head import SIDES, PhantomHead, visibility

Point = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Oval:
    """An oval part; positions and sizes are those of a head of scale 1, in mm.

    Attributes:
        center: x and y; a paired part is given as it lies on the right of the image.
        radii: Radii along x and y before the rotation.
        value: In HU.
        levels: Lowest and highest level at its place. Defaults to all of them.
        angle: Rotation, in radians. Defaults to 0.
        rough: Unevenness of the outline, see `Roughness`. Defaults to 0.12.
        edge: Levels over which it appears and disappears. Defaults to 0.03.
        uneven: Standard deviation of its texture, in HU. Defaults to 0.
    """

    center: Point
    radii: Point
    value: float
    levels: Point = (-9.0, 9.0)
    angle: float = 0.0
    rough: float = 0.12
    edge: float = 0.03
    uneven: float = 0.0


@dataclass(frozen=True, slots=True)
class Band:
    """A line through points with the width of a bone or muscle; see `Oval`.

    Attributes:
        points: x and y of its points.
        widths: Width at both ends.
        value: In HU.
        levels: Lowest and highest level in its middle. Defaults to all of them.
        edge: Levels over which it appears and disappears. Defaults to 0.03.
        outside: Whether it may reach out of the skin. Defaults to False.
    """

    points: Sequence[Point]
    widths: Point
    value: float
    levels: Point = (-9.0, 9.0)
    edge: float = 0.03
    outside: bool = False


def paint_oval(head: PhantomHead, rng: np.random.Generator, oval: Oval, side: int = 1) -> bool:
    """Paint an oval with small deviations of place and size; return whether it is in the slice."""
    k, canvas = head.scale, head.canvas
    moved_x, moved_y, wide, long, turn = rng.standard_normal(5).tolist()
    x, y = side * (oval.center[0] * k) + 0.9 * moved_x, oval.center[1] * k + 0.9 * moved_y
    share = visibility(head.level_at(x, y), *oval.levels, oval.edge)
    if not share:
        rng.random(2 * bool(oval.rough) + 2 * bool(oval.uneven))  # those of outline and texture
        return False
    size = k * (0.4 + 0.6 * share)
    shape = canvas.ellipse(
        (x, y),
        (oval.radii[0] * (1 + 0.08 * wide) * size, oval.radii[1] * (1 + 0.08 * long) * size),
        side * (oval.angle + 0.06 * turn),
        Roughness(oval.rough, rng) if oval.rough else None,
        inner=False,
    )
    shape = _within_skin(head, shape)
    value: float | np.ndarray = oval.value
    if oval.uneven:
        texture = canvas.texture(5.0, shape.alpha.shape, rng)
        value = np.float32(oval.value) + np.float32(oval.uneven) * texture
    canvas.paint(shape, value, min(1.0, 1.6 * share))
    return True


def paint_ovals(
    head: PhantomHead, rng: np.random.Generator, ovals: Sequence[Oval], sides: Sequence[int] = SIDES
) -> None:
    """Paint ovals on both sides, or on those given."""
    for oval in ovals:
        for side in sides:
            paint_oval(head, rng, oval, side)


def paint_band(head: PhantomHead, rng: np.random.Generator, band: Band, side: int = 1) -> None:
    """Paint a line with small deviations."""
    k = head.scale
    moved_x, moved_y, wide = rng.standard_normal(3).tolist()
    points = [(side * x * k + 0.8 * moved_x, y * k + 0.8 * moved_y) for x, y in band.points]
    middle = points[len(points) // 2]
    share = visibility(head.level_at(*middle), *band.levels, band.edge)
    if share:
        wide = 1 + 0.1 * max(wide, -2.0)
        widths = band.widths[0] * wide * k, band.widths[1] * wide * k
        shape = head.canvas.line(points, widths, inner=False)
        shape = shape if band.outside else _within_skin(head, shape)
        head.canvas.paint(shape, band.value, share)


def paint_bands(
    head: PhantomHead, rng: np.random.Generator, bands: Sequence[Band], sides: Sequence[int] = SIDES
) -> None:
    """Paint lines on both sides, or on those given."""
    for band in bands:
        for side in sides:
            paint_band(head, rng, band, side)


def _within_skin(head: PhantomHead, shape: Shape) -> Shape:
    """Return the part of a shape that lies under the skin, and outside the dura."""
    free = head.skin[shape.window] - np.float32(2)
    if head.has_brain:
        np.minimum(free, np.float32(-1.5) - head.inside[shape.window], out=free)
    return Shape(shape.window, shape.alpha * step(free, head.canvas.blur))
