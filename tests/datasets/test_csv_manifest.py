import numpy as np
import pytest
from dataset_files import (
    add_csv,
    add_images,
    labels_by_name,
    names_of,
    reasons,
)
from PIL import Image

from hemorrhage_tf.core.errors import DataError, OptionError
from hemorrhage_tf.datasets.manifest import read_manifest
from hemorrhage_tf.datasets.records import Record
from hemorrhage_tf.imaging.readers import SliceRef


class TestKaggleFolder:
    @pytest.mark.parametrize("below", ["", "head_ct", "head_ct/head_ct"])
    def test_unpadded_ids_match_padded_images_at_each_depth(self, tmp_path, below):
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

    def test_ignores_images_three_folders_down(self, tmp_path):
        add_images(tmp_path / "a" / "b" / "c", "0.png")
        add_csv(tmp_path, "id,hemorrhage\n0,1\n", "labels.csv")
        assert reasons(read_manifest(tmp_path).problems) == {
            "labels.csv id 0": "has a label, but no image"
        }

    def test_lists_a_kaggle_folder(self, kaggle_once):
        manifest = read_manifest(kaggle_once)
        assert len(manifest) == 24
        np.testing.assert_array_equal(manifest.labels, np.arange(24) % 2)
        assert manifest.labels.dtype == np.int64
        assert manifest.problems == ()

    def test_accepts_the_csv_file_itself(self, kaggle_once):
        assert read_manifest(kaggle_once / "labels.csv") == read_manifest(kaggle_once)

    def test_accepts_text_ids_file_names_and_patients(self, tmp_path):
        add_images(tmp_path, "scan_a.png", "scan_b.jpg")
        add_csv(tmp_path, "id,label,patient\nscan_a,1,P\nscan_b.jpg,0,\n", "labels.csv")
        assert read_manifest(tmp_path).records == (
            Record(tmp_path / "scan_a.png", 1, "P"),
            Record(tmp_path / "scan_b.jpg", 0, None),
        )

    def test_accepts_a_byte_order_mark_and_windows_line_ends(self, tmp_path):
        add_images(tmp_path, "0.png", "1.png")
        add_csv(tmp_path, "\ufeffid, hemorrhage\r\n0, 0\r\n1, 1\r\n", "labels.csv")
        assert labels_by_name(read_manifest(tmp_path)) == {"0.png": 0, "1.png": 1}

    def test_reports_a_label_without_an_image(self, tmp_path):
        add_images(tmp_path, "0.png")
        add_csv(tmp_path, "id,hemorrhage\n0,0\n7,1\n", "labels.csv")
        manifest = read_manifest(tmp_path)
        assert labels_by_name(manifest) == {"0.png": 0}
        assert reasons(manifest.problems) == {"labels.csv id 7": "has a label, but no image"}

    def test_reports_an_image_without_a_label(self, tmp_path):
        paths = add_images(tmp_path, "0.png", "1.png")
        add_csv(tmp_path, "id,hemorrhage\n0,0\n", "labels.csv")
        manifest = read_manifest(tmp_path)
        assert labels_by_name(manifest) == {"0.png": 0}
        assert reasons(manifest.problems) == {str(paths[1]): "has no row in labels.csv"}

    def test_reports_a_label_outside_the_classes(self, tmp_path):
        add_images(tmp_path, "0.png", "1.png", "2.png")
        add_csv(tmp_path, "id,hemorrhage\n0,0\n1,2\n2,\n", "labels.csv")
        manifest = read_manifest(tmp_path)
        assert labels_by_name(manifest) == {"0.png": 0}
        assert reasons(manifest.problems) == {
            "labels.csv id 1": "the label '2' is outside the two classes, 0 and 1",
            "labels.csv id 2": "the label '' is outside the two classes, 0 and 1",
        }

    def test_reports_a_duplicate_id(self, tmp_path):
        add_images(tmp_path, "007.png")
        add_csv(tmp_path, "id,hemorrhage\n7,0\n007,1\n", "labels.csv")
        manifest = read_manifest(tmp_path)
        assert labels_by_name(manifest) == {"007.png": 0}
        assert reasons(manifest.problems) == {
            "labels.csv id 007": "the id occurs in more than one row"
        }

    def test_reports_an_id_of_several_images(self, tmp_path):
        paths = add_images(tmp_path, "07.png", "7.jpg", "a/7.png")
        add_csv(tmp_path, "id,hemorrhage\n7,0\n", "labels.csv")
        manifest = read_manifest(tmp_path)
        assert len(manifest) == 0
        (reason,) = reasons(manifest.problems).values()
        assert reason.startswith("matches several images: ")
        assert all(str(path) in reason for path in paths)

    def test_reports_a_row_with_too_few_cells(self, tmp_path):
        add_images(tmp_path, "0.png", "1.png")
        add_csv(tmp_path, "id,hemorrhage\n0,0\n1\n", "labels.csv")
        manifest = read_manifest(tmp_path)
        assert labels_by_name(manifest) == {"0.png": 0}
        assert reasons(manifest.problems)["labels.csv row 3"] == "has 1 cells, not 2"


