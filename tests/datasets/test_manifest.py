import json
import re

import numpy as np
import pytest
from PIL import Image

from hemorrhage_tf.core.errors import DataError, OptionError
from hemorrhage_tf.core.progress import Progress
from hemorrhage_tf.datasets.layouts.base import SUBTYPES
from hemorrhage_tf.datasets.manifest import LAYOUTS, read_manifest
from hemorrhage_tf.datasets.records import Manifest, Record
from hemorrhage_tf.datasets.slice_index import build_slice_index
from hemorrhage_tf.imaging.readers import SliceRef


def add_images(folder, *names):
    paths = [folder / name for name in names]
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (2, 2)).save(path)
    return paths


def add_csv(folder, text, name="manifest.csv"):
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_bytes(text.encode())
    return path


def labels_by_name(manifest):
    return {manifest.name(record): record.label for record in manifest.records}


def reasons(manifest):
    return {problem.path: problem.reason for problem in manifest.problems}


class TestKaggleFolder:
    @pytest.mark.parametrize("below", ["", "head_ct", "head_ct/head_ct"])
    def test_unpadded_ids_find_padded_images_at_each_depth(self, tmp_path, below):
        add_images(tmp_path / below, "000.png", "001.png", "010.png")
        add_csv(tmp_path, "id, hemorrhage\n0,1\n1,0\n10, 1\n", "labels.csv")
        manifest = read_manifest(tmp_path)
        assert manifest.layout == "kaggle"
        assert manifest.root == tmp_path
        prefix = f"{below}/" if below else ""
        assert labels_by_name(manifest) == {
            f"{prefix}000.png": 1,
            f"{prefix}001.png": 0,
            f"{prefix}010.png": 1,
        }
        assert manifest.problems == ()

    def test_images_three_folders_down_are_not_found(self, tmp_path):
        add_images(tmp_path / "a" / "b" / "c", "0.png")
        add_csv(tmp_path, "id,hemorrhage\n0,1\n", "labels.csv")
        assert reasons(read_manifest(tmp_path)) == {"labels.csv id 0": "has a label but no image"}

    def test_shared_fixture(self, kaggle_folder):
        manifest = read_manifest(kaggle_folder)
        assert len(manifest) == 24
        np.testing.assert_array_equal(manifest.labels, np.arange(24) % 2)
        assert manifest.labels.dtype == np.int64
        assert manifest.problems == ()

    def test_csv_file_itself_is_accepted(self, kaggle_folder):
        assert read_manifest(kaggle_folder / "labels.csv") == read_manifest(kaggle_folder)

    def test_text_ids_file_names_and_patients(self, tmp_path):
        add_images(tmp_path, "scan_a.png", "scan_b.jpg")
        add_csv(tmp_path, "id,label,patient\nscan_a,1,P\nscan_b.jpg,0,\n", "labels.csv")
        assert read_manifest(tmp_path).records == (
            Record(tmp_path / "scan_a.png", 1, "P"),
            Record(tmp_path / "scan_b.jpg", 0, None),
        )

    def test_byte_order_mark_and_windows_line_ends(self, tmp_path):
        add_images(tmp_path, "0.png", "1.png")
        add_csv(tmp_path, "\ufeffid, hemorrhage\r\n0, 0\r\n1, 1\r\n", "labels.csv")
        assert labels_by_name(read_manifest(tmp_path)) == {"0.png": 0, "1.png": 1}

    def test_label_without_image(self, tmp_path):
        add_images(tmp_path, "0.png")
        add_csv(tmp_path, "id,hemorrhage\n0,0\n7,1\n", "labels.csv")
        manifest = read_manifest(tmp_path)
        assert labels_by_name(manifest) == {"0.png": 0}
        assert reasons(manifest) == {"labels.csv id 7": "has a label but no image"}

    def test_image_without_label(self, tmp_path):
        paths = add_images(tmp_path, "0.png", "1.png")
        add_csv(tmp_path, "id,hemorrhage\n0,0\n", "labels.csv")
        manifest = read_manifest(tmp_path)
        assert labels_by_name(manifest) == {"0.png": 0}
        assert reasons(manifest) == {str(paths[1]): "has no row in labels.csv"}

    def test_label_outside_the_classes(self, tmp_path):
        add_images(tmp_path, "0.png", "1.png", "2.png")
        add_csv(tmp_path, "id,hemorrhage\n0,0\n1,2\n2,\n", "labels.csv")
        manifest = read_manifest(tmp_path)
        assert labels_by_name(manifest) == {"0.png": 0}
        assert reasons(manifest) == {
            "labels.csv id 1": "the label '2' is outside the two classes, 0 and 1",
            "labels.csv id 2": "the label '' is outside the two classes, 0 and 1",
        }

    def test_duplicate_id(self, tmp_path):
        add_images(tmp_path, "007.png")
        add_csv(tmp_path, "id,hemorrhage\n7,0\n007,1\n", "labels.csv")
        manifest = read_manifest(tmp_path)
        assert labels_by_name(manifest) == {"007.png": 0}
        assert reasons(manifest) == {"labels.csv id 007": "the id stands in more than one row"}

    def test_id_of_several_images(self, tmp_path):
        paths = add_images(tmp_path, "07.png", "7.jpg", "a/7.png")
        add_csv(tmp_path, "id,hemorrhage\n7,0\n", "labels.csv")
        manifest = read_manifest(tmp_path)
        assert len(manifest) == 0
        (reason,) = reasons(manifest).values()
        assert reason.startswith("matches several images: ")
        assert all(str(path) in reason for path in paths)

    def test_ragged_row(self, tmp_path):
        add_images(tmp_path, "0.png", "1.png")
        add_csv(tmp_path, "id,hemorrhage\n0,0\n1\n", "labels.csv")
        manifest = read_manifest(tmp_path)
        assert labels_by_name(manifest) == {"0.png": 0}
        assert reasons(manifest)["labels.csv row 3"] == "has 1 cells, not 2"


