import numpy as np
import pytest
from dataset_files import (
    add_csv,
    add_images,
    labels_by_name,
    reasons,
)

from hemorrhage_tf.core.errors import DataError, OptionError
from hemorrhage_tf.core.progress import Progress
from hemorrhage_tf.datasets.layouts.base import SUBTYPES
from hemorrhage_tf.datasets.manifest import LAYOUTS, read_manifest
from hemorrhage_tf.datasets.records import Manifest
from hemorrhage_tf.datasets.scan_index import index_scans
from hemorrhage_tf.imaging.readers import SliceRef


def test_returns_a_manifest_unchanged(tmp_path):
    manifest = Manifest((), tmp_path, "csv")
    assert read_manifest(manifest) is manifest


class TestClassFolders:
    def test_lists_both_classes_at_any_depth(self, tmp_path):
        add_images(tmp_path, "normal/a.png", "hemorrhage/deep/er/b.jpg")
        manifest = read_manifest(tmp_path)
        assert manifest.layout == "class folders"
        assert labels_by_name(manifest) == {"hemorrhage/deep/er/b.jpg": 1, "normal/a.png": 0}

    def test_positive_names_the_class(self, tmp_path):
        add_images(tmp_path, "cats/a.png", "dogs/b.png")
        assert labels_by_name(read_manifest(tmp_path, "cats")) == {"cats/a.png": 1, "dogs/b.png": 0}

    def test_reports_images_outside_the_folders(self, tmp_path):
        (loose,) = add_images(tmp_path, "loose.png")
        add_images(tmp_path, "normal/a.png", "hemorrhage/b.png")
        manifest = read_manifest(tmp_path)
        assert len(manifest) == 2
        assert reasons(manifest.problems) == {
            str(loose): "is outside the class folders, and has no label"
        }

    def test_ignores_hidden_and_empty_folders(self, tmp_path):
        add_images(tmp_path, "normal/a.png", "hemorrhage/b.png", ".cache/c.png")
        (tmp_path / "empty").mkdir()
        assert len(read_manifest(tmp_path)) == 2

    def test_rejects_three_class_folders(self, tmp_path):
        add_images(tmp_path, "normal/a.png", "hemorrhage/b.png", "unsure/c.png")
        with pytest.raises(DataError, match="Received class folders: hemorrhage, normal, unsure"):
            read_manifest(tmp_path)

    def test_rejects_images_without_labels(self, tmp_path):
        add_images(tmp_path, "a.png", "b.png")
        with pytest.raises(DataError, match="Received 2 images without labels") as caught:
            read_manifest(tmp_path)
        assert LAYOUTS in str(caught.value)

    def test_rejects_a_target(self, tmp_path):
        add_images(tmp_path, "normal/a.png", "ich/b.png")
        with pytest.raises(OptionError, match="--target sah: class folders have no label columns"):
            read_manifest(tmp_path, target="sah")


class TestErrors:
    def test_rejects_a_missing_path(self, tmp_path):
        with pytest.raises(DataError, match="gone: no such file or folder. Pass one of these:\n"):
            read_manifest(tmp_path / "gone")

    def test_rejects_an_empty_folder(self, tmp_path):
        with pytest.raises(DataError, match="Received class folders: none. Pass one of these:\n"):
            read_manifest(tmp_path)

    def test_rejects_a_file_that_is_no_csv(self, tmp_path):
        (path,) = add_images(tmp_path, "a.png")
        with pytest.raises(DataError, match=r"a\.png: not a folder or CSV manifest"):
            read_manifest(path)


VOLUME = np.zeros((3, 40, 40), np.float32)


