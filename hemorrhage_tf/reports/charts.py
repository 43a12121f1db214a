"""The charts of the report, one function per chart. Marks and axes are in `chart_geometry`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hemorrhage_tf.reports.chart_geometry import (
    CHART_WIDTH,
    UNIT_TICKS,
    Chart,
    Frame,
    Mark,
    choose_ticks,
    draw_circle,
    draw_path,
    draw_rect,
    draw_text,
)
from hemorrhage_tf.reports.curves import Curve
from hemorrhage_tf.reports.number_formats import format_count, format_metric

EMPTY_CHART = "There is nothing to show."

_ROW_HEIGHT, _LINE_HEIGHT, _MARGIN = 44, 18, 8
# A name of up to 26 characters fits next to its value; a longer one gets a line of 44.
_SHORT_NAME, _LONGEST_NAME = 26, 44


def roc_chart(
    curve: Curve, area: Mapping[str, Any] | None, point: tuple[float, float] | None
) -> Chart:
    """Draw the ROC curve.

    Args:
        curve: Sensitivity over 1 - specificity.
        area: The ROC AUC with its interval, or None.
        point: 1 - specificity and sensitivity at the operating point, or None.
    """
    view = _CurveView(
        key="roc",
        title="ROC curve",
        description="Sensitivity against the false positive rate.",
        axes=("1 - specificity (false positive rate)", "sensitivity"),
        chance=((0.0, 1.0), (0.0, 1.0)),
    )
    return _curve_chart(view, curve, area, point)


def precision_recall_chart(
    curve: Curve,
    area: Mapping[str, Any] | None,
    point: tuple[float, float] | None,
    prevalence: float,
) -> Chart:
    """Draw the precision-recall curve.

    Args:
        curve: Precision over recall.
        area: The PR AUC with its interval, or None.
        point: Recall and precision at the operating point, or None.
        prevalence: Fraction of positives, which is the precision of chance.
    """
    view = _CurveView(
        key="pr",
        title="Precision-recall curve",
        description="Precision against recall.",
        axes=("recall (sensitivity)", "precision (PPV)"),
        chance=((0.0, 1.0), (prevalence, prevalence)),
    )
    return _curve_chart(view, curve, area, point)


@dataclass(frozen=True)
class _CurveView:
    """Texts and chance line of a curve chart; `chance` holds the x and the y of its ends."""

    key: str
    title: str
    description: str
    axes: tuple[str, str]
    chance: tuple[tuple[float, float], tuple[float, float]]

    @property
    def is_chance_level(self) -> bool:
        """Whether chance is a horizontal line."""
        return self.chance[1][0] == self.chance[1][1]


def _curve_chart(
    view: _CurveView,
    curve: Curve,
    area: Mapping[str, Any] | None,
    point: tuple[float, float] | None,
) -> Chart:
    frame = Frame()
    edge = list(zip(curve.x, curve.high, strict=True))
    edge += list(zip(curve.x[::-1], curve.low[::-1], strict=True))
    marks = frame.axes(view.axes, UNIT_TICKS, UNIT_TICKS)
    marks.append(draw_path((frame.at(x, y) for x, y in edge), "band", close=True))
    marks.append(frame.line(*view.chance, "chance"))
    if view.is_chance_level:
        x, y = frame.at(0.0, view.chance[1][1])
        has_room_below = y < frame.height - frame.bottom - 20
        marks.append(draw_text(x + 6, y + (16 if has_room_below else -6), "chance"))
    else:
        marks.append(draw_text(*frame.at(0.72, 0.66), "chance"))
    marks.append(frame.line(curve.x, curve.y, "curve"))
    description = view.description
    if area is not None:
        description += f" Area under the curve: {format_metric(area)}."
    if point is not None:
        x, y = frame.at(*point)
        diamond = [(x, y - 8), (x + 8, y), (x, y + 8), (x - 8, y)]
        marks.append(draw_path(diamond, "point", close=True))
        side, anchor = (-1, " end") if point[0] > 0.55 else (1, "")
        # Below the point, unless the label would leave the plot.
        down = 20 if y < frame.height - frame.bottom - 24 else -12
        label = draw_text(x + side * 12, y + down, "operating point", f"value halo{anchor}")
        marks.append(label)
        description += (
            f" At the operating point, {view.axes[0]} is {point[0]:.3f} and {view.axes[1]} is "
            f"{point[1]:.3f}."
        )
    return Chart(view.key, view.title, description, frame.width, frame.height, tuple(marks))


def reliability_chart(bins: Sequence[Mapping[str, Any]], unit: str = "slices") -> Chart:
    """Draw observed fractions against predicted probabilities, with the counts below.

    Args:
        bins: From `calibration.reliability_curve`.
        unit: What is counted, "slices" or "scans". Defaults to "slices".
    """
    frame = Frame(height=384, bottom=112, top=34)
    marks = frame.axes(("", "observed fraction with hemorrhage"), UNIT_TICKS, UNIT_TICKS)
    marks.append(frame.line((0.0, 1.0), (0.0, 1.0), "chance"))
    marks.append(draw_path([(frame.left, 16), (frame.left + 30, 16)], "chance"))
    marks.append(draw_text(frame.left + 36, 20.5, "perfectly calibrated"))
    largest = max(each["n"] for each in bins)
    ground, bar_height = frame.height - 34, 38.0
    values = []
    for each in bins:
        observed = each["observed"]
        x, y = frame.at(each["predicted"], observed["estimate"])
        low, high = frame.at(0, observed["low"])[1], frame.at(0, observed["high"])[1]
        marks.append(draw_path([(x, low), (x, high)], "interval"))
        marks.append(draw_circle(x, y, 5, "dot"))
        left, right = frame.at(each["from"], 0)[0], frame.at(each["to"], 0)[0]
        height = bar_height * each["n"] / largest
        marks.append(draw_rect(left + 1.5, ground - height, right - left - 3, height, "count"))
        count = format_count(each["n"])
        marks.append(draw_text((left + right) / 2, ground + 13, count, "small middle"))
        values.append(
            f"{each['predicted']:.2f} predicted, {observed['estimate']:.2f} observed, n = {count}"
        )
    middle = (frame.left + frame.width - frame.right) / 2
    marks.append(draw_text(frame.left - 8, ground + 13, unit, "small end"))
    marks.append(draw_text(middle, frame.height - 5, "predicted probability", "axis middle"))
    return Chart(
        key="reliability",
        title="Reliability curve",
        description="Observed fraction with hemorrhage against predicted probability: "
        f"{'; '.join(values)}.",
        width=frame.width,
        height=frame.height,
        marks=tuple(marks),
    )


def histogram_chart(
    labels: np.ndarray, repeats: np.ndarray, threshold: float, unit: str = "slices"
) -> Chart:
    """Draw the distribution of the probabilities of both classes, one upward and one downward.

    Args:
        labels: `(n,)`, 0 or 1.
        repeats: `(repeats, n)` probabilities; counts are means over repeats.
        threshold: The decision threshold.
        unit: What is counted, "slices" or "scans". Defaults to "slices".
    """
    edges = np.linspace(0.0, 1.0, 21)
    counts = {
        label: np.histogram(repeats[:, labels == label], edges)[0] / len(repeats)
        for label in (1, 0)
    }
    reach = max(1.0, *(each.max() for each in counts.values())) * 1.15
    frame = Frame(y=(-reach, reach))
    ticks = {value: text.lstrip("-") for value, text in choose_ticks(-reach, reach, 6).items()}
    marks = frame.axes(("predicted probability", unit), UNIT_TICKS, ticks)
    ground = frame.at(0, 0)[1]
    for label, style in ((1, "hemorrhage"), (0, "normal")):
        for start, end, count in zip(edges[:-1], edges[1:], counts[label], strict=True):
            left, right = frame.at(start, 0)[0] + 1, frame.at(end, 0)[0] - 1
            height = ground - frame.at(0, count)[1]
            top = ground - height if label else ground
            marks.append(draw_rect(left, top, right - left, height, style))
    marks.append(frame.line((0.0, 1.0), (0.0, 0.0), "ground"))
    marks.append(frame.line((threshold, threshold), (-reach, reach), "threshold"))
    x, y = frame.at(threshold, reach)
    side, anchor = (-1, " end") if threshold > 0.6 else (1, "")
    text = f"threshold {threshold:.3g}"
    marks.append(draw_text(x + side * 6, y + 12, text, f"value halo{anchor}"))
    # Each class is labeled next to the threshold, in the half that its bars point to.
    label_heights = (y + 30, frame.height - frame.bottom - 8)
    for text, height in zip(("hemorrhage", "no hemorrhage"), label_heights, strict=True):
        marks.append(draw_text(x + side * 6, height, text, f"tick halo{anchor}"))
    below = {
        label: int((repeats[:, labels == label] < threshold).mean(0).sum()) for label in (1, 0)
    }
    return Chart(
        key="histogram",
        title="Predicted probabilities by class",
        description=f"Number of {unit} with hemorrhage (upward) and without (downward), in bins of "
        f"0.05. Below the threshold of {threshold:.3g} are {below[1]} {unit} with hemorrhage and "
        f"{below[0]} without.",
        width=frame.width,
        height=frame.height,
        marks=tuple(marks),
    )


def group_trainings(rows: Sequence[Mapping[str, Any]]) -> list[list[Mapping[str, Any]]]:
    """Group the epochs of a history by training (repeat and fold), in their order."""
    trainings: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for row in rows:
        trainings.setdefault((str(row.get("repeat")), str(row.get("fold"))), []).append(row)
    return list(trainings.values())


def history_chart(
    column: str, title: str, trainings: Sequence[Sequence[Mapping[str, Any]]]
) -> Chart | None:
    """Draw a metric over the epochs, one line per training.

    Args:
        column: Name of the metric, such as "loss"; "validation_" is put before it for the
            validation part.
        title: Heading of the chart.
        trainings: The epochs of each training, from `group_trainings`.

    Returns:
        The chart, or None if no training has two values of the metric.
    """
    lines = []
    for training in trainings:
        for name, style in ((column, "training"), (f"validation_{column}", "validation")):
            values = [_parse_number(row.get(name)) for row in training]
            points = [(x, y) for x, y in enumerate(values, 1) if y is not None]
            if len(points) > 1:
                lines.append((style, points))
    if not lines:
        return None
    all_values = [y for _, points in lines for _, y in points]
    low = 0.0 if column == "loss" else max(0.0, min(all_values) - 0.05)
    high = max(all_values) * 1.05 if column == "loss" else 1.0
    epochs = max(points[-1][0] for _, points in lines)
    frame = Frame(x=(1, epochs), y=(low, max(high, low + 1e-3)), top=34)
    ticks = {value: text for value, text in choose_ticks(1, epochs).items() if value == int(value)}
    marks = frame.axes(("epoch", column), ticks, choose_ticks(*frame.y))
    faint = " faint" if len(lines) > 6 else ""
    for style, points in lines:
        xs, ys = zip(*points, strict=True)
        marks.append(frame.line(xs, ys, style + faint))
    marks += _stage_marks(frame, trainings[0])
    for index, style in enumerate(dict.fromkeys(style for style, _ in lines)):
        left = frame.left + 150 * index
        marks.append(draw_path([(left, 16), (left + 30, 16)], style))
        marks.append(draw_text(left + 36, 20.5, style))
    final = [f"{style} {points[-1][1]:.3f}" for style, points in lines[:2]]
    return Chart(
        key=f"history-{column}",
        title=title,
        description=f"{title} over {epochs} epochs of {len(trainings)} "
        f"{'training' if len(trainings) == 1 else 'trainings'}; final values of the first: "
        f"{' and '.join(final)}.",
        width=frame.width,
        height=frame.height,
        marks=tuple(marks),
    )


def _stage_marks(frame: Frame, training: Sequence[Mapping[str, Any]]) -> list[Mark]:
    """Draw a vertical line where a new stage of the training starts, such as fine-tuning."""
    marks = []
    for index, row in enumerate(training[1:], 2):
        if row.get("stage") != training[index - 2].get("stage"):
            marks.append(frame.line((index - 0.5,) * 2, frame.y, "threshold"))
            x, y = frame.at(index - 0.5, frame.y[1])
            stage = str(row.get("stage")).replace("_", "-")
            marks.append(draw_text(x + 5, y + 13, stage, "tick halo"))
    return marks


def _parse_number(value: Any) -> float | None:
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None


def _shorten(text: str, length: int = _LONGEST_NAME) -> str:
    return text if len(text) <= length else text[: length - 1] + "\N{HORIZONTAL ELLIPSIS}"


def interval_chart(
    key: str,
    title: str,
    rows: Sequence[tuple[str, Mapping[str, Any], bool]],
    span: tuple[float, float] | None = None,
    reference: tuple[float, str] | None = None,
    highlighted: int = 0,
) -> Chart:
    """Draw metrics as dots with their intervals, one below the other.

    Args:
        key: Id of the chart within the page.
        title: Heading of the chart.
        rows: Name, metric, and whether the metric is printed as a percentage.
        span: Of the axis, or None for 0 to 1, extended to what the metrics need. Defaults to None.
        reference: A value to compare with and its name, or None. Defaults to None.
        highlighted: Number of rows from the top that are emphasized. Defaults to 0.
    """
    if span is None:
        ends = [metric[end] for _, metric, _ in rows for end in ("low", "high")]
        span = min(0.0, *ends, 0.0), max(1.0, *ends, 1.0)
    low_end, high_end = span
    top = 22 if reference else 6
    tops, y = [], top
    for name, _, _ in rows:
        tops.append(y)
        y += _ROW_HEIGHT + (_LINE_HEIGHT if len(name) > _SHORT_NAME else 0)
    height = y + 26

    def at(value: float) -> float:
        share = (min(max(value, low_end), high_end) - low_end) / (high_end - low_end)
        return _MARGIN + (CHART_WIDTH - 2 * _MARGIN) * share

    marks: list[Mark] = []
    for value, text in choose_ticks(*span).items():
        marks.append(draw_path([(at(value), top), (at(value), height - 24)], "grid"))
        anchor = "start" if value == low_end else "end" if value == high_end else "middle"
        marks.append(draw_text(at(value), height - 6, text, f"tick {anchor}"))
    if reference:
        x = at(reference[0])
        marks.append(draw_path([(x, top), (x, height - 24)], "threshold"))
        marks.append(draw_text(x, 14, reference[1], "tick middle"))
    values = []
    for index, ((name, metric, percent), y) in enumerate(zip(rows, tops, strict=True)):
        emphasis = " strong" if index < highlighted else ""
        value_text = format_metric(metric, percent)
        marks.append(draw_text(_MARGIN, y + 17, _shorten(name), "value halo"))
        y += _LINE_HEIGHT if len(name) > _SHORT_NAME else 0
        marks.append(draw_text(CHART_WIDTH - _MARGIN, y + 17, value_text, "tick halo end"))
        low, high = at(metric["low"]), at(metric["high"])
        marks.append(draw_path([(low, y + 31), (high, y + 31)], f"interval{emphasis}"))
        for end_x in (low, high):
            marks.append(draw_path([(end_x, y + 26), (end_x, y + 36)], f"interval{emphasis}"))
        marks.append(draw_circle(at(metric["estimate"]), y + 31, 6, f"dot{emphasis}"))
        values.append(f"{name} {value_text}")
    description = "; ".join(values) + "." if values else EMPTY_CHART
    return Chart(key, title, description, CHART_WIDTH, height, tuple(marks))


def bar_chart(key: str, title: str, rows: Sequence[tuple[str, float, str]]) -> Chart:
    """Draw fractions as bars, one below the other.

    Args:
        key: Id of the chart within the page.
        title: Heading of the chart.
        rows: Name, fraction in [0, 1], and the count behind it as text.
    """
    largest = max([0.1, *(fraction for _, fraction, _ in rows)])
    width = CHART_WIDTH - 2 * _MARGIN
    height = 40 * len(rows) + 8
    marks, values = [], []
    for index, (name, fraction, count) in enumerate(rows):
        y = 40 * index
        value = f"{count} ({fraction:.1%})"
        marks.append(draw_text(_MARGIN, y + 17, _shorten(name, _SHORT_NAME + 4), "value"))
        marks.append(draw_text(CHART_WIDTH - _MARGIN, y + 17, value, "tick end"))
        marks.append(draw_rect(_MARGIN, y + 24, width, 10, "track"))
        marks.append(draw_rect(_MARGIN, y + 24, width * fraction / largest, 10, "bar"))
        values.append(f"{name} {value}")
    description = "; ".join(values) + "." if values else EMPTY_CHART
    return Chart(key, title, description, CHART_WIDTH, height, tuple(marks))