class TestCsvManifest:
    def test_reads_paths_patients_and_splits(self, tmp_path):
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

    def test_accepts_a_folder_with_a_manifest(self, tmp_path):
        add_images(tmp_path, "a.png", "b.png")
        path = add_csv(tmp_path, "path,label\na.png,0\nb.png,1\n")
        assert read_manifest(tmp_path) == read_manifest(path)

    def test_accepts_any_name_and_an_upper_case_suffix(self, tmp_path):
        add_images(tmp_path, "a.png")
        assert len(read_manifest(add_csv(tmp_path, "path,label\na.png,0\n", "Set.CSV"))) == 1

    def test_accepts_a_byte_order_mark_spaces_quotes_and_blank_rows(self, tmp_path):
        add_images(tmp_path, "a b.png", "c,d.png")
        add_csv(tmp_path, '\ufeffPath, Label\r\n\r\n a b.png , 1.0\r\n"c,d.png", 0\r\n,\r\n')
        assert labels_by_name(read_manifest(tmp_path)) == {"a b.png": 1, "c,d.png": 0}

    def test_accepts_columns_in_another_order_and_unknown_ones(self, tmp_path):
        add_images(tmp_path, "a.png")
        add_csv(tmp_path, "comment,label,path\nfine,1,a.png\n")
        assert labels_by_name(read_manifest(tmp_path)) == {"a.png": 1}

    def test_positive_names_the_class(self, tmp_path):
        add_images(tmp_path, "a.png", "b.png")
        add_csv(tmp_path, "path,label\na.png,sah\nb.png,clear\n")
        assert labels_by_name(read_manifest(tmp_path, "sah")) == {"a.png": 1, "b.png": 0}

    def test_positive_among_three_classes(self, tmp_path):
        add_images(tmp_path, "a.png", "b.png", "c.png")
        add_csv(tmp_path, "path,label\na.png,sah\nb.png,clear\nc.png,tumor\n")
        with pytest.raises(DataError, match="clear, sah, tumor.: there must be two"):
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
        assert reasons(manifest.problems) == {
            "gone.png": "has a label, but the file does not exist",
            "b.png": "the label 'maybe' is outside the two classes, 0 and 1",
            "c.png": "the split is 'validation', not train or test",
            "manifest.csv row 6": "has 2 cells, not 3",
        }

    def test_row_numbers_are_those_of_the_file(self, tmp_path):
        add_images(tmp_path, "a.png")
        add_csv(tmp_path, "path,label\n\na.png,1\n\na.png\n")
        assert list(reasons(read_manifest(tmp_path).problems)) == ["manifest.csv row 5"]

    def test_reports_a_blank_split_if_others_are_not(self, tmp_path):
        paths = add_images(tmp_path, "a.png", "b.png")
        add_csv(tmp_path, "path,label,split\na.png,1,train\nb.png,0,\n")
        manifest = read_manifest(tmp_path)
        assert labels_by_name(manifest) == {"a.png": 1}
        assert reasons(manifest.problems) == {
            str(paths[1]): "the split is blank, while other rows have one"
        }

    def test_a_split_that_is_always_blank_is_none(self, tmp_path):
        add_images(tmp_path, "a.png", "b.png")
        add_csv(tmp_path, "path,label,split\na.png,1,\nb.png,0,\n")
        assert [record.split for record in read_manifest(tmp_path).records] == [None, None]


