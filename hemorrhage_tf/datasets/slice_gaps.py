"""Gaps: where slices of a scan seem to be missing."""

from __future__ import annotations

from collections.abc import Callable, Sequence

# A gap that is this much wider than both neighboring gaps counts as missing slices.
WIDE_GAP = 1.5


def describe_gaps(
    positions: Sequence[float],
    numbers: Sequence[int | None],
    slice_name: Callable[[int], str],
) -> str | None:
    """Describe where slices of a sorted scan seem to be missing.

    Scans are often thin at the base and thick above, so each gap is compared with both neighbors.
    Between consecutive Instance Numbers nothing is missing, however wide the gap is.

    Args:
        positions: The positions of the slices in mm, ascending.
        numbers: Their Instance Numbers.
        slice_name: Returns the name of the slice at a place in the scan.

    Returns:
        A clause, or None if no slices seem to be missing.
    """
    if len(positions) < 4:
        return None
    gaps = [after - before for before, after in zip(positions, positions[1:], strict=False)]
    wide = []
    for index, gap in enumerate(gaps):
        neighbors = gaps[max(index - 1, 0) : index] + gaps[index + 1 : index + 2]
        before, after = numbers[index], numbers[index + 1]
        consecutive = before is not None and after is not None and abs(after - before) == 1
        if not consecutive and all(gap > WIDE_GAP * neighbor > 0 for neighbor in neighbors):
            wide.append(f"{gap:.1f} mm between {slice_name(index)} and {slice_name(index + 1)}")
    if not wide:
        return None
    usual = sorted(gaps)[len(gaps) // 2]
    return f"slices seem to be missing: {'; '.join(wide)} (usually {usual:.1f} mm)"
