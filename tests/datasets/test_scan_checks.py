from pathlib import Path

import pytest
from dataset_files import make_manifest, noise
from hypothesis import given
from hypothesis import strategies as st

from hemorrhage_tf.core.errors import DataError
from hemorrhage_tf.core.progress import Progress
from hemorrhage_tf.datasets.manifest import read_manifest
from hemorrhage_tf.datasets.records import Manifest, Record
from hemorrhage_tf.datasets.scan_checks import ScanProblems, check_scans
from hemorrhage_tf.datasets.slice_index import build_slice_index

ROOT = Path("data")
QUIET = Progress(quiet=True)


def slices(*values, scan="s"):
    """Records of one scan, named 0.png, 1.png ..."""
    return [
        Record(ROOT / f"{at}.png", **{"label": 0, "scan": scan, "scan_name": scan, **own})
        for at, own in enumerate(values)
    ]


def check(records):
    found = check_scans(Manifest(records, ROOT, "csv"))
    return [(problem.path, problem.reason) for problem in found.problems], sorted(found.unusable)


class TestPositions:
    def test_two_slices_at_one_position(self):
        problems, unusable = check(slices(*({"position": z} for z in (0.0, 5.0, 5.004, 10.0))))
        assert problems == [("2.png", "is at the same position as 1.png: 5.004 mm")]
        assert unusable == [2]  # the first one stays

    def test_thin_slices_are_not_at_one_position(self):
        assert check(slices(*({"position": 0.2 * z} for z in range(9)))) == ([], [])

    def test_some_slices_without_a_position(self):
        problems, unusable = check(slices({"position": 0.0}, {}, {"position": 5.0}, {}))
        reason = "has no position, while other slices of its scan have one"
        assert problems == [("1.png", reason), ("3.png", reason)] and unusable == [1, 3]

    def test_numbers_replace_positions_that_are_unknown(self):
        assert check(slices({"position": 0.0, "number": 2}, {"number": 1})) == ([], [])

    def test_slices_of_different_scans_may_be_at_one_position(self):
        one, other = (slices({"position": 5.0}, {"position": 6.0}, scan=scan) for scan in "ab")
        assert check(one + other) == ([], [])

    def test_slices_outside_of_scans_are_not_checked(self):
        assert check(slices({"position": 5.0}, {"position": 5.0}, scan=None)) == ([], [])

    @given(st.lists(st.integers(0, 12), min_size=1, max_size=12))
    def test_what_is_left_is_the_first_slice_at_each_position(self, places):
        problems, unusable = check(slices(*({"position": float(place)} for place in places)))
        left = [place for at, place in enumerate(places) if at not in unusable]
        assert left == list(dict.fromkeys(places))
        assert len(problems) == len(unusable)


class TestPatients:
    def test_two_patients_under_one_scan_name(self):
        problems, unusable = check(slices(*({"patient": name} for name in ("SECRET", "P2", "P2"))))
        reason = "holds slices of 2 patients (0.png, 1.png): give each scan its own name"
        assert problems == [("s", reason)] and unusable == [0, 1, 2]

    def test_an_unknown_patient_is_not_another_one(self):
        assert check(slices({"patient": "P1"}, {}, {"patient": "P1"})) == ([], [])


class TestLabels:
    def test_positive_slices_in_a_scan_labeled_normal_are_all_listed(self):
        own = [{"scan_label": 0, "label": int(at in (1, 3))} for at in range(5)]
        problems, unusable = check(slices(*own))
        assert problems == [
            ("s", "is labeled 0 as a scan, but these of its slices are labeled 1: 1.png, 3.png")
        ]
        assert unusable == [0, 1, 2, 3, 4]

    def test_one_stated_label_is_the_label_of_the_whole_scan(self):
        problems, _ = check(slices({"label": 1}, {"scan_label": 0}))
        assert problems[0][1].endswith("labeled 1: 0.png")

    def test_contradicting_scan_labels(self):
        problems, unusable = check(slices({"scan_label": 1}, {}, {"scan_label": 0}))
        assert problems == [("s", "has the scan label 0 in 2.png and 1 in 0.png")]
        assert unusable == [0, 1, 2]

    def test_a_positive_scan_may_have_negative_slices_only(self):
        # The slices of a manifest may be a sample of those of the scan.
        assert check(slices({"scan_label": 1}, {"scan_label": 1})) == ([], [])

    def test_slices_without_a_label_of_their_own_agree_with_their_scan(self):
        own = {"scan_label": 1, "label": 1, "has_slice_label": False}
        assert check(slices(own, own, {"scan_label": 1})) == ([], [])


class TestScansOfOneSlice:
    @pytest.mark.parametrize("own", [{}, {"position": 3.0}, {"scan_label": 1, "label": 1}])
    def test_are_allowed(self, own):
        found = check_scans(Manifest(slices(own), ROOT, "csv"))
        assert found == ScanProblems()