class TestClassFolders:
    @pytest.mark.parametrize(
        ("negative", "positive"),
        [
            ("normal", "hemorrhage"),
            ("Normal", "Hemorrhage"),
            ("0", "1"),
            ("no_hemorrhage", "ich"),
            ("healthy", "subdural"),
            ("other", "bleed"),
        ],
    )
    def test_known_names(self, tmp_path, negative, positive):
        add_images(tmp_path, f"{negative}/a.png", f"{positive}/deep/er/b.jpg")
        manifest = read_manifest(tmp_path)
        assert manifest.layout == "class folders"
        assert labels_by_name(manifest) == {f"{negative}/a.png": 0, f"{positive}/deep/er/b.jpg": 1}

    def test_positive_names_the_class(self, tmp_path):
        add_images(tmp_path, "cats/a.png", "dogs/b.png")
        assert labels_by_name(read_manifest(tmp_path, "cats")) == {"cats/a.png": 1, "dogs/b.png": 0}

    def test_positive_overrides_known_names(self, tmp_path):
        add_images(tmp_path, "normal/a.png", "hemorrhage/b.png")
        manifest = read_manifest(tmp_path, "normal")
        assert labels_by_name(manifest) == {"hemorrhage/b.png": 0, "normal/a.png": 1}

    def test_unknown_names_need_positive(self, tmp_path):
        add_images(tmp_path, "cats/a.png", "dogs/b.png")
        with pytest.raises(OptionError, match="classes are cats, dogs: .* --positive NAME"):
            read_manifest(tmp_path)

    def test_positive_that_is_no_class(self, tmp_path):
        add_images(tmp_path, "cats/a.png", "dogs/b.png")
        with pytest.raises(
            OptionError, match="--positive cows: no such class. Received: cats, dogs"
        ):
            read_manifest(tmp_path, "cows")

    def test_loose_images_are_problems(self, tmp_path):
        (loose,) = add_images(tmp_path, "loose.png")
        add_images(tmp_path, "normal/a.png", "hemorrhage/b.png")
        manifest = read_manifest(tmp_path)
        assert len(manifest) == 2
        assert reasons(manifest) == {str(loose): "lies beside the class folders, without a label"}

    def test_hidden_and_empty_folders_do_not_count(self, tmp_path):
        add_images(tmp_path, "normal/a.png", "hemorrhage/b.png", ".cache/c.png")
        (tmp_path / "empty").mkdir()
        assert len(read_manifest(tmp_path)) == 2

    def test_three_class_folders(self, tmp_path):
        add_images(tmp_path, "normal/a.png", "hemorrhage/b.png", "unsure/c.png")
        with pytest.raises(DataError, match="Received: class folders: hemorrhage, normal, unsure"):
            read_manifest(tmp_path)

    def test_images_without_any_labels(self, tmp_path):
        add_images(tmp_path, "a.png", "b.png")
        with pytest.raises(DataError, match="Received: 2 images without labels") as caught:
            read_manifest(tmp_path)
        assert LAYOUTS in str(caught.value)


