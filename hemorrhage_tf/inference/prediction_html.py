"""What a `Prediction` shows of itself in a notebook.

`predictions` calls this file, which therefore does not import it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from hemorrhage_tf.core.notebook_html import (
    color_scale,
    html_table,
    join_html,
    paragraph,
    side_by_side,
    thumbnail,
)
from hemorrhage_tf.inference.evidence import FULL_COLOR, blend_evidence

if TYPE_CHECKING:
    from markupsafe import Markup

_ROWS = 20  # of a table
_THUMBNAILS = 6  # of slices that belong to no scan
_GRAY = 128  # of the brain below the color bar


def prediction_html(prediction: Any) -> str:
    """Return the HTML of a `Prediction`: scans, slices to look at, and a table of slices."""
    flagged = sum(one.is_hemorrhage for one in prediction)
    title = f"{len(prediction)} slices, {flagged} predicted hemorrhage"
    if prediction.scans:
        found = sum(one.is_hemorrhage for one in prediction.scans)
        title = f"{len(prediction.scans)} scans, {found} predicted hemorrhage; {title}"
    parts = [html_table(*_scans(prediction))] if prediction.scans else []
    images = side_by_side(_thumbnails(prediction)) if prediction.previews is not None else None
    scale = None if images is None else evidence_scale()
    rows = list(_slice_rows(prediction))
    left = len(prediction) - len(rows)
    more = paragraph(f"{left} more slices") if left > 0 else None
    table = html_table(("slice", "probability", "hemorrhage", "warning"), rows)
    return join_html(title, *parts, images, scale, table, more)


def _scans(prediction: Any) -> tuple[tuple[str, ...], list[tuple[object, ...]], str]:
    headings = ("scan", "probability", "threshold", "hemorrhage", "flagged slices", "look at")
    rows: list[tuple[object, ...]] = [
        (
            one.scan,
            f"{one.probability:.3f}",
            f"{one.threshold:.3f}",
            _yes(one.is_hemorrhage),
            f"{one.flagged} of {one.slices}",
            ", ".join(str(place) for place in one.top_positions),
        )
        for one in prediction.scans[:_ROWS]
    ]
    return headings, rows, "Scans; places to look at are counted from the neck"


def _thumbnails(prediction: Any) -> Iterator[Markup]:
    """Yield the slices to look at of the first scans, and the highest of no scan."""
    for index, caption in _chosen(prediction):
        one = prediction[index]
        decision = "hemorrhage" if one.is_hemorrhage else "no hemorrhage"
        text = f"{caption}: probability {one.final_probability:.3f}, {decision}"
        yield thumbnail(prediction.previews.draw(index, one), text, text)


def _chosen(prediction: Any) -> Iterator[tuple[int, str]]:
    members: dict[str | None, list[int]] = {}
    for index, one in enumerate(prediction):
        members.setdefault(one.scan, []).append(index)
    for scan in prediction.scans[:2]:
        for place in scan.top_positions:
            yield members[scan.scan][place - 1], f"place {place} of {scan.slices}"
    alone = members.get(None, [])
    alone.sort(key=lambda index: -prediction[index].final_probability)
    for index in alone[:_THUMBNAILS]:
        yield index, f"slice {index + 1}"


def _slice_rows(prediction: Any) -> Iterator[tuple[object, ...]]:
    for one in prediction.slices[:_ROWS]:
        yield (
            one.path,
            f"{one.final_probability:.3f}",
            _yes(one.is_hemorrhage),
            one.warning or "",
        )


def evidence_scale() -> Markup:
    """Return the color bar of the overlays, as on gray brain."""
    evidence = np.linspace(0, FULL_COLOR, 5, dtype=np.float32)[np.newaxis]
    gray = np.full((1, 5, 3), _GRAY, np.uint8)
    colors = [(int(r), int(g), int(b)) for r, g, b in blend_evidence(gray, evidence)[0]]
    return color_scale(colors, "0", f"{FULL_COLOR:g}+", "Evidence above the threshold, in logits")


def _yes(value: bool) -> str:
    return "yes" if value else "no"
