"""Durations and sizes in plain words."""

from __future__ import annotations


def format_duration(seconds: float) -> str:
    """Says how long something takes, in two units at most: "48 s", "12 min", "3 h 10 min"."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 90:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes} min"
    return f"{round(hours / 24)} days"


def format_size(size: int) -> str:
    """Says a number of bytes in the unit that suits it, powers of ten: "3.8 MB"."""
    for unit in ("B", "KB", "MB", "GB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.3g} TB"
