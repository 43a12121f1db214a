from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from hemorrhage_tf.data.manifest import Manifest, Record, read_manifest
from hemorrhage_tf.data.phantoms import draw_phantom
from hemorrhage_tf.data.readers import content_hash
from hemorrhage_tf.data.scan import ScannedSlices, readable, scan
from hemorrhage_tf.errors import DataError, Problem
from hemorrhage_tf.reporting import Reporter

QUIET = Reporter(quiet=True)


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
    scanned = scan(make_manifest(tmp_path, pictures, [0, 1] * 3), QUIET)
    assert len(scanned) == 6
    assert scanned.hashes == tuple(content_hash(pixels) for pixels in pictures)
    assert scanned.names == [f"{index}.png" for index in range(6)]
    assert scanned.labels.tolist() == [0, 1] * 3
    assert scanned.groups.tolist() == [0, 1, 2, 3, 4, 5]
    assert scanned.exact_pairs == scanned.near_pairs == scanned.skipped == ()


class TestBadFiles:
    @pytest.fixture
    def manifest(self, tmp_path):
        manifest = make_manifest(tmp_path, [noise(index) for index in range(5)], [0, 1, 0, 1, 0])
        (tmp_path / "1.png").write_bytes(b"")
        (tmp_path / "3.png").write_text("text")
        (tmp_path / "4.png").unlink()
        return manifest

    def test_all_stand_in_one_message_with_the_next_step(self, manifest):
        with pytest.raises(DataError) as caught:
            scan(manifest, QUIET)
        assert str(caught.value).splitlines() == [
            "These files or rows cannot be used (3):",
            "  1.png: the file is empty (0 bytes)",
            "  3.png: not a PNG or JPEG image",
            "  4.png: no such file",
            "Mend or remove them, or go on without them with --skip-bad.",
        ]

    def test_skip_bad_goes_on_without_them_and_says_so(self, manifest, capsys):
        scanned = scan(manifest, Reporter(), skip_bad=True)
        assert scanned.names == ["0.png", "2.png"]
        assert scanned.hashes == (content_hash(noise(0)), content_hash(noise(2)))
        assert [problem.path for problem in scanned.skipped] == ["1.png", "3.png", "4.png"]
        captured = capsys.readouterr()
        assert "went on without 3 bad files or rows (--skip-bad)" in captured.err
        assert captured.out == ""

    def test_problems_of_the_manifest_come_first(self, manifest):
        listed = Manifest(
            manifest.records, manifest.root, "csv", (Problem("labels.csv id 9", "has no image"),)
        )
        with pytest.raises(DataError, match=r"\(4\):\n  labels.csv id 9: has no image\n  1.png"):
            scan(listed, QUIET)

    def test_nothing_left(self, tmp_path):
        manifest = make_manifest(tmp_path, [noise(0)], [1])
        (tmp_path / "0.png").write_bytes(b"")
        with pytest.raises(DataError, match="no slice is left to use"):
            scan(manifest, QUIET, skip_bad=True)

    def test_readable_lists_all_or_leaves_them_out(self, manifest):
        paths = [record.path for record in manifest.records]
        with pytest.raises(DataError, match=r"\(3\):(?s:.*)1\.png(?s:.*)3\.png(?s:.*)4\.png"):
            readable(paths, QUIET)
        assert readable(paths, QUIET, skip_bad=True) == [paths[0], paths[2]]

    def test_readable_with_none_left(self, tmp_path):
        with pytest.raises(DataError, match="no slice is left to predict"):
            readable([tmp_path / "gone.png"], QUIET, skip_bad=True)


