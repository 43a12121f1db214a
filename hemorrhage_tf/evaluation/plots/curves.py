"""Plots of curves over all thresholds: ROC, precision-recall, net benefit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from hemorrhage_tf.evaluation import curves
from hemorrhage_tf.evaluation.plots.models import (
    Data,
    add_legend,
    describe,
    models_to_plot,
    require_both_classes,
    styled,
)
from hemorrhage_tf.evaluation.plots.style import (
    BAND_OPACITY,
    CHANCE,
    PAPER,
    SOFT,
    SQUARE,
    WIDE,
    ModelStyle,
    axes_to_draw_on,
    set_unit_square,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def plot_roc(
    data: Data,
    probabilities: Any = None,
    *,
    threshold: float | None = None,
    groups: Any = None,
    level: str | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Plot the ROC curve with its pointwise 95 % band, and the operating point with its intervals.

    Args:
        data: A `Run`, an `Evaluation`, or a mapping of up to four names to these; or labels `(n,)`,
            0 or 1.
        probabilities: For labels: `(n,)`, or `(repeats, n)`, in [0, 1]; or a mapping of names to
            these. Defaults to None.
        threshold: For labels: probabilities at or above it are predicted hemorrhage. Defaults to
            0.5.
        groups: For labels: `(n,)`, equal for slices of one patient, so that intervals are over
            patients. Defaults to None.
        level: "slices", "slices_in_scans" or "scans" of a `Run` or an `Evaluation`. Defaults to
            the level of its main metrics.
        ax: Axes to draw on. Defaults to those of a new figure, one column wide.

    Returns:
        The axes.

    Raises:
        DataError: Predictions that are not probabilities, or labels of one class only.

    Example:
        >>> import hemorrhage_tf as htf
        >>> evaluation = htf.evaluate("head_ct", model="runs/first", quiet=True)
        >>> ax = htf.plots.plot_roc({"this run": evaluation, "cross-validated": evaluation})
        >>> ax.get_xlabel()
        '1 - specificity'
    """
    models = models_to_plot(data, probabilities, threshold=threshold, groups=groups, level=level)
    require_both_classes(models, "An ROC curve")
    with axes_to_draw_on(ax, SQUARE) as axes:
        axes.plot((0, 1), (0, 1), **CHANCE)
        for model, style in styled(models):
            curve = curves.roc_curve(model.labels, model.scores, model.band_resamples)
            _draw_band(axes, style, curve.grid, curve)
            text = describe(model, "AUC", model.metric("roc_auc"))
            axes.plot(curve.x, curve.y, color=style.color, linestyle=style.line, label=text)
            specificity = model.metric("specificity")
            _draw_point(axes, style, _complement(specificity), model.metric("sensitivity"))
        set_unit_square(axes, "1 - specificity", "sensitivity")
        add_legend(axes, "lower right", models)
    return axes


