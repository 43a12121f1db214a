"""The columns scan, position and scan_label of CSV manifests."""

import numpy as np
import pytest
from dataset_files import add_csv, add_images, names_of, reasons

from hemorrhage_tf.core.errors import DataError, OptionError
from hemorrhage_tf.datasets.manifest import read_manifest
from hemorrhage_tf.datasets.scan_index import index_scans

VOLUME = np.zeros((3, 40, 40), np.float32)


@pytest.fixture
def read(tmp_path):
    """Write five images and a table of rows, and read it."""

    def read(text, *images, **options):
        add_images(tmp_path, *(images or ("a.png", "b.png", "c.png", "d.png", "e.png")))
        return read_manifest(add_csv(tmp_path, text), **options)

    return read


def scans_of(manifest):
    """The names of each scan's slices in order, by the name of the scan."""
    scans = index_scans(manifest, np.zeros(len(manifest), int))
    return {
        name: [manifest.name_at(int(at)) for at in members]
        for name, members in zip(scans.names, scans.members, strict=True)
    }


class TestScans:
    def test_a_scan_groups_images_in_the_order_of_their_positions(self, read):
        manifest = read(
            "path,label,scan,position\n"
            "a.png,0,one,12.5\nb.png,0,two,\nc.png,1,one,-3\nd.png,0,,\ne.png,1,two,\n"
        )
        assert manifest.problems == () and manifest.level == "slice" and manifest.columns == ()
        # Without positions the order of the manifest counts.
        assert scans_of(manifest) == {"one": ["c.png", "a.png"], "two": ["b.png", "e.png"]}
        assert [record.position for record in manifest.records] == [12.5, None, -3.0, None, None]

    def test_a_scan_is_a_patient_unless_a_row_names_one(self, read):
        manifest = read(
            "path,label,scan,patient\na.png,0,one,\nb.png,0,one,P1\nc.png,1,two,\nd.png,0,two,\n"
            "e.png,0,,\n"
        )
        assert list(manifest.records.patients) == ["P1", "P1", "two", "two", None]

    def test_works_with_ids(self, tmp_path):
        add_images(tmp_path, "000.png", "001.png")
        add_csv(
            tmp_path,
            "id,hemorrhage,scan,position,scan_label\n0,0,s,5,1\n1,,s,0,1\n",
            "labels.csv",
        )
        manifest = read_manifest(tmp_path)
        assert manifest.layout == "kaggle" and manifest.level == "scan"
        assert scans_of(manifest) == {"s": ["001.png", "000.png"]}
        assert manifest.records.has_slice_label.tolist() == [True, False]

    def test_headers_give_position_number_and_thickness(self, tmp_path, write_dicom):
        for at, name in enumerate("abc"):
            tags = {"InstanceNumber": 3 - at, "SliceThickness": "2.5"}
            write_dicom(tmp_path / f"{name}.dcm", VOLUME[0], 10.0 - at, **tags)
        add_csv(tmp_path, "path,label,scan,position\na.dcm,0,mine,1\nb.dcm,1,mine,2\nc.dcm,0,,\n")
        manifest = read_manifest(tmp_path)
        assert [(each.position, each.number, each.thickness) for each in manifest.records] == [
            (10.0, 3, 2.5),
            (9.0, 2, 2.5),
            (8.0, 1, 2.5),
        ]
        assert scans_of(manifest)["mine"] == ["b.dcm", "a.dcm"]

    def test_the_column_counts_where_a_header_states_no_position(self, tmp_path, write_dicom):
        for name in "ab":
            write_dicom(tmp_path / f"{name}.dcm", VOLUME[0], None)
        add_csv(tmp_path, "path,label,position\na.dcm,0,7\nb.dcm,1,2\n")
        manifest = read_manifest(tmp_path)
        assert scans_of(manifest) == {".": ["b.dcm", "a.dcm"]}

    def test_slices_of_a_volume_lie_where_its_affine_says(self, tmp_path, write_nifti):
        write_nifti(tmp_path / "a.nii", VOLUME, spacing=2.5)
        add_csv(tmp_path, "path,label,frame\na.nii,0,2\na.nii,1,0\n")
        manifest = read_manifest(tmp_path)
        assert scans_of(manifest) == {"a.nii": ["a.nii#0", "a.nii#2"]}
        assert np.ptp(manifest.records.positions) == 5.0
        assert manifest.records.has_slice_label.all()

    def test_a_name_with_the_patient_is_not_shown(self, tmp_path, write_dicom):
        for at, name in enumerate("ab"):
            tags = {"PatientID": "4711", "PatientName": "Mustermann^Erika"}
            write_dicom(tmp_path / f"{name}.dcm", VOLUME[0], float(at), **tags)
        add_csv(tmp_path, "path,label,scan\na.dcm,0,Mustermann 1\nb.dcm,1,Mustermann 1\n")
        assert list(scans_of(read_manifest(tmp_path))) == ["."]
        assert list(scans_of(read_manifest(tmp_path, anonymize=False))) == ["Mustermann 1"]