class TestCsvManifest:
    def test_relative_and_absolute_paths_patients_and_splits(self, tmp_path):
        (outside,) = add_images(tmp_path / "elsewhere", "c.png")
        folder = tmp_path / "set"
        first, second = add_images(folder, "a.png", "sub/b.png")
        path = add_csv(
            folder,
            "path,label,patient,split\n"
            f"a.png,0,P1,train\nsub/b.png,1,P2,Test\n{outside},hemorrhage,,train\n",
        )
        manifest = read_manifest(path)
        assert manifest.layout == "csv"
        assert manifest.problems == ()
        assert manifest.records == (
            Record(first, 0, "P1", "train"),
            Record(second, 1, "P2", "test"),
            Record(outside, 1, None, "train"),
        )
        names = [manifest.name(record) for record in manifest.records]
        assert names == ["a.png", "sub/b.png", outside.as_posix()]

    def test_folder_with_a_manifest(self, tmp_path):
        add_images(tmp_path, "a.png", "b.png")
        path = add_csv(tmp_path, "path,label\na.png,0\nb.png,1\n")
        assert read_manifest(tmp_path) == read_manifest(path)

    def test_any_name_and_upper_case_suffix(self, tmp_path):
        add_images(tmp_path, "a.png")
        assert len(read_manifest(add_csv(tmp_path, "path,label\na.png,0\n", "Set.CSV"))) == 1

    def test_byte_order_mark_spaces_quotes_and_blank_rows(self, tmp_path):
        add_images(tmp_path, "a b.png", "c,d.png")
        add_csv(tmp_path, '\ufeffPath, Label\r\n\r\n a b.png , 1.0\r\n"c,d.png", 0\r\n,\r\n')
        assert labels_by_name(read_manifest(tmp_path)) == {"a b.png": 1, "c,d.png": 0}

    def test_columns_in_another_order_and_unknown_ones(self, tmp_path):
        add_images(tmp_path, "a.png")
        add_csv(tmp_path, "comment,label,path\nfine,1,a.png\n")
        assert labels_by_name(read_manifest(tmp_path)) == {"a.png": 1}

    def test_positive_class(self, tmp_path):
        add_images(tmp_path, "a.png", "b.png")
        add_csv(tmp_path, "path,label\na.png,sah\nb.png,clear\n")
        assert labels_by_name(read_manifest(tmp_path, "sah")) == {"a.png": 1, "b.png": 0}

    def test_positive_among_three_classes(self, tmp_path):
        add_images(tmp_path, "a.png", "b.png", "c.png")
        add_csv(tmp_path, "path,label\na.png,sah\nb.png,clear\nc.png,tumor\n")
        with pytest.raises(DataError, match="two classes. Received: clear, sah, tumor"):
            read_manifest(tmp_path, "sah")

    def test_problems_name_path_and_reason(self, tmp_path):
        add_images(tmp_path, "a.png", "b.png", "c.png")
        add_csv(
            tmp_path,
            "path,label,split\na.png,1,train\ngone.png,0,train\nb.png,maybe,train\n"
            "c.png,0,validation\na.png,1\n",
        )
        manifest = read_manifest(tmp_path)
        assert labels_by_name(manifest) == {"a.png": 1}
        assert reasons(manifest) == {
            "gone.png": "has a label but there is no such image",
            "b.png": "the label 'maybe' is outside the two classes, 0 and 1",
            "c.png": "the split 'validation' is neither train nor test",
            "manifest.csv row 6": "has 2 cells, not 3",
        }

    def test_row_numbers_are_those_of_the_file(self, tmp_path):
        add_images(tmp_path, "a.png")
        add_csv(tmp_path, "path,label\n\na.png,1\n\na.png\n")
        assert list(reasons(read_manifest(tmp_path))) == ["manifest.csv row 5"]

    def test_blank_split_beside_others(self, tmp_path):
        paths = add_images(tmp_path, "a.png", "b.png")
        add_csv(tmp_path, "path,label,split\na.png,1,train\nb.png,0,\n")
        manifest = read_manifest(tmp_path)
        assert labels_by_name(manifest) == {"a.png": 1}
        assert reasons(manifest) == {str(paths[1]): "the split is blank, while other rows have one"}

    def test_split_blank_everywhere_is_none(self, tmp_path):
        add_images(tmp_path, "a.png", "b.png")
        add_csv(tmp_path, "path,label,split\na.png,1,\nb.png,0,\n")
        assert [record.split for record in read_manifest(tmp_path).records] == [None, None]

    def test_manifest_is_given_back(self, tmp_path):
        manifest = Manifest((), tmp_path, "csv")
        assert read_manifest(manifest) is manifest