def plot_precision_recall(
    data: Data,
    probabilities: Any = None,
    *,
    threshold: float | None = None,
    groups: Any = None,
    level: str | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Plot the precision-recall curve with its pointwise 95 % band, and the operating point.

    Args:
        data: As in `plot_roc`.
        probabilities: As in `plot_roc`. Defaults to None.
        threshold: As in `plot_roc`. Defaults to 0.5.
        groups: As in `plot_roc`. Defaults to None.
        level: As in `plot_roc`. Defaults to the level of the main metrics.
        ax: Axes to draw on. Defaults to those of a new figure, one column wide.

    Returns:
        The axes.

    Raises:
        DataError: Predictions that are not probabilities, or labels of one class only.

    Example:
        >>> import hemorrhage_tf as htf
        >>> ax = htf.plots.plot_precision_recall([0, 0, 1, 1], [0.1, 0.6, 0.4, 0.9])
        >>> ax.get_ylabel()
        'precision (PPV)'
    """
    models = models_to_plot(data, probabilities, threshold=threshold, groups=groups, level=level)
    require_both_classes(models, "A precision-recall curve")
    with axes_to_draw_on(ax, SQUARE) as axes:
        for prevalence in sorted({float(model.labels.mean()) for model in models}):
            axes.plot((0, 1), (prevalence, prevalence), **CHANCE)
        for model, style in styled(models):
            curve = curves.precision_recall_curve(model.labels, model.scores, model.band_resamples)
            _draw_band(axes, style, curve.grid, curve)
            axes.plot(
                curve.x,
                curve.y,
                color=style.color,
                linestyle=style.line,
                drawstyle="steps-pre",
                label=describe(model, "AUC", model.metric("pr_auc")),
            )
            _draw_point(axes, style, model.metric("sensitivity"), model.metric("ppv"))
        set_unit_square(axes, "recall (sensitivity)", "precision (PPV)")
        add_legend(axes, "lower left", models)
    return axes


def plot_decision_curve(
    data: Data,
    probabilities: Any = None,
    *,
    groups: Any = None,
    level: str | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Plot the net benefit over the threshold probability, with its pointwise 95 % band.

    The net benefit is the share of true positives less the share of false positives times
    p / (1 - p), where p is the threshold probability. A model helps where its curve lies above both
    lines: predicting hemorrhage for all, and for none.

    Args:
        data: As in `plot_roc`.
        probabilities: As in `plot_roc`. Defaults to None.
        groups: As in `plot_roc`. Defaults to None.
        level: As in `plot_roc`. Defaults to the level of the main metrics.
        ax: Axes to draw on. Defaults to those of a new figure, one column wide.

    Returns:
        The axes.

    Raises:
        DataError: Predictions that are not probabilities, or labels of one class only.

    Reference:
        A. J. Vickers and E. B. Elkin, Decision curve analysis: a novel method for evaluating
        prediction models, Medical Decision Making 26 (2006), 565-574.

    Example:
        >>> import hemorrhage_tf as htf
        >>> ax = htf.plots.plot_decision_curve([0, 0, 1, 1], [0.1, 0.6, 0.4, 0.9])
        >>> ax.get_ylabel()
        'net benefit'
    """
    models = models_to_plot(data, probabilities, groups=groups, level=level)
    require_both_classes(models, "A decision curve")
    with axes_to_draw_on(ax, WIDE) as axes:
        top, for_all = 0.0, {}  # the latter by prevalence
        for model, style in styled(models):
            curve = curves.decision_curve(model.labels, model.scores, model.band_resamples)
            _draw_band(axes, style, curve.thresholds, curve)
            axes.plot(
                curve.thresholds,
                curve.benefit,
                color=style.color,
                linestyle=style.line,
                label=model.name or "model",
            )
            top = max(top, float(curve.high.max()), float(curve.treat_all.max()))
            for_all[float(model.labels.mean())] = curve.treat_all
        for line, label in zip(for_all.values(), ("hemorrhage for all", "", "", ""), strict=False):
            axes.plot(curves.DECISION_THRESHOLDS, line, color=SOFT, linewidth=0.9, label=label)
        axes.axhline(0, label="hemorrhage for none", **CHANCE)
        axes.set(xlim=(-0.01, 1.01), ylim=(-0.15 * top, 1.08 * top))
        axes.set(xlabel="threshold probability", ylabel="net benefit")
        add_legend(axes, "upper right", models)
    return axes


def _draw_band(
    axes: Axes, style: ModelStyle, x: np.ndarray, curve: curves.Curve | curves.DecisionCurve
) -> None:
    axes.fill_between(x, curve.low, curve.high, color=style.color, alpha=BAND_OPACITY, lw=0)


def _complement(metric: Mapping[str, Any] | None) -> dict[str, Any] | None:
    if metric is None:
        return None
    ends = 1 - metric["high"], 1 - metric["low"]
    return {"estimate": 1 - metric["estimate"], "low": ends[0], "high": ends[1]}


def _draw_point(
    axes: Axes, style: ModelStyle, x: Mapping[str, Any] | None, y: Mapping[str, Any] | None
) -> None:
    """Draw an operating point as a marker, its intervals as a cross."""
    if x is None or y is None:  # no slice is predicted hemorrhage, so that there is no precision
        return
    axes.errorbar(
        x["estimate"],
        y["estimate"],
        xerr=_reach(x),
        yerr=_reach(y),
        color=style.color,
        elinewidth=0.9,
        marker=style.marker,
        markersize=6,
        markeredgecolor=PAPER,
        markeredgewidth=0.8,
        zorder=3,
    )


def _reach(metric: Mapping[str, Any]) -> np.ndarray:
    """Return the distances from the estimate to the ends, `(2, 1)`."""
    estimate = metric["estimate"]
    ends = [[estimate - metric["low"]], [metric["high"] - estimate]]
    return np.maximum(ends, 0.0)  # rounding
