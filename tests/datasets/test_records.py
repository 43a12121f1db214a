from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from hemorrhage_tf.datasets.records import Manifest, Record, Records, relative_path
from hemorrhage_tf.imaging.readers import SliceRef

ROWS = [
    Record(Path("set/a.png"), 1),
    Record(Path("set/b.nii"), 0, "P1", "train", 2, "b", ("x", ""), "anonymous-0001.nii"),
    Record(
        Path("/elsewhere/c.dcm"),
        label=0,
        patient="P1",
        scan="b",
        position=-12.5,
        number=-3,
        thickness=0.625,
        scan_label=0,
        has_slice_label=False,
        scan_name="B",
    ),
]


class TestRecords:
    def test_returns_the_records_it_was_given(self):
        records = Records(ROWS)
        assert len(records) == 3
        assert list(records) == ROWS and records == tuple(ROWS) and records == Records(ROWS)
        assert [records[index] for index in (0, 1, -1)] == ROWS
        with pytest.raises(IndexError):
            records[3]

    def test_differs_from_other_records(self):
        assert Records(ROWS) != Records(ROWS[:2])
        assert Records(ROWS) != Records([*ROWS[:2], replace(ROWS[2], label=1)])

    @pytest.mark.parametrize("part", [slice(1, None), slice(None, None, -1), slice(5, 9)])
    def test_slices_are_records_too(self, part):
        assert Records(ROWS)[part] == ROWS[part]

    def test_takes_some_and_can_be_extended_after_that(self):
        taken = Records(ROWS).take(np.array([2, 0]))
        taken.append(ROWS[1])
        assert taken == [ROWS[2], ROWS[0], ROWS[1]]

    def test_columns(self):
        records = Records(ROWS)
        assert records.labels.tolist() == [1, 0, 0] and records.labels.dtype == np.int64
        assert list(records.patients) == [None, "P1", "P1"]
        assert records.splits == [None, "train", None]
        assert records.scans == [None, "b", "b"]
        assert records.scan_names == [None, None, "B"]
        assert records.scan_labels == [None, None, 0]
        assert records.has_slice_label.tolist() == [True, True, False]
        assert records.numbers == [None, None, -3]
        np.testing.assert_array_equal(records.positions, [np.nan, np.nan, -12.5])
        assert not records.are_display_images
        assert Records(ROWS[:1]).are_display_images

    def test_patients_may_be_texts_of_a_numpy_array(self):
        patients = np.array(["P1", "P2", "P1"])
        records = Records(
            Record(Path(f"{index}.png"), 0, patient) for index, patient in enumerate(patients)
        )
        assert list(records.patients) == ["P1", "P2", "P1"]

    def test_refs_are_created_on_access(self):
        refs = Records(ROWS).refs
        assert list(refs) == [each.ref for each in ROWS]
        assert refs[1:] == [SliceRef(Path("set/b.nii"), 2), SliceRef(Path("/elsewhere/c.dcm"))]
        assert refs[-1] == ROWS[-1].ref


class TestManifest:
    def test_names_are_relative_to_the_root_and_hide_patients(self):
        manifest = Manifest(ROWS, Path("set"), "csv")
        names = ["a.png", "anonymous-0001.nii#2", "/elsewhere/c.dcm"]
        assert [manifest.name_at(index) for index in range(3)] == names
        assert [manifest.name(record) for record in manifest.records] == names
        assert manifest.path_at(1) == "anonymous-0001.nii"
        assert Manifest(ROWS, Path("."), "csv").name_at(0) == "set/a.png"

    def test_any_sequence_of_records_becomes_records(self):
        manifest = Manifest(ROWS, Path("set"), "csv")
        assert isinstance(manifest.records, Records)
        assert len(manifest) == 3 and manifest.labels.tolist() == [1, 0, 0]


@pytest.mark.parametrize(
    ("path", "root", "expected"),
    [
        ("/a/b.png", "/a", "b.png"),
        ("/a/b/c.png", "/", "a/b/c.png"),
        ("/ab/c.png", "/a", "/ab/c.png"),
        ("a/b.png", ".", "a/b.png"),
        ("../a.png", "..", "a.png"),
    ],
)
def test_relative_path(path, root, expected):
    assert relative_path(Path(path), Path(root)) == expected