class TestErrors:
    def test_missing_path(self, tmp_path):
        with pytest.raises(DataError, match="gone: no such file or folder. Accepted are:\n"):
            read_manifest(tmp_path / "gone")

    def test_empty_folder(self, tmp_path):
        with pytest.raises(DataError, match="Received: class folders: none. Accepted are:\n"):
            read_manifest(tmp_path)

    def test_file_that_is_no_csv(self, tmp_path):
        (path,) = add_images(tmp_path, "a.png")
        with pytest.raises(DataError, match=r"a\.png: a file that is no CSV manifest"):
            read_manifest(path)

    def test_unknown_columns(self, tmp_path):
        path = add_csv(tmp_path, "File,Class\na.png,1\n")
        with pytest.raises(
            DataError, match="path and label, or id and hemorrhage. Received: File, Class"
        ):
            read_manifest(path)

    @pytest.mark.parametrize("text", ["", "\n\n", " , \n"])
    def test_empty_csv(self, tmp_path, text):
        with pytest.raises(DataError, match=r"manifest\.csv: the file is empty"):
            read_manifest(add_csv(tmp_path, text))

    def test_binary_csv(self, tmp_path):
        path = tmp_path / "manifest.csv"
        Image.new("L", (4, 4)).save(path, "PNG")
        with pytest.raises(DataError, match="cannot be read as CSV .* Save it as UTF-8"):
            read_manifest(path)

    def test_header_alone_with_no_classes(self, tmp_path):
        with pytest.raises(OptionError, match="the classes are missing"):
            read_manifest(add_csv(tmp_path, "path,label\n"))


TINY = np.zeros((4, 4), np.float32)
VOLUME = np.zeros((3, 40, 40), np.float32)


@pytest.fixture
def add_dicom(tmp_path, write_dicom):
    """Writes slices of one patient: `add_dicom("P1", "normal/a.dcm", "normal/b.dcm")`."""

    def add(patient, *names, folder=tmp_path, **tags):
        return [
            write_dicom(folder / name, TINY, index, PatientID=patient, **tags)
            for index, name in enumerate(names)
        ]

    return add


def names_of(manifest):
    return [manifest.name(record) for record in manifest.records]


