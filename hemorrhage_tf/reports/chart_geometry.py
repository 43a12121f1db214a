"""The geometry of SVG charts: marks, axes and ticks. The individual charts are in `charts`."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

CHART_WIDTH = 420
UNIT_TICKS = {value / 5: f"{value / 5:g}" for value in range(6)}


@dataclass(frozen=True)
class Mark:
    """One shape or text of a chart.

    Attributes:
        element: SVG element: "path", "rect", "circle" or "text".
        style: Class names in the style sheet.
        attributes: SVG attributes.
        text: Content of a text element. Defaults to "".
    """

    element: str
    style: str
    attributes: Mapping[str, str]
    text: str = ""


@dataclass(frozen=True)
class Chart:
    """A chart, ready to be written as SVG.

    Attributes:
        key: Id within the page.
        title: heading.
        description: The content in words, for readers who cannot see the chart.
        width: Of the view box.
        height: Of the view box.
        marks: Shapes and texts, from back to front.
    """

    key: str
    title: str
    description: str
    width: int
    height: int
    marks: tuple[Mark, ...]


def draw_path(points: Iterable[tuple[float, float]], style: str, close: bool = False) -> Mark:
    """Draw straight lines between points, closed to an area if `close` is set."""
    steps = "L".join(f"{x:.1f} {y:.1f}" for x, y in points)
    return Mark("path", style, {"d": f"M{steps}{'Z' if close else ''}"})


def draw_text(x: float, y: float, text: str, style: str = "tick", vertical: bool = False) -> Mark:
    """Draw text with its baseline at `y`."""
    attributes = {"x": f"{x:.1f}", "y": f"{y:.1f}"}
    if vertical:
        attributes["transform"] = f"rotate(-90 {x:.1f} {y:.1f})"
    return Mark("text", style, attributes, text)


def draw_rect(x: float, y: float, width: float, height: float, style: str) -> Mark:
    """Draw a rectangle; `x` and `y` are its upper left corner."""
    values = {"x": x, "y": y, "width": max(width, 0.0), "height": max(height, 0.0)}
    return Mark("rect", style, {name: f"{value:.1f}" for name, value in values.items()})


def draw_circle(x: float, y: float, radius: float, style: str) -> Mark:
    """Draw a circle around a point."""
    return Mark("circle", style, {"cx": f"{x:.1f}", "cy": f"{y:.1f}", "r": f"{radius:.1f}"})


@dataclass(frozen=True)
class Frame:
    """The plot area of a chart with two axes, and the scale from values to coordinates.

    Attributes:
        x: Value range of the horizontal axis.
        y: Value range of the vertical axis.
        width: Of the view box.
        height: Of the view box.
        left: Margin for tick labels and the axis label.
        right: margin.
        top: margin.
        bottom: Margin for tick labels and the axis label.
    """

    x: tuple[float, float] = (0.0, 1.0)
    y: tuple[float, float] = (0.0, 1.0)
    width: int = CHART_WIDTH
    height: int = 330
    left: int = 56
    right: int = 16
    top: int = 16
    bottom: int = 50

    def at(self, x: float, y: float) -> tuple[float, float]:
        """Return the coordinates of a pair of values."""
        across = (x - self.x[0]) / (self.x[1] - self.x[0])
        up = (y - self.y[0]) / (self.y[1] - self.y[0])
        inner_width = self.width - self.left - self.right
        inner_height = self.height - self.top - self.bottom
        return self.left + across * inner_width, self.top + (1 - up) * inner_height

    def line(self, xs: Iterable[float], ys: Iterable[float], style: str) -> Mark:
        """Draw a line through pairs of values."""
        return draw_path((self.at(x, y) for x, y in zip(xs, ys, strict=True)), style)

    def axes(
        self,
        labels: tuple[str, str],
        x_ticks: Mapping[float, str],
        y_ticks: Mapping[float, str],
    ) -> list[Mark]:
        """Draw grid lines, tick labels and the labels of both axes."""
        marks = []
        for value, text in x_ticks.items():
            x, y = self.at(value, self.y[0])
            marks.append(draw_path([(x, self.top), (x, y)], "grid"))
            marks.append(draw_text(x, y + 18, text, "tick middle"))
        for value, text in y_ticks.items():
            x, y = self.at(self.x[0], value)
            marks.append(draw_path([(x, y), (self.width - self.right, y)], "grid"))
            marks.append(draw_text(x - 8, y + 4.5, text, "tick end"))
        middle_x = (self.left + self.width - self.right) / 2
        middle_y = (self.top + self.height - self.bottom) / 2
        marks.append(draw_text(middle_x, self.height - 8, labels[0], "axis middle"))
        marks.append(draw_text(15, middle_y, labels[1], "axis middle", vertical=True))
        return marks


def choose_ticks(low: float, high: float, count: int = 5) -> dict[float, str]:
    """Return about `count` round numbers from `low` to `high`, each with its label."""
    rough = (high - low) / count
    magnitude = 10.0 ** math.floor(math.log10(rough))
    step = next(each * magnitude for each in (1, 2, 5, 10) if each * magnitude >= rough * 0.999)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return {index * step: f"{index * step:.6g}" for index in range(first, last + 1)}
