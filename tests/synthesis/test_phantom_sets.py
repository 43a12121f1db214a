import csv

import numpy as np
import pydicom
import pytest
from PIL import Image

from hemorrhage_tf.core.errors import OptionError, OutputError
from hemorrhage_tf.core.progress import Progress
from hemorrhage_tf.datasets.manifest import read_manifest
from hemorrhage_tf.imaging.readers import read_slice
from hemorrhage_tf.synthesis import (
    SUBTYPES,
    draw_phantom,
    phantom_set,
    phantom_sets,
    write_phantoms,
)

SIZE = 64


def contents(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def rows_of(folder):
    with open(folder / "manifest.csv", newline="") as file:
        return list(csv.DictReader(file))


class TestWritePhantoms:
    @pytest.mark.parametrize("form", ["png", "dicom", "nifti"])
    def test_the_same_seed_gives_the_same_bytes(self, tmp_path, form):
        first = contents(write_phantoms(tmp_path / "a", 4, 5, form, SIZE))
        assert first == contents(write_phantoms(tmp_path / "b" / "c", 4, 5, form, SIZE))
        other = contents(write_phantoms(tmp_path / "d", 4, 6, form, SIZE))
        assert first.keys() == other.keys() and first != other

    def test_several_processes_give_the_same_bytes_as_one(self, tmp_path, monkeypatch):
        monkeypatch.setattr(phantom_sets, "_WORTH_PROCESSES", 1)
        monkeypatch.setattr(phantom_sets, "_CHUNK", 3)
        one = contents(write_phantoms(tmp_path / "one", 8, 2, size=SIZE, workers=1))
        assert one == contents(write_phantoms(tmp_path / "two", 8, 2, size=SIZE, workers=2))

    def test_a_longer_set_begins_with_a_shorter_one(self, tmp_path):
        short = contents(write_phantoms(tmp_path / "short", 2, 1, size=SIZE))
        long = contents(write_phantoms(tmp_path / "long", 4, 1, size=SIZE))
        short.pop("manifest.csv")
        assert short.items() < long.items()

    @pytest.mark.parametrize("form", ["png", "dicom", "nifti"])
    def test_it_is_a_manifest_with_labels_and_subtypes(self, tmp_path, form):
        folder = write_phantoms(tmp_path / "set", 6, 3, form, SIZE)
        manifest = read_manifest(folder)
        assert manifest.problems == () and len(manifest) == 6
        phantoms = [draw_phantom(3, index, size=SIZE) for index in range(6)]
        assert manifest.labels.tolist() == [phantom.label for phantom in phantoms]
        for name in SUBTYPES:
            expected = [int(name in phantom.subtypes) for phantom in phantoms]
            if len(set(expected)) == 2:
                assert read_manifest(folder, target=name).labels.tolist() == expected
        rows = rows_of(folder)
        assert [row["mimics"] for row in rows] == ["; ".join(p.mimics) for p in phantoms]
        assert all((folder / row["mask"]).is_file() for row in rows)

    @pytest.mark.parametrize("form", ["dicom", "nifti"])
    def test_hounsfield_units_are_kept_exactly(self, tmp_path, form):
        folder = write_phantoms(tmp_path / "set", 3, 4, form, SIZE)
        for index, record in enumerate(read_manifest(folder).records):
            np.testing.assert_array_equal(
                read_slice(record.ref), draw_phantom(4, index, size=SIZE).hounsfield
            )

    def test_masks_are_the_phantoms_own(self, tmp_path):
        folder = write_phantoms(tmp_path / "dicom", 4, 4, "dicom", SIZE)
        nifti = write_phantoms(tmp_path / "nifti", 4, 4, "nifti", SIZE)
        for index, (row, other) in enumerate(zip(rows_of(folder), rows_of(nifti), strict=True)):
            expected = draw_phantom(4, index, size=SIZE).blood
            with Image.open(folder / row["mask"]) as mask:
                np.testing.assert_array_equal(np.asarray(mask), expected)
            np.testing.assert_array_equal(read_slice(nifti / other["mask"]), expected)

    def test_a_mask_of_a_picture_fits_its_pixels(self, tmp_path):
        folder = write_phantoms(tmp_path / "set", 6, 3, "png", SIZE)
        for row in rows_of(folder):
            with Image.open(folder / row["path"]) as slice_, Image.open(folder / row["mask"]) as m:
                assert slice_.size == m.size
                assert bool(np.asarray(m).any()) == (row["label"] == "1")

    def test_dicom_is_a_ct_of_nobody(self, tmp_path):
        folder = write_phantoms(tmp_path / "set", 2, 0, "dicom", SIZE)
        read = [pydicom.dcmread(path) for path in sorted((folder / "slices").iterdir())]
        assert {each.Modality for each in read} == {"CT"}
        assert len({each.PatientID for each in read}) == 2
        assert all(str(each.PatientName) == "Phantom" for each in read)
        assert all("StudyDate" not in each and "PatientBirthDate" not in each for each in read)
        phantom = draw_phantom(0, 0, size=SIZE)
        assert float(read[0].PixelSpacing[0]) == pytest.approx(phantom.pixel, abs=1e-5)

    def test_a_folder_that_is_there_is_left_alone(self, tmp_path):
        (tmp_path / "kept.txt").write_text("mine")
        with pytest.raises(OutputError, match="exists. Name a folder that is not there yet"):
            write_phantoms(tmp_path, 2)
        assert [path.name for path in tmp_path.iterdir()] == ["kept.txt"]

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"count": 0}, "--count 0: accepted is 1 to 1,000,000"),
            ({"count": 1_000_001}, "--count 1000001: accepted is 1 to 1,000,000"),
            ({"seed": -1}, "--seed -1: accepted is 0 to"),
            ({"form": "bmp"}, "--format bmp: accepted are png, dicom, nifti"),
            ({"size": 32}, "--size 32: accepted is 64 to 512 pixels"),
            ({"size": 1024}, "--size 1024: accepted is 64 to 512 pixels"),
        ],
    )
    def test_what_it_refuses(self, tmp_path, arguments, message):
        with pytest.raises(OptionError, match=message):
            write_phantoms(tmp_path / "set", **({"count": 2} | arguments))
        assert not (tmp_path / "set").exists()

    def test_a_full_disk_leaves_nothing_behind(self, tmp_path, monkeypatch):
        def full(*_):
            raise OSError(28, "No space left on device")

        monkeypatch.setitem(phantom_sets._WRITERS, "png", full)
        with pytest.raises(OutputError, match="No space left on device"):
            write_phantoms(tmp_path / "set", 2, size=SIZE)
        assert list(tmp_path.iterdir()) == []


