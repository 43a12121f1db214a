"""Numbers as the report and the model card print them."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from typing import Any

NOT_AVAILABLE = "not available"


def format_number(value: float | None) -> str:
    """Return a number with three decimals, or "-" if it is missing or not finite."""
    return "-" if value is None or not math.isfinite(value) else f"{value:.3f}"


def format_count(value: float) -> str:
    """Return a count, or a mean of counts with one decimal."""
    return f"{value:.0f}" if value == int(value) else f"{value:.1f}"


def format_quantity(count: int, unit: str) -> str:
    """Return a count with its unit, which is given in the plural: "1 slice", "2 slices"."""
    return f"{count} {unit.removesuffix('s') if count == 1 else unit}"


def format_percent(value: float | None) -> str:
    """Return a fraction in [0, 1] as a percentage with one decimal, or "-" if it is missing."""
    return "-" if value is None or not math.isfinite(value) else f"{value:.1%}"


def format_change(value: float | None) -> str:
    """Return a change with its sign and three decimals, or "-" if it is missing."""
    if value is None:
        return "-"
    return "0.000" if round(value, 3) == 0 else f"{value:+.3f}"


def format_p_value(value: float | None) -> str:
    """Return a p-value with three decimals, "< 0.001" below that, or "-" if it is missing."""
    if value is None:
        return "-"
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def format_metric(metric: Mapping[str, Any] | None, percent: bool = False) -> str:
    """Return a metric with its confidence interval: "0.800 (0.700 to 0.900)".

    Args:
        metric: `Interval.to_dict()`, or None.
        percent: Whether to print percentages. Defaults to False.

    Returns:
        The text, or "-" if there is no metric.
    """
    if metric is None:
        return "-"
    form = format_percent if percent else format_number
    return f"{form(metric['estimate'])} ({form(metric['low'])} to {form(metric['high'])})"


def flatten(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """List every leaf of nested plain values, with numbers as JSON writes them.

    Args:
        value: Dictionaries, lists, strings, numbers, booleans or None.
        path: Prefix of the names. Defaults to "".

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
