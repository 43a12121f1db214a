"""The canvas that phantoms are drawn on: millimeters, soft-edged shapes, smooth random fields."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

AIR = -1000.0  # HU

# How far a mass may move tissue inside the skull, in mm. Windows of inner shapes allow for it.
_LARGEST_SHIFT = 16
# Bicubic interpolation reduces the standard deviation of a random field; this restores it.
_INTERPOLATION_GAIN = 1.35

_ZERO, _ONE = np.float32(0), np.float32(1)


@dataclass(frozen=True, slots=True)
class Shape:
    """A soft-edged shape in a part of the canvas.

    Attributes:
        window: Rows and columns that contain the shape.
        alpha: float32, of the window's shape: the share of each pixel it covers, in [0, 1].
    """

    window: tuple[slice, slice]
    alpha: np.ndarray


@dataclass(frozen=True, slots=True)
class Roughness:
    """An uneven outline.

    Attributes:
        amount: Standard deviation of the outline, as a share of the radius.
        rng: Random generator that selects the outline.
    """

    amount: float
    rng: np.random.Generator


def step(depth: np.ndarray, width: float) -> np.ndarray:
    """Return the share of a pixel that lies inside an edge: a ramp instead of a jump.

    Args:
        depth: Distance inside the edge, in mm; negative outside.
        width: Width of the ramp, in mm.

    Returns:
        float32 in [0, 1], 0.5 on the edge.
    """
    ramp = depth * np.float32(1.0 / width)
    ramp += np.float32(0.5)
    # Scalars of the array's type are faster than Python's.
    clipped: np.ndarray = ramp.clip(_ZERO, _ONE, ramp)
    return clipped


def _overlap(outer: tuple[slice, slice], inner: tuple[slice, slice]) -> tuple[slice, slice]:
    """Return the part of a window inside another one, at least one pixel of it."""
    slices = []
    for whole, part in zip(outer, inner, strict=True):
        start = min(max(part.start, whole.start), whole.stop - 1)
        slices.append(slice(start, max(min(part.stop, whole.stop), start + 1)))
    return slices[0], slices[1]


class Canvas:
    """A square of Hounsfield units, in the coordinates of a head.

    x runs to the right of the image and y down, from anterior to posterior. Both are in mm from
    the center of the head.

    Args:
        size: Side, in pixels.
        field_of_view: Side, in mm.
        center: Center of the head, in mm from the center of the canvas.
        rotation: Rotation of the head, in radians.
        rng: Random generator of the texture fields.

    Attributes:
        hounsfield: float32 `(size, size)`, in HU; air at first.
        x: float32 `(size, size)`, in mm.
        y: float32 `(size, size)`, in mm.
        inner_x: float32 `(size, size)`: x of the tissue inside the skull, which a mass may move.
        pixel: Side of a pixel, in mm.
        blur: Width of an edge, in mm.
    """

    def __init__(
        self,
        size: int,
        field_of_view: float,
        center: tuple[float, float],
        rotation: float,
        rng: np.random.Generator,
    ) -> None:
        self.size = size
        self.pixel = field_of_view / size
        self.blur = 1.2 * self.pixel
        self._center, self._cos, self._sin = center, math.cos(rotation), math.sin(rotation)
        along = ((np.arange(size) + 0.5) * self.pixel - field_of_view / 2).astype(np.float32)
        across, down = along[np.newaxis] - center[0], along[:, np.newaxis] - center[1]
        self.x = np.float32(self._cos) * across + np.float32(self._sin) * down
        self.y = np.float32(self._cos) * down - np.float32(self._sin) * across
        self.inner_x = self.x
        self.hounsfield = np.full((size, size), AIR, np.float32)
        self._textures = {scale: self.field(scale, rng) for scale in (5.0, 12.0, 26.0)}

    def field(self, scale: float, rng: np.random.Generator) -> np.ndarray:
        """Draw a smooth random field.

        Args:
            scale: Distance between independent values, in mm.
            rng: Random generator; the same state gives the same field at any size of the canvas.

        Returns:
            float32 `(size, size)`, about normal with mean 0 and standard deviation 1.
        """
        count = max(4, round(self.size * self.pixel / scale))
        small = rng.standard_normal((count, count), np.float32)
        whole = Image.fromarray(small).resize((self.size, self.size), Image.Resampling.BICUBIC)
        return np.asarray(whole) * np.float32(_INTERPOLATION_GAIN)

    def texture(self, scale: float, shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
        """Cut a random part out of a smooth field that all shapes of the canvas share.

        Args:
            scale: 5, 12 or 26 mm, see `field`.
            shape: Rows and columns of the part.
            rng: Random generator of its position.

        Returns:
            float32 of the given shape, about normal with mean 0 and standard deviation 1.
        """
        rows = rng.random() * (self.size - shape[0])
        columns = rng.random() * (self.size - shape[1])
        part = self._textures[scale][int(rows) :, int(columns) :]
        return part[: shape[0], : shape[1]]

    def window(self, x: float, y: float, radius: float) -> tuple[slice, slice]:
        """Return rows and columns of the square around a point, at least one pixel of each."""
        moved = self._cos * x - self._sin * y, self._sin * x + self._cos * y
        slices = []
        for position, offset in ((moved[1], self._center[1]), (moved[0], self._center[0])):
            middle = (position + offset) / self.pixel + self.size / 2
            reach = radius / self.pixel + 2
            low = min(max(int(middle - reach), 0), self.size - 1)
            slices.append(slice(low, max(min(int(middle + reach) + 1, self.size), low + 1)))
        return slices[0], slices[1]

    def ellipse(
        self,
        center: tuple[float, float],
        radii: Sequence[float] | np.ndarray,
        angle: float = 0.0,
        roughness: Roughness | None = None,
        blur: float | None = None,
        inner: bool = True,
    ) -> Shape:
        """Return an ellipse.

        Args:
            center: x and y of its center, in mm.
            radii: Radii along x and y before the rotation, in mm.
            angle: Rotation, in radians. Defaults to 0.
            roughness: How uneven the outline is; None for a smooth one. Defaults to None.
            blur: Width of the edge, in mm; None for the canvas' own. Defaults to None.
            inner: Whether it moves with the tissue inside the skull. Defaults to True.
        """
        x, y = center
        radius_x, radius_y = (max(radius, 0.3) for radius in radii)
        blur = self.blur if blur is None else max(blur, self.blur)
        # An outline reaches no farther than this, however uneven it is.
        amount = 0.0 if roughness is None else roughness.amount
        least = max(1 - 1.6 * amount, 0.4)
        reach = max(radius_x, radius_y) / least + blur + (_LARGEST_SHIFT if inner else 0)
        window = self.window(x, y, reach)
        across = (self.inner_x if inner else self.x)[window] - np.float32(x)
        down = self.y[window] - np.float32(y)
        cos, sin = math.cos(angle), math.sin(angle)
        first = (across * np.float32(cos) + down * np.float32(sin)) / np.float32(radius_x)
        second = (down * np.float32(cos) - across * np.float32(sin)) / np.float32(radius_y)
        first *= first
        second *= second
        distance = np.sqrt(first + second)
        smaller = min(radius_x, radius_y)
        if roughness is not None and amount:
            scale = 5.0 if smaller < 6 else 12.0 if smaller < 16 else 26.0
            uneven = 1 + np.float32(amount) * self.texture(scale, distance.shape, roughness.rng)
            distance *= np.maximum(uneven, np.float32(least))
        return Shape(window, step((1 - distance) * np.float32(smaller), blur))

    def line(
        self,
        points: Sequence[tuple[float, float]],
        widths: float | tuple[float, float],
        inner: bool = True,
    ) -> Shape:
        """Return a line through points.

        Args:
            points: x and y of two or more points, in mm.
            widths: The width, or the widths at both ends, in mm.
            inner: Whether it moves with the tissue inside the skull. Defaults to True.
        """
        first, last = (widths, widths) if isinstance(widths, int | float) else widths
        xs, ys = [p[0] for p in points], [p[1] for p in points]
        reach = float(np.hypot(max(xs) - min(xs), max(ys) - min(ys))) / 2 + max(first, last)
        window = self.window(
            (max(xs) + min(xs)) / 2,
            (max(ys) + min(ys)) / 2,
            reach + self.blur + (_LARGEST_SHIFT if inner else 0),
        )
        across_all = self.inner_x if inner else self.x
        parts = len(points) - 1
        rows, columns = window
        shape = rows.stop - rows.start, columns.stop - columns.start
        depth = np.full(shape, -np.inf, np.float32)
        for number, ((x0, y0), (x1, y1)) in enumerate(zip(points, points[1:], strict=False)):
            part = window
            if parts > 1:  # the surroundings of this part of the line
                reach = math.hypot(x1 - x0, y1 - y0) / 2 + max(first, last) / 2
                reach += self.blur + (_LARGEST_SHIFT if inner else 0)
                part = _overlap(window, self.window((x0 + x1) / 2, (y0 + y1) / 2, reach))
            x, y = across_all[part], self.y[part]
            length = (x1 - x0) ** 2 + (y1 - y0) ** 2 + 1e-6
            along = (x - np.float32(x0)) * np.float32((x1 - x0) / length)
            along += (y - np.float32(y0)) * np.float32((y1 - y0) / length)
            np.clip(along, 0, 1, out=along)
            across = x - np.float32(x0) - along * np.float32(x1 - x0)
            down = y - np.float32(y0) - along * np.float32(y1 - y0)
            half_width = (along + np.float32(number)) * np.float32((last - first) / parts / 2)
            half_width = half_width + np.float32(first / 2)
            inside = half_width - np.sqrt(across * across + down * down)
            so_far = depth[
                part[0].start - rows.start : part[0].stop - rows.start,
                part[1].start - columns.start : part[1].stop - columns.start,
            ]
            np.maximum(so_far, inside, out=so_far)
        # A line thinner than a pixel covers only a part of it.
        return Shape(window, step(depth, self.blur) * min(1.0, max(first, last) / self.pixel))

    def paint(self, shape: Shape, value: float | np.ndarray, opacity: float = 1.0) -> None:
        """Blend a value into the canvas.

        Args:
            shape: where.
            value: In HU: a number, or an array of the window's shape.
            opacity: Share of the value in the blend, in [0, 1]. Defaults to 1.
        """
        part = self.hounsfield[shape.window]
        alpha = shape.alpha if opacity == 1 else shape.alpha * np.float32(opacity)
        change = np.float32(value) - part if np.ndim(value) == 0 else value - part
        change *= alpha
        part += change

    def everywhere(self, alpha: np.ndarray) -> Shape:
        """Return a shape with the given coverage `(size, size)` of the whole canvas."""
        return Shape((slice(None), slice(None)), alpha)