class TestPhantomSet:
    def test_is_drawn_once(self, tmp_path):
        folder = phantom_set(tmp_path, 4, seed=0)
        assert len(read_manifest(folder)) == 4
        (folder / "slices" / "000000.png").write_bytes(b"kept")
        assert phantom_set(tmp_path, 4, seed=0) == folder
        assert (folder / "slices" / "000000.png").read_bytes() == b"kept"

    def test_only_drawing_is_a_stage(self, tmp_path):
        for stages in (["Drawing phantoms"], []):
            progress = Progress(quiet=True)
            phantom_set(tmp_path, 2, 0, progress)
            assert list(progress.seconds) == stages

    def test_other_counts_and_seeds_lie_apart(self, tmp_path):
        assert len({phantom_set(tmp_path, *each) for each in ((2, 0), (4, 0), (2, 1))}) == 3

    def test_a_place_that_cannot_be_written(self, tmp_path):
        (tmp_path / "file").write_text("")
        with pytest.raises(OutputError, match="Name another cache folder with --cache"):
            phantom_set(tmp_path / "file" / "below", 2, seed=0)

    def test_one_that_another_process_draws_meanwhile_is_taken(self, tmp_path, monkeypatch):
        def lose(folder, *_, **__):
            folder.mkdir(parents=True)
            raise OutputError("exists")

        monkeypatch.setattr(phantom_sets, "write_phantoms", lose)
        assert phantom_set(tmp_path, 2, seed=0).is_dir()
