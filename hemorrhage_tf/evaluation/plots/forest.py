"""Forest plots: metrics with their intervals, one below the other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from hemorrhage_tf.core.errors import DataError, OptionError
from hemorrhage_tf.evaluation.plots.models import Data, models_to_plot
from hemorrhage_tf.evaluation.plots.style import (
    CHANCE,
    MODEL_STYLES,
    PAPER,
    SOFT,
    ModelStyle,
    axes_to_draw_on,
)
from hemorrhage_tf.evaluation.subgroups import MAX_SUBGROUPS, subgroup_metrics

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SUBGROUP_METRICS = ("roc_auc", "pr_auc", "accuracy", "sensitivity", "specificity", "ppv", "npv")
ROW_HEIGHT = 0.36  # inches
# A name of up to 26 characters fits next to its value; a longer one gets a line, of 44 at most.
_SHORT_NAME, _LONGEST_NAME = 26, 44
_LINE, _BETWEEN_MODELS = 0.4, 0.18  # in rows

Metric = Mapping[str, Any]


def plot_forest(
    rows: Mapping[str, Metric] | Sequence[tuple[str, Metric]],
    *,
    others: Mapping[str, Mapping[str, Metric]] | None = None,
    span: tuple[float, float] = (0.0, 1.0),
    reference: tuple[float, str] | None = None,
    percent: bool | Sequence[bool] = False,
    ax: Axes | None = None,
) -> Axes:
    """Plot metrics as dots with their 95 % intervals, one below the other.

    Args:
        rows: Name and metric, a mapping with `estimate`, `low` and `high`.
        others: The same rows of up to three other models, by the model's name; rows that a model
            lacks are left out. Defaults to none.
        span: Of the axis. An arrow marks an interval that ends outside. Defaults to 0 to 1.
        reference: A value to compare with and its name. Defaults to None.
        percent: Whether to print percentages, for all rows or for each. Defaults to False.
        ax: Axes to draw on. Defaults to those of a new figure, one column wide.

    Returns:
        The axes.

    Raises:
        DataError: There is no row.

    Example:
        >>> import hemorrhage_tf as htf
        >>> evaluation = htf.evaluate("head_ct", model="runs/first", quiet=True)
        >>> names = ("sensitivity", "specificity")
        >>> ax = htf.plots.plot_forest({name: evaluation.metrics[name] for name in names})
        >>> [float(limit) for limit in ax.get_xlim()]
        [0.0, 1.0]
    """
    first = list(rows.items() if isinstance(rows, Mapping) else rows)
    if not first:
        raise DataError("there is no metric to plot. Pass at least one, with its interval.")
    shown = [percent] * len(first) if isinstance(percent, bool) else list(percent)
    further = others or {}
    if len(further) >= len(MODEL_STYLES):
        raise DataError(
            f"{len(further)} other models: a plot shows up to {len(MODEL_STYLES)} models, which "
            "can be told apart. Draw several plots."
        )
    tops = _tops([name for name, _ in first], len(further))
    with axes_to_draw_on(ax, (3.5, forest_height([name for name, _ in first]))) as axes:
        if reference is not None:
            axes.axvline(reference[0], **CHANCE)
            text: dict[str, Any] = {
                "ha": "center",
                "va": "bottom",
                "color": SOFT,
                "fontsize": "small",
            }
            axes.text(reference[0], -0.15, reference[1], **text)
        below = [
            top + _write_row(axes, top, name, None if further else (metric, is_percent))
            for top, (name, metric), is_percent in zip(tops, first, shown, strict=False)
        ]
        for place, of_model in enumerate([dict(first), *further.values()]):
            heights = {
                name: y + _BETWEEN_MODELS * place
                for (name, _), y in zip(first, below, strict=True)
                if of_model.get(name) is not None
            }
            _draw_intervals(axes, heights, of_model, span, MODEL_STYLES[place])
        axes.set(xlim=span, ylim=(tops[-1] + 0.1, -0.1))
        axes.grid(visible=False, axis="y")
        axes.set_yticks([])
        axes.spines["left"].set_visible(False)
    return axes


def forest_height(names: Sequence[str]) -> float:
    """Return the height of a figure with rows of these names, in inches."""
    return 0.5 + ROW_HEIGHT * float(_tops(names, 0)[-1])


def _tops(names: Sequence[str], further: int) -> np.ndarray:
    """Return where each row begins and the last one ends, in rows of a short name."""
    heights = [1 + _LINE * (len(name) > _SHORT_NAME) + _BETWEEN_MODELS * further for name in names]
    return np.cumsum([0.0, *heights])


def _write_row(axes: Axes, top: float, name: str, value: tuple[Metric, bool] | None) -> float:
    """Write the name of a row, and its value at the right; and return how far below they reach."""
    short = name if len(name) <= _LONGEST_NAME else name[: _LONGEST_NAME - 1] + "…"
    place: dict[str, Any] = {
        "transform": axes.get_yaxis_transform(),
        "va": "center",
        "clip_on": False,
    }
    axes.text(0.0, top + 0.3, short, ha="left", **place)
    down = _LINE if len(name) > _SHORT_NAME else 0.0
    if value is not None:
        metric, percent = value
        form = "{:.1%}" if percent else "{:.3f}"
        estimate, low, high = (form.format(metric[key]) for key in ("estimate", "low", "high"))
        text = f"{estimate} ({low} to {high})"
        axes.text(1.0, top + 0.3 + down, text, ha="right", color=SOFT, **place)
    return 0.7 + down


def _draw_intervals(
    axes: Axes,
    heights: Mapping[str, float],
    metrics: Mapping[str, Metric],
    span: tuple[float, float],
    style: ModelStyle,
) -> None:
    """Draw the intervals of one model; an arrow marks an end outside of the axis."""
    values = np.array(
        [[metrics[name][key] for key in ("estimate", "low", "high")] for name in heights]
    )
    y = np.array(list(heights.values()))
    estimates, low, high = np.clip(values, *span).T
    axes.errorbar(
        estimates,
        y,
        xerr=np.maximum([estimates - low, high - estimates], 0.0),
        linestyle="",
        marker=style.marker,
        color=style.color,
        markeredgecolor=PAPER,
        markeredgewidth=0.6,
        capsize=2.5,
        clip_on=False,
    )
    for is_outside, end, arrow in (
        (values[:, 1] < low, low, "<"),
        (values[:, 2] > high, high, ">"),
    ):
        if is_outside.any():
            axes.plot(end[is_outside], y[is_outside], arrow, color=style.color, clip_on=False)


def plot_subgroups(
    data: Data,
    probabilities: Any = None,
    *,
    by: Mapping[str, Any] | None = None,
    metric: str = "roc_auc",
    threshold: float | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Plot a metric of each subgroup with its interval, as a forest plot.

    Args:
        data: As in `plot_roc`; metrics are those of the main level.
        probabilities: As in `plot_roc`. Defaults to None.
        by: Names of columns and their values, `(n,)` for each; the slices that share a value are a
            subgroup. Columns with one value or more than 12 are left out. Defaults to the columns
            of an `Evaluation`'s manifest.
        metric: "roc_auc", "pr_auc", "accuracy", "sensitivity", "specificity", "ppv" or "npv".
            Defaults to "roc_auc".
        threshold: As in `plot_roc`. Defaults to 0.5.
        ax: Axes to draw on. Defaults to those of a new figure, one column wide.

    Returns:
        The axes.

    Raises:
        DataError: There are no subgroups, or none in which the metric is defined.
        OptionError: There is no such metric.

    Example:
        >>> import hemorrhage_tf as htf
        >>> labels, probabilities = [0, 1, 0, 1], [0.1, 0.6, 0.4, 0.9]
        >>> scanner = ["A", "A", "B", "B"]
        >>> ax = htf.plots.plot_subgroups(labels, probabilities, by={"scanner": scanner})
        >>> ax.get_xlabel()
        'ROC AUC (95% CI)'
    """
    if metric not in SUBGROUP_METRICS:
        raise OptionError(f"metric {metric!r}: must be one of {', '.join(SUBGROUP_METRICS)}.")
    models = models_to_plot(data, probabilities, threshold=threshold)
    columns = by if by is not None else _columns(data)
    of_models = [
        {
            f"{group.name} (n = {group.n})": group.metrics[metric]
            for group in subgroup_metrics(model.predictions, columns)
            if group.metrics[metric] is not None
        }
        for model in models
    ]
    if not of_models[0]:
        raise DataError(
            f"there is no subgroup with a {_title(metric)}: subgroups come from columns with 2 to "
            f"{MAX_SUBGROUPS} values. Received the columns: {', '.join(columns) or 'none'}. Pass "
            "others with by={name: values}."
        )
    others = {model.name: rows for model, rows in zip(models[1:], of_models[1:], strict=True)}
    is_area = metric in ("roc_auc", "pr_auc")
    axes = plot_forest(
        of_models[0],
        others=others,
        reference=(0.5, "chance") if metric == "roc_auc" else None,
        percent=not is_area,
        ax=ax,
    )
    axes.set_xlabel(f"{_title(metric)} (95% CI)")
    if others:
        add_model_legend(axes, [model.name for model in models])
    return axes


def add_model_legend(axes: Axes, names: Sequence[str]) -> None:
    """Name the models of a forest plot above it."""
    from matplotlib.lines import Line2D

    handles = [
        Line2D([], [], color=style.color, marker=style.marker, label=name)
        for name, style in zip(names, MODEL_STYLES, strict=False)
    ]
    axes.legend(handles=handles, loc="lower left", bbox_to_anchor=(0, 1.04), ncols=len(handles))


def _columns(data: Data) -> Mapping[str, Any]:
    first = next(iter(data.values()), None) if isinstance(data, Mapping) else data
    columns: Mapping[str, Any] = getattr(first, "columns", {})
    return columns


def _title(metric: str) -> str:
    titles = {"roc_auc": "ROC AUC", "pr_auc": "PR AUC", "ppv": "PPV", "npv": "NPV"}
    return titles.get(metric, metric)
