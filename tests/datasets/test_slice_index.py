from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from plain_phantoms import draw_phantom

from hemorrhage_tf.core.errors import DataError, Problem
from hemorrhage_tf.core.progress import Progress
from hemorrhage_tf.datasets.manifest import read_manifest
from hemorrhage_tf.datasets.records import Manifest, Record
from hemorrhage_tf.datasets.slice_index import SliceIndex, build_slice_index, index_unlabeled_slices
from hemorrhage_tf.imaging.readers import FORMATS, SliceRef, content_hash

QUIET = Progress(quiet=True)


def noise(index):
    return np.random.default_rng(index).integers(0, 256, (24, 24), np.uint8)


def make_manifest(folder, pictures, labels, patients=None):
    folder.mkdir(exist_ok=True)
    records = []
    for index, (pixels, label) in enumerate(zip(pictures, labels, strict=True)):
        path = folder / f"{index}.png"
        Image.fromarray(pixels).save(path)
        records.append(Record(path, label, patients[index] if patients else None))
    return Manifest(tuple(records), folder, "csv")


def test_good_slices_are_hashed_in_order(tmp_path):
    pictures = [noise(index) for index in range(6)]
    scanned = build_slice_index(make_manifest(tmp_path, pictures, [0, 1] * 3), QUIET)
    assert len(scanned) == 6
    assert scanned.hashes == tuple(content_hash(pixels) for pixels in pictures)
    assert scanned.names == [f"{index}.png" for index in range(6)]
    assert scanned.labels.tolist() == [0, 1] * 3
    assert scanned.is_hounsfield.tolist() == [False] * 6
    assert scanned.refs == [SliceRef(tmp_path / f"{index}.png") for index in range(6)]
    assert scanned.groups.tolist() == [0, 1, 2, 3, 4, 5]
    assert scanned.exact_pairs == scanned.near_pairs == scanned.skipped == ()


class TestBadFiles:
    @pytest.fixture
    def manifest(self, tmp_path):
        heads = [draw_phantom(0, index, 0) for index in range(5)]
        manifest = make_manifest(tmp_path, heads, [0, 1, 0, 1, 0])
        (tmp_path / "1.png").write_bytes(b"")
        (tmp_path / "3.png").write_text("text")
        (tmp_path / "4.png").unlink()
        return manifest

    def test_all_stand_in_one_message_with_the_next_step(self, manifest):
        with pytest.raises(DataError) as caught:
            build_slice_index(manifest, QUIET)
        assert str(caught.value).splitlines() == [
            "These files or rows cannot be used (3):",
            "  1.png: the file is empty (0 bytes)",
            f"  3.png: not one of the formats that are read: {FORMATS}",
            "  4.png: no such file",
            "Mend or remove them, or go on without them with --skip-invalid.",
        ]

    def test_skip_bad_goes_on_without_them_and_says_so(self, manifest, capsys):
        scanned = build_slice_index(manifest, Progress(), skip_invalid=True)
        assert scanned.names == ["0.png", "2.png"]
        assert scanned.hashes == tuple(content_hash(draw_phantom(0, index, 0)) for index in (0, 2))
        assert [problem.path for problem in scanned.skipped] == ["1.png", "3.png", "4.png"]
        captured = capsys.readouterr()
        assert "went on without 3 bad files or rows (--skip-invalid)" in captured.err
        assert captured.out == ""

    def test_problems_of_the_manifest_come_first(self, manifest):
        listed = Manifest(
            manifest.records, manifest.root, "csv", (Problem("labels.csv id 9", "has no image"),)
        )
        with pytest.raises(DataError, match=r"\(4\):\n  labels.csv id 9: has no image\n  1.png"):
            build_slice_index(listed, QUIET)

    def test_nothing_left(self, tmp_path):
        manifest = make_manifest(tmp_path, [noise(0)], [1])
        (tmp_path / "0.png").write_bytes(b"")
        with pytest.raises(DataError, match="no slice is left to use"):
            build_slice_index(manifest, QUIET, skip_invalid=True)


