from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from dataset_files import make_manifest, noise
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from plain_phantoms import draw_phantom

from hemorrhage_tf.core.errors import DataError, Problem
from hemorrhage_tf.core.progress import Progress
from hemorrhage_tf.datasets.manifest import read_manifest
from hemorrhage_tf.datasets.records import Manifest, Record
from hemorrhage_tf.datasets.slice_index import SliceIndex, build_slice_index
from hemorrhage_tf.imaging.readers import SliceRef, content_hash

QUIET = Progress(quiet=True)


def build(*arguments, **options):
    return build_slice_index(make_manifest(*arguments, **options), QUIET)


def test_hashes_slices_in_order(tmp_path):
    images = [noise(number) for number in range(6)]
    index = build(tmp_path, images, [0, 1] * 3)
    assert len(index) == 6
    assert index.hashes == [content_hash(pixels) for pixels in images]
    assert index.names == [f"{number}.png" for number in range(6)]
    assert index.labels.tolist() == [0, 1] * 3
    assert index.is_hounsfield.tolist() == [False] * 6
    assert list(index.refs) == [SliceRef(tmp_path / f"{number}.png") for number in range(6)]
    assert index.groups.tolist() == [0, 1, 2, 3, 4, 5]
    assert len(index.exact_pairs) == len(index.near_pairs) == len(index.skipped) == 0
    assert len(index.statistics) == len(index.head_shares) == len(index.warnings) == 6


def test_slices_of_a_scan_stay_together_also_without_a_patient(tmp_path):
    manifest = make_manifest(tmp_path, [noise(number) for number in range(5)], [0, 1, 0, 1, 0])
    scans = ["a", None, "a", "b", "b"]
    records = [replace(each, scan=scan) for each, scan in zip(manifest.records, scans, strict=True)]
    index = build_slice_index(replace(manifest, records=records), QUIET)
    assert index.groups.tolist() == [0, 1, 0, 2, 2]
    assert index.patient_groups is None


class TestInvalidFiles:
    @pytest.fixture
    def manifest(self, tmp_path):
        heads = [draw_phantom(0, number, 0) for number in range(5)]
        manifest = make_manifest(tmp_path, heads, [0, 1, 0, 1, 0])
        (tmp_path / "1.png").write_bytes(b"")
        (tmp_path / "3.png").write_text("text")
        (tmp_path / "4.png").unlink()
        return manifest

    def test_lists_all_in_one_message_with_the_next_step(self, manifest):
        with pytest.raises(DataError) as caught:
            build_slice_index(manifest, QUIET)
        title, *lines, next_step = str(caught.value).splitlines()
        assert title == "These files or rows cannot be used (3):"
        assert [line.split(":")[0] for line in lines] == ["  1.png", "  3.png", "  4.png"]
        assert next_step.startswith("Fix or remove them, or pass --skip-invalid")

    def test_skips_them_on_request_with_a_warning(self, manifest, capsys):
        index = build_slice_index(manifest, Progress(), skip_invalid=True)
        assert index.names == ["0.png", "2.png"]
        assert index.hashes == [content_hash(draw_phantom(0, number, 0)) for number in (0, 2)]
        assert [problem.path for problem in index.skipped] == ["1.png", "3.png", "4.png"]
        captured = capsys.readouterr()
        assert "skipped 3 invalid files or rows (--skip-invalid)" in captured.err
        assert captured.out == ""

    def test_lists_problems_of_the_manifest_first(self, manifest):
        problems = (Problem("labels.csv id 9", "has no image"),)
        with pytest.raises(DataError, match=r"\(4\):\n  labels.csv id 9: has no image\n  1.png"):
            build_slice_index(Manifest(manifest.records, manifest.root, "csv", problems), QUIET)

    def test_fails_if_no_slice_is_left(self, tmp_path):
        manifest = make_manifest(tmp_path, [noise(0)], [1])
        (tmp_path / "0.png").write_bytes(b"")
        with pytest.raises(DataError, match="no usable slice is left"):
            build_slice_index(manifest, QUIET, skip_invalid=True)


