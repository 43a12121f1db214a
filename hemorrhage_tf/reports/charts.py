"""The report's charts as inline SVG."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hemorrhage_tf.evaluation.intervals import Resamples
from hemorrhage_tf.reports.number_formats import format_metric

_GRID = np.linspace(0.0, 1.0, 201)

_ROW, _LINE, _WIDE, _SIDE = 44, 18, 420, 8

_BESIDE, _MOST = 26, 44  # letters of a name beside its value, and on a line of its own


# Curves.


@dataclass(frozen=True)
class Curve:
    """A curve with its band, on the grid of x.

    Attributes:
        x: `(k,)`, rising from 0 to 1.
        y: `(k,)`.
        low: `(k,)`, the band's lower edge, pointwise.
        high: `(k,)`, its upper edge.
    """

    x: np.ndarray
    y: np.ndarray
    low: np.ndarray
    high: np.ndarray


def curves(labels: np.ndarray, repeats: np.ndarray, resamples: Resamples) -> tuple[Curve, Curve]:
    """Computes the ROC and the precision-recall curve with pointwise 95 % bootstrap bands.

    With several repeats each point is the mean over them, so that the area below the ROC curve is
    the mean area.

    Args:
        labels: `(n,)`, 0 or 1, both present.
        repeats: `(repeats, n)`, scores.
        resamples: of patients or of slices.

    Returns:
        Sensitivity over 1 - specificity, and precision over recall.
    """
    functions = [_on_grid(labels, scores) for scores in repeats]

    def both(weights: np.ndarray) -> np.ndarray:
        return np.mean([function(weights) for function in functions], axis=0)

    estimate = both(np.ones((1, len(labels))))[0]
    drawn = np.concatenate([both(weights) for weights in resamples.weights(3 * len(repeats))])
    there = np.isfinite(drawn).all(axis=(1, 2))
    drawn = drawn[there] if there.any() else estimate[None]
    low, high = np.percentile(drawn, [2.5, 97.5], axis=0)
    # A curve of few slices may leave its own percentile band by a step.
    low, high = np.minimum(low, estimate), np.maximum(high, estimate)
    roc, pr = (np.stack([estimate[k], low[k], high[k]]) for k in range(2))
    # At no false alarms the ROC curve rises from 0 to what is found without any.
    roc = np.concatenate([np.zeros((3, 1)), roc], axis=1)
    return Curve(np.append(0.0, _GRID), *roc), Curve(_GRID, *pr)


def _on_grid(labels: np.ndarray, scores: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """Makes a function of weights `(b, n)` that gives both curves, `(b, 2, k)`."""
    order = np.argsort(-scores, kind="stable")
    ends = np.append(np.flatnonzero(np.diff(scores[order])), len(scores) - 1)
    positive = (labels[order] == 1).astype(np.float64)

    def both(weights: np.ndarray) -> np.ndarray:
        drawn = weights[:, order]
        called = np.cumsum(drawn, axis=1)[:, ends]
        hits = np.cumsum(drawn * positive, axis=1)[:, ends]
        found = np.full((len(weights), 2, len(_GRID)), math.nan)
        for row, (one_called, one_hits) in enumerate(zip(called, hits, strict=True)):
            positives, negatives = one_hits[-1], one_called[-1] - one_hits[-1]
            if positives == 0 or negatives == 0:
                continue
            recall = one_hits / positives
            alarms = (one_called - one_hits) / negatives
            found[row, 0] = np.interp(_GRID, np.append(0.0, alarms), np.append(0.0, recall))
            # The precision where the recall is first reached; points are not joined by lines.
            at = np.searchsorted(recall, np.maximum(_GRID, 1e-9) - 1e-9)
            with np.errstate(invalid="ignore", divide="ignore"):
                found[row, 1] = (one_hits / one_called)[at]
        return found

    return both


# Charts: shapes computed from numbers.


@dataclass(frozen=True)
class Mark:
    """One shape or text of a chart.

    Attributes:
        element: of SVG: "path", "rect", "circle" or "text".
        style: its class in the style sheet.
        attributes: its attributes.
        text: what a text says.
    """

    element: str
    style: str
    attributes: Mapping[str, str]
    text: str = ""


@dataclass(frozen=True)
class Chart:
    """A chart, ready to be written as SVG.

    Attributes:
        key: its id in the page.
        title: what it shows.
        description: the same as its shapes say, for those who do not see them.
        width: of its own coordinates.
        height: of its own coordinates.
        marks: its shapes, from back to front.
    """

    key: str
    title: str
    description: str
    width: int
    height: int
    marks: tuple[Mark, ...]


def _path(points: Iterable[tuple[float, float]], style: str, close: bool = False) -> Mark:
    steps = "L".join(f"{x:.1f} {y:.1f}" for x, y in points)
    return Mark("path", style, {"d": f"M{steps}{'Z' if close else ''}"})


def _text(x: float, y: float, text: str, style: str = "tick", turned: bool = False) -> Mark:
    place = {"x": f"{x:.1f}", "y": f"{y:.1f}"}
    if turned:
        place["transform"] = f"rotate(-90 {x:.1f} {y:.1f})"
    return Mark("text", style, place, text)


def _rect(x: float, y: float, width: float, height: float, style: str) -> Mark:
    place = {"x": x, "y": y, "width": max(width, 0.0), "height": max(height, 0.0)}
    return Mark("rect", style, {name: f"{value:.1f}" for name, value in place.items()})


def _circle(x: float, y: float, radius: float, style: str) -> Mark:
    return Mark("circle", style, {"cx": f"{x:.1f}", "cy": f"{y:.1f}", "r": f"{radius:.1f}"})


@dataclass(frozen=True)
class _Frame:
    """Where the values of a chart with two axes lie."""

    x: tuple[float, float] = (0.0, 1.0)
    y: tuple[float, float] = (0.0, 1.0)
    width: int = 420
    height: int = 330
    left: int = 56
    right: int = 16
    top: int = 16
    bottom: int = 50

    def at(self, x: float, y: float) -> tuple[float, float]:
        across = (x - self.x[0]) / (self.x[1] - self.x[0])
        up = (y - self.y[0]) / (self.y[1] - self.y[0])
        inner_width = self.width - self.left - self.right
        inner_height = self.height - self.top - self.bottom
        return self.left + across * inner_width, self.top + (1 - up) * inner_height

    def line(self, xs: Iterable[float], ys: Iterable[float], style: str) -> Mark:
        return _path((self.at(x, y) for x, y in zip(xs, ys, strict=True)), style)

    def axes(
        self,
        labels: tuple[str, str],
        x_ticks: Mapping[float, str],
        y_ticks: Mapping[float, str],
    ) -> list[Mark]:
        """Draws grid lines, what stands at them, and what the axes are."""
        marks = []
        for value, text in x_ticks.items():
            x, y = self.at(value, self.y[0])
            marks.append(_path([(x, self.top), (x, y)], "grid"))
            marks.append(_text(x, y + 18, text, "tick middle"))
        for value, text in y_ticks.items():
            x, y = self.at(self.x[0], value)
            marks.append(_path([(x, y), (self.width - self.right, y)], "grid"))
            marks.append(_text(x - 8, y + 4.5, text, "tick end"))
        middle_x = (self.left + self.width - self.right) / 2
        middle_y = (self.top + self.height - self.bottom) / 2
        marks.append(_text(middle_x, self.height - 8, labels[0], "axis middle"))
        marks.append(_text(15, middle_y, labels[1], "axis middle", turned=True))
        return marks


_SHARES = {value / 5: f"{value / 5:g}" for value in range(6)}


def _ticks(low: float, high: float, count: int = 5) -> dict[float, str]:
    """Chooses round numbers from low to high, about so many."""
    rough = (high - low) / count
    magnitude = 10.0 ** math.floor(math.log10(rough))
    step = next(each * magnitude for each in (1, 2, 5, 10) if each * magnitude >= rough * 0.999)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return {index * step: f"{index * step:.6g}" for index in range(first, last + 1)}


def curve_chart(
    key: str,
    title: str,
    description: str,
    axes: tuple[str, str],
    curve: Curve,
    point: tuple[float, float] | None,
    chance: tuple[tuple[float, float], tuple[float, float]],
) -> Chart:
    """Draws a curve with its band, the operating point, and what chance gives.

    Args:
        key: the chart's id.
        title: what it shows.
        description: in words.
        axes: what x and y are.
        curve: with its band.
        point: x and y of the operating point; None without one.
        chance: the line of chance: the x of its ends, and the y.
    """
    frame = _Frame()
    edge = list(zip(curve.x, curve.high, strict=True))
    edge += list(zip(curve.x[::-1], curve.low[::-1], strict=True))
    marks = frame.axes(axes, _SHARES, _SHARES)
    marks.append(_path((frame.at(x, y) for x, y in edge), "band", close=True))
    marks.append(frame.line(*chance, "chance"))
    x, y = frame.at(chance[0][1], chance[1][1])
    above_ground = frame.at(0, chance[1][1])[1] < frame.height - frame.bottom - 12
    if chance[1][0] == chance[1][1]:
        marks.append(_text(x - 4, y + (14 if above_ground else -6), "chance", "tick end"))
    else:
        middle_x, middle_y = frame.at(0.72, 0.66)
        marks.append(_text(middle_x, middle_y, "chance", "tick"))
    marks.append(frame.line(curve.x, curve.y, "curve"))
    if point is not None:
        x, y = frame.at(*point)
        marks.append(_path([(x, y - 8), (x + 8, y), (x, y + 8), (x - 8, y)], "point", close=True))
        side = -1 if point[0] > 0.55 else 1
        marks.append(
            _text(x + side * 12, y + 20, "operating point", "value end" if side < 0 else "value")
        )
        description += (
            f" At the operating point {axes[0]} is {point[0]:.3f} and {axes[1]} is {point[1]:.3f}."
        )
    return Chart(key, title, description, frame.width, frame.height, tuple(marks))


def reliability_chart(bins: Sequence[Mapping[str, Any]]) -> Chart:
    """Draws predicted probabilities against what came true, with the counts below.

    Args:
        bins: from `calibration.reliability_curve`.
    """
    frame = _Frame(height=380, bottom=112)
    marks = frame.axes(("", "observed share with hemorrhage"), _SHARES, _SHARES)
    marks.append(frame.line((0.0, 1.0), (0.0, 1.0), "chance"))
    y, right = frame.at(0.0, 0.05)[1], frame.width - frame.right - 8
    marks.append(_path([(right - 172, y - 4), (right - 142, y - 4)], "chance"))
    marks.append(_text(right, y, "perfectly calibrated", "tick halo end"))
    most = max(each["n"] for each in bins)
    ground, reach = frame.height - 34, 38.0
    said = []
    for each in bins:
        observed = each["observed"]
        x, y = frame.at(each["predicted"], observed["estimate"])
        low, high = frame.at(0, observed["low"])[1], frame.at(0, observed["high"])[1]
        marks.append(_path([(x, low), (x, high)], "interval"))
        marks.append(_circle(x, y, 5, "dot"))
        left, right = frame.at(each["from"], 0)[0], frame.at(each["to"], 0)[0]
        tall = reach * each["n"] / most
        marks.append(_rect(left + 1.5, ground - tall, right - left - 3, tall, "count"))
        marks.append(_text((left + right) / 2, ground + 13, f"{each['n']:.4g}", "small middle"))
        said.append(
            f"{each['predicted']:.2f} predicted, {observed['estimate']:.2f} observed, "
            f"n = {each['n']:.4g}"
        )
    middle = (frame.left + frame.width - frame.right) / 2
    marks.append(_text(frame.left - 8, ground + 13, "slices", "small end"))
    marks.append(_text(middle, frame.height - 5, "predicted probability", "axis middle"))
    return Chart(
        "reliability",
        "Reliability curve",
        "Observed share with hemorrhage against predicted probability: " + "; ".join(said) + ".",
        frame.width,
        frame.height,
        tuple(marks),
    )


def histogram_chart(labels: np.ndarray, repeats: np.ndarray, threshold: float) -> Chart:
    """Draws how the probabilities of both classes are spread, one upward and one downward.

    Args:
        labels: `(n,)`, 0 or 1.
        repeats: `(repeats, n)` probabilities; counts are means over them.
        threshold: where the decision changes.
    """
    edges = np.linspace(0.0, 1.0, 21)
    counts = {
        label: np.histogram(repeats[:, labels == label], edges)[0] / len(repeats)
        for label in (1, 0)
    }
    most = max(1.0, *(each.max() for each in counts.values())) * 1.15
    frame = _Frame(y=(-most, most))
    marks = frame.axes(
        ("predicted probability", "slices"),
        _SHARES,
        {value: text.lstrip("-") for value, text in _ticks(-most, most, 6).items()},
    )
    for label, style in ((1, "hemorrhage"), (0, "normal")):
        for begin, end, count in zip(edges[:-1], edges[1:], counts[label], strict=True):
            left, right = frame.at(begin, 0)[0] + 1, frame.at(end, 0)[0] - 1
            top, bottom = frame.at(0, count)[1], frame.at(0, 0)[1]
            if label:
                marks.append(_rect(left, top, right - left, bottom - top, style))
            else:
                marks.append(_rect(left, bottom, right - left, bottom - top, style))
    marks.append(frame.line((0.0, 1.0), (0.0, 0.0), "ground"))
    marks.append(frame.line((threshold, threshold), (-most, most), "threshold"))
    x = frame.at(threshold, 0)[0]
    side = -1 if threshold > 0.6 else 1
    anchor = " end" if side < 0 else ""
    y = frame.at(0, most)[1]
    marks.append(_text(x + side * 6, y + 12, f"threshold {threshold:.3g}", f"value{anchor}"))
    # Each class is named in the half that its bars point to, beside the threshold.
    for name, at in (("with hemorrhage", y + 30), ("without", frame.height - frame.bottom - 8)):
        marks.append(_text(x + side * 6, at, name, f"tick halo{anchor}"))
    below = {
        label: int((repeats[:, labels == label] < threshold).mean(0).sum()) for label in (1, 0)
    }
    return Chart(
        "histogram",
        "Predicted probabilities by class",
        "Slices with hemorrhage upward, without downward, in steps of 0.05. Below the threshold "
        f"of {threshold:.3g} lie {below[1]} slices with hemorrhage and {below[0]} without.",
        frame.width,
        frame.height,
        tuple(marks),
    )


def _trainings(rows: Sequence[Mapping[str, Any]]) -> list[list[Mapping[str, Any]]]:
    """Groups epochs by the training that they belong to, in their order."""
    found: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for row in rows:
        found.setdefault((str(row.get("repeat")), str(row.get("fold"))), []).append(row)
    return list(found.values())


def history_chart(
    column: str, title: str, trainings: Sequence[Sequence[Mapping[str, Any]]]
) -> Chart | None:
    """Draws how a figure went over the epochs, a line for each training.

    Args:
        column: its name, such as "loss"; the validation part's begins with "validation_".
        title: what it is.
        trainings: for each training its epochs.

    Returns:
        The chart, or None where no training has two values of it.
    """
    lines = []
    for training in trainings:
        for name, style in ((column, "training"), (f"validation_{column}", "validation")):
            values = [_number(row.get(name)) for row in training]
            points = [(x, y) for x, y in enumerate(values, 1) if y is not None]
            if len(points) > 1:
                lines.append((style, points))
    if not lines:
        return None
    everything = [y for _, points in lines for _, y in points]
    low = 0.0 if column == "loss" else max(0.0, min(everything) - 0.05)
    high = max(everything) * 1.05 if column == "loss" else 1.0
    epochs = max(points[-1][0] for _, points in lines)
    frame = _Frame(x=(1, epochs), y=(low, max(high, low + 1e-3)), top=34)
    ticks = {value: text for value, text in _ticks(1, epochs).items() if value == int(value)}
    marks = frame.axes(("epoch", column), ticks, _ticks(*frame.y))
    faint = " faint" if len(lines) > 6 else ""
    for style, points in lines:
        marks.append(frame.line(*zip(*points, strict=True), style + faint))
    for index, row in enumerate(trainings[0][1:], 2):
        if row.get("stage") != trainings[0][index - 2].get("stage"):
            marks.append(frame.line((index - 0.5,) * 2, frame.y, "threshold"))
            x, y = frame.at(index - 0.5, frame.y[1])
            marks.append(_text(x + 5, y + 13, str(row.get("stage")).replace("_", "-"), "tick halo"))
    styles = list(dict.fromkeys(style for style, _ in lines))
    for index, style in enumerate(styles):
        left = frame.left + 150 * index
        marks.append(_path([(left, 16), (left + 30, 16)], style))
        marks.append(_text(left + 36, 20.5, style, "tick"))
    ended = [f"{style} {points[-1][1]:.3f}" for style, points in lines[:2]]
    return Chart(
        f"history-{column}",
        title,
        f"{title} over {epochs} epochs of {len(trainings)} "
        f"{'training' if len(trainings) == 1 else 'trainings'}; the first ends at "
        f"{' and '.join(ended)}.",
        frame.width,
        frame.height,
        tuple(marks),
    )


def _number(value: Any) -> float | None:
    try:
        found = float(value)
    except (TypeError, ValueError):
        return None
    return found if math.isfinite(found) else None


def _shortened(text: str, most: int = _MOST) -> str:
    return text if len(text) <= most else text[: most - 1] + "\N{HORIZONTAL ELLIPSIS}"


def interval_chart(
    key: str,
    title: str,
    rows: Sequence[tuple[str, Mapping[str, Any], bool]],
    span: tuple[float, float] | None = None,
    reference: tuple[float, str] | None = None,
    strong: int = 0,
) -> Chart:
    """Draws figures as dots with their intervals, one below the other.

    Args:
        key: the chart's id.
        title: what it shows.
        rows: name, figure, and whether it is said in percent.
        span: of the axis; None for 0 to 1, or what the figures need.
        reference: a value to compare with, and its name.
        strong: how many rows from the top are set off. Default 0.
    """
    if span is None:
        ends = [each[1][end] for each in rows for end in ("low", "high")]
        span = min(0.0, *ends, 0.0), max(1.0, *ends, 1.0)
    # A long name gets a line of its own, the value the next.
    tops, y = [], 22 if reference else 6
    top = y
    for name, _, _ in rows:
        tops.append(y)
        y += _ROW + (_LINE if len(name) > _BESIDE else 0)
    height = y + 26
    width = _WIDE - 2 * _SIDE

    def at(value: float) -> float:
        return _SIDE + width * (min(max(value, span[0]), span[1]) - span[0]) / (span[1] - span[0])

    marks, said = [], []
    for value, text in _ticks(*span).items():
        marks.append(_path([(at(value), top), (at(value), height - 24)], "grid"))
        anchor = "start" if value == span[0] else "end" if value == span[1] else "middle"
        marks.append(_text(at(value), height - 6, text, f"tick {anchor}"))
    if reference:
        x = at(reference[0])
        marks.append(_path([(x, top), (x, height - 24)], "threshold"))
        marks.append(_text(x, 14, reference[1], "tick middle"))
    for index, ((name, figure, percent), y) in enumerate(zip(rows, tops, strict=True)):
        style = " strong" if index < strong else ""
        value = format_metric(figure, percent)
        marks.append(_text(_SIDE, y + 17, _shortened(name), "value halo"))
        y += _LINE if len(name) > _BESIDE else 0
        marks.append(_text(_WIDE - _SIDE, y + 17, value, "tick halo end"))
        low, high = at(figure["low"]), at(figure["high"])
        marks.append(_path([(low, y + 31), (high, y + 31)], f"interval{style}"))
        for end in (low, high):
            marks.append(_path([(end, y + 26), (end, y + 36)], f"interval{style}"))
        marks.append(_circle(at(figure["estimate"]), y + 31, 6, f"dot{style}"))
        said.append(f"{name} {value}")
    description = "; ".join(said) + "." if said else "There is nothing to show."
    return Chart(key, title, description, _WIDE, height, tuple(marks))


def bar_chart(key: str, title: str, rows: Sequence[tuple[str, float, str]]) -> Chart:
    """Draws shares as bars, one below the other.

    Args:
        key: the chart's id.
        title: what it shows.
        rows: name, share, and the count behind it.
    """
    most = max([0.1, *(share for _, share, _ in rows)])
    width = _WIDE - 2 * _SIDE
    height = 40 * len(rows) + 8
    marks, said = [], []
    for index, (name, share, count) in enumerate(rows):
        y = 40 * index
        value = f"{count} ({share:.1%})"
        marks.append(_text(_SIDE, y + 17, _shortened(name, _BESIDE + 4), "value"))
        marks.append(_text(_WIDE - _SIDE, y + 17, value, "tick end"))
        marks.append(_rect(_SIDE, y + 24, width, 10, "track"))
        marks.append(_rect(_SIDE, y + 24, width * share / most, 10, "bar"))
        said.append(f"{name} {value}")
    description = "; ".join(said) + "." if said else "There is nothing to show."
    return Chart(key, title, description, _WIDE, height, tuple(marks))