class TestContradictingLabels:
    def test_both_copies_are_named(self, tmp_path):
        manifest = make_manifest(tmp_path, [noise(0), noise(1), noise(0)], [0, 1, 1])
        with pytest.raises(DataError) as caught:
            build_slice_index(manifest, QUIET)
        lines = str(caught.value).splitlines()
        assert lines[1:3] == [
            "  0.png: the same picture has the other label elsewhere: 2.png",
            "  2.png: the same picture has the other label elsewhere: 0.png",
        ]

    def test_skip_bad_leaves_out_every_copy(self, tmp_path):
        pictures = [noise(0), noise(1), noise(0), noise(2), noise(0)]
        manifest = make_manifest(tmp_path, pictures, [0, 1, 1, 0, 0])
        scanned = build_slice_index(manifest, QUIET, skip_invalid=True)
        assert scanned.names == ["1.png", "3.png"]
        assert [problem.path for problem in scanned.skipped] == ["0.png", "2.png", "4.png"]
        assert scanned.groups.tolist() == [0, 1]

    def test_grey_and_rgb_copies_count_as_the_same_picture(self, tmp_path):
        pictures = [noise(0), np.stack([noise(0)] * 3, axis=-1)]
        with pytest.raises(DataError, match="the other label"):
            build_slice_index(make_manifest(tmp_path, pictures, [0, 1]), QUIET)


class TestGroups:
    def test_exact_copies_with_one_label_share_a_group(self, tmp_path):
        pictures = [noise(0), noise(1), noise(0), noise(0)]
        scanned = build_slice_index(make_manifest(tmp_path, pictures, [0, 1, 0, 0]), QUIET)
        assert scanned.exact_pairs == ((0, 2), (0, 3))
        assert scanned.near_pairs == ()
        assert scanned.groups.tolist() == [0, 1, 0, 0]

    def test_near_duplicates_share_a_group_whatever_their_labels(self, tmp_path):
        slice_ = draw_phantom(0, 0, 0)
        smaller = np.asarray(Image.fromarray(slice_).resize((90, 90)))
        scanned = build_slice_index(
            make_manifest(tmp_path, [slice_, noise(1), smaller], [0, 0, 1]), QUIET
        )
        ((i, j, correlation),) = scanned.near_pairs
        assert (i, j) == (0, 2)
        assert correlation > 0.95
        assert scanned.exact_pairs == ()
        assert scanned.groups.tolist() == [0, 1, 0]

    def test_slices_of_a_patient_share_a_group(self, tmp_path):
        pictures = [noise(index) for index in range(5)]
        patients = ["a", None, "b", "a", None]
        manifest = make_manifest(tmp_path, pictures, [0, 1, 1, 0, 0], patients)
        assert build_slice_index(manifest, QUIET).groups.tolist() == [0, 1, 2, 0, 3]

    def test_patients_are_joined_through_a_copy(self, tmp_path):
        pictures = [noise(0), noise(1), noise(1), noise(2)]
        manifest = make_manifest(tmp_path, pictures, [0, 0, 0, 1], ["a", "a", "b", "b"])
        assert build_slice_index(manifest, QUIET).groups.tolist() == [0, 0, 0, 0]