class TestContradictingLabels:
    def test_names_both_copies(self, tmp_path):
        with pytest.raises(DataError) as caught:
            build(tmp_path, [noise(0), noise(1), noise(0)], [0, 1, 1])
        assert str(caught.value).splitlines()[1:3] == [
            "  0.png: the same image has the other label in 2.png",
            "  2.png: the same image has the other label in 0.png",
        ]

    def test_skip_invalid_leaves_out_every_copy(self, tmp_path):
        images = [noise(0), noise(1), noise(0), noise(2), noise(0)]
        manifest = make_manifest(tmp_path, images, [0, 1, 1, 0, 0])
        index = build_slice_index(manifest, QUIET, skip_invalid=True)
        assert index.names == ["1.png", "3.png"]
        assert [problem.path for problem in index.skipped] == ["0.png", "2.png", "4.png"]
        assert index.groups.tolist() == [0, 1]
        # What was stored in files is that of the slices left.
        alone = build(tmp_path / "alone", [noise(1), noise(2)], [1, 0])
        for one, other in zip(index.statistics, alone.statistics, strict=True):
            np.testing.assert_array_equal(one.levels, other.levels)
        assert index.secret == alone.secret

    def test_gray_and_rgb_copies_are_the_same_image(self, tmp_path):
        with pytest.raises(DataError, match="the other label"):
            build(tmp_path, [noise(0), np.stack([noise(0)] * 3, axis=-1)], [0, 1])


class TestGroups:
    def test_exact_copies_with_one_label_share_a_group(self, tmp_path):
        index = build(tmp_path, [noise(0), noise(1), noise(0), noise(0)], [0, 1, 0, 0])
        assert index.exact_pairs.tolist() == [[0, 2], [0, 3]]
        assert len(index.near_pairs) == 0
        assert index.groups.tolist() == [0, 1, 0, 0]

    def test_near_duplicates_share_a_group_even_with_different_labels(self, tmp_path):
        head = draw_phantom(0, 0, 0)
        smaller = np.asarray(Image.fromarray(head).resize((90, 90)))
        index = build(tmp_path, [head, noise(1), smaller], [0, 0, 1])
        ((i, j, correlation),) = index.near_pairs.tolist()
        assert (i, j) == (0, 2) and correlation > 0.95
        assert len(index.exact_pairs) == 0
        assert index.groups.tolist() == [0, 1, 0]

    def test_slices_of_a_patient_share_a_group(self, tmp_path):
        patients = ["a", None, "b", "a", None]
        index = build(tmp_path, map(noise, range(5)), [0, 1, 1, 0, 0], patients=patients)
        assert index.groups.tolist() == [0, 1, 2, 0, 3]
        assert index.patient_groups.tolist() == [0, 1, 2, 0, 3]
        assert build(tmp_path / "unknown", [noise(0)], [0]).patient_groups is None

    def test_a_copy_joins_patients(self, tmp_path):
        images = [noise(0), noise(1), noise(1), noise(2)]
        index = build(tmp_path, images, [0, 0, 0, 1], patients=["a", "a", "b", "b"])
        assert index.groups.tolist() == [0, 0, 0, 0]


class TestDataHash:
    @settings(max_examples=30, deadline=None)
    @given(data=st.data())
    def test_depends_on_labels_and_not_on_the_order(self, data):
        pairs = st.tuples(st.sampled_from(["aa", "bb", "cc", "dd"]), st.integers(0, 1))
        slices = data.draw(st.lists(pairs, min_size=1, max_size=6))
        shuffled = data.draw(st.permutations(slices))
        other = data.draw(st.lists(pairs, min_size=1, max_size=6))

        def data_hash(rows, root):
            records = [Record(root / str(place), label) for place, (_, label) in enumerate(rows)]
            hashes = [key for key, _ in rows]
            none = np.zeros(len(rows), bool)
            manifest = Manifest(records, root, "csv")
            return SliceIndex(manifest, hashes, none, np.arange(len(rows))).data_hash

        first = data_hash(slices, Path("here"))
        assert first == data_hash(shuffled, Path("there"))
        assert (first == data_hash(other, Path("here"))) == (sorted(slices) == sorted(other))

    def test_is_the_same_for_another_layout_and_order(self, kaggle_once, tmp_path):
        manifest = read_manifest(kaggle_once)
        part = Manifest(manifest.records[:8], manifest.root, "kaggle")
        reversed_part = Manifest(manifest.records[7::-1], tmp_path, "class folders")
        one, other = (build_slice_index(each, QUIET) for each in (part, reversed_part))
        assert one.data_hash == other.data_hash

    def test_a_label_changes_it(self, tmp_path):
        first = build(tmp_path, [noise(0), noise(1)], [0, 1])
        second = build(tmp_path, [noise(0), noise(1)], [1, 1])
        assert first.data_hash != second.data_hash
        assert first.hashes == second.hashes


