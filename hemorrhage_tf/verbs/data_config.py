"""The description of the data in the `config.json` of a run folder."""

from __future__ import annotations

from typing import Any

import numpy as np

from hemorrhage_tf.datasets.slice_index import SliceIndex


def data_config(slices: SliceIndex) -> dict[str, Any]:
    """Return where the slices are, and how many there are of each kind."""
    manifest = slices.manifest
    records = manifest.records
    return {
        "root": None if manifest.root_is_named else str(manifest.root.resolve()),
        "layout": manifest.layout,
        "level": manifest.level,
        "hash": slices.data_hash,
        "slices": len(slices),
        "in_hounsfield_units": int(slices.is_hounsfield.sum()),
        "hemorrhage": int(slices.labels.sum()),
        "groups": len(np.unique(slices.groups)),
        "patients": len({patient for patient in records.patients if patient}),
        "scans": len(slices.scans),
        "scans_with_hemorrhage": int(slices.scans.labels.sum()),
        "slices_with_scan_labels_only": int((~slices.has_slice_label).sum()),
        "exact_duplicate_pairs": len(slices.exact_pairs),
        "near_duplicate_pairs": len(slices.near_pairs),
        "skipped": len(slices.skipped),
    }
