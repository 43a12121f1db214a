from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from dataset_files import add_csv, add_images, reasons

from hemorrhage_tf.core.errors import DataError, OptionError
from hemorrhage_tf.datasets.layouts.base import SUBTYPES
from hemorrhage_tf.datasets.manifest import read_manifest
from hemorrhage_tf.datasets.subtype_columns import subtype_labels

HEADER = f"path,label,{','.join(SUBTYPES)}\n"


def read(folder, rows: str, header: str = HEADER, target: str = "all"):
    add_images(folder, "a.png", "b.png", "c.png")
    return read_manifest(add_csv(folder, header + rows), target=target)


def test_labels_in_the_order_of_the_subtypes_and_blank_cells(tmp_path):
    rows = "a.png,1,1,0,0,0,1\nb.png,0,0,0,0,0,0\nc.png,1,,,0,1.0,\n"
    manifest = read(tmp_path, rows, target="ALL")
    assert manifest.problems == () and manifest.labels.tolist() == [1, 0, 1]
    labels = subtype_labels(manifest)
    assert labels.dtype == np.int8
    np.testing.assert_array_equal(labels, [[1, 0, 0, 0, 1], [0, 0, 0, 0, 0], [-1, -1, 0, 1, -1]])


def test_the_column_any_may_be_the_label(tmp_path):
    header = HEADER.replace("label", "any")
    manifest = read(tmp_path, "a.png,1,1,0,0,0,0\nb.png,0,0,0,0,0,0\n", header)
    assert manifest.labels.tolist() == [1, 0]


def test_rows_that_cannot_be_used_are_problems_together(tmp_path):
    rows = "a.png,0,0,0,0,1,1\nb.png,1,yes,0,0,2,1\nc.png,1,1,0,0,0,0\n"
    manifest = read(tmp_path, rows)
    assert reasons(manifest.problems) == {
        "a.png": "has no hemorrhage, but the subtype subarachnoid, subdural",
        "b.png": "neither 0, 1 nor blank: epidural 'yes', subarachnoid '2'",
    }
    assert len(manifest) == 1
    # The same of a manifest that was not read for all subtypes.
    with pytest.raises(DataError, match="2 slices have subtypes") as caught:
        subtype_labels(read(tmp_path, rows, target=None))
    assert "a.png: has no hemorrhage" in str(caught.value)
    assert "b.png: neither 0" in str(caught.value)


def test_a_missing_column_is_named(tmp_path):
    with pytest.raises(OptionError, match="no column for epidural.*leave out --target"):
        read(tmp_path, "a.png,1,0,0,0,0\n", HEADER.replace("epidural,", ""))
    manifest = read(tmp_path, "a.png,1,1,0,0,0,0\nb.png,0,0,0,0,0,0\n")
    with pytest.raises(OptionError, match="subdural"):
        subtype_labels(replace(manifest, columns=manifest.columns[:4]))
