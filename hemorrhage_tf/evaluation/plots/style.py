"""The look of all plots: colors, sizes, line styles, and the axes to draw on.

matplotlib is imported only when something is drawn.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Okabe and Ito's colors, which people with any color vision tell apart, and grays for the rest.
# The report replaces each of them by its color in a dark page, so no two may be the same.
BLUE, VERMILLION, GREEN, PURPLE = "#0072b2", "#d55e00", "#009e73", "#cc79a7"
TEXT, SOFT, GRID, PAPER = "#1b2127", "#55606b", "#d6dce2", "#ffffff"

SQUARE, WIDE = (3.5, 3.3), (3.5, 2.5)  # inches; 3.5 is one column of a journal
BAND_OPACITY = 0.15

_STYLE: Mapping[str, Any] = {
    # A dollar sign in the name of a file is no formula.
    "text.parse_math": False,
    "figure.dpi": 150,
    "savefig.dpi": 600,
    "font.size": 8,
    "axes.labelsize": 8,
    "axes.titlesize": 8,
    "axes.titlelocation": "left",
    "legend.fontsize": 7,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "lines.linewidth": 1.4,
    "lines.markersize": 4.5,
    "patch.linewidth": 0.6,
    "hatch.linewidth": 0.5,
    "axes.linewidth": 0.6,
    "grid.linewidth": 0.5,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "legend.frameon": True,
    "legend.framealpha": 0.85,
    "legend.edgecolor": "none",
    "legend.facecolor": PAPER,
    "text.color": TEXT,
    "axes.labelcolor": TEXT,
    "axes.edgecolor": SOFT,
    "axes.facecolor": "none",
    "figure.facecolor": PAPER,
    "xtick.color": SOFT,
    "ytick.color": SOFT,
    "grid.color": GRID,
    "pdf.fonttype": 42,  # journals want TrueType
}

CHANCE: Mapping[str, Any] = {"color": SOFT, "linestyle": (0, (4, 4)), "linewidth": 0.9}


@dataclass(frozen=True)
class ModelStyle:
    """How one of several models is drawn: gray prints keep the line style and the marker."""

    color: str
    line: str
    marker: str
    hatch: str


MODEL_STYLES = (
    ModelStyle(BLUE, "-", "o", ""),
    ModelStyle(VERMILLION, "--", "D", "////"),
    ModelStyle(GREEN, "-.", "s", "...."),
    ModelStyle(PURPLE, ":", "^", "xxxx"),
)


@contextmanager
def plot_style(changes: Mapping[str, Any] | None = None) -> Iterator[None]:
    """Draw with the look of this package, whatever the user's own settings are.

    Args:
        changes: Further matplotlib settings. Defaults to none.
    """
    import matplotlib
    from matplotlib import style

    interactive = matplotlib.is_interactive()
    try:
        with style.context(["default", {**_STYLE, **(changes or {})}]):
            try:
                yield
            finally:
                interactive = matplotlib.is_interactive()
    finally:
        # The first figure of a notebook loads its backend, which turns this on for all others.
        matplotlib.interactive(interactive)


@contextmanager
def axes_to_draw_on(ax: Axes | None, size: tuple[float, float] = SQUARE) -> Iterator[Axes]:
    """Yield given axes as they are, or those of a new figure in the look of this package.

    Args:
        ax: The axes, or None for new ones.
        size: Width and height of a new figure, in inches.
    """
    import matplotlib

    if ax is not None:
        with matplotlib.rc_context({"text.parse_math": False}):
            yield ax
        return
    from matplotlib import pyplot

    with plot_style():
        figure, ax = pyplot.subplots(figsize=size, layout="constrained")
        try:
            yield ax
        except BaseException:
            pyplot.close(figure)
            raise


def set_unit_square(axes: Axes, x: str, y: str) -> None:
    """Let both axes run from 0 to 1, and label them."""
    axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), xlabel=x, ylabel=y)
    axes.set_aspect("equal", adjustable="box")