class TestErrors:
    def test_rejects_unknown_columns(self, tmp_path):
        path = add_csv(tmp_path, "File,Class\na.png,1\n")
        with pytest.raises(
            DataError, match="path and label, or id and hemorrhage. Received: File, Class"
        ):
            read_manifest(path)

    @pytest.mark.parametrize("text", ["", "\n\n", " , \n"])
    def test_rejects_an_empty_csv(self, tmp_path, text):
        with pytest.raises(DataError, match=r"manifest\.csv: the file is empty"):
            read_manifest(add_csv(tmp_path, text))

    def test_rejects_a_binary_csv(self, tmp_path):
        path = tmp_path / "manifest.csv"
        Image.new("L", (4, 4)).save(path, "PNG")
        with pytest.raises(DataError, match="cannot be read as CSV .* Save it as UTF-8"):
            read_manifest(path)

    def test_rejects_a_header_without_rows(self, tmp_path):
        with pytest.raises(OptionError, match="the classes \\(none\\)"):
            read_manifest(add_csv(tmp_path, "path,label\n"))


VOLUME = np.zeros((3, 40, 40), np.float32)


class TestFrames:
    def test_rows_may_be_single_slices_of_a_volume(self, tmp_path, write_nifti):
        path = write_nifti(tmp_path / "a.nii.gz", VOLUME)
        add_csv(tmp_path, "path,label,frame\na.nii.gz,1,2\na.nii.gz,0,0\n")
        manifest = read_manifest(tmp_path)
        assert manifest.level == "slice" and manifest.problems == ()
        assert [(record.ref, record.label) for record in manifest.records] == [
            (SliceRef(path, 2), 1),
            (SliceRef(path, 0), 0),
        ]
        assert len({record.scan for record in manifest.records}) == 1

    def test_a_blank_frame_means_the_whole_file(self, tmp_path, add_dicom, write_nifti):
        add_dicom("P1", "a.dcm")
        write_nifti(tmp_path / "b.nii", VOLUME)
        add_csv(tmp_path, "path,label,frame\na.dcm,1,\nb.nii,0,\n")
        manifest = read_manifest(tmp_path)
        assert names_of(manifest) == ["a.dcm", "b.nii#0", "b.nii#1", "b.nii#2"]
        assert manifest.level == "scan"

    def test_reports_frames_that_do_not_exist(self, tmp_path, write_nifti):
        path = write_nifti(tmp_path / "a.nii", VOLUME)
        add_csv(tmp_path, "path,label,frame\na.nii,1,3\na.nii,0,-1\na.nii,0,x\na.nii,0,1\n")
        manifest = read_manifest(tmp_path)
        assert names_of(manifest) == ["a.nii#1"]
        assert [(problem.path, problem.reason) for problem in manifest.problems] == [
            ("a.nii", "the frame '-1' is not a whole number from 0"),
            ("a.nii", "the frame 'x' is not a whole number from 0"),
            (f"{path}#3", "has no frame 3: it holds 3, numbered from 0"),
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

    def test_display_images_of_a_row_are_one_scan_and_one_patient(self, tmp_path):
        add_images(tmp_path, "one/a.png", "one/b.png", "two/c.png", "d.png")
        add_csv(tmp_path, "path,label,patient\none,1,\ntwo,0,X\nd.png,0,\n")
        manifest = read_manifest(tmp_path)
        assert manifest.level == "scan"
        scans = [record.scan for record in manifest.records]
        assert scans[0] == scans[1] != scans[2] and scans[3] is None
        patients = [record.patient for record in manifest.records]
        assert patients[0] == patients[1] and patients[0] is not None
        assert patients[2:] == ["X", None]

    def test_reports_unusable_folders(self, tmp_path, add_dicom):
        add_dicom("P1", "one/a.dcm")
        (tmp_path / "empty").mkdir()
        add_csv(tmp_path, "path,label,frame\none,1,0\nempty,0,\ngone,0,\none,0,\n")
        manifest = read_manifest(tmp_path)
        assert names_of(manifest) == ["one/a.dcm"]
        assert reasons(manifest.problems) == {
            "one": "is a folder, so the row must not have a frame",
            "empty": "is a folder without slices",
            "gone": "has a label, but the file does not exist",
        }


class TestTarget:
    @pytest.fixture
    def folder(self, tmp_path):
        add_images(tmp_path, "0.png", "1.png")
        add_csv(tmp_path, "path,label,Subdural,note\n0.png,1,0,old\n1.png,1,1,\n")
        return tmp_path

    def test_uses_a_column_as_label_and_keeps_the_others(self, folder):
        manifest = read_manifest(folder, target="subdural")
        assert labels_by_name(manifest) == {"0.png": 0, "1.png": 1}
        assert manifest.columns == ("label", "note")
        assert [record.columns for record in manifest.records] == [("1", "old"), ("1", "")]
        assert read_manifest(folder, target=" SUBDURAL ") == manifest

    def test_uses_the_label_column_by_default(self, folder):
        manifest = read_manifest(folder)
        assert labels_by_name(manifest) == {"0.png": 1, "1.png": 1}
        assert manifest.columns == ("subdural", "note")

    @pytest.mark.parametrize("target", ["epidural", "path", "frame", ""])
    def test_rejects_a_column_that_does_not_exist(self, folder, target):
        message = (
            f"--target {target}: must be a column of manifest.csv. Pass one of label, subdural"
        )
        with pytest.raises(OptionError, match=message):
            read_manifest(folder, target=target)

    def test_rejects_a_column_that_is_no_label(self, folder):
        with pytest.raises(OptionError, match="none of the classes .*old.*--positive NAME"):
            read_manifest(folder, target="note")

    def test_works_for_a_kaggle_folder(self, tmp_path):
        add_images(tmp_path, "0.png", "1.png")
        add_csv(tmp_path, "id,hemorrhage,sah\n0,1,0\n1,1,1\n", "labels.csv")
        manifest = read_manifest(tmp_path, target="sah")
        assert labels_by_name(manifest) == {"0.png": 0, "1.png": 1}
        assert manifest.columns == ("hemorrhage",)
        with pytest.raises(OptionError, match="--target id: must be a column of labels.csv"):
            read_manifest(tmp_path, target="id")

    def test_works_without_a_label_column(self, tmp_path):
        add_images(tmp_path, "0.png", "1.png")
        add_csv(tmp_path, "path,sah\n0.png,0\n1.png,1\n")
        assert labels_by_name(read_manifest(tmp_path, target="sah")) == {"0.png": 0, "1.png": 1}
        with pytest.raises(DataError, match="must be path and label.* Received: path, sah"):
            read_manifest(tmp_path)


class TestIds:
    def test_ids_find_dicom_and_nifti_files(self, tmp_path, add_dicom, write_nifti):
        add_dicom("P1", "007.dcm", "x/008.dcm")
        write_nifti(tmp_path / "009.nii.gz", VOLUME[:1])
        add_csv(tmp_path, "id,hemorrhage\n7,0\n8,1\n9.nii.gz,1\n", "labels.csv")
        assert labels_by_name(read_manifest(tmp_path)) == {
            **{"007.dcm": 0, "x/008.dcm": 1, "009.nii.gz": 1},
        }
