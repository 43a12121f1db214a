import numpy as np
import pytest
from dataset_files import (
    add_csv,
    add_images,
    names_of,
    reasons,
)

from hemorrhage_tf.datasets.manifest import read_manifest
from hemorrhage_tf.datasets.records import Record
from hemorrhage_tf.imaging.readers import SliceRef

TINY = np.zeros((4, 4), np.float32)
VOLUME = np.zeros((3, 40, 40), np.float32)


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

    def test_slices_of_a_scan_may_be_in_both_class_folders(self, tmp_path, add_dicom):
        add_dicom("P1", "normal/a.dcm", "ich/b.dcm", "normal/x/c.dcm", "ich/x/d.dcm")
        scans = dict(
            zip(names_of(manifest := read_manifest(tmp_path)), manifest.records.scans, strict=True)
        )
        assert scans["normal/a.dcm"] == scans["ich/b.dcm"]
        assert scans["normal/x/c.dcm"] == scans["ich/x/d.dcm"] != scans["ich/b.dcm"]

    @pytest.mark.parametrize("tags", [{"PatientID": None}, {"SeriesInstanceUID": None}])
    def test_without_identifiers_class_folders_stay_apart(self, tmp_path, write_dicom, tags):
        for name in ("normal/a.dcm", "ich/b.dcm"):
            write_dicom(tmp_path / name, TINY, **tags)
        scans = read_manifest(tmp_path).records.scans
        assert len(set(scans)) == 2

    def test_volumes_become_a_record_per_slice_labeled_as_scans(self, tmp_path, write_nifti):
        bad = write_nifti(tmp_path / "hemorrhage" / "a.nii.gz", VOLUME)
        good = write_nifti(tmp_path / "normal" / "b.nii", VOLUME[:2])
        manifest = read_manifest(tmp_path)
        assert manifest.level == "scan"
        assert manifest.records.scan_labels == [1, 1, 1, 0, 0]
        assert not manifest.records.has_slice_label.any()
        assert np.diff(manifest.records.positions[:3]).tolist() == [5.0, 5.0]
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

    def test_display_images_keep_their_values(self, tmp_path, add_dicom):
        add_dicom("P1", "normal/a.dcm")
        (image,) = add_images(tmp_path, "ich/b.png")
        manifest = read_manifest(tmp_path)
        assert manifest.records[0] == Record(image, 1)
        assert manifest.records[1].patient == "P1"

    def test_the_patient_of_the_manifest_precedes_the_header(self, tmp_path, add_dicom):
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
        assert note.path == "3 scans" and "all have the same patient ID" in note.reason
        assert "ANONYMOUS" not in str(note)

    def test_one_patient_id_of_one_scan_stays(self, tmp_path, add_dicom):
        add_dicom("P1", "a.dcm", "b.dcm")
        add_csv(tmp_path, "path,label\na.dcm,0\nb.dcm,1\n")
        manifest = read_manifest(tmp_path)
        assert {record.patient for record in manifest.records} == {"P1"}
        assert manifest.input_warnings == ()

    def test_reports_unreadable_headers_copies_and_input_warnings(self, tmp_path, add_dicom):
        first, _ = add_dicom("P1", "normal/a.dcm", "normal/b.dcm")
        (chest,) = add_dicom("P2", "ich/c.dcm", BodyPartExamined="CHEST")
        (copy := tmp_path / "normal" / "c.dcm").write_bytes(first.read_bytes())
        (text := tmp_path / "normal" / "d.dcm").write_text("no slice")
        manifest = read_manifest(tmp_path)
        assert names_of(manifest) == ["ich/c.dcm", "normal/a.dcm", "normal/b.dcm"]
        assert reasons(manifest.problems).keys() == {str(copy), str(text)}
        assert reasons(manifest.problems)[str(copy)] == f"has the same SOP Instance UID as {first}"
        assert [problem.path for problem in manifest.input_warnings] == [str(chest)]


class TestPatientNames:
    """Names of patients stay out of the names that outputs show."""

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
    def test_replaces_parts_that_name_a_patient(self, named, name, shown):
        manifest = read_manifest(named(name))
        assert names_of(manifest) == ["ich/other.dcm", shown]
        assert manifest.is_anonymous and not manifest.root_is_named
        # The file itself is where it was.
        assert manifest.records[1].path == manifest.root / name

    def test_slices_of_a_folder_share_its_number(self, named):
        manifest = read_manifest(named("normal/Erika 1/a.dcm", "normal/Erika 1/b.dcm"))
        assert names_of(manifest)[1:] == [
            "normal/anonymous-0001/a.dcm",
            "normal/anonymous-0001/b.dcm",
        ]

    def test_frames_keep_their_number(self, tmp_path, write_dicom):
        write_dicom(tmp_path / "normal" / "PAT0815.dcm", VOLUME, [0, 5, 10], PatientID="PAT0815")
        write_dicom(tmp_path / "ich" / "a.dcm", TINY, PatientID="PAT0816")
        assert names_of(read_manifest(tmp_path))[1:] == [
            f"normal/anonymous-0001#{frame}" for frame in range(3)
        ]

    def test_covers_files_without_tags_in_named_folders(self, named, write_nifti):
        root = named("normal/Erika/a.dcm")
        add_images(root, "normal/Erika/b.png", "normal/z/c.png")
        write_nifti(root / "normal" / "Erika" / "d.nii", VOLUME[:1])
        assert names_of(read_manifest(root)) == [
            "ich/other.dcm",
            *(f"normal/anonymous-0001/{name}" for name in ("a.dcm", "b.png", "d.nii")),
            "normal/z/c.png",
        ]

    def test_covers_paths_outside_the_root(self, tmp_path, add_dicom):
        (path,) = add_dicom("PAT0815", "PAT0815/a.dcm", folder=tmp_path / "elsewhere")
        set_folder = tmp_path / "set"
        add_csv(set_folder, f"path,label\n{path},1\n")
        assert names_of(read_manifest(set_folder)) == [
            (tmp_path / "elsewhere" / "anonymous-0001" / "a.dcm").as_posix()
        ]

    def test_shows_everything_if_not_anonymized(self, named):
        root = named("normal/PAT0815/Erika.dcm")
        manifest = read_manifest(root, anonymize=False)
        assert names_of(manifest) == ["ich/other.dcm", "normal/PAT0815/Erika.dcm"]
        assert not manifest.is_anonymous and not manifest.root_is_named

    @pytest.mark.parametrize("folder", ["PAT0815", "Mustermann, Erika"])
    def test_reports_a_root_that_names_a_patient(self, tmp_path, add_dicom, folder):
        root = tmp_path / folder / "slices"
        add_dicom("PAT0815", "normal/a.dcm", "ich/b.dcm", folder=root, **self.TAGS)
        manifest = read_manifest(root)
        assert manifest.root_is_named
        assert names_of(manifest) == ["ich/b.dcm", "normal/a.dcm"]
        assert not read_manifest(root, anonymize=False).root_is_named