class TestHeaders:
    def test_class_folders_of_dicom_files(self, tmp_path, add_dicom):
        a, b = add_dicom("P1", "normal/x/IM1", "normal/x/IM2")
        (c,) = add_dicom("P2", "hemorrhage/c.dcm", SeriesInstanceUID="1.2.4")
        manifest = read_manifest(tmp_path)
        assert (manifest.layout, manifest.level) == ("class folders", "slice")
        assert manifest.problems == manifest.input_warnings == ()
        assert [(each.path, each.label, each.patient, each.frame) for each in manifest.records] == [
            (c, 1, "P2", None),
            (a, 0, "P1", None),
            (b, 0, "P1", None),
        ]
        scans = [each.scan for each in manifest.records]
        assert scans[1] == scans[2] != scans[0]

    def test_volumes_give_a_record_a_slice_and_are_labeled_as_scans(self, tmp_path, write_nifti):
        bad = write_nifti(tmp_path / "hemorrhage" / "a.nii.gz", VOLUME)
        good = write_nifti(tmp_path / "normal" / "b.nii", VOLUME[:2])
        manifest = read_manifest(tmp_path)
        assert manifest.level == "scan"
        assert [(record.ref, record.label) for record in manifest.records] == [
            *((SliceRef(bad, frame), 1) for frame in range(3)),
            *((SliceRef(good, frame), 0) for frame in range(2)),
        ]
        assert names_of(manifest)[2:4] == ["hemorrhage/a.nii.gz#2", "normal/b.nii#0"]
        # Without a Patient ID a volume is a patient of its own.
        patients = [record.patient for record in manifest.records]
        assert len(set(patients)) == 2 and len(set(patients[:3])) == 1
        assert set(patients) == {"unnamed-0001", "unnamed-0002"}

    def test_multi_frame_dicom(self, tmp_path, write_dicom):
        write_dicom(tmp_path / "normal" / "a.dcm", VOLUME, [0, 5, 10], PatientID="P1")
        write_dicom(tmp_path / "ich" / "b.dcm", VOLUME, [0, 5, 10], PatientID="P2")
        manifest = read_manifest(tmp_path)
        assert manifest.level == "scan"
        assert [(record.frame, record.patient) for record in manifest.records] == [
            *((frame, "P2") for frame in range(3)),
            *((frame, "P1") for frame in range(3)),
        ]

    def test_pictures_among_them_keep_what_they_have(self, tmp_path, add_dicom):
        add_dicom("P1", "normal/a.dcm")
        (picture,) = add_images(tmp_path, "ich/b.png")
        manifest = read_manifest(tmp_path)
        assert manifest.records[0] == Record(picture, 1)
        assert manifest.records[1].patient == "P1"

    def test_the_manifests_patient_comes_before_the_headers(self, tmp_path, add_dicom):
        add_dicom("P1", "a.dcm", "b.dcm")
        add_csv(tmp_path, "path,label,patient\na.dcm,0,X\nb.dcm,1,\n")
        assert [record.patient for record in read_manifest(tmp_path).records] == ["X", "P1"]

    def test_series_without_a_patient_id_are_patients(self, tmp_path, add_dicom):
        add_dicom(None, "normal/1/a.dcm", "normal/1/b.dcm", "normal/2/c.dcm", "ich/d.dcm")
        patients = [record.patient for record in read_manifest(tmp_path).records]
        assert len(set(patients)) == 3 and patients[1] == patients[2]

    def test_one_patient_id_for_all_counts_each_scan_as_a_patient(self, tmp_path, add_dicom):
        add_dicom("ANONYMOUS", "normal/1/a.dcm", "normal/1/b.dcm", "normal/2/c.dcm", "ich/3/d.dcm")
        manifest = read_manifest(tmp_path)
        patients = [record.patient for record in manifest.records]
        assert len(set(patients)) == 3 and patients[1] == patients[2]
        (note,) = manifest.input_warnings
        assert note.path == "3 scans" and "all name the same patient" in note.reason
        assert "ANONYMOUS" not in str(note)

    def test_one_patient_id_of_one_scan_stays(self, tmp_path, add_dicom):
        add_dicom("P1", "a.dcm", "b.dcm")
        add_csv(tmp_path, "path,label\na.dcm,0\nb.dcm,1\n")
        manifest = read_manifest(tmp_path)
        assert {record.patient for record in manifest.records} == {"P1"}
        assert manifest.input_warnings == ()

    def test_headers_that_cannot_be_read_copies_and_suspicions(self, tmp_path, add_dicom):
        first, _ = add_dicom("P1", "normal/a.dcm", "normal/b.dcm")
        (chest,) = add_dicom("P2", "ich/c.dcm", BodyPartExamined="CHEST")
        (copy := tmp_path / "normal" / "c.dcm").write_bytes(first.read_bytes())
        (text := tmp_path / "normal" / "d.dcm").write_text("no slice")
        manifest = read_manifest(tmp_path)
        assert names_of(manifest) == ["ich/c.dcm", "normal/a.dcm", "normal/b.dcm"]
        assert reasons(manifest).keys() == {str(copy), str(text)}
        assert reasons(manifest)[str(copy)] == f"the same SOP Instance UID as {first}"
        assert [problem.path for problem in manifest.input_warnings] == [str(chest)]

    def test_ids_find_dicom_and_nifti_files(self, tmp_path, add_dicom, write_nifti):
        add_dicom("P1", "007.dcm", "x/008.dcm")
        write_nifti(tmp_path / "009.nii.gz", VOLUME[:1])
        add_csv(tmp_path, "id,hemorrhage\n7,0\n8,1\n9.nii.gz,1\n", "labels.csv")
        assert labels_by_name(read_manifest(tmp_path)) == {
            **{"007.dcm": 0, "x/008.dcm": 1, "009.nii.gz": 1},
        }


class TestFrames:
    def test_rows_of_single_slices_of_a_volume(self, tmp_path, write_nifti):
        path = write_nifti(tmp_path / "a.nii.gz", VOLUME)
        add_csv(tmp_path, "path,label,frame\na.nii.gz,1,2\na.nii.gz,0,0\n")
        manifest = read_manifest(tmp_path)
        assert manifest.level == "slice" and manifest.problems == ()
        assert [(record.ref, record.label) for record in manifest.records] == [
            (SliceRef(path, 2), 1),
            (SliceRef(path, 0), 0),
        ]
        assert len({record.scan for record in manifest.records}) == 1

    def test_a_blank_frame_is_the_file(self, tmp_path, add_dicom, write_nifti):
        add_dicom("P1", "a.dcm")
        write_nifti(tmp_path / "b.nii", VOLUME)
        add_csv(tmp_path, "path,label,frame\na.dcm,1,\nb.nii,0,\n")
        manifest = read_manifest(tmp_path)
        assert names_of(manifest) == ["a.dcm", "b.nii#0", "b.nii#1", "b.nii#2"]
        assert manifest.level == "scan"

    def test_frames_that_are_not_there(self, tmp_path, write_nifti):
        path = write_nifti(tmp_path / "a.nii", VOLUME)
        add_csv(tmp_path, "path,label,frame\na.nii,1,3\na.nii,0,-1\na.nii,0,x\na.nii,0,1\n")
        manifest = read_manifest(tmp_path)
        assert names_of(manifest) == ["a.nii#1"]
        assert [(problem.path, problem.reason) for problem in manifest.problems] == [
            ("a.nii", "the frame '-1' is no number from 0"),
            ("a.nii", "the frame 'x' is no number from 0"),
            (f"{path}#3", "the file holds 3 slices, from 0"),
        ]