class TestHounsfield:
    def test_distinguishes_hounsfield_units_from_display_images(
        self, tmp_path, head, write_dicom, write_nifti
    ):
        write_dicom(tmp_path / "a.dcm", head(0))
        write_nifti(tmp_path / "b.nii.gz", head(1)[np.newaxis])
        Image.fromarray(draw_phantom(0, 2, 0)).save(tmp_path / "c.png")
        (tmp_path / "manifest.csv").write_text("path,label\na.dcm,0\nb.nii.gz,1\nc.png,0\n")
        index = build_slice_index(read_manifest(tmp_path), QUIET)
        assert index.is_hounsfield.tolist() == [True, True, False]
        assert index.hashes[:2] == [content_hash(head(0)), content_hash(head(1))]

    def test_the_same_units_are_duplicates_in_every_format(
        self, tmp_path, head, write_dicom, write_nifti
    ):
        heads = np.stack([head(number, 0) for number in range(3)])
        write_nifti(tmp_path / "a.nii", heads)
        for number in range(3):
            write_dicom(tmp_path / f"{number}.dcm", heads[number], PatientID=f"P{number}")
        rows = [*(f"a.nii,0,{frame}" for frame in range(3)), *(f"{i}.dcm,0," for i in range(3))]
        (tmp_path / "manifest.csv").write_text("\n".join(["path,label,frame", *rows]))
        index = build_slice_index(read_manifest(tmp_path), QUIET)
        assert index.hashes[:3] == index.hashes[3:]
        assert index.exact_pairs.tolist() == [[0, 3], [1, 4], [2, 5]]
        # The volume is one patient, and joins those whose slices it holds.
        assert index.groups.tolist() == [0] * 6

    def test_units_and_their_display_image_are_near_duplicates(self, tmp_path, head, write_dicom):
        write_dicom(tmp_path / "a.dcm", head(0))
        write_dicom(tmp_path / "b.dcm", head(1), PatientID="P2")
        # 0 to 80 HU are the brain window.
        Image.fromarray((head(0) / 80 * 255).clip(0, 255).astype(np.uint8)).save(tmp_path / "c.png")
        (tmp_path / "manifest.csv").write_text("path,label\na.dcm,0\nb.dcm,1\nc.png,0\n")
        index = build_slice_index(read_manifest(tmp_path), QUIET)
        ((i, j, correlation),) = index.near_pairs.tolist()
        assert (i, j) == (0, 2) and correlation > 0.99
        assert index.groups.tolist() == [0, 1, 0]

    def test_frames_have_places_of_their_own(self, tmp_path, head, write_nifti):
        path = write_nifti(tmp_path / "normal" / "a.nii", np.stack([head(0), head(1)]))
        write_nifti(tmp_path / "ich" / "b.nii", head(5)[np.newaxis])
        index = build_slice_index(read_manifest(tmp_path), QUIET)
        assert index.refs[1:] == [SliceRef(path, 0), SliceRef(path, 1)]
        assert index.names == ["ich/b.nii", "normal/a.nii#0", "normal/a.nii#1"]
        assert index.places == [
            {"path": "ich/b.nii", "frame": ""},
            {"path": "normal/a.nii", "frame": 0},
            {"path": "normal/a.nii", "frame": 1},
        ]

    def test_lists_the_problems_of_all_formats_in_one_message(
        self, tmp_path, head, write_dicom, write_nifti
    ):
        good = write_dicom(tmp_path / "normal" / "a.dcm", head(0))
        (tmp_path / "normal" / "copy.dcm").write_bytes(good.read_bytes())
        cut = write_dicom(tmp_path / "normal" / "cut.dcm", head(2))
        cut.write_bytes(cut.read_bytes()[:-500])
        broken = write_nifti(tmp_path / "ich" / "b.nii.gz", head(1)[np.newaxis])
        broken.write_bytes(broken.read_bytes()[:60])
        other = write_dicom(tmp_path / "ich" / "other.dcm", head(3), Modality="MR")
        write_dicom(tmp_path / "ich" / "same.dcm", head(0), PatientID="P2")
        (tmp_path / "ich" / "text.png").write_text("text")
        with pytest.raises(DataError) as caught:
            build_slice_index(read_manifest(tmp_path), QUIET)
        title, *lines = str(caught.value).splitlines()
        assert title == "These files or rows cannot be used (7):"
        for start, reason in (
            (f"  {broken}: ", ""),
            (f"  {tmp_path}/normal/copy.dcm: ", f"the same SOP Instance UID as {good}"),
            ("  ich/other.dcm: ", "MR"),
            ("  ich/text.png: ", "format"),
            ("  normal/cut.dcm: ", ""),
            ("  ich/same.dcm: ", "has the other label in normal/a.dcm"),
            ("  normal/a.dcm: ", "has the other label in ich/same.dcm"),
        ):
            (line,) = (line for line in lines[:7] if line.startswith(start))
            assert reason in line
        assert lines[7].startswith("Fix or remove them")
        assert lines[8] == "These may not be slices of a head CT (1):"
        assert lines[9].startswith(f"  {other}: ") and "MR" in lines[9]


