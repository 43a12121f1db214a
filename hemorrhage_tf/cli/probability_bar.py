"""A bar of the probabilities of the slices of a scan, in one line of text."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from rich.console import Console, ConsoleOptions, RenderResult
from rich.text import Text

_BLOCKS = "▁▂▃▄▅▆▇█"
_DIGITS = "0123456789"  # tenths, where the output's encoding has no blocks
_WIDEST = 60  # characters; several slices of a longer scan share one
_INDENT, _FIRST, _LAST = "  ", "neck ", " vertex"


class ProbabilityBar:
    """A bar with a character for each slice, from the neck to the vertex.

    In a scan of more than 60 slices neighbors share a character, which shows the highest of them.

    Args:
        probabilities: Of the slices, in [0, 1].
        flagged: Whether each of them is predicted hemorrhage; these are bold and red in color.
    """

    def __init__(self, probabilities: Sequence[float], flagged: Sequence[bool]) -> None:
        self._probabilities = np.asarray(probabilities, float)
        self._flagged = np.asarray(flagged, bool)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Yield the line, as wide as the console and at most 60 slices allow."""
        around = len(_INDENT) + len(_FIRST) + len(_LAST)
        width = max(1, min(_WIDEST, options.max_width - around, len(self._probabilities)))
        symbols = _DIGITS if options.ascii_only else _BLOCKS
        line = Text(f"{_INDENT}{_FIRST}", no_wrap=True)
        edges = np.linspace(0, len(self._probabilities), width + 1).astype(int)
        for begin, end in zip(edges[:-1], edges[1:], strict=True):
            members = slice(begin, end)
            highest = float(self._probabilities[members].max())
            symbol = symbols[min(int(highest * len(symbols)), len(symbols) - 1)]
            line.append(symbol, "bold red" if self._flagged[members].any() else None)
        line.append(_LAST)
        yield line