class TestGaps:
    def test_missing_slices_are_reported_and_the_others_used(self):
        records = slices(*({"position": 5.0 * place} for place in (0, 1, 2, 5, 6, 7)))
        found = check_scans(Manifest(records, ROOT, "csv"))
        assert found.problems == [] and found.unusable == set()
        (gap,) = found.gaps
        assert gap.path == "s"
        assert gap.reason == (
            "slices seem to be missing: 15.0 mm between 2.png and 3.png (usually 5.0 mm)"
        )

    def test_a_copy_at_one_position_hides_no_gap(self):
        records = slices(*({"position": 5.0 * place} for place in (0, 1, 1, 2, 5, 6, 7)))
        assert len(check_scans(Manifest(records, ROOT, "csv")).gaps) == 1

    def test_consecutive_numbers_show_that_nothing_is_missing(self):
        places = (0, 1, 2, 5, 6, 7)
        records = slices(
            *({"position": 5.0 * place, "number": at} for at, place in enumerate(places))
        )
        assert check_scans(Manifest(records, ROOT, "csv")).gaps == []


class TestInTheSliceIndex:
    """All problems are in one message, and what they concern is left out on request."""

    @pytest.fixture
    def manifest(self, tmp_path):
        made = make_manifest(tmp_path, [noise(at) for at in range(10)], [0] * 10)
        own = [
            {"scan": "twice", "position": 1.0, "patient": "P1"},
            {"scan": "twice", "position": 1.0, "patient": "P1"},
            {"scan": "normal", "scan_label": 0, "label": 1, "patient": "P2"},
            {"scan": "normal", "scan_label": 0, "patient": "P2"},
            {"scan": "two", "patient": "P3"},
            {"scan": "two", "patient": "P4"},
            {"scan": "labels", "scan_label": 0, "patient": "P5"},
            {"scan": "labels", "scan_label": 1, "patient": "P5"},
            {"scan": "single", "label": 1, "patient": "P6"},
            {},
        ]
        records = [
            Record(record.path, **{"label": 0, "scan_name": values.get("scan"), **values})
            for record, values in zip(made.records, own, strict=True)
        ]
        (tmp_path / "9.png").write_bytes(b"")
        return Manifest(records, tmp_path, "csv")

    def test_one_message_lists_all(self, manifest):
        with pytest.raises(DataError) as caught:
            build_slice_index(manifest, QUIET)
        title, *lines = str(caught.value).splitlines()
        assert title == "These files or rows cannot be used (5):"
        assert [line.split(":")[0] for line in lines[:5]] == [
            "  9.png",
            "  1.png",
            "  normal",
            "  two",
            "  labels",
        ]
        assert "skip_invalid=True" in lines[5] and "P3" not in str(caught.value)

    def test_paths_that_name_a_patient_are_for_messages_only(self):
        shown = {"scan": "s", "position": 1.0, "display_path": "hidden.dcm"}
        records = [Record(ROOT / "anna" / f"{at}.dcm", 0, **shown) for at in range(2)]
        manifest = Manifest(records, ROOT, "csv")
        [message] = check_scans(manifest).problems
        assert message.path == str(ROOT / "anna" / "1.dcm")
        [written] = check_scans(manifest, is_written=True).problems
        assert (written.path, "anna" in written.reason) == ("hidden.dcm", False)

    def test_skip_invalid_leaves_out_what_is_listed(self, manifest):
        index = build_slice_index(manifest, QUIET, skip_invalid=True)
        assert index.names == ["0.png", "8.png"]
        assert [problem.path for problem in index.skipped] == [
            "9.png",
            "1.png",
            "normal",
            "two",
            "labels",
        ]

    def test_a_gap_is_a_warning(self, tmp_path, head, write_dicom, capsys):
        for at, place in enumerate((0, 1, 2, 5, 6, 7)):
            write_dicom(tmp_path / "normal" / f"{at}.dcm", head(at, 0), 5.0 * place)
        write_dicom(tmp_path / "ich" / "a.dcm", head(9, 1), PatientID="P2")
        index = build_slice_index(read_manifest(tmp_path), Progress())
        assert len(index) == 7
        error = " ".join(capsys.readouterr().err.split())
        assert "normal: slices seem to be missing: 15.0 mm between normal/2.dcm and" in error

    def test_equal_slices_of_scans_with_different_labels_do_not_contradict(self, tmp_path):
        made = make_manifest(tmp_path, [noise(0), noise(1), noise(0), noise(2)], [0] * 4)
        records = [
            Record(
                record.path, at // 2, scan=str(at // 2), scan_label=at // 2, has_slice_label=False
            )
            for at, record in enumerate(made.records)
        ]
        index = build_slice_index(Manifest(records, tmp_path, "csv"), QUIET)
        assert len(index) == 4 and index.scans.labels.tolist() == [0, 1]