class TestDataHash:
    @settings(max_examples=30, deadline=None)
    @given(data=st.data())
    def test_order_does_not_matter_and_labels_do(self, data):
        pairs = st.tuples(st.sampled_from(["aa", "bb", "cc", "dd"]), st.integers(0, 1))
        slices = data.draw(st.lists(pairs, min_size=1, max_size=6))
        shuffled = data.draw(st.permutations(slices))
        other = data.draw(st.lists(pairs, min_size=1, max_size=6))

        def data_hash(rows, root):
            records = tuple(
                Record(root / str(index), label) for index, (_, label) in enumerate(rows)
            )
            return SliceIndex(
                Manifest(records, root, "csv"),
                tuple(key for key, _ in rows),
                np.zeros(len(rows), bool),
                np.arange(len(rows)),
                (),
                (),
                (),
                b"",
            ).data_hash

        first = data_hash(slices, Path("here"))
        assert first == data_hash(shuffled, Path("there"))
        assert (first == data_hash(other, Path("here"))) == (sorted(slices) == sorted(other))

    def test_same_for_another_layout_and_order_of_the_same_files(self, kaggle_folder, tmp_path):
        manifest = read_manifest(kaggle_folder)
        turned = Manifest(manifest.records[::-1], tmp_path, "class folders")
        assert (
            build_slice_index(turned, QUIET).data_hash
            == build_slice_index(manifest, QUIET).data_hash
        )

    def test_one_label_changes_it(self, tmp_path):
        pictures = [noise(0), noise(1)]
        first = build_slice_index(make_manifest(tmp_path, pictures, [0, 1]), QUIET)
        second = build_slice_index(make_manifest(tmp_path, pictures, [1, 1]), QUIET)
        assert first.data_hash != second.data_hash
        assert first.hashes == second.hashes


class TestHounsfield:
    def test_units_and_pictures_are_told_apart(self, tmp_path, head, write_dicom, write_nifti):
        write_dicom(tmp_path / "a.dcm", head(0))
        write_nifti(tmp_path / "b.nii.gz", head(1)[np.newaxis])
        Image.fromarray(draw_phantom(0, 2, 0)).save(tmp_path / "c.png")
        (tmp_path / "manifest.csv").write_text("path,label\na.dcm,0\nb.nii.gz,1\nc.png,0\n")
        scanned = build_slice_index(read_manifest(tmp_path), QUIET)
        assert scanned.is_hounsfield.tolist() == [True, True, False]
        assert scanned.hashes[:2] == (content_hash(head(0)), content_hash(head(1)))

    def test_the_same_units_are_duplicates_in_every_format(
        self, tmp_path, head, write_dicom, write_nifti
    ):
        heads = np.stack([head(index, 0) for index in range(3)])
        write_nifti(tmp_path / "a.nii", heads)
        for index in range(3):
            write_dicom(tmp_path / f"{index}.dcm", heads[index], PatientID=f"P{index}")
        rows = [*(f"a.nii,0,{index}" for index in range(3)), *(f"{i}.dcm,0," for i in range(3))]
        (tmp_path / "manifest.csv").write_text("\n".join(["path,label,frame", *rows]))
        scanned = build_slice_index(read_manifest(tmp_path), QUIET)
        assert scanned.hashes[:3] == scanned.hashes[3:]
        assert scanned.exact_pairs == ((0, 3), (1, 4), (2, 5))
        # The volume is one patient, and so are those whose slices it holds.
        assert scanned.groups.tolist() == [0] * 6

    def test_units_and_the_picture_made_of_them_are_near_duplicates(
        self, tmp_path, head, write_dicom
    ):
        write_dicom(tmp_path / "a.dcm", head(0))
        write_dicom(tmp_path / "b.dcm", head(1), PatientID="P2")
        # 0 to 80 HU are the brain window.
        Image.fromarray((head(0) / 80 * 255).clip(0, 255).astype(np.uint8)).save(tmp_path / "c.png")
        (tmp_path / "manifest.csv").write_text("path,label\na.dcm,0\nb.dcm,1\nc.png,0\n")
        scanned = build_slice_index(read_manifest(tmp_path), QUIET)
        ((i, j, correlation),) = scanned.near_pairs
        assert (i, j) == (0, 2) and correlation > 0.99
        assert scanned.groups.tolist() == [0, 1, 0]

    def test_frames_have_places_of_their_own(self, tmp_path, head, write_nifti):
        heads = np.stack([head(index) for index in range(2)])
        path = write_nifti(tmp_path / "normal" / "a.nii", heads)
        write_nifti(tmp_path / "ich" / "b.nii", head(5)[np.newaxis])
        scanned = build_slice_index(read_manifest(tmp_path), QUIET)
        assert scanned.refs[1:] == [SliceRef(path, 0), SliceRef(path, 1)]
        assert scanned.names == ["ich/b.nii", "normal/a.nii#0", "normal/a.nii#1"]
        assert scanned.places == [
            {"path": "ich/b.nii", "frame": ""},
            {"path": "normal/a.nii", "frame": 0},
            {"path": "normal/a.nii", "frame": 1},
        ]

    def test_all_problems_of_all_formats_stand_in_one_message(
        self, tmp_path, head, write_dicom, write_nifti
    ):
        good = write_dicom(tmp_path / "normal" / "a.dcm", head(0))
        (tmp_path / "normal" / "copy.dcm").write_bytes(good.read_bytes())
        cut = write_dicom(tmp_path / "normal" / "cut.dcm", head(2))
        cut.write_bytes(cut.read_bytes()[:-500])
        broken = write_nifti(tmp_path / "ich" / "b.nii.gz", head(1)[np.newaxis])
        broken.write_bytes(broken.read_bytes()[:60])
        other = write_dicom(tmp_path / "ich" / "other.dcm", head(3), Modality="MR")
        same = write_dicom(tmp_path / "ich" / "same.dcm", head(0), PatientID="P2")
        (tmp_path / "ich" / "text.png").write_text("text")
        with pytest.raises(DataError) as caught:
            build_slice_index(read_manifest(tmp_path), QUIET)
        title, *lines = str(caught.value).splitlines()
        assert title == "These files or rows cannot be used (7):"
        for start, reason in (
            (f"  {broken}: ", ""),
            (f"  {tmp_path}/normal/copy.dcm: ", f"the same SOP Instance UID as {good}"),
            ("  ich/other.dcm: ", "its modality is MR"),
            ("  ich/text.png: ", "not one of the formats"),
            ("  normal/cut.dcm: ", ""),
            ("  ich/same.dcm: ", "has the other label elsewhere: normal/a.dcm"),
            ("  normal/a.dcm: ", "has the other label elsewhere: ich/same.dcm"),
        ):
            (line,) = (line for line in lines[:7] if line.startswith(start))
            assert reason in line
        assert lines[7].startswith("Mend or remove them")
        assert lines[8:] == [
            "These look unlike head-CT slices (1):",
            f"  {other}: its modality is MR, not CT",
        ]
        assert same.exists()


