import random
from pathlib import Path

import numpy as np
import pytest
from dataset_files import add_images, reasons

from hemorrhage_tf.core.errors import DataError
from hemorrhage_tf.core.progress import Progress
from hemorrhage_tf.datasets.series import expand_paths, find_slice_files, list_slices
from hemorrhage_tf.imaging.readers import SliceRef

QUIET = Progress(quiet=True)
TINY = np.zeros((4, 4), np.float32)


def listed(*paths):
    return list_slices(expand_paths(paths), QUIET)


def scans_of(listing):
    """The refs of each scan, by its name."""
    return {scan.name: [listing.slices[index] for index in scan.members] for scan in listing.scans}


@pytest.fixture
def at(tmp_path, write_dicom):
    """Writes slices of one series at places along the body: `at([0, 5], "ab")`."""

    def write(places, names="abcdefghijkl", folder=tmp_path / "series", **tags):
        numbers = tags.pop("InstanceNumber", [None] * len(places))
        return [
            write_dicom(folder / f"{name}.dcm", TINY, z, InstanceNumber=number, **tags)
            for z, name, number in zip(places, names, numbers, strict=False)
        ]

    return write


class TestFindSliceFiles:
    def test_sorts_and_ignores_hidden_and_other_files(self, tmp_path):
        paths = add_images(tmp_path, "a.png", "b/c.JPG", "z.jpeg")
        add_images(tmp_path, ".hidden.png", ".git/d.png", "__MACOSX/e.png")
        (tmp_path / "notes.txt").write_text("no slice")
        (tmp_path / "folder.png").mkdir()
        assert find_slice_files(tmp_path) == paths

    @pytest.mark.parametrize("depth", [0, 1, 2, None])
    def test_limits_the_depth(self, tmp_path, depth):
        names = ["a.png", "1/b.png", "1/2/c.png", "1/2/3/d.png"]
        paths = add_images(tmp_path, *names)
        expected = paths if depth is None else paths[: depth + 1]
        assert find_slice_files(tmp_path, depth) == sorted(expected)

    def test_finds_every_format_and_dicom_files_without_a_suffix(
        self, tmp_path, write_dicom, write_nifti
    ):
        volume = np.zeros((2, 4, 4), np.float32)
        expected = [
            *(write_dicom(tmp_path / name, TINY) for name in ("1.2.840.7", "IM1", "a.dcm")),
            *(write_nifti(tmp_path / name, volume) for name in ("b.nii", "c.nii.gz")),
            *add_images(tmp_path, "d.png"),
        ]
        write_dicom(tmp_path / "._a.dcm", TINY)
        write_dicom(tmp_path / "DICOMDIR", TINY)
        (tmp_path / "README").write_text("no slice")
        (tmp_path / "empty").touch()
        (tmp_path / "labels.csv").write_text("id,hemorrhage\n")
        assert find_slice_files(tmp_path) == expected


class TestExpandPaths:
    def test_keeps_the_order_of_files_each_once(self, tmp_path):
        a, b = add_images(tmp_path, "a.png", "b.png")
        assert expand_paths([b, str(a), b]) == [b, a]

    def test_searches_folders_at_every_depth_without_hidden_files(self, tmp_path):
        paths = add_images(tmp_path, "a.png", "b/c/d/e/f.jpg")
        add_images(tmp_path, ".hidden.png")
        assert expand_paths([tmp_path]) == paths

    def test_accepts_a_hidden_file_that_is_named(self, tmp_path):
        paths = add_images(tmp_path, ".hidden.png")
        assert expand_paths(paths) == paths

    def test_expands_patterns(self, tmp_path, write_dicom):
        a, b, c = add_images(tmp_path, "a.png", "b.png", "c/c.png")
        add_images(tmp_path, ".d.png")
        (tmp_path / "e.txt").write_text("no slice")
        f = write_dicom(tmp_path / "IM1", TINY)
        assert expand_paths([f"{tmp_path}/*"]) == [f, a, b]
        assert expand_paths([f"{tmp_path}/[b-z].png"]) == [b]
        assert expand_paths([f"{tmp_path}/**/*.png"]) == [a, b, c]

    def test_accepts_a_file_whose_name_looks_like_a_pattern(self, tmp_path):
        paths = add_images(tmp_path, "a[1].png")
        assert expand_paths(paths) == paths

    def test_relative_arguments_stay_relative(self, tmp_path, monkeypatch):
        add_images(tmp_path, "scans/a.png")
        monkeypatch.chdir(tmp_path)
        assert expand_paths(["scans", "scans/*.png"]) == [Path("scans/a.png")]

    def test_lists_all_arguments_without_slices_in_one_message(self, tmp_path):
        add_images(tmp_path, "a.png")
        (tmp_path / "empty").mkdir()
        with pytest.raises(DataError) as caught:
            expand_paths(
                [tmp_path / "a.png", tmp_path / "empty", tmp_path / "gone.png", f"{tmp_path}/x*"]
            )
        assert str(caught.value).splitlines() == [
            "These arguments contain no slices:",
            f"  {tmp_path}/empty: the folder contains no slices (PNG, JPEG, DICOM and NIfTI)",
            f"  {tmp_path}/gone.png: no such file or folder, and no slice matches it as a pattern",
            f"  {tmp_path}/x*: no such file or folder, and no slice matches it as a pattern",
            "Pass PNG, JPEG, DICOM and NIfTI files, folders or globs.",
        ]


