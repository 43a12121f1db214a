from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hemorrhage_tf.core.progress import Progress
from hemorrhage_tf.datasets.manifest import read_manifest
from hemorrhage_tf.datasets.records import Manifest, Record
from hemorrhage_tf.datasets.scan_checks import ScanProblems, check_scans
from hemorrhage_tf.datasets.scan_index import index_scans
from hemorrhage_tf.datasets.slice_index import build_slice_index

ROOT = Path("data")
QUIET = Progress(quiet=True)


def slice_of(scan, name="a.png", label=0, **values):
    return Record(ROOT / name, label, scan=scan, **values)


def index(records, groups=None, **values):
    groups = np.arange(len(records)) if groups is None else np.array(groups)
    return index_scans(Manifest(records, ROOT, "csv", **values), groups)


def members(scans):
    return [indices.tolist() for indices in scans.members]


class TestOrder:
    def test_positions_in_millimeters_come_first(self):
        places = [(30.0, 1), (10.0, 3), (20.0, 2)]
        scans = index([slice_of("s", position=place, number=n) for place, n in places])
        assert members(scans) == [[1, 2, 0]]
        assert scans.positions.tolist() == [30.0, 10.0, 20.0]

    def test_numbers_give_the_order_where_a_position_is_unknown(self):
        places = [(30.0, 1), (None, 3), (20.0, 2)]
        scans = index([slice_of("s", position=place, number=n) for place, n in places])
        assert members(scans) == [[0, 2, 1]]
        assert np.isnan(scans.positions).all()  # also those that are known: they do not compare

    def test_else_the_order_of_the_manifest_stays(self):
        places = [(30.0, None), (None, 3), (20.0, 2)]
        scans = index([slice_of("s", position=place, number=n) for place, n in places])
        assert members(scans) == [[0, 1, 2]] and np.isnan(scans.positions).all()

    def test_scans_are_in_the_order_of_their_first_slices(self):
        scans = index([slice_of(scan) for scan in ["b", None, "a", "b", "a", None]])
        assert members(scans) == [[0, 3], [2, 4]]
        assert scans.scan_of_slice.tolist() == [0, -1, 1, 0, 1, -1]
        assert scans.lengths.tolist() == [2, 2]
        assert all(indices.dtype == np.int64 for indices in scans.members)

    @given(
        st.lists(
            st.tuples(
                st.sampled_from(["a", "b", "c", None]),
                st.none() | st.floats(-1e6, 1e6, allow_nan=False),
                st.none() | st.integers(-9, 9),
            ),
            max_size=30,
        )
    )
    def test_every_slice_of_a_scan_is_in_it_once_and_the_order_never_falls(self, rows):
        records = [
            slice_of(scan, position=place, number=number, has_slice_label=False, scan_label=0)
            for scan, place, number in rows
        ]
        scans = index(records)
        for indices in members(scans):
            key = rows[indices[0]][0]
            assert key is not None
            assert sorted(indices) == [at for at, row in enumerate(rows) if row[0] == key]
            own = [rows[at] for at in indices]
            if all(place is not None for _, place, _ in own):
                places = [place for _, place, _ in own]
                np.testing.assert_array_equal(scans.positions[indices], places)
            else:
                places = [number for _, _, number in own]
                assert np.isnan(scans.positions[indices]).all()
            if None in places:
                assert indices == sorted(indices)
            else:  # sorted, and stable
                expected = sorted(range(len(own)), key=lambda at: (places[at], indices[at]))
                assert expected == list(range(len(own)))
        assert np.isnan(scans.positions[scans.scan_of_slice == -1]).all()
        assert scans.lengths.sum() == sum(scan is not None for scan, _, _ in rows)

    @given(st.permutations(range(9)))
    def test_the_order_of_the_manifest_does_not_matter_where_positions_are_known(self, order):
        records = [slice_of("s", f"{place}.png", position=2.5 * place) for place in order]
        (indices,) = index(records).members
        assert [records[at].path.stem for at in indices] == [str(place) for place in range(9)]


class TestLabels:
    def test_a_scan_is_positive_if_one_of_its_slices_is(self):
        scans = index([slice_of("s"), slice_of("s", label=1), slice_of("t"), slice_of("t")])
        assert scans.labels.tolist() == [1, 0] and scans.labels.dtype == np.int64
        assert scans.has_slice_labels.tolist() == [True, True]

    def test_a_stated_label_precedes_those_of_the_slices(self):
        scans = index([slice_of("s"), slice_of("s", scan_label=1)])
        assert scans.labels.tolist() == [1] and scans.has_slice_labels.tolist() == [True]

    def test_one_slice_without_a_label_of_its_own(self):
        known = slice_of("s", scan_label=1)
        unknown = slice_of("s", label=1, scan_label=1, has_slice_label=False)
        assert index([known, unknown]).has_slice_labels.tolist() == [False]

    def test_patients_are_the_groups_of_scans(self):
        scans = index([slice_of(scan) for scan in "ssttuu"], groups=[4, 4, 7, 7, 4, 4])
        assert scans.patients.tolist() == [4, 7, 4]


