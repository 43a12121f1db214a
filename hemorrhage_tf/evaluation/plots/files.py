"""Figures as files, with the same bytes for the same content."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hemorrhage_tf.core.atomic_files import write_requested_file
from hemorrhage_tf.core.errors import OptionError
from hemorrhage_tf.evaluation.plots.style import plot_style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FORMATS = ("png", "pdf", "svg")
# Dates and version numbers would differ between runs.
_METADATA: dict[str, dict[str, Any]] = {
    "png": {"Software": None},
    "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
    "svg": {"Date": None, "Creator": None},
}


@dataclass(frozen=True)
class Margins:
    """The margins of a figure around its axes, in inches."""

    left: float
    bottom: float
    right: float
    top: float


def check_format(name: str) -> None:
    """Raise an OptionError for a format that figures cannot have."""
    if name not in FORMATS:
        raise OptionError(f"--format {name}: unknown. Pass {', '.join(FORMATS)}.")


def draw_figure(
    draw: Callable[[Axes], object],
    size: tuple[float, float],
    settings: dict[str, Any] | None = None,
    margins: Margins | None = None,
) -> Figure:
    """Draw a figure of one plot that no window and no notebook shows.

    Args:
        draw: Draws on given axes.
        size: Width and height in inches.
        settings: Further matplotlib settings. Defaults to none.
        margins: Around the axes, in inches. Defaults to None, which leaves room for what is drawn,
            and takes twice as long.
    """
    from matplotlib.figure import Figure

    with plot_style(settings):
        figure = Figure(figsize=size, layout=None if margins else "constrained")
        if margins is not None:
            width, height = size
            figure.subplots_adjust(
                left=margins.left / width,
                bottom=margins.bottom / height,
                right=1 - margins.right / width,
                top=1 - margins.top / height,
            )
        draw(figure.subplots())
    return figure


def figure_bytes(figure: Figure, form: str, settings: dict[str, Any] | None = None) -> bytes:
    """Return a figure as a file of the format "png", "pdf" or "svg".

    Args:
        figure: From `draw_figure`.
        form: The format.
        settings: Further matplotlib settings. Defaults to none.
    """
    file = io.BytesIO()
    # Without a salt the ids of an SVG are random.
    with plot_style({"svg.hashsalt": "hemorrhage_tf", **(settings or {})}):
        figure.savefig(file, format=form, metadata=_METADATA[form])
    return file.getvalue()


def write_figure(path: Path, figure: Figure) -> None:
    """Write a figure to a file whose suffix is one of `FORMATS`.

    Raises:
        OutputError: The file cannot be written. Nothing is left behind.
    """
    content = figure_bytes(figure, path.suffix.removeprefix("."))
    write_requested_file(path, content, "Make room or name another folder.")