class TestScans:
    def test_display_images_belong_to_no_scan_and_keep_their_order(self, tmp_path):
        paths = add_images(tmp_path, "b.png", "a.jpg", "c/d.png")
        listing = list_slices(paths, QUIET)
        assert listing.slices == tuple(SliceRef(path) for path in paths)
        assert listing.scans == listing.problems == listing.input_warnings == ()

    def test_sorts_a_series_by_position_regardless_of_names_and_numbers(self, tmp_path, at):
        # From the neck up: d, a, c, b; the numbers have another order.
        at([5, 15, 10, -2.5], "abcd", InstanceNumber=[1, 2, 3, 4])
        listing = listed(tmp_path)
        folder = tmp_path / "series"
        assert scans_of(listing) == {
            str(folder): [SliceRef(folder / f"{name}.dcm") for name in "dacb"]
        }

    @pytest.mark.parametrize("seed", range(2))
    def test_files_may_come_in_any_order(self, tmp_path, at, seed):
        paths = at(range(0, 50, 5))
        random.Random(seed).shuffle(paths)
        listing = list_slices(paths, QUIET)
        assert [ref.path.stem for ref in listing.slices] == list("abcdefghij")
        assert listing.scans[0].members == tuple(range(10))

    def test_positions_count_along_the_normal_of_tilted_slices(self, tmp_path, write_dicom):
        # A gantry tilted by 20 degrees: from the neck up the corner moves back and up.
        tilt = np.radians(20)
        across = [1, 0, 0, 0, np.cos(tilt), -np.sin(tilt)]
        normal = np.array([0, np.sin(tilt), np.cos(tilt)])
        for index, name in enumerate("cab"):
            # The file's own z would sort them the other way round.
            corner = 5 * index * normal + 40 * index * np.array(across[3:])
            write_dicom(
                tmp_path / f"{name}.dcm",
                TINY,
                None,
                ImageOrientationPatient=[round(float(each), 6) for each in across],
                ImagePositionPatient=[round(float(each), 6) for each in corner],
            )
        assert [ref.path.stem for ref in listed(tmp_path).slices] == list("cab")

    def test_without_positions_the_instance_numbers_sort(self, tmp_path, at):
        at([None] * 3, "abc", InstanceNumber=[10, 9, 2])
        assert [ref.path.stem for ref in listed(tmp_path).slices] == list("cba")

    def test_one_slice_without_a_position_makes_all_sort_by_number(self, tmp_path, at):
        at([0, None, 5], "abc", InstanceNumber=[3, 1, 2])
        assert [ref.path.stem for ref in listed(tmp_path).slices] == list("bca")

    def test_without_either_the_names_sort(self, tmp_path, at):
        at([None] * 3, "bca", InstanceNumber=[1, None, 2])
        assert [ref.path.stem for ref in listed(tmp_path).slices] == list("abc")

    def test_a_volume_is_a_scan_of_its_frames(self, tmp_path, write_nifti):
        path = write_nifti(tmp_path / "a.nii.gz", np.zeros((4, 40, 40), np.float32))
        assert scans_of(listed(path)) == {str(path): [SliceRef(path, index) for index in range(4)]}

    def test_reverses_a_volume_that_is_stored_head_first(self, tmp_path, write_nifti):
        volume = np.zeros((4, 40, 40), np.float32)
        path = write_nifti(tmp_path / "a.nii.gz", volume, spacing=-5)
        (refs,) = scans_of(listed(path)).values()
        assert [ref.frame for ref in refs] == [3, 2, 1, 0]

    def test_a_volume_of_one_slice_is_no_scan(self, tmp_path, write_nifti):
        path = write_nifti(tmp_path / "a.nii", np.zeros((1, 40, 40), np.float32))
        listing = listed(path)
        assert listing.slices == (SliceRef(path),) and listing.scans == ()

    def test_frames_of_a_file_are_sorted_by_position(self, tmp_path, write_dicom):
        path = write_dicom(tmp_path / "a.dcm", np.zeros((4, 4, 4), np.float32), [10, 0, 15, 5])
        (refs,) = scans_of(listed(path)).values()
        assert refs == [SliceRef(path, frame) for frame in (1, 3, 0, 2)]

    def test_frames_without_positions_stay_in_order(self, tmp_path, write_dicom):
        path = write_dicom(tmp_path / "a.dcm", np.zeros((3, 4, 4), np.float32), None)
        assert [ref.frame for ref in listed(path).slices] == [0, 1, 2]

    def test_a_file_of_frames_is_a_scan_apart_from_a_series(self, tmp_path, at, write_dicom):
        paths = at([0, 5], "ab")
        frames = write_dicom(tmp_path / "series" / "c.dcm", np.zeros((2, 4, 4), np.float32), [0, 5])
        assert scans_of(listed(tmp_path)) == {
            str(tmp_path / "series"): [SliceRef(path) for path in paths],
            str(frames): [SliceRef(frames, 0), SliceRef(frames, 1)],
        }

    def test_one_slice_is_no_scan(self, tmp_path, at):
        at([0], "a")
        listing = listed(tmp_path)
        assert len(listing.slices) == 1 and listing.scans == ()

    def test_series_of_one_folder_are_named_without_their_uids(self, tmp_path, at):
        at([0, 5], "bc", SeriesInstanceUID="1.2.840.1")
        at([0, 5], "ad", SeriesInstanceUID="1.2.840.2")
        found = scans_of(listed(tmp_path))
        folder = tmp_path / "series"
        assert {name: "".join(ref.path.stem for ref in refs) for name, refs in found.items()} == {
            f"{folder} (series 1 of 2)": "ad",
            f"{folder} (series 2 of 2)": "bc",
        }

    def test_patients_of_one_folder_and_series_uid_are_kept_apart(self, tmp_path, at):
        at([0, 5], "ab", PatientID="P1")
        at([0, 5], "cd", PatientID="P2")
        found = scans_of(listed(tmp_path))
        assert [[ref.path.stem for ref in refs] for refs in found.values()] == [
            ["a", "b"],
            ["c", "d"],
        ]
        assert not any("P1" in name or "P2" in name for name in found)

    def test_one_series_in_two_folders_is_two_scans(self, tmp_path, at):
        at([0, 5], "ab", folder=tmp_path / "x")
        at([0, 5], "ab", folder=tmp_path / "y")
        assert [Path(name).name for name in scans_of(listed(tmp_path))] == ["x", "y"]

    def test_without_uids_a_folder_is_a_scan(self, tmp_path, at):
        at([5, 0, 10], "abc", SeriesInstanceUID=None, PatientID=None, SOPInstanceUID=None)
        (refs,) = scans_of(listed(tmp_path)).values()
        assert [ref.path.stem for ref in refs] == list("bac")

    def test_scans_stand_where_their_first_file_does(self, tmp_path, at, write_nifti):
        volume = write_nifti(tmp_path / "z.nii", np.zeros((2, 40, 40), np.float32))
        first, second = at([5, 0], "ab")
        (image,) = add_images(tmp_path, "a.png")
        listing = list_slices([volume, first, image, second], QUIET)
        assert listing.slices == (
            SliceRef(volume, 0),
            SliceRef(volume, 1),
            SliceRef(second),
            SliceRef(first),
            SliceRef(image),
        )
        assert [scan.members for scan in listing.scans] == [(0, 1), (2, 3)]


