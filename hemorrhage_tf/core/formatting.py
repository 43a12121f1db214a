"""Durations, rates and file sizes as text."""

from __future__ import annotations


def format_duration(seconds: float) -> str:
    """Return a duration in at most two units: "48 s", "12 min", "3 h 10 min"."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 90:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes} min"
    return f"{round(hours / 24)} days"


def format_rate(rate: float | None) -> str:
    """Return steps per second: "0.42/s", "38/s", "1,200/s"; nothing for an unknown rate."""
    if rate is None:
        return ""
    return f"{rate:.2g}/s" if rate < 10 else f"{rate:,.0f}/s"


def format_size(size: float) -> str:
    """Return a number of bytes with a decimal unit (1 MB is 10**6 bytes): "3.8 MB"."""
    for unit in ("B", "KB", "MB", "GB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.3g} TB"