class TestDigest:
    RECORDS = tuple(slice_of("st"[at // 3], position=float(at)) for at in range(6))

    @pytest.mark.parametrize(
        "change",
        [
            {"scan": "s"},
            {"position": 9.0},
            {"label": 1},
            {"scan_label": 1, "has_slice_label": False},
        ],
    )
    def test_changes_with_the_scans(self, change):
        changed = [*self.RECORDS[:4], replace(self.RECORDS[4], **change), self.RECORDS[5]]
        assert index(changed).digest != index(self.RECORDS).digest

    def test_is_the_same_for_the_same_scans(self):
        renamed = [replace(record, scan=f"{record.scan}!") for record in self.RECORDS]
        assert index(renamed).digest == index(self.RECORDS).digest


class TestWithoutScans:
    def test_single_labeled_slices_are_no_scans(self):
        for records in ([], [slice_of(None)], [slice_of("s"), slice_of("t"), slice_of(None)]):
            scans = index(records)
            assert len(scans) == 0 and scans.names == scans.members == ()
            assert scans.scan_of_slice.tolist() == [-1] * len(records)
            assert len(scans.labels) == len(scans.patients) == len(scans.has_slice_labels) == 0

    def test_a_scan_of_one_slice_is_one_beside_longer_scans(self):
        assert members(index([slice_of("s"), slice_of("t"), slice_of("t")])) == [[0], [1, 2]]

    def test_a_scan_of_one_slice_is_one_if_only_its_label_is_known(self):
        scans = index([slice_of("s", label=1, scan_label=1, has_slice_label=False)])
        assert members(scans) == [[0]] and scans.labels.tolist() == [1]


class TestNames:
    @pytest.mark.parametrize(
        ("names", "expected"),
        [
            (["P/1/a.png", "P/1/b.png"], "P/1"),
            (["P/1/brain/a.png", "P/1/bone/b.png"], "P/1"),
            (["a.png", "b.png"], "."),
        ],
    )
    def test_are_folders(self, names, expected):
        assert index([slice_of("key", name) for name in names]).names == (expected,)

    def test_volumes_are_named_by_their_file(self):
        records = [slice_of("key", "v/a.nii", frame=frame) for frame in range(2)]
        assert index(records).names == ("v/a.nii",)

    def test_scans_of_one_folder_are_counted(self):
        scans = index([slice_of(scan, f"flat/{at}.dcm") for at, scan in enumerate("xyxyz")])
        assert scans.names == ("flat (scan 1 of 3)", "flat (scan 2 of 3)", "flat (scan 3 of 3)")

    def test_the_manifest_may_give_a_name(self):
        records = [slice_of("key", scan_name="visit 2", patient="P12") for _ in range(2)]
        assert index(records).names == ("visit 2",)

    def test_a_name_with_the_patient_is_hidden_unless_names_are_shown(self):
        records = [slice_of("key", scan_name="DOE-1", patient="Doe") for _ in range(2)]
        assert index(records).names == (".",)
        assert index(records, is_anonymous=False).names == ("DOE-1",)

    def test_keys_with_ids_are_never_shown(self, tmp_path, add_dicom):
        add_dicom("SECRET", "normal/a.dcm", "ich/b.dcm")
        add_dicom("SECRET", "normal/SECRET/c.dcm", "normal/SECRET/d.dcm")
        manifest = read_manifest(tmp_path)
        names = index_scans(manifest, np.zeros(len(manifest), int)).names
        assert names == (".", "normal/anonymous-0001")


class TestSliceIndex:
    def test_knows_its_scans_and_whose_labels_are_known(self, tmp_path, head, write_series):
        for scan in range(2):
            folder = tmp_path / f"scan{scan}"
            heads = [head(3 * scan + place, label=scan) for place in range(3)]
            write_series(folder, heads, PatientID=f"P{scan}", SeriesInstanceUID=f"1.{scan}")
        (tmp_path / "m.csv").write_text("path,label\nscan0,0\nscan1,1\n")
        slices = build_slice_index(read_manifest(tmp_path / "m.csv"), QUIET)
        assert slices.has_slice_label.tolist() == [False] * 6
        assert slices.scans is slices.scans  # computed once
        assert slices.scans.names == ("scan0", "scan1")
        assert slices.scans.labels.tolist() == [0, 1]
        assert slices.scans.patients.tolist() == slices.patient_groups[[0, 3]].tolist()
        for indices in slices.scans.members:
            assert slices.scans.positions[indices].tolist() == [0, 5, 10]


def test_ct_ich_scans_are_in_order(shared):
    manifest = read_manifest(shared / "ct_ich")
    scans = index_scans(manifest, np.zeros(len(manifest), int))
    assert len(scans) == 41 and scans.lengths.sum() == len(manifest) == 1219
    assert scans.labels.sum() == 18 and scans.has_slice_labels.all()
    assert np.isnan(scans.positions).all()  # the distance of its slices is not known
    for name, indices in zip(scans.names, scans.members, strict=True):
        paths = [manifest.records[int(at)].path for at in indices]
        assert {path.parent.parent.name for path in paths} == {Path(name).parts[1]}
        assert [int(path.stem) for path in paths] == list(range(1, len(paths) + 1))


def test_ge_series_is_one_scan_from_neck_to_vertex(shared, tmp_path):
    (tmp_path / "m.csv").write_text(f"path,label\n{shared / 'ct' / 'ge_series'},0\n")
    manifest = read_manifest(tmp_path / "m.csv")
    scans = index_scans(manifest, np.zeros(len(manifest), int))
    assert len(scans) == 1 and scans.lengths.tolist() == [28]
    positions = scans.positions[scans.members[0]]
    assert (np.diff(positions) > 0).all()
    thicknesses = [manifest.records[int(at)].thickness for at in scans.members[0]]
    assert thicknesses == sorted(thicknesses) and set(thicknesses) == {4.0, 7.0}
    assert check_scans(manifest) == ScanProblems()