class TestFolderRows:
    def test_a_row_may_be_a_series(self, tmp_path, add_dicom):
        add_dicom("P1", "one/a.dcm", "one/b.dcm")
        add_dicom("P2", "two/deep/c", "two/deep/d")
        add_csv(tmp_path, "path,label,split\none,1,train\ntwo,0,test\n")
        manifest = read_manifest(tmp_path)
        assert manifest.level == "scan" and manifest.problems == ()
        assert labels_by_name(manifest) == {
            **{"one/a.dcm": 1, "one/b.dcm": 1, "two/deep/c": 0, "two/deep/d": 0},
        }
        assert [record.split for record in manifest.records] == ["train"] * 2 + ["test"] * 2
        assert len({record.scan for record in manifest.records}) == 2

    def test_pictures_of_a_row_are_one_scan_and_one_patient(self, tmp_path):
        add_images(tmp_path, "one/a.png", "one/b.png", "two/c.png", "d.png")
        add_csv(tmp_path, "path,label,patient\none,1,\ntwo,0,X\nd.png,0,\n")
        manifest = read_manifest(tmp_path)
        assert manifest.level == "scan"
        scans = [record.scan for record in manifest.records]
        assert scans[0] == scans[1] != scans[2] and scans[3] is None
        patients = [record.patient for record in manifest.records]
        assert patients[0] == patients[1] and patients[0] is not None
        assert patients[2:] == ["X", None]

    def test_folders_that_cannot_be_used(self, tmp_path, add_dicom):
        add_dicom("P1", "one/a.dcm")
        (tmp_path / "empty").mkdir()
        add_csv(tmp_path, "path,label,frame\none,1,0\nempty,0,\ngone,0,\none,0,\n")
        manifest = read_manifest(tmp_path)
        assert names_of(manifest) == ["one/a.dcm"]
        assert reasons(manifest) == {
            "one": "a folder without slices, or with a frame",
            "empty": "a folder without slices, or with a frame",
            "gone": "has a label but there is no such image",
        }


class TestTarget:
    @pytest.fixture
    def folder(self, tmp_path):
        add_images(tmp_path, "0.png", "1.png")
        add_csv(tmp_path, "path,label,Subdural,note\n0.png,1,0,old\n1.png,1,1,\n")
        return tmp_path

    def test_a_column_is_the_label_and_the_others_are_kept(self, folder):
        manifest = read_manifest(folder, target="subdural")
        assert labels_by_name(manifest) == {"0.png": 0, "1.png": 1}
        assert manifest.columns == ("label", "note")
        assert [record.columns for record in manifest.records] == [("1", "old"), ("1", "")]
        assert read_manifest(folder, target=" SUBDURAL ") == manifest

    def test_without_one_it_is_the_label_column(self, folder):
        manifest = read_manifest(folder)
        assert labels_by_name(manifest) == {"0.png": 1, "1.png": 1}
        assert manifest.columns == ("subdural", "note")

    @pytest.mark.parametrize("target", ["epidural", "path", "frame", ""])
    def test_no_such_column(self, folder, target):
        message = f"--target {target}: manifest.csv has no such column. Accepted: label, subdural"
        with pytest.raises(OptionError, match=message):
            read_manifest(folder, target=target)

    def test_a_column_that_is_no_label(self, folder):
        with pytest.raises(OptionError, match="the classes are , old: say which one means"):
            read_manifest(folder, target="note")

    def test_of_a_kaggle_folder(self, tmp_path):
        add_images(tmp_path, "0.png", "1.png")
        add_csv(tmp_path, "id,hemorrhage,sah\n0,1,0\n1,1,1\n", "labels.csv")
        manifest = read_manifest(tmp_path, target="sah")
        assert labels_by_name(manifest) == {"0.png": 0, "1.png": 1}
        assert manifest.columns == ("hemorrhage",)
        with pytest.raises(OptionError, match="--target id: labels.csv has no such column"):
            read_manifest(tmp_path, target="id")

    def test_of_a_table_without_a_label_column(self, tmp_path):
        add_images(tmp_path, "0.png", "1.png")
        add_csv(tmp_path, "path,sah\n0.png,0\n1.png,1\n")
        assert labels_by_name(read_manifest(tmp_path, target="sah")) == {"0.png": 0, "1.png": 1}
        with pytest.raises(DataError, match="must be path and label.* Received: path, sah"):
            read_manifest(tmp_path)

    def test_of_class_folders(self, tmp_path):
        add_images(tmp_path, "normal/a.png", "ich/b.png")
        with pytest.raises(OptionError, match="--target sah: class folders have one label"):
            read_manifest(tmp_path, target="sah")