class TestGaps:
    def gaps(self, tmp_path):
        return [problem.reason for problem in listed(tmp_path).input_warnings]

    def test_reports_where_and_how_wide_a_gap_is(self, tmp_path, at):
        at([0, 5, 10, 25, 30, 35])
        assert self.gaps(tmp_path) == [
            "slices seem to be missing: 15.0 mm between c.dcm and d.dcm (usually 5.0 mm)"
        ]
        assert reasons(listed(tmp_path).input_warnings).keys() == {str(tmp_path / "series")}

    def test_reports_each_gap(self, tmp_path, at):
        at([0, 5, 20, 25, 30, 45, 50])
        (reason,) = self.gaps(tmp_path)
        assert "between b.dcm and c.dcm" in reason and "between e.dcm and f.dcm" in reason

    @pytest.mark.parametrize(
        "places",
        [
            [0, 5, 10, 15, 20],
            [0, 2.5, 5, 7.5, 12.5, 17.5, 22.5],  # thin below, thick above
            [0, 10, 20, 22.5, 25, 27.5],
            [0, 5, 10.4, 15.2, 20.1],
            [0, 5, 30],  # too few to tell
        ],
    )
    def test_ignores_changes_and_small_variations_of_the_thickness(self, tmp_path, at, places):
        at(places)
        assert self.gaps(tmp_path) == []

    def test_reports_repeated_positions(self, tmp_path, at):
        at([0, 5, 5, 10])
        assert self.gaps(tmp_path) == ["1 slice has the position of another slice"]
        at([0, 0, 0, 0, 5])
        assert self.gaps(tmp_path) == ["3 slices have the position of another slice"]

    @pytest.mark.parametrize("numbers", [range(1, 7), range(6, 0, -1)])
    def test_ignores_gaps_between_consecutive_instance_numbers(self, tmp_path, at, numbers):
        at([0, 5, 10, 25, 30, 35], InstanceNumber=numbers)
        assert self.gaps(tmp_path) == []

    def test_reports_gaps_where_instance_numbers_skip_too(self, tmp_path, at):
        at([0, 5, 10, 25, 30, 35], InstanceNumber=[1, 2, 3, 6, 7, 8])
        assert len(self.gaps(tmp_path)) == 1

    def test_reports_gaps_between_frames(self, tmp_path, write_dicom):
        path = write_dicom(
            tmp_path / "a.dcm", np.zeros((6, 4, 4), np.float32), [0, 5, 10, 25, 30, 35]
        )
        assert reasons(listed(path).input_warnings).keys() == {str(path)}


