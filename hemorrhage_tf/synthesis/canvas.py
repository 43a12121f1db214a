"""The canvas that phantoms are drawn on: millimeters, soft-edged shapes, smooth random fields."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image

AIR = -1000.0


@dataclass(frozen=True, slots=True)
class Shape:
    """A soft-edged shape in a part of the canvas.

    Attributes:
        window: rows and columns that hold it.
        alpha: float32, of the window's shape: how much of each pixel it covers, in [0, 1].
    """

    window: tuple[slice, slice]
    alpha: np.ndarray


def step(depth: np.ndarray, width: float) -> np.ndarray:
    """Gives the share of a pixel that lies inside an edge: a ramp instead of a jump.

    Args:
        depth: how far inside the edge, in mm; negative outside.
        width: of the ramp, in mm.

    Returns:
        float32 in [0, 1], 0.5 on the edge.
    """
    ramp = depth * np.float32(1.0 / width)
    ramp += np.float32(0.5)
    return np.clip(ramp, 0.0, 1.0, out=ramp)


class Canvas:
    """A square of Hounsfield units, in the coordinates of a head.

    x runs to the right of the picture and y down it, which is from anterior to posterior, both in
    mm from the middle of the head.

    Args:
        size: side, in pixels.
        field_of_view: side, in mm.
        center: where the middle of the head lies, in mm from the middle of the canvas.
        rotation: of the head, in radians.
        rng: of the fields.

    Attributes:
        hounsfield: float32 `(size, size)`, what is drawn; air at first.
        x: float32 `(size, size)`.
        y: float32 `(size, size)`.
        inner_x: x in the coordinates of what is inside the skull, which a mass may have moved.
        pixel: side of a pixel, in mm.
        blur: width of an edge, in mm.
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
        self._center, self._cos, self._sin = center, np.cos(rotation), np.sin(rotation)
        along = ((np.arange(size) + 0.5) * self.pixel - field_of_view / 2).astype(np.float32)
        across, down = along[np.newaxis] - center[0], along[:, np.newaxis] - center[1]
        self.x = np.float32(self._cos) * across + np.float32(self._sin) * down
        self.y = np.float32(self._cos) * down - np.float32(self._sin) * across
        self.inner_x = self.x
        self.hounsfield = np.full((size, size), AIR, np.float32)
        # What wobbles outlines; each shape takes a part of it from somewhere.
        self._wobbles = {scale: self.field(scale, rng) for scale in (5.0, 12.0, 26.0)}

    def field(self, scale: float, rng: np.random.Generator) -> np.ndarray:
        """Draws a smooth random field.

        Args:
            scale: how far apart independent values are, in mm.
            rng: where the values come from; the same whatever the canvas' size.

        Returns:
            float32 `(size, size)`, about normal with mean 0 and standard deviation 1.
        """
        count = max(4, round(self.size * self.pixel / scale))
        small = rng.standard_normal((count, count), np.float32)
        whole = Image.fromarray(small).resize((self.size, self.size), Image.Resampling.BICUBIC)
        return np.asarray(whole) * np.float32(1.35)  # interpolation takes a quarter of it away

    def window(self, x: float, y: float, radius: float) -> tuple[slice, slice]:
        """Gives rows and columns of the square around a point; at least one pixel of each."""
        moved = self._cos * x - self._sin * y, self._sin * x + self._cos * y
        slices = []
        for place, offset in ((moved[1], self._center[1]), (moved[0], self._center[0])):
            middle = (place + offset) / self.pixel + self.size / 2
            reach = radius / self.pixel + 2
            low = min(max(int(middle - reach), 0), self.size - 1)
            slices.append(slice(low, max(min(int(middle + reach) + 1, self.size), low + 1)))
        return slices[0], slices[1]

    def ellipse(
        self,
        x: float,
        y: float,
        radius_x: float,
        radius_y: float,
        angle: float = 0.0,
        wobble: float = 0.0,
        blur: float | None = None,
        rng: np.random.Generator | None = None,
        inner: bool = True,
    ) -> Shape:
        """Makes an ellipse.

        Args:
            x: of its middle, in mm.
            y: of its middle, in mm.
            radius_x: in mm, before it is turned.
            radius_y: in mm, before it is turned.
            angle: that it is turned by, in radians. Default 0.
            wobble: how uneven its outline is, as a share of the radius. Default 0.
            blur: width of its edge, in mm; None for the canvas' own.
            rng: where an uneven outline comes from.
            inner: it moves with what is inside the skull. Default True.
        """
        radius_x, radius_y = max(radius_x, 0.3), max(radius_y, 0.3)
        blur = self.blur if blur is None else max(blur, self.blur)
        # An outline reaches out no farther than this, however uneven.
        least = max(1 - 1.6 * wobble, 0.4)
        reach = max(radius_x, radius_y) / least + blur + (16 if inner else 0)
        window = self.window(x, y, reach)
        across = (self.inner_x if inner else self.x)[window] - np.float32(x)
        down = self.y[window] - np.float32(y)
        cos, sin = float(np.cos(angle)), float(np.sin(angle))
        first = (across * np.float32(cos) + down * np.float32(sin)) / np.float32(radius_x)
        second = (down * np.float32(cos) - across * np.float32(sin)) / np.float32(radius_y)
        first *= first
        second *= second
        distance = np.sqrt(first + second)
        smaller = min(radius_x, radius_y)
        if wobble and rng is not None:
            scale = 5.0 if smaller < 6 else 12.0 if smaller < 16 else 26.0
            uneven = 1 + np.float32(wobble) * self.wobble(scale, distance.shape, rng)
            distance *= np.maximum(uneven, np.float32(least))
        return Shape(window, step((1 - distance) * np.float32(smaller), blur))

    def wobble(self, scale: float, shape: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
        """Takes a part of a smooth field from somewhere."""
        rows = rng.random() * (self.size - shape[0])
        columns = rng.random() * (self.size - shape[1])
        part = self._wobbles[scale][int(rows) :, int(columns) :]
        return part[: shape[0], : shape[1]]

    def line(
        self,
        points: list[tuple[float, float]],
        widths: float | tuple[float, float],
        inner: bool = True,
    ) -> Shape:
        """Makes a line through points, of one width or of one that changes from end to end."""
        first, last = (widths, widths) if isinstance(widths, int | float) else widths
        xs, ys = [p[0] for p in points], [p[1] for p in points]
        middle = (max(xs) + min(xs)) / 2, (max(ys) + min(ys)) / 2
        reach = float(np.hypot(max(xs) - min(xs), max(ys) - min(ys))) / 2 + max(first, last)
        window = self.window(*middle, reach + self.blur + (16 if inner else 0))
        x = (self.inner_x if inner else self.x)[window]
        y = self.y[window]
        parts = len(points) - 1
        depth = None
        for number, ((x0, y0), (x1, y1)) in enumerate(zip(points, points[1:], strict=False)):
            length = (x1 - x0) ** 2 + (y1 - y0) ** 2 + 1e-6
            along = (x - np.float32(x0)) * np.float32((x1 - x0) / length)
            along += (y - np.float32(y0)) * np.float32((y1 - y0) / length)
            np.clip(along, 0, 1, out=along)
            across = x - np.float32(x0) - along * np.float32(x1 - x0)
            down = y - np.float32(y0) - along * np.float32(y1 - y0)
            wide = (along + np.float32(number)) * np.float32((last - first) / parts / 2)
            found = wide + np.float32(first / 2) - np.sqrt(across * across + down * down)
            depth = found if depth is None else np.maximum(depth, found)
        # What is thinner than a pixel covers a part of it.
        return Shape(window, step(depth, self.blur) * min(1.0, max(first, last) / self.pixel))

    def paint(self, shape: Shape, value: float | np.ndarray, opacity: float = 1.0) -> None:
        """Blends a value into what is there.

        Args:
            shape: where.
            value: in HU: a number, or an array of the window's shape.
            opacity: how much of it covers what is there, in [0, 1]. Default 1.
        """
        part = self.hounsfield[shape.window]
        alpha = shape.alpha if opacity == 1 else shape.alpha * np.float32(opacity)
        change = np.float32(value) - part if np.ndim(value) == 0 else value - part
        change *= alpha
        part += change

    def everywhere(self, alpha: np.ndarray) -> Shape:
        """Makes a shape of a whole canvas' coverage."""
        return Shape((slice(None), slice(None)), alpha)