class TestKnownLayouts:
    @pytest.fixture
    def rsna(self, tmp_path, add_dicom):
        rows = ["ID,Label"]
        for index in range(4):
            # Slices 1 and 3 are of hemorrhages, and slice 3 of a subdural one.
            found = {"any", "epidural"} if index == 1 else {"any", "subdural"} if index == 3 else {}
            rows += [f"ID_{index}_{each},{int(each in found)}" for each in (*SUBTYPES, "any")]
            add_dicom(f"ID_p{index // 2}", f"stage_2_train/ID_{index}.dcm")
        add_csv(tmp_path, "\n".join(rows), "stage_2_train.csv")
        return tmp_path

    def test_rsna(self, rsna):
        manifest = read_manifest(rsna)
        assert (manifest.layout, manifest.level, manifest.root) == ("rsna 2019", "slice", rsna)
        assert labels_by_name(manifest) == {
            f"stage_2_train/ID_{index}.dcm": index % 2 for index in range(4)
        }
        assert [record.patient for record in manifest.records] == [
            *("ID_p0", "ID_p0", "ID_p1", "ID_p1"),
        ]
        assert manifest.columns == ("any", *SUBTYPES) and manifest.problems == ()
        assert manifest.records[3].columns == ("1", "0", "0", "0", "0", "1")
        target = read_manifest(rsna, target="Subdural")
        assert target.labels.tolist() == [0, 0, 0, 1]
        with pytest.raises(OptionError, match="--target sdh: accepted are any, epidural"):
            read_manifest(rsna, target="sdh")

    def test_ct_ich(self, tmp_path, write_nifti):
        path = write_nifti(tmp_path / "ct_scans" / "049.nii", VOLUME)
        other = write_nifti(tmp_path / "ct_scans" / "050.nii", VOLUME)
        header = "PatientNumber,SliceNumber," + ",".join(SUBTYPES)
        rows = [f"{header},No_Hemorrhage,Fracture_Yes_No"]
        rows += ["49,1,0,0,0,0,0,1,0", "49,3,0,1,0,0,0,0,1", "49,4,0,0,0,0,0,1,0"]
        rows += ["50,2,0,0,0,0,0,1,0"]
        add_csv(tmp_path, "\n".join(rows), "hemorrhage_diagnosis_raw_ct.csv")
        manifest = read_manifest(tmp_path)
        assert (manifest.layout, manifest.level) == ("ct-ich", "slice")
        assert [(each.ref, each.label, each.patient) for each in manifest.records] == [
            (SliceRef(path, 0), 0, "49"),
            (SliceRef(path, 2), 1, "49"),
            (SliceRef(other, 1), 0, "50"),
        ]
        assert reasons(manifest) == {f"{path}#3": "the file holds 3 slices, from 0"}
        assert read_manifest(tmp_path, target="fracture").labels.tolist() == [0, 1, 0]

    def test_cq500(self, tmp_path, add_dicom):
        findings = ("ICH", "EDH", "IPH", "IVH", "SAH", "SDH")
        header = [f"R{reader}:{finding}" for reader in (1, 2, 3) for finding in findings]
        rows = [["name", *header], ["CQ500-CT-0", *["1"] * 18], ["CQ500-CT-1", *["0"] * 18]]
        add_csv(tmp_path, "\n".join(map(",".join, rows)), "reads.csv")
        for number in (0, 1):
            scan_folder = f"CQ500CT{number} CQ500CT{number}/Unknown Study"
            names = [f"{scan_folder}/CT Thin/CT00000{index}.dcm" for index in range(2)]
            names += [f"{scan_folder}/CT Plain/CT000000.dcm"]
            add_dicom(f"CQ500-CT-{number}", *names, SeriesInstanceUID=f"1.2.{number}")
        manifest = read_manifest(tmp_path)
        assert (manifest.layout, manifest.level) == ("cq500", "scan")
        assert manifest.labels.tolist() == [1, 1, 1, 0, 0, 0]
        assert [record.patient for record in manifest.records] == [
            *["CQ500-CT-0"] * 3,
            *["CQ500-CT-1"] * 3,
        ]
        assert len({record.scan for record in manifest.records}) == 4
        assert manifest.problems == ()


