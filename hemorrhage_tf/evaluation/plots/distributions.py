"""Plots of probabilities and decisions: calibration, histogram, confusion matrix."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from hemorrhage_tf.evaluation.plots.models import (
    Data,
    PlottedModel,
    add_legend,
    join_notes,
    models_to_plot,
    styled,
)
from hemorrhage_tf.evaluation.plots.style import (
    BAND_OPACITY,
    BLUE,
    CHANCE,
    PAPER,
    SOFT,
    SQUARE,
    TEXT,
    VERMILLION,
    WIDE,
    ModelStyle,
    axes_to_draw_on,
    set_unit_square,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_COUNTS_HEIGHT = 0.14  # of the bars below the reliability curve, in units of its axis
BIN_EDGES = np.linspace(0.0, 1.0, 21)

# Row, column, name and meaning of each outcome, the columns "predicted hemorrhage" first.
_OUTCOMES = (
    (0, 0, "true_positive", "detected"),
    (0, 1, "false_negative", "missed"),
    (1, 0, "false_positive", "false alarm"),
    (1, 1, "true_negative", "correct"),
)


def plot_calibration(
    data: Data,
    probabilities: Any = None,
    *,
    groups: Any = None,
    level: str | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Plot observed shares against predicted probabilities, with 95 % intervals.

    The probabilities are in ten bins of equal width. Bars below the curve show how many slices
    each holds.

    Args:
        data: As in `plot_roc`.
        probabilities: As in `plot_roc`. Defaults to None.
        groups: As in `plot_roc`. Defaults to None.
        level: As in `plot_roc`. Defaults to the level of the main metrics.
        ax: Axes to draw on. Defaults to those of a new figure, one column wide.

    Returns:
        The axes.

    Raises:
        DataError: Predictions that are not probabilities.

    Example:
        >>> import hemorrhage_tf as htf
        >>> ax = htf.plots.plot_calibration([0, 0, 1, 1], [0.1, 0.6, 0.4, 0.9])
        >>> ax.get_xlabel()
        'predicted probability'
    """
    models = models_to_plot(data, probabilities, groups=groups, level=level)
    with axes_to_draw_on(ax, SQUARE) as axes:
        axes.plot((0, 1), (0, 1), label="perfectly calibrated", **CHANCE)
        for index, (model, style) in enumerate(styled(models)):
            bins = model.reliability
            observed = [each["observed"] for each in bins]
            estimates = np.array([each["estimate"] for each in observed])
            ends = np.array([(each["low"], each["high"]) for each in observed]).T
            reach = np.abs(ends - estimates)
            axes.errorbar(
                [each["predicted"] for each in bins],
                estimates,
                yerr=reach,
                color=style.color,
                linestyle=style.line,
                linewidth=0.9,
                marker=style.marker,
                markeredgecolor=PAPER,
                markeredgewidth=0.6,
                label=model.name or "observed (95% CI)",
            )
            _draw_counts(axes, model, style, index, len(models))
        set_unit_square(axes, "predicted probability", f"observed share of {models[0].unit}")
        axes.set_ylim(-_COUNTS_HEIGHT - 0.04, 1.01)
        axes.set_yticks(np.linspace(0, 1, 6))
        add_legend(axes, "best", models)
    return axes


def _draw_counts(
    axes: Axes, model: PlottedModel, style: ModelStyle, index: int, models: int
) -> None:
    """Draw the size of each bin as a bar below 0; the bars of several models stand side by side."""
    bins = model.reliability
    sizes = np.array([each["n"] for each in bins], float)
    left = np.array([each["from"] for each in bins])
    width = np.array([each["to"] for each in bins]) - left
    axes.bar(
        left + width * (0.05 + 0.9 * index / models),
        _COUNTS_HEIGHT * sizes / sizes.max(),
        width * 0.9 / models,
        -_COUNTS_HEIGHT - 0.02,
        align="edge",
        color=style.color,
        alpha=0.4,
        hatch=style.hatch,
        linewidth=0,
    )


