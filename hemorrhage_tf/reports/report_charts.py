"""The charts of the report: the plots as SVG inside of the page, each with a text in words.

The page's style sheet colors them, so that they follow its light and dark colors.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

from hemorrhage_tf.evaluation import plots
from hemorrhage_tf.evaluation.plots import style
from hemorrhage_tf.evaluation.plots.files import Margins, draw_figure, figure_bytes
from hemorrhage_tf.evaluation.plots.forest import forest_height
from hemorrhage_tf.evaluation.plots.history import final_values, has_line
from hemorrhage_tf.evaluation.plots.models import PlottedModel
from hemorrhage_tf.reports.number_formats import format_count, format_metric

if TYPE_CHECKING:
    from markupsafe import Markup
    from matplotlib.axes import Axes

_WIDTH, _SQUARE, _WIDE = 420, 400, 320  # pixels at the size that the texts are made for
_DOTS = 72  # of an SVG, per inch
_TEXT_SCALE = 1.55  # texts are larger than in a paper, and rows with them
_SETTINGS = {
    "figure.facecolor": "none",
    "svg.fonttype": "none",  # the page's own font
    "font.size": 13,
    "axes.labelsize": 13,
    "axes.titlesize": 13,
    "legend.fontsize": 12,
    "xtick.labelsize": 12,
    "ytick.labelsize": 12,
    "lines.linewidth": 2.2,
    "lines.markersize": 7,
    "axes.linewidth": 1,
    "grid.linewidth": 1,
    "xtick.major.width": 1,
    "ytick.major.width": 1,
}
_MARGINS = Margins(left=60 / _DOTS, bottom=52 / _DOTS, right=12 / _DOTS, top=10 / _DOTS)
_FOREST = Margins(left=8 / _DOTS, bottom=26 / _DOTS, right=8 / _DOTS, top=22 / _DOTS)
# Names in the style sheet, templates/head.html.
_VARIABLES = {
    style.BLUE: "--blue",
    style.VERMILLION: "--vermillion",
    style.GREEN: "--green",
    style.PURPLE: "--purple",
    style.TEXT: "--text",
    style.SOFT: "--soft",
    style.GRID: "--grid",
    style.PAPER: "--card",
}
_NUMBER = re.compile(r"-?\d+\.\d+")


@dataclass(frozen=True)
class Chart:
    """A chart of the page.

    Attributes:
        key: Id within the page.
        title: Heading.
        description: The content in words, for readers who cannot see the chart.
        view_box: Of the SVG element.
        shapes: Content of the SVG element.
    """

    key: str
    title: str
    description: str
    view_box: str
    shapes: Markup


def draw_chart(
    key: str,
    title: str,
    description: str,
    draw: Callable[[Axes], object],
    height: float = _WIDE,
    margins: Margins = _MARGINS,
) -> Chart:
    """Draw a chart.

    Args:
        key: Id within the page.
        title: Heading.
        description: The content in words.
        draw: Draws on given axes.
        height: In pixels, where the chart is 420 wide. Defaults to 320.
        margins: Around the axes. Defaults to room for a label on both axes.
    """
    from markupsafe import Markup

    figure = draw_figure(draw, (_WIDTH / _DOTS, height / _DOTS), _SETTINGS, margins)
    # The key makes the ids of one chart different from those of the others.
    svg = figure_bytes(figure, "svg", {**_SETTINGS, "svg.hashsalt": key})
    root = ElementTree.fromstring(svg)
    _adapt(root)
    shapes = "".join(ElementTree.tostring(each, encoding="unicode") for each in root)
    return Chart(key, title, description, root.attrib["viewBox"], Markup(shapes))


def _adapt(root: ElementTree.Element) -> None:
    """Turn an SVG document of matplotlib into shapes that are part of a page."""
    text = ElementTree.tostring(root, encoding="unicode")
    used = set(re.findall(r'(?:href="#|url\(#)([^")]+)', text))
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag.endswith(("}metadata", "}style")):
                parent.remove(child)
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]
        element.tail = None
        if element.tag != "text":
            element.text = None
        attributes = {name.rpartition("}")[2]: each for name, each in element.attrib.items()}
        if attributes.get("id") not in used:
            attributes.pop("id", None)
        element.attrib.clear()
        element.attrib.update({name: _adapt_value(name, each) for name, each in attributes.items()})


def _adapt_value(name: str, value: str) -> str:
    if name == "style":
        value = re.sub(r"font-family: [^;]*;? ?", "", value)
        for color, variable in _VARIABLES.items():
            value = value.replace(color, f"var({variable})")
        return value
    if name in ("d", "x", "y", "transform", "width", "height", "points"):
        return _NUMBER.sub(lambda number: f"{float(number[0]):.2f}".rstrip("0").rstrip("."), value)
    return value


def curve_charts(models: Sequence[PlottedModel], prefix: str = "") -> list[Chart]:
    """Draw the ROC and the precision-recall curve, or nothing for labels of one class.

    Args:
        models: One model, or two to compare.
        prefix: Put before the ids of the charts. Defaults to "".
    """
    labels = models[0].labels
    if labels.min() == labels.max():
        return []
    named = {model.name: model for model in models}
    points = [
        (model, model.metric("sensitivity"), model.metric("specificity"), model.metric("ppv"))
        for model in models
    ]
    roc = [
        f"{_named(model)}area {format_metric(model.metric('roc_auc'))}; at the operating point, "
        f"sensitivity {format_metric(sensitivity)} and specificity {format_metric(specificity)}"
        for model, sensitivity, specificity, _ in points
    ]
    pr = [
        f"{_named(model)}area {format_metric(model.metric('pr_auc'))}; at the operating point, "
        f"recall {format_metric(sensitivity)} and precision {format_metric(ppv)}"
        for model, sensitivity, _, ppv in points
    ]
    return [
        draw_chart(
            f"{prefix}roc",
            "ROC curve",
            f"Sensitivity against 1 - specificity. {'. '.join(roc)}.",
            lambda ax: plots.plot_roc(named, ax=ax),
            _SQUARE,
        ),
        draw_chart(
            f"{prefix}pr",
            "Precision-recall curve",
            f"Precision against recall. {'. '.join(pr)}.",
            lambda ax: plots.plot_precision_recall(named, ax=ax),
            _SQUARE,
        ),
    ]


def _named(model: PlottedModel) -> str:
    return f"{model.name}: " if model.name else ""


def calibration_chart(model: PlottedModel) -> Chart:
    """Draw observed shares against predicted probabilities."""
    values = [
        f"{each['predicted']:.2f} predicted, {each['observed']['estimate']:.2f} observed, "
        f"n = {format_count(each['n'])}"
        for each in model.reliability
    ]
    return draw_chart(
        "reliability",
        "Calibration",
        f"Observed share with hemorrhage against predicted probability: {'; '.join(values)}.",
        lambda ax: plots.plot_calibration({"": model}, ax=ax),
        _SQUARE,
    )


def histogram_chart(model: PlottedModel) -> Chart:
    """Draw the distribution of the probabilities of both classes."""
    threshold, unit = model.predictions.threshold, model.unit
    below = {
        label: format_count(
            float((model.scores[:, model.labels == label] < threshold).sum(1).mean())
        )
        for label in (1, 0)
    }
    return draw_chart(
        "histogram",
        "Predicted probabilities by class",
        f"Number of {unit} with hemorrhage (upward) and without (downward), in bins of 0.05. Below "
        f"the threshold of {threshold:.3g} are {below[1]} {unit} with hemorrhage and {below[0]} "
        "without.",
        lambda ax: plots.plot_score_histogram({"": model}, ax=ax),
    )


def decision_chart(models: Sequence[PlottedModel]) -> Chart | None:
    """Draw the net benefit over the threshold; None for labels of one class."""
    labels = models[0].labels
    if labels.min() == labels.max():
        return None
    return draw_chart(
        "decision",
        "Decision curve",
        "Net benefit over the threshold probability, beside predicting hemorrhage for all and for "
        f"none. The share with hemorrhage is {labels.mean():.3f}.",
        lambda ax: plots.plot_decision_curve({model.name: model for model in models}, ax=ax),
    )


def forest_chart(
    key: str,
    title: str,
    rows: Sequence[tuple[str, Mapping[str, Any], bool]],
    span: tuple[float, float] = (0.0, 1.0),
    reference: tuple[float, str] | None = None,
) -> Chart | None:
    """Draw metrics with their intervals, one below the other; None without a metric.

    Args:
        key: Id within the page.
        title: Heading.
        rows: Name, metric, and whether the metric is printed as a percentage.
        span: Of the axis. Defaults to 0 to 1.
        reference: A value to compare with and its name, or None. Defaults to None.
    """
    if not rows:
        return None
    names = [(name, metric) for name, metric, _ in rows]
    percent = [is_percent for _, _, is_percent in rows]
    texts = [f"{name} {format_metric(metric, is_percent)}" for name, metric, is_percent in rows]
    return draw_chart(
        key,
        title,
        f"{'; '.join(texts)}.",
        lambda ax: plots.plot_forest(names, span=span, reference=reference, percent=percent, ax=ax),
        forest_height([name for name, _ in names]) * _TEXT_SCALE * _DOTS,
        _FOREST,
    )


def history_charts(rows: Sequence[Mapping[str, Any]]) -> list[Chart]:
    """Draw loss and accuracy over the epochs, as far as there are any.

    Args:
        rows: One for each epoch, as in `history.csv`.
    """
    charts = []
    for metric, title in (("loss", "Loss"), ("accuracy", "Accuracy")):
        if has_line(rows, metric):
            final = " and ".join(
                f"{part} {value:.3f}" for part, value in final_values(rows, metric).items()
            )
            charts.append(
                draw_chart(
                    f"history-{metric}",
                    title,
                    f"{title} over the epochs; final values of the first training: {final}.",
                    _history(rows, metric),
                )
            )
    return charts


def _history(rows: Sequence[Mapping[str, Any]], metric: str) -> Callable[[Axes], object]:
    return lambda ax: plots.plot_history(rows, metric=metric, ax=ax)