class TestSuspicions:
    def messages(self, capsys):
        """What was warned of, without the lines that the terminal's width breaks."""
        return " ".join(capsys.readouterr().err.split())

    def test_heads_are_not_suspicious(self, tmp_path, head, write_dicom, capsys):
        for index in range(4):
            name = f"{('normal', 'ich')[index % 2]}/{index}.dcm"
            write_dicom(tmp_path / name, head(index), PatientID=f"P{index}")
        assert len(build_slice_index(read_manifest(tmp_path), Progress())) == 4
        assert "unlike" not in capsys.readouterr().err

    def test_tags_and_pixels_are_warned_of_and_used_all_the_same(
        self, tmp_path, head, write_dicom, capsys
    ):
        write_dicom(tmp_path / "normal" / "a.dcm", head(0), BodyPartExamined="CHEST")
        write_dicom(tmp_path / "normal" / "b.dcm", np.full((64, 64), -1000.0), PatientID="P2")
        write_dicom(tmp_path / "ich" / "c.dcm", head(1), PatientID="P3")
        scanned = build_slice_index(read_manifest(tmp_path), Progress())
        assert len(scanned) == 3 and scanned.skipped == ()
        told = self.messages(capsys)
        assert "unlike axial slices of a whole head CT (2)" in told
        assert "its Body Part Examined is CHEST, not the head" in told
        assert "normal/b.dcm: no head was found in it" in told
        assert "c.dcm" not in told

    def test_a_photograph_is_suspicious(self, tmp_path, capsys):
        rng = np.random.default_rng(0)
        photograph = rng.integers(0, 256, (8, 8, 3)).astype(np.uint8).repeat(8, 0).repeat(8, 1)
        build_slice_index(
            make_manifest(tmp_path, [draw_phantom(0, 0, 0), photograph], [0, 1]), Progress()
        )
        assert "1.png: a color picture, not a head CT" in self.messages(capsys)

    def test_many_are_counted(self, tmp_path, capsys):
        black = [np.zeros((24, 24 + index), np.uint8) for index in range(25)]
        manifest = make_manifest(tmp_path, black, [0] * 25)
        build_slice_index(manifest, Progress())
        told = self.messages(capsys)
        assert "(25)" in told and "19.png" in told and "and 5 more" in told
        assert "20.png" not in told


