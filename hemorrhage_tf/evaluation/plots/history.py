"""Plot of a training: a metric over the epochs."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from hemorrhage_tf.core.errors import DataError
from hemorrhage_tf.evaluation.plots.style import (
    BLUE,
    MODEL_STYLES,
    SOFT,
    VERMILLION,
    WIDE,
    axes_to_draw_on,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Row = Mapping[str, Any]
_MANY_TRAININGS = 3  # from here on their lines are thin
_PREFIXES = ("validation_", "val_")  # of this package, and of Keras


def plot_history(data: Any, *, metric: str = "loss", ax: Axes | None = None) -> Axes:
    """Plot a metric over the epochs: one line for each training, dashed for its validation part.

    Args:
        data: A `Run`, the `History` of Keras, its columns (a mapping of names to lists), the rows
            of a `history.csv`, or a mapping of up to four names to these.
        metric: Name of the column, such as "loss" or "accuracy". Defaults to "loss".
        ax: Axes to draw on. Defaults to those of a new figure, one column wide.

    Returns:
        The axes.

    Raises:
        DataError: No training has two epochs with that metric.

    Example:
        >>> import hemorrhage_tf as htf
        >>> ax = htf.plots.plot_history({"loss": [0.7, 0.5], "val_loss": [0.8, 0.6]})
        >>> ax.get_ylabel()
        'loss'
    """
    models = _by_model(data)
    lines = {name: list(_lines(rows, metric)) for name, rows in models.items()}
    columns = {column for rows in models.values() for row in rows for column in row}
    if not any(lines.values()):
        raise DataError(
            f"metric {metric!r}: no training has two epochs with it. The history has "
            f"{', '.join(sorted(columns)) or 'no columns'}. A head that a solver fits in one step "
            "has no epochs."
        )
    if len(lines) > len(MODEL_STYLES):
        raise DataError(
            f"{len(lines)} models: a plot shows up to {len(MODEL_STYLES)}, which can be told "
            "apart. Draw several plots."
        )
    from matplotlib.ticker import MaxNLocator

    with axes_to_draw_on(ax, WIDE) as axes:
        for style, (name, trainings) in zip(MODEL_STYLES, lines.items(), strict=False):
            is_only = len(lines) == 1
            thin = len(trainings) > 2 * _MANY_TRAININGS
            used: set[str] = set()
            for part, points in trainings:
                label = part if is_only else f"{name}, {part}"
                is_validation = part == "validation"
                axes.plot(
                    *zip(*points, strict=True),
                    color=(VERMILLION if is_validation else BLUE) if is_only else style.color,
                    linestyle="--" if is_validation else "-",
                    marker=None if thin or is_only else style.marker,
                    linewidth=0.7 if thin else 1.4,
                    alpha=0.6 if thin else 1.0,
                    label="" if label in used else label,
                )
                used.add(label)
        for start, stage in _stages(next(iter(models.values()))):
            axes.axvline(start, color=SOFT, linestyle=(0, (1, 2)))
            place: dict[str, Any] = {"transform": axes.get_xaxis_transform(), "fontsize": "small"}
            axes.text(start, 0.98, f" {stage}", va="top", **place)
        axes.set(xlabel="epoch", ylabel=metric.replace("_", " "))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.legend(loc="best")
    return axes


def _by_model(data: Any) -> dict[str, Sequence[Row]]:
    if isinstance(data, Mapping) and not _is_columns(data):
        return {str(name): _rows(each) for name, each in data.items()}
    return {"": _rows(data)}


def _is_columns(data: Mapping[str, Any]) -> bool:
    """Return whether a mapping holds lists of numbers, as Keras' history does."""
    values = list(data.values())
    return bool(values) and all(
        isinstance(each, list | tuple) and not any(isinstance(one, Mapping) for one in each)
        for each in values
    )


def _rows(data: Any) -> Sequence[Row]:
    """Return the epochs of a history in any form, a mapping for each."""
    history = getattr(data, "history", data)
    if isinstance(history, Mapping):
        lengths = {len(values) for values in history.values()}
        epochs = max(lengths, default=0)
        return [
            {name: values[epoch] for name, values in history.items() if epoch < len(values)}
            for epoch in range(epochs)
        ]
    rows = list(history) if isinstance(history, Sequence) else None
    if rows is None or not all(isinstance(row, Mapping) for row in rows):
        raise DataError(
            f"{type(data).__name__}: has no history of epochs. Pass a Run, a Keras History, or the "
            "rows of a history.csv."
        )
    return rows


def has_line(rows: Sequence[Row], metric: str) -> bool:
    """Return whether a training has two epochs with a metric, so that `plot_history` draws it."""
    return next(_lines(rows, metric), None) is not None


def final_values(rows: Sequence[Row], metric: str) -> dict[str, float]:
    """Return the last value of the first training, and of its validation part where it has one."""
    values: dict[str, float] = {}
    for part, points in _lines(group_trainings(rows)[0], metric):
        values[part] = points[-1][1]
    return values


def group_trainings(rows: Sequence[Row]) -> list[list[Row]]:
    """Group the epochs of a history by training (repeat and fold), in their order."""
    trainings: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        trainings.setdefault((str(row.get("repeat")), str(row.get("fold"))), []).append(row)
    return list(trainings.values())


def _lines(rows: Sequence[Row], metric: str) -> Iterator[tuple[str, list[tuple[int, float]]]]:
    """Yield "training" or "validation", and epochs with values, for each training with a line."""
    for training in group_trainings(rows):
        parts = [("training", [metric]), ("validation", [f"{each}{metric}" for each in _PREFIXES])]
        for part, columns in parts:
            points = [
                (epoch, value)
                for epoch, row in enumerate(training, 1)
                if (value := _first_number(row, columns)) is not None
            ]
            if len(points) > 1:
                yield part, points


def _first_number(row: Row, columns: Sequence[str]) -> float | None:
    """Return the value of the first column that the row has; None unless it is finite."""
    cell = next((row[column] for column in columns if column in row), None)
    try:
        number = float(cell)  # type: ignore[arg-type]
    except (TypeError, ValueError):  # an empty cell
        return None
    return number if math.isfinite(number) else None


def _stages(rows: Sequence[Row]) -> Iterator[tuple[float, str]]:
    """Yield where a new stage of the first training starts, such as fine-tuning, and its name."""
    training = (group_trainings(rows) or [[]])[0]
    for index, row in enumerate(training[1:], 2):
        if row.get("stage") != training[index - 2].get("stage"):
            yield index - 0.5, str(row.get("stage")).replace("_", "-")
