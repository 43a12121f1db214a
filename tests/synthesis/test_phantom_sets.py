import csv

import numpy as np
import pydicom
import pytest
from PIL import Image

from hemorrhage_tf.core.errors import OptionError, OutputError
from hemorrhage_tf.core.progress import Progress
from hemorrhage_tf.datasets.manifest import read_manifest
from hemorrhage_tf.imaging.readers import read_slice
from hemorrhage_tf.synthesis import phantom_sets
from hemorrhage_tf.synthesis.draw import draw_phantom
from hemorrhage_tf.synthesis.hemorrhage import SUBTYPES
from hemorrhage_tf.synthesis.phantom_sets import (
    FORMATS,
    PhantomSet,
    cached_phantoms,
    write_phantoms,
)

SIZE, SEED, COUNT = 64, 4, 6


def contents(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def rows_of(folder):
    with open(folder / "manifest.csv", newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Return one set in each format, which tests must not change."""
    base = tmp_path_factory.mktemp("sets")
    return {
        form: write_phantoms(base / form, PhantomSet(COUNT, SEED, form, SIZE)) for form in FORMATS
    }


@pytest.fixture(scope="module")
def phantoms():
    return [draw_phantom(SEED, index, size=SIZE) for index in range(COUNT)]


class TestPhantomSet:
    @pytest.mark.parametrize(
        ("values", "message"),
        [
            ({"count": 0}, "--count 0: out of range. Pass 1 to 1,000,000 phantoms."),
            ({"count": 1_000_001}, "--count 1000001: out of range"),
            ({"seed": -1}, "--seed -1: out of range. Pass 0 to 2147483647."),
            ({"form": "bmp"}, "--format bmp: unknown. Pass one of png, dicom, nifti, study."),
            ({"size": 32}, "--size 32: out of range. Pass 64 to 512 pixels."),
            ({"size": 1024}, "--size 1024: out of range"),
        ],
    )
    def test_rejects_invalid_settings(self, values, message):
        with pytest.raises(OptionError, match=message):
            PhantomSet(**({"count": 2} | values))


class TestWritePhantoms:
    @pytest.mark.parametrize("form", FORMATS)
    def test_the_same_seed_gives_the_same_bytes(self, tmp_path, folders, form):
        first = contents(folders[form])
        again = write_phantoms(tmp_path / "a" / "b", PhantomSet(COUNT, SEED, form, SIZE))
        assert first == contents(again)
        other = contents(write_phantoms(tmp_path / "c", PhantomSet(COUNT, 5, form, SIZE)))
        assert first.keys() == other.keys() and first != other

    def test_a_longer_set_begins_with_a_shorter_one(self, tmp_path, folders):
        short = contents(write_phantoms(tmp_path / "short", PhantomSet(2, SEED, size=SIZE)))
        short.pop("manifest.csv")
        assert short.items() < contents(folders["png"]).items()

    def test_several_processes_give_the_same_bytes(self, tmp_path, folders, monkeypatch):
        monkeypatch.setattr(phantom_sets, "PARALLEL_FROM", 1)
        monkeypatch.setattr(phantom_sets, "CHUNK", 4)
        parallel = PhantomSet(COUNT, SEED, size=SIZE)
        assert contents(folders["png"]) == contents(
            write_phantoms(tmp_path / "set", parallel, workers=2)
        )

    @pytest.mark.parametrize("form", FORMATS)
    def test_the_manifest_has_labels_subtypes_and_mimics(self, folders, phantoms, form):
        folder = folders[form]
        manifest = read_manifest(folder)
        assert manifest.problems == () and len(manifest) == COUNT
        assert manifest.labels.tolist() == [phantom.label for phantom in phantoms]
        rows = rows_of(folder)
        for name in SUBTYPES:
            expected = [str(int(name in phantom.subtypes)) for phantom in phantoms]
            assert [row[name] for row in rows] == expected
        assert [row["mimics"] for row in rows] == ["; ".join(p.mimics) for p in phantoms]
        assert all((folder / row["mask"]).is_file() for row in rows)

    def test_a_subtype_can_be_the_target(self, folders):
        rows = rows_of(folders["png"])
        name = next(name for name in SUBTYPES if len({row[name] for row in rows}) == 2)
        labels = read_manifest(folders["png"], target=name).labels.tolist()
        assert labels == [int(row[name]) for row in rows]

    @pytest.mark.parametrize("form", ["dicom", "nifti"])
    def test_hounsfield_units_are_exact(self, folders, phantoms, form):
        records = read_manifest(folders[form]).records
        for record, phantom in zip(records, phantoms, strict=True):
            np.testing.assert_array_equal(read_slice(record.ref), phantom.hounsfield)

    def test_masks_of_hounsfield_slices_are_the_phantoms_own(self, folders, phantoms):
        rows = zip(rows_of(folders["dicom"]), rows_of(folders["nifti"]), strict=True)
        for phantom, (dicom, nifti) in zip(phantoms, rows, strict=True):
            with Image.open(folders["dicom"] / dicom["mask"]) as mask:
                np.testing.assert_array_equal(np.asarray(mask), phantom.blood)
            mask = read_slice(folders["nifti"] / nifti["mask"])
            np.testing.assert_array_equal(mask, phantom.blood)

    def test_a_mask_has_the_pixels_of_its_display_image(self, folders):
        for row in rows_of(folders["png"]):
            with Image.open(folders["png"] / row["path"]) as image:
                size = image.size
            with Image.open(folders["png"] / row["mask"]) as mask:
                assert mask.size == size
                assert bool(np.asarray(mask).any()) == (row["label"] == "1")

    def test_dicom_files_describe_no_patient(self, folders, phantoms):
        paths = sorted((folders["dicom"] / "slices").iterdir())
        datasets = [pydicom.dcmread(path) for path in paths]
        assert {dataset.Modality for dataset in datasets} == {"CT"}
        assert len({dataset.PatientID for dataset in datasets}) == COUNT
        assert {str(dataset.PatientName) for dataset in datasets} == {"Phantom"}
        for keyword in ("StudyDate", "PatientBirthDate"):
            assert all(keyword not in dataset for dataset in datasets)
        spacing = float(datasets[0].PixelSpacing[0])
        assert spacing == pytest.approx(phantoms[0].pixel, abs=1e-5)

    def test_an_existing_folder_is_not_changed(self, tmp_path):
        (tmp_path / "notes.txt").write_text("mine")
        with pytest.raises(OutputError, match="already exists. Pass the name of a new folder"):
            write_phantoms(tmp_path, PhantomSet(2))
        assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]

    def test_a_full_disk_leaves_nothing_behind(self, tmp_path, monkeypatch):
        def fail(*_, **__):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(Image.Image, "save", fail)
        with pytest.raises(OutputError, match="the disk is full"):
            write_phantoms(tmp_path / "set", PhantomSet(2, size=SIZE))
        assert list(tmp_path.iterdir()) == []


class TestCachedPhantoms:
    def test_a_set_is_drawn_once(self, tmp_path):
        stages = []
        for _ in range(2):
            progress = Progress(quiet=True)
            folder = cached_phantoms(tmp_path, 2, 0, progress)
            stages.append(list(progress.seconds))
        assert len(read_manifest(folder)) == 2
        assert stages == [["Drawing phantoms"], []]

    def test_each_count_and_seed_has_its_folder(self, tmp_path):
        settings = ((2, 0), (3, 0), (2, 1))
        assert len({cached_phantoms(tmp_path, count, seed) for count, seed in settings}) == 3

    def test_a_cache_that_is_not_writable_is_an_error(self, tmp_path):
        (tmp_path / "file").write_text("")
        with pytest.raises(OutputError, match="Pass another cache folder with --cache"):
            cached_phantoms(tmp_path / "file" / "below", 2, seed=0)

    def test_a_set_that_another_process_finished_first_is_used(self, tmp_path, monkeypatch):
        def lose(folder, *_, **__):
            folder.mkdir(parents=True)
            raise OutputError("exists")

        monkeypatch.setattr(phantom_sets, "write_phantoms", lose)
        assert cached_phantoms(tmp_path, 2, seed=0).is_dir()