class TestNames:
    """What names a patient stays out of the names that outputs show."""

    TAGS = {
        "PatientName": "Mustermann^Erika",
        "PatientBirthDate": "19640812",
        "AccessionNumber": "A7788",
        "OtherPatientIDs": "OLD-4711",
    }

    @pytest.fixture
    def named(self, tmp_path, add_dicom):
        root = tmp_path / "data"

        def add(*names):
            add_dicom("PAT0815", *names, folder=root, **self.TAGS)
            add_dicom("PAT0816", "ich/other.dcm", folder=root)
            return root

        return add

    @pytest.mark.parametrize(
        ("name", "shown"),
        [
            ("normal/PAT0815/a.dcm", "normal/anonymous-0001/a.dcm"),
            ("normal/mustermann_erika/a.dcm", "normal/anonymous-0001/a.dcm"),
            ("normal/x/CT-ERIKA-1.dcm", "normal/x/anonymous-0001"),
            ("normal/born 19640812/a.dcm", "normal/anonymous-0001/a.dcm"),
            ("normal/A7788/old-4711.dcm", "normal/anonymous-0001/anonymous-0002"),
            ("normal/x/a.dcm", "normal/x/a.dcm"),
        ],
    )
    def test_parts_that_name_a_patient_are_numbered(self, named, name, shown):
        manifest = read_manifest(named(name))
        assert names_of(manifest) == ["ich/other.dcm", shown]
        assert manifest.is_anonymous and not manifest.root_is_named
        # It is still read from where it is.
        assert manifest.records[1].path == manifest.root / name

    def test_slices_of_a_folder_share_its_number(self, named):
        manifest = read_manifest(named("normal/Erika 1/a.dcm", "normal/Erika 1/b.dcm"))
        assert names_of(manifest)[1:] == [
            "normal/anonymous-0001/a.dcm",
            "normal/anonymous-0001/b.dcm",
        ]

    def test_frames_keep_their_number(self, tmp_path, write_dicom):
        write_dicom(*(tmp_path / "normal" / "PAT0815.dcm", VOLUME, [0, 5, 10]), PatientID="PAT0815")
        write_dicom(tmp_path / "ich" / "a.dcm", TINY, PatientID="PAT0816")
        assert names_of(read_manifest(tmp_path))[1:] == [
            f"normal/anonymous-0001#{frame}" for frame in range(3)
        ]

    def test_files_without_tags_beside_named_ones_are_covered_too(self, named, write_nifti):
        root = named("normal/Erika/a.dcm")
        add_images(root, "normal/Erika/b.png", "normal/z/c.png")
        write_nifti(root / "normal" / "Erika" / "d.nii", VOLUME[:1])
        assert names_of(read_manifest(root)) == [
            "ich/other.dcm",
            *(f"normal/anonymous-0001/{name}" for name in ("a.dcm", "b.png", "d.nii")),
            "normal/z/c.png",
        ]

    def test_paths_outside_the_root(self, tmp_path, add_dicom):
        (path,) = add_dicom("PAT0815", "PAT0815/a.dcm", folder=tmp_path / "elsewhere")
        set_folder = tmp_path / "set"
        add_csv(set_folder, f"path,label\n{path},1\n")
        assert names_of(read_manifest(set_folder)) == [
            (tmp_path / "elsewhere" / "anonymous-0001" / "a.dcm").as_posix()
        ]

    def test_anonymize_off_shows_all(self, named):
        root = named("normal/PAT0815/Erika.dcm")
        manifest = read_manifest(root, anonymize=False)
        assert names_of(manifest) == ["ich/other.dcm", "normal/PAT0815/Erika.dcm"]
        assert not manifest.is_anonymous and not manifest.root_is_named

    @pytest.mark.parametrize("folder", ["PAT0815", "Mustermann, Erika"])
    def test_a_root_that_names_a_patient(self, tmp_path, add_dicom, folder):
        root = tmp_path / folder / "slices"
        add_dicom("PAT0815", "normal/a.dcm", "ich/b.dcm", folder=root, **self.TAGS)
        manifest = read_manifest(root)
        assert manifest.root_is_named
        assert names_of(manifest) == ["ich/b.dcm", "normal/a.dcm"]
        assert not read_manifest(root, anonymize=False).root_is_named

    def test_patients_are_hashes_in_tables_unless_asked(self, tmp_path, head, write_dicom):
        for index in range(4):
            path = tmp_path / ("ich" if index % 2 else "normal") / f"{index}.dcm"
            write_dicom(path, head(index), PatientID=f"PAT{index // 2}")
        quiet = Progress(quiet=True)
        slices = build_slice_index(read_manifest(tmp_path), quiet)
        assert all(re.fullmatch("[0-9a-f]{16}", patient) for patient in slices.patients)
        # In the order of the records: 1, 3, 0, 2
        first, second, third, fourth = slices.patients
        assert first == third != second == fourth
        assert "PAT" not in json.dumps([slices.patients, slices.places])
        shown = build_slice_index(read_manifest(tmp_path, anonymize=False), quiet)
        assert shown.patients == ["PAT0", "PAT1", "PAT0", "PAT1"]