def plot_score_histogram(
    data: Data,
    probabilities: Any = None,
    *,
    threshold: float | None = None,
    level: str | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Plot the distribution of the probabilities: hemorrhage upward, normal downward.

    Args:
        data: As in `plot_roc`.
        probabilities: As in `plot_roc`. Defaults to None.
        threshold: As in `plot_roc`. Defaults to 0.5.
        level: As in `plot_roc`. Defaults to the level of the main metrics.
        ax: Axes to draw on. Defaults to those of a new figure, one column wide.

    Returns:
        The axes.

    Raises:
        DataError: Predictions that are not probabilities.

    Example:
        >>> import hemorrhage_tf as htf
        >>> ax = htf.plots.plot_score_histogram([0, 0, 1, 1], [0.1, 0.6, 0.4, 0.9])
        >>> ax.get_ylabel()
        'slices'
    """
    models = models_to_plot(data, probabilities, threshold=threshold, level=level)
    with axes_to_draw_on(ax, WIDE) as axes:
        reach = 0.0
        for model, style in styled(models):
            counts = _class_counts(model)
            reach = max(reach, *(each.max() for each in counts))
            colors = (style.color,) * 2 if len(models) > 1 else (VERMILLION, BLUE)
            for sign, count, color in zip((1, -1), counts, colors, strict=True):
                is_only = len(models) == 1
                axes.stairs(
                    sign * count,
                    BIN_EDGES,
                    fill=True,
                    alpha=0.8 if is_only else BAND_OPACITY,
                    color=color,
                    linewidth=0,
                )
                if not is_only:
                    label = model.name if sign > 0 else ""
                    line = style.line
                    axes.stairs(sign * count, BIN_EDGES, label=label, color=color, linestyle=line)
            color = style.color if len(models) > 1 else TEXT
            axes.axvline(model.predictions.threshold, color=color, linestyle=(0, (1, 2)))
        reach = max(reach, 1.0) * 1.2
        axes.axhline(0, color=SOFT, linewidth=0.8)
        axes.set(xlim=(0, 1), ylim=(-reach, reach), ylabel=models[0].unit)
        axes.set_xlabel("predicted probability (dotted: threshold)")
        axes.yaxis.set_major_formatter(lambda value, _: f"{abs(value):g}")
        box = {"facecolor": PAPER, "edgecolor": "none", "alpha": 0.85, "pad": 1.0}
        for y, place, text in ((0.97, "top", "hemorrhage"), (0.03, "bottom", "no hemorrhage")):
            axes.text(0.5, y, text, transform=axes.transAxes, ha="center", va=place, bbox=box)
        if len(models) > 1 or join_notes(models):
            add_legend(axes, "upper right", models)
    return axes


def _class_counts(model: PlottedModel) -> list[np.ndarray]:
    """Return the counts in each bin, means over repeats: with hemorrhage, and without."""
    labels, scores = model.labels, model.scores
    return [
        np.histogram(scores[:, labels == label], BIN_EDGES)[0] / len(scores) for label in (1, 0)
    ]


def plot_confusion(
    data: Data,
    probabilities: Any = None,
    *,
    threshold: float | None = None,
    level: str | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Plot the confusion matrix: the count of each outcome, and its share of the row.

    The matrices of several models stand side by side.

    Args:
        data: As in `plot_roc`.
        probabilities: As in `plot_roc`. Defaults to None.
        threshold: As in `plot_roc`. Defaults to 0.5.
        level: As in `plot_roc`. Defaults to the level of the main metrics.
        ax: Axes to draw on. Defaults to those of a new figure, one column wide; a second model
            makes it wider.

    Returns:
        The axes.

    Raises:
        DataError: Predictions that are not probabilities.

    Example:
        >>> import hemorrhage_tf as htf
        >>> ax = htf.plots.plot_confusion([0, 0, 1, 1], [0.1, 0.6, 0.4, 0.9])
        >>> ax.texts[0].get_text().split()
        ['1', 'detected', '50%']
    """
    models = models_to_plot(data, probabilities, threshold=threshold, level=level)
    with axes_to_draw_on(ax, confusion_size(len(models))) as axes:
        axes.grid(False)
        for index, model in enumerate(models):
            _draw_matrix(axes, model, 2.25 * index)
        left = [2.25 * index for index in range(len(models))]
        axes.set_xticks(
            [start + at for start in left for at in (0.5, 1.5)],
            ["predicted\nhemorrhage", "predicted\nnormal"] * len(models),
        )
        axes.set_yticks([0.5, 1.5], ["hemorrhage", "no\nhemorrhage"])
        axes.set(xlim=(-0.02, left[-1] + 2.02), ylim=(2.02, -0.02 if not models[0].name else -0.3))
        axes.set_aspect("equal", adjustable="box")
        axes.xaxis.set_ticks_position("top")
        axes.tick_params(length=0)
        for spine in axes.spines.values():
            spine.set_visible(False)
    return axes


def confusion_size(models: int) -> tuple[float, float]:
    """Return width and height of a figure for the matrices of some models, in inches."""
    return 0.8 + 2.0 * models, 2.5


def _draw_matrix(axes: Axes, model: PlottedModel, left: float) -> None:
    from matplotlib.patches import Rectangle

    counts = model.confusion
    rows = [
        counts["true_positive"] + counts["false_negative"],
        counts["false_positive"] + counts["true_negative"],
    ]
    for row, column, name, meaning in _OUTCOMES:
        count, total = counts[name], rows[row]
        color = BLUE if row == column else VERMILLION
        share = count / total if total else 0.0
        cell = (left + column, row)
        axes.add_patch(Rectangle(cell, 1, 1, color=color, alpha=0.08 + 0.32 * share, linewidth=0))
        axes.add_patch(Rectangle(cell, 1, 1, fill=False, edgecolor=SOFT, linewidth=0.6))
        number = f"{count:.0f}" if count == round(count) else f"{count:.1f}"
        text = f"{number}\n{meaning}\n{share:.0%}" if total else f"{number}\n{meaning}"
        axes.text(left + column + 0.5, row + 0.5, text, ha="center", va="center", linespacing=1.5)
    if model.name:
        axes.text(left + 1, -0.06, model.name, ha="center", va="bottom", fontweight="bold")