class TestFindSlices:
    @pytest.fixture
    def folder(self, tmp_path, head, write_series, write_nifti):
        write_series(tmp_path / "b series", [head(index) for index in range(4)])
        write_nifti(tmp_path / "c.nii.gz", np.stack([head(index) for index in range(4, 7)]))
        Image.fromarray(draw_phantom(0, 8, 0)).save(tmp_path / "a.png")
        return tmp_path

    def test_scans_follow_each_other_from_the_neck_up(self, folder, head):
        found = index_unlabeled_slices(folder, QUIET)
        series, volume = str(folder / "b series"), str(folder / "c.nii.gz")
        assert len(found) == 8
        assert found.scans == (None, *[series] * 4, *[volume] * 3)
        assert found.is_hounsfield.tolist() == [False] + [True] * 7
        # By name they would stand otherwise.
        names = [ref.path.name for ref in found.slices[1:5]]
        assert [name[1:3] for name in names] == ["00", "01", "02", "03"] and names != sorted(names)
        assert [ref.frame for ref in found.slices[5:]] == [0, 1, 2]

    def test_one_argument_or_several_in_their_order(self, folder):
        both = index_unlabeled_slices([folder / "c.nii.gz", f"{folder}/*.png"], QUIET)
        assert both.scans == (*[str(folder / "c.nii.gz")] * 3, None)
        assert index_unlabeled_slices(str(folder / "a.png"), QUIET).scans == (None,)

    def test_all_that_is_bad_stands_in_one_message_or_is_left_out(self, folder):
        first = sorted((folder / "b series").iterdir())[0]
        first.write_bytes(first.read_bytes()[:-500])  # which only shows when pixels are read
        (folder / "d.nii").write_bytes(b"nonsense")
        (folder / "e.jpg").write_bytes(b"")
        with pytest.raises(DataError, match=r"\(3\):(?s:.*)d\.nii(?s:.*)\.dcm(?s:.*)e\.jpg"):
            index_unlabeled_slices(folder, QUIET)
        found = index_unlabeled_slices(folder, QUIET, skip_invalid=True)
        assert len(found) == 7 and found.scans.count(str(folder / "b series")) == 3

    def test_gaps_and_suspicious_slices_are_warned_of(self, tmp_path, head, write_dicom, capsys):
        for index, z in enumerate([0, 5, 10, 25, 30, 35]):
            write_dicom(tmp_path / f"{index}.dcm", head(index), z)
        write_dicom(tmp_path / "x" / "empty.dcm", np.full((64, 64), -1000.0))
        assert len(index_unlabeled_slices(tmp_path, Progress())) == 7
        told = " ".join(capsys.readouterr().err.split())
        assert "slices seem to be missing: 15.0 mm between 2.dcm and 3.dcm" in told
        assert "empty.dcm: no head was found in it" in told

    def test_none_left(self, tmp_path):
        (tmp_path / "a.png").write_text("text")
        with pytest.raises(DataError, match="no slice is left to use"):
            index_unlabeled_slices(tmp_path / "a.png", QUIET, skip_invalid=True)

    def test_nothing_there(self, tmp_path):
        with pytest.raises(DataError, match="These arguments name no slice"):
            index_unlabeled_slices(tmp_path / "gone.png", QUIET)