class TestScanLabels:
    def test_a_row_may_have_only_the_label_of_its_scan(self, read):
        manifest = read(
            "path,label,scan,scan_label\n"
            "a.png,0,one,1\nb.png,,one,1\nc.png,1,one,hemorrhage\nd.png,,two,0\ne.png,0,two,0\n"
        )
        assert manifest.problems == () and manifest.level == "scan"
        assert manifest.labels.tolist() == [0, 1, 1, 0, 0]
        assert manifest.records.has_slice_label.tolist() == [True, False, True, False, True]
        assert manifest.records.scan_labels == [1, 1, 1, 0, 0]
        scans = index_scans(manifest, np.zeros(5, int))
        assert scans.labels.tolist() == [1, 0] and scans.has_slice_labels.tolist() == [False] * 2

    def test_the_column_of_labels_may_be_missing(self, read):
        manifest = read("path,scan,scan_label\na.png,s,1\nb.png,s,1\nc.png,t,0\n")
        assert manifest.labels.tolist() == [1, 1, 0]
        assert not manifest.records.has_slice_label.any()

    def test_labels_of_both_columns_define_the_classes(self, read):
        text = "path,label,scan,scan_label\na.png,clot,s,\nb.png,,t,calm\n"
        manifest = read(text, positive="clot")
        assert manifest.labels.tolist() == [1, 0]

    def test_a_folder_carries_a_scan_label(self, tmp_path, add_dicom):
        add_dicom("P1", "one/a.dcm", "one/b.dcm")
        add_images(tmp_path, "two/10.png", "two/9.png")
        add_csv(tmp_path, "path,label,scan_label\none,1,\ntwo,,0\n")
        manifest = read_manifest(tmp_path)
        assert manifest.problems == ()
        assert manifest.records.scan_labels == [1, 1, 0, 0]
        assert not manifest.records.has_slice_label.any()
        # The images of a folder are in the order of the numbers in their names.
        assert scans_of(manifest)["two"] == ["two/9.png", "two/10.png"]

    def test_a_volume_carries_a_scan_label(self, tmp_path, write_nifti):
        write_nifti(tmp_path / "a.nii", VOLUME)
        write_nifti(tmp_path / "b.nii", VOLUME[:1])
        add_csv(tmp_path, "path,label\na.nii,1\nb.nii,0\n")
        records = read_manifest(tmp_path).records
        assert records.scan_labels == [1, 1, 1, None]
        assert records.has_slice_label.tolist() == [False, False, False, True]

    def test_another_target_has_no_scan_label(self, read):
        text = "path,subdural,scan,scan_label\na.png,1,s,0\nb.png,0,s,0\n"
        manifest = read(text, target="subdural")
        assert manifest.records.scan_labels == [None, None] and manifest.labels.tolist() == [1, 0]

    def test_is_no_target(self, read):
        with pytest.raises(OptionError, match="Pass one of label"):
            read("path,label,scan,scan_label\na.png,1,s,1\n", target="scan_label")


class TestInvalidRows:
    def test_all_are_listed_together(self, read):
        manifest = read(
            "path,label,scan,position,scan_label\n"
            "a.png,0,s,high,\nb.png,0,s,nan,\nc.png,,s,1,\nd.png,,,,1\ne.png,0,s,2,maybe\n"
            ",,s,,1\n,0,s,,\na.png,0,s,inf,\nb.png,1,s,1e3,1\nc.png,0,,5,\n"
        )
        assert names_of(manifest) == ["b.png"]
        assert [(problem.path, problem.reason) for problem in manifest.problems] == [
            ("a.png", "the position 'high' is not a number of millimeters"),
            ("b.png", "the position 'nan' is not a number of millimeters"),
            ("c.png", "has neither a label nor a scan_label"),
            ("d.png", "has a scan_label, but the row names no scan"),
            ("e.png", "the label 'maybe' is outside the two classes, 0 and 1"),
            ("manifest.csv row 7", "has a scan_label, but no path of a slice"),
            ("manifest.csv row 8", "has no path"),
            ("a.png", "the position 'inf' is not a number of millimeters"),
            ("c.png", "has a position, but the row names no scan"),
        ]

    def test_ids_too(self, tmp_path):
        add_images(tmp_path, "0.png", "1.png")
        add_csv(tmp_path, "id,label,scan,position\n0,0,s,x\n1,1,s,\n,0,s,\n", "labels.csv")
        manifest = read_manifest(tmp_path)
        assert reasons(manifest.problems) == {
            "labels.csv id 0": "the position 'x' is not a number of millimeters",
            "labels.csv row 4": "has no id",
        }

    def test_folders_and_volumes_have_one_label_and_no_position(
        self, tmp_path, add_dicom, write_nifti
    ):
        add_dicom("P1", "one/a.dcm", "one/b.dcm")
        (tmp_path / "empty").mkdir()
        volume = write_nifti(tmp_path / "v.nii", VOLUME)
        add_csv(
            tmp_path,
            "path,label,position,scan_label\none,1,5,\none,1,,0\nempty,,,1\nv.nii,0,,1\none,0,,0\n",
        )
        manifest = read_manifest(tmp_path)
        assert names_of(manifest) == ["one/a.dcm", "one/b.dcm"]
        contradiction = "is a whole scan with the label {} and the scan_label {}"
        assert [(problem.path, problem.reason) for problem in manifest.problems] == [
            ("one", "is a folder, so the row must not have a position"),
            ("one", contradiction.format(1, 0)),
            ("empty", "is a folder without slices"),
            (str(volume), contradiction.format(0, 1)),
        ]

    def test_a_table_needs_labels_of_slices_or_scans(self, read):
        with pytest.raises(DataError, match="the columns must be path and label"):
            read("path,scan,position\na.png,s,1\n")