class TestProblems:
    def test_reports_copies_of_a_sop_instance(self, tmp_path, at, write_dicom):
        first, _ = at([0, 5], "ab")
        copy = tmp_path / "other" / "copy.dcm"
        copy.parent.mkdir()
        copy.write_bytes(first.read_bytes())
        listing = list_slices([first, copy, tmp_path / "series" / "b.dcm"], QUIET)
        assert reasons(listing.problems) == {
            str(copy): f"has the same SOP Instance UID as {first}",
        }
        assert len(listing.slices) == 2

    def test_files_without_a_sop_instance_uid_are_no_copies(self, tmp_path, at):
        at([0, 5], "ab", SOPInstanceUID=None)
        assert listed(tmp_path).problems == ()

    def test_leaves_out_unreadable_files(self, tmp_path, at, write_nifti):
        at([0, 5], "ab")
        broken = write_nifti(tmp_path / "a.nii", np.zeros((2, 40, 40), np.float32))
        broken.write_bytes(broken.read_bytes()[:100])
        (text := tmp_path / "b.dcm").write_text("no slice")
        (index := tmp_path / "c.dcm").write_bytes(b"")
        listing = listed(tmp_path)
        assert reasons(listing.problems).keys() == {str(broken), str(text), str(index)}
        assert len(listing.slices) == 2 and len(listing.scans) == 1

    def test_reports_a_named_dicomdir(self, tmp_path, write_dicom):
        path = write_dicom(tmp_path / "DICOMDIR", TINY)
        assert "an index of other files" in reasons(list_slices([path], QUIET).problems)[str(path)]

    def test_warns_about_tags_that_do_not_fit_a_head(self, tmp_path, write_dicom):
        chest = write_dicom(tmp_path / "a.dcm", TINY, 0, BodyPartExamined="CHEST")
        scout = write_dicom(tmp_path / "b.dcm", TINY, 5, ImageType=["ORIGINAL", "PRIMARY", "SCOUT"])
        write_dicom(tmp_path / "c.dcm", TINY, 10, BodyPartExamined="HEAD")
        listing = listed(tmp_path)
        assert reasons(listing.input_warnings).keys() == {str(chest), str(scout)}
        assert "CHEST" in reasons(listing.input_warnings)[str(chest)]
        assert listing.problems == () and len(listing.slices) == 3