class TestContradictingLabels:
    def test_both_copies_are_named(self, tmp_path):
        manifest = make_manifest(tmp_path, [noise(0), noise(1), noise(0)], [0, 1, 1])
        with pytest.raises(DataError) as caught:
            scan(manifest, QUIET)
        lines = str(caught.value).splitlines()
        assert lines[1:3] == [
            "  0.png: the same picture has the other label elsewhere: 2.png",
            "  2.png: the same picture has the other label elsewhere: 0.png",
        ]

    def test_skip_bad_leaves_out_every_copy(self, tmp_path):
        pictures = [noise(0), noise(1), noise(0), noise(2), noise(0)]
        manifest = make_manifest(tmp_path, pictures, [0, 1, 1, 0, 0])
        scanned = scan(manifest, QUIET, skip_bad=True)
        assert scanned.names == ["1.png", "3.png"]
        assert [problem.path for problem in scanned.skipped] == ["0.png", "2.png", "4.png"]
        assert scanned.groups.tolist() == [0, 1]

    def test_grey_and_rgb_copies_count_as_the_same_picture(self, tmp_path):
        pictures = [noise(0), np.stack([noise(0)] * 3, axis=-1)]
        with pytest.raises(DataError, match="the other label"):
            scan(make_manifest(tmp_path, pictures, [0, 1]), QUIET)


class TestGroups:
    def test_exact_copies_with_one_label_share_a_group(self, tmp_path):
        pictures = [noise(0), noise(1), noise(0), noise(0)]
        scanned = scan(make_manifest(tmp_path, pictures, [0, 1, 0, 0]), QUIET)
        assert scanned.exact_pairs == ((0, 2), (0, 3))
        assert scanned.near_pairs == ()
        assert scanned.groups.tolist() == [0, 1, 0, 0]

    def test_near_duplicates_share_a_group_whatever_their_labels(self, tmp_path):
        slice_ = draw_phantom(0, 0, 0)
        smaller = np.asarray(Image.fromarray(slice_).resize((90, 90)))
        scanned = scan(make_manifest(tmp_path, [slice_, noise(1), smaller], [0, 0, 1]), QUIET)
        ((i, j, correlation),) = scanned.near_pairs
        assert (i, j) == (0, 2)
        assert correlation > 0.95
        assert scanned.exact_pairs == ()
        assert scanned.groups.tolist() == [0, 1, 0]

    def test_slices_of_a_patient_share_a_group(self, tmp_path):
        pictures = [noise(index) for index in range(5)]
        patients = ["a", None, "b", "a", None]
        manifest = make_manifest(tmp_path, pictures, [0, 1, 1, 0, 0], patients)
        assert scan(manifest, QUIET).groups.tolist() == [0, 1, 2, 0, 3]

    def test_patients_are_joined_through_a_copy(self, tmp_path):
        pictures = [noise(0), noise(1), noise(1), noise(2)]
        manifest = make_manifest(tmp_path, pictures, [0, 0, 0, 1], ["a", "a", "b", "b"])
        assert scan(manifest, QUIET).groups.tolist() == [0, 0, 0, 0]


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
            return ScannedSlices(
                Manifest(records, root, "csv"),
                tuple(key for key, _ in rows),
                np.arange(len(rows)),
                (),
                (),
                (),
            ).data_hash

        first = data_hash(slices, Path("here"))
        assert first == data_hash(shuffled, Path("there"))
        assert (first == data_hash(other, Path("here"))) == (sorted(slices) == sorted(other))

    def test_same_for_another_layout_and_order_of_the_same_files(self, kaggle_folder, tmp_path):
        manifest = read_manifest(kaggle_folder)
        turned = Manifest(manifest.records[::-1], tmp_path, "class folders")
        assert scan(turned, QUIET).data_hash == scan(manifest, QUIET).data_hash

    def test_one_label_changes_it(self, tmp_path):
        pictures = [noise(0), noise(1)]
        first = scan(make_manifest(tmp_path, pictures, [0, 1]), QUIET)
        second = scan(make_manifest(tmp_path, pictures, [1, 1]), QUIET)
        assert first.data_hash != second.data_hash
        assert first.hashes == second.hashes
