"""What a manifest shows of itself in a notebook: counts and a few slices, and no patient.

`records` calls this file, which therefore does not import it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from hemorrhage_tf.core.errors import SliceError
from hemorrhage_tf.core.notebook_html import html_table, join_html, side_by_side, thumbnail
from hemorrhage_tf.imaging.readers import read_slice
from hemorrhage_tf.imaging.windows import to_display_image

if TYPE_CHECKING:
    from markupsafe import Markup

_THUMBNAILS = 4  # of each class


def manifest_html(manifest: Any) -> str:
    """Return the HTML of a `Manifest`."""
    records, labels = manifest.records, manifest.labels
    rows = [
        ("slices", len(manifest)),
        ("with hemorrhage", int(labels.sum())),
        ("without", int((labels == 0).sum())),
        ("scans", len({scan for scan in records.scans if scan is not None}) or "unknown"),
        ("patients", len({one for one in records.patients if one is not None}) or "unknown"),
        ("labels of", "scans" if manifest.level == "scan" else "slices"),
        ("further columns", ", ".join(manifest.columns) or "none"),
        ("problems", len(manifest.problems)),
    ]
    table = html_table(("", "value"), rows)
    return join_html(f"Manifest: {manifest.layout}", table, side_by_side(_thumbnails(manifest)))


def _thumbnails(manifest: Any) -> Iterator[Markup]:
    for label, name in ((1, "hemorrhage"), (0, "no hemorrhage")):
        members = np.flatnonzero(manifest.labels == label)
        spread = np.linspace(0, len(members) - 1, min(_THUMBNAILS, len(members))).astype(int)
        for index in members[spread]:
            yield thumbnail(_read(manifest, int(index)), f"Slice {index + 1}: {name}", name)


def _read(manifest: Any, index: int) -> Image.Image | None:
    try:
        return Image.fromarray(to_display_image(read_slice(manifest.records.ref(index))))
    except SliceError:
        return None