class TestInputWarnings:
    def test_heads_raise_no_warning(self, tmp_path, head, write_dicom, capsys):
        for number in range(2):
            name = f"{('normal', 'ich')[number % 2]}/{number}.dcm"
            write_dicom(tmp_path / name, head(number), PatientID=f"P{number}")
        index = build_slice_index(read_manifest(tmp_path), Progress())
        assert index.warnings == [None, None]
        assert "may not be" not in capsys.readouterr().err

    def test_tags_and_pixels_are_reported_and_the_slices_used(
        self, tmp_path, head, write_dicom, capsys
    ):
        write_dicom(tmp_path / "normal" / "a.dcm", head(0), BodyPartExamined="CHEST")
        write_dicom(tmp_path / "normal" / "b.dcm", np.full((64, 64), -1000.0), PatientID="P2")
        write_dicom(tmp_path / "ich" / "c.dcm", head(1), PatientID="P3")
        index = build_slice_index(read_manifest(tmp_path), Progress())
        assert len(index) == 3 and index.skipped == ()
        assert [warning is None for warning in index.warnings] == [True, True, False]
        printed = " ".join(capsys.readouterr().err.split())
        assert "may not be axial slices of a whole head CT (2)" in printed
        assert "CHEST" in printed and "normal/b.dcm: " in printed
        assert "c.dcm" not in printed

    def test_a_photograph_is_reported(self, tmp_path):
        rng = np.random.default_rng(0)
        photograph = rng.integers(0, 256, (8, 8, 3)).astype(np.uint8).repeat(8, 0).repeat(8, 1)
        index = build(tmp_path, [draw_phantom(0, 0, 0), photograph], [0, 1])
        assert index.warnings[0] is None and "color" in index.warnings[1]


class TestPatients:
    @pytest.fixture
    def folder(self, tmp_path, head, write_dicom):
        for number in range(4):
            path = tmp_path / ("ich" if number % 2 else "normal") / f"{number}.dcm"
            write_dicom(path, head(number), 5.0 * number, PatientID=f"PAT{number // 2}")
        return tmp_path

    def test_are_hashes_unless_the_manifest_is_not_anonymous(self, folder):
        index = build_slice_index(read_manifest(folder), QUIET)
        # In the order of the records: 1, 3, 0, 2
        first, second, third, fourth = index.patients
        assert first == third != second == fourth
        assert all(len(patient) == 16 and int(patient, 16) for patient in index.patients)
        assert "PAT" not in str([index.patients, index.places])
        named = build_slice_index(read_manifest(folder, anonymize=False), QUIET)
        assert named.patients == ["PAT0", "PAT1", "PAT0", "PAT1"]

    def test_hashes_depend_on_the_images(self, tmp_path):
        one = build(tmp_path / "a", [noise(0)], [1], patients=["P"])
        other = build(tmp_path / "b", [noise(1)], [1], patients=["P"])
        assert one.patients != other.patients

    def test_are_empty_if_unknown(self, tmp_path):
        assert build(tmp_path, [noise(0)], [0]).patients == [""]
