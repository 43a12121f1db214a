"""Numbers as the report and the model card print them."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from typing import Any

# How numbers are said.


def format_number(value: float | None) -> str:
    """Says a number with three decimals."""
    return "-" if value is None or not math.isfinite(value) else f"{value:.3f}"


def format_share(value: float | None) -> str:
    """Says a share of 1 in percent, with one decimal."""
    return "-" if value is None or not math.isfinite(value) else f"{value:.1%}"


def format_change(value: float | None) -> str:
    """Says a change, with its sign unless it rounds to none."""
    if value is None:
        return "-"
    return "0.000" if round(value, 3) == 0 else f"{value:+.3f}"


def format_p_value(value: float | None) -> str:
    """Says a p-value."""
    if value is None:
        return "-"
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def format_metric(figure: Mapping[str, Any] | None, percent: bool = False) -> str:
    """Says a figure with its interval."""
    if figure is None:
        return "-"
    say = format_share if percent else format_number
    return f"{say(figure['estimate'])} ({say(figure['low'])} to {say(figure['high'])})"


def flatten(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Lists every leaf of nested plain values, numbers as JSON writes them.

    Args:
        value: dictionaries, lists, texts, numbers, booleans or None.
        path: what stands before the names. Default nothing.

    Yields:
        A path such as `calibration.reliability[0].n`, and the value as text.
    """
    if isinstance(value, Mapping) and value:
        for name, each in value.items():
            yield from flatten(each, f"{path}.{name}" if path else str(name))
    elif isinstance(value, list | tuple) and value:
        for index, each in enumerate(value):
            yield from flatten(each, f"{path}[{index}]")
    else:
        yield path, value if isinstance(value, str) else json.dumps(value)