class TestPublicDataSets:
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
            "ID_p0",
            "ID_p0",
            "ID_p1",
            "ID_p1",
        ]
        assert manifest.columns == ("any", *SUBTYPES) and manifest.problems == ()
        assert manifest.records[3].columns == ("1", "0", "0", "0", "0", "1")
        target = read_manifest(rsna, target="Subdural")
        assert target.labels.tolist() == [0, 0, 0, 1]
        with pytest.raises(OptionError, match="--target sdh: no such label. Pass one of any"):
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
        assert reasons(manifest.problems) == {
            f"{path}#3": "has no frame 3: it holds 3, numbered from 0"
        }
        assert read_manifest(tmp_path, target="fracture").labels.tolist() == [0, 1, 0]

    def test_cq500(self, tmp_path, add_dicom, capsys):
        findings = ("ICH", "EDH", "IPH", "IVH", "SAH", "SDH")
        header = [f"R{reader}:{finding}" for reader in (1, 2, 3) for finding in findings]
        rows = [["name", *header], ["CQ500-CT-0", *["1"] * 18], ["CQ500-CT-1", *["0"] * 18]]
        add_csv(tmp_path, "\n".join(map(",".join, rows)), "reads.csv")
        for number in (0, 1):
            scan_folder = f"CQ500CT{number} CQ500CT{number}/Unknown Study"
            names = [f"{scan_folder}/CT Plain/CT00000{index}.dcm" for index in range(2)]
            names += [f"{scan_folder}/CT 4cc sec 150cc/CT00000{index}.dcm" for index in range(3)]
            add_dicom(f"CQ500-CT-{number}", *names, SeriesInstanceUID=f"1.2.{number}")
            name = f"{scan_folder}/CT Bone/CT000000.dcm"
            add_dicom(f"CQ500-CT-{number}", name, BodyPartExamined="KNEE")
        manifest = read_manifest(tmp_path, progress=Progress())
        assert " ".join(capsys.readouterr().err.split()) == (
            "Chose 2 of 6 series, one of each study. Left out: with contrast agent, an "
            "angiography or a perfusion study (2); not of the head (2)."
        )
        assert manifest.input_warnings == ()
        assert (manifest.layout, manifest.level) == ("cq500", "scan")
        # Of each study one series is used: neither the angiography nor the one of bone.
        assert manifest.labels.tolist() == [1, 1, 0, 0]
        assert {record.path.parent.name for record in manifest.records} == {"CT Plain"}
        patients = [record.patient for record in manifest.records]
        assert patients == ["CQ500-CT-0"] * 2 + ["CQ500-CT-1"] * 2
        assert len({record.scan for record in manifest.records}) == 2
        assert manifest.problems == ()
        # The readers saw whole scans.
        assert manifest.records.scan_labels == [1, 1, 0, 0]
        assert not manifest.records.has_slice_label.any()
        scans = index_scans(manifest, np.zeros(4, int))
        assert scans.lengths.tolist() == [2, 2] and scans.labels.tolist() == [1, 0]

    def test_rsna_in_one_flat_folder_has_a_scan_for_each_series(self, tmp_path, write_dicom):
        rows = ["ID,Label"]
        for index in range(6):
            rows += [f"ID_{index}_{each},{int(index == 4)}" for each in ("any", "subdural")]
            rows += [f"ID_{index}_{each},0" for each in SUBTYPES if each != "subdural"]
            path = tmp_path / "stage_2_train" / f"ID_{index}.dcm"
            tags = {"PatientID": f"ID_p{index % 2}", "SeriesInstanceUID": f"ID_s{index % 3}"}
            write_dicom(path, VOLUME[0], float(-index), **tags)
        add_csv(tmp_path, "\n".join(rows), "stage_2_train.csv")
        manifest = read_manifest(tmp_path)
        scans = index_scans(manifest, np.zeros(6, int))
        # Patients 0 and 1 have three series each here, of one slice.
        assert scans.lengths.tolist() == [] and len(set(manifest.records.scans)) == 6
        for index in range(6):
            path = tmp_path / "stage_2_train" / f"ID_{index}.dcm"
            tags = {"PatientID": f"ID_p{index % 2}", "SeriesInstanceUID": f"ID_s{index % 2}"}
            write_dicom(path, VOLUME[0], float(-index), **tags)
        scans = index_scans(read_manifest(tmp_path), np.zeros(6, int))
        assert [members.tolist() for members in scans.members] == [[4, 2, 0], [5, 3, 1]]
        assert scans.labels.tolist() == [1, 0]
        assert scans.names == ("stage_2_train (scan 1 of 2)", "stage_2_train (scan 2 of 2)")
