"""Which slices show which subtype, as far as the manifest's further columns say so."""

from __future__ import annotations

import numpy as np

from hemorrhage_tf.datasets.labels import parse_binary
from hemorrhage_tf.datasets.layouts.base import SUBTYPES
from hemorrhage_tf.datasets.records import Manifest


def subtype_columns(manifest: Manifest) -> dict[str, np.ndarray]:
    """Return for each subtype that is a column of the manifest which slices show it.

    Args:
        manifest: The `n` labeled slices. Where only scans are labeled, each slice carries the
            subtypes of its scan.

    Returns:
        By subtype bool `(n,)`: False also where the column is blank or holds another text.
    """
    places = {name: manifest.columns.index(name) for name in SUBTYPES if name in manifest.columns}
    if not places:
        return {}
    rows = [record.columns for record in manifest.records]
    return {
        name: np.array([parse_binary(row[place].strip()) == 1 for row in rows], bool)
        for name, place in places.items()
    }
