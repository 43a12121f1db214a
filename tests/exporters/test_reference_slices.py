from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from plain_phantoms import draw_phantom

from hemorrhage_tf.core.errors import DataError, OptionError
from hemorrhage_tf.core.progress import Progress
from hemorrhage_tf.exporters.reference_slices import (
    CALIBRATION,
    VERIFICATION,
    calibration_images,
    select_slices,
)
from hemorrhage_tf.imaging.readers import SliceRef, content_hash, read_slice
from hemorrhage_tf.models.run_files import CONFIG_FILE, RUN_FILES, SPLIT_FILE
from hemorrhage_tf.pipeline.model_input import ModelInput

QUIET = Progress(quiet=True)
DISPLAY = ModelInput(32)
WINDOWS = ModelInput(32, ("brain", "subdural", "bone"))


def write_run(folder: Path, refs: list[SliceRef], root: Path | None, parts: list[str]) -> Path:
    """Write the files of a run folder that name its slices; the others stay empty."""
    folder.mkdir()
    for name in RUN_FILES:
        (folder / name).touch()
    (folder / CONFIG_FILE).write_text(
        json.dumps({"data": {"root": None if root is None else str(root)}})
    )
    with open(folder / SPLIT_FILE, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "frame", "label", "part", "content_hash"])
        for index, (ref, part) in enumerate(zip(refs, parts, strict=True)):
            frame = "" if ref.frame is None else ref.frame
            digest = content_hash(read_slice(ref))
            writer.writerow([ref.path.relative_to(folder.parent), frame, index % 2, part, digest])
    return folder


@pytest.fixture
def images(tmp_path) -> list[SliceRef]:
    refs = []
    for index in range(6):
        path = tmp_path / f"{index}.png"
        Image.fromarray(draw_phantom(0, index, index % 2)).save(path)
        refs.append(SliceRef(path))
    return refs


@pytest.fixture
def run(tmp_path, images) -> Path:
    return write_run(tmp_path / "run", images, tmp_path, ["train"] * 4 + ["test"] * 2)


def select(model, source=VERIFICATION, data=None, model_input=DISPLAY, phantoms=4):
    return select_slices(Path(model), model_input, source, data, phantoms, QUIET)


class TestOfARun:
    def test_verification_uses_the_test_slices_and_calibration_the_training_slices(
        self, run, images
    ):
        verification, calibration = select(run), select(run, CALIBRATION)
        assert list(verification.refs) == images[4:]
        assert verification.labels.tolist() == [0, 1]
        assert list(calibration.refs) == images[:4]

    def test_cross_validated_runs_use_all_slices(self, tmp_path, images):
        folds = [f"fold {index % 3}" for index in range(6)]
        run = write_run(tmp_path / "run", images, tmp_path, folds)
        assert list(select(run).refs) == list(select(run, CALIBRATION).refs) == images

    def test_frames_of_volumes_are_read_again(self, tmp_path, head, write_nifti):
        volume = tmp_path / "volume.nii.gz"
        write_nifti(volume, np.stack([head(index) for index in range(3)]))
        refs = [SliceRef(volume, frame) for frame in range(3)]
        run = write_run(tmp_path / "run", refs, tmp_path, ["test"] * 3)
        assert list(select(run, model_input=WINDOWS).refs) == refs

    @pytest.mark.parametrize("change", ["missing", "changed"])
    def test_rejects_missing_and_changed_slices(self, run, images, change):
        images[5].path.unlink()
        if change == "changed":
            Image.fromarray(draw_phantom(1, 0, 1)).save(images[5].path)
        with pytest.raises(DataError, match="5.png: .* missing or has changed.* --verify DATA"):
            select(run)
        assert len(select(run, CALIBRATION).refs) == 4

    def test_rejects_a_run_without_the_folder_of_its_slices(self, tmp_path, images):
        run = write_run(tmp_path / "run", images, None, ["test"] * 6)
        with pytest.raises(DataError, match="path names a patient.* --representative DATA"):
            select(run, CALIBRATION)


class TestOfOtherModels:
    def test_a_keras_file_alone_needs_data(self, tmp_path):
        with pytest.raises(OptionError, match="not a run folder.*Pass --verify DATA"):
            select(tmp_path / "alone.keras")

    def test_the_embedded_model_uses_phantoms_of_two_seeds(self, cache, monkeypatch, tmp_path):
        monkeypatch.chdir(tmp_path)  # where no file has the name of the model
        verification, calibration = select("phantomnet"), select("phantomnet", CALIBRATION)
        assert len(verification.refs) == 4 and verification.labels.sum() == 2
        assert len(list((cache / "phantoms").iterdir())) == 2
        hashes = [
            {content_hash(read_slice(ref)) for ref in slices.refs}
            for slices in (verification, calibration)
        ]
        assert not hashes[0] & hashes[1]


class TestOfData:
    def test_data_has_priority_over_the_runs_slices(self, run, kaggle_once):
        slices = select(run, data=kaggle_once)
        assert len(slices.refs) == 24 and slices.labels.sum() == 12

    def test_rejects_display_images_for_a_model_with_windows(self, run, kaggle_once):
        with pytest.raises(
            OptionError, match="--verify .*contains display images.*brain, subdural, bone.* DICOM"
        ):
            select(run, data=kaggle_once, model_input=WINDOWS)


class TestCalibrationImages:
    def test_are_evenly_spaced(self, kaggle_once, run):
        refs = select(run, data=kaggle_once).refs
        images = calibration_images(refs, DISPLAY, 8)
        assert len(images) == 8
        for image, index in zip(images, np.linspace(0, 23, 8).astype(int), strict=True):
            np.testing.assert_array_equal(image, DISPLAY(read_slice(refs[index])))

    def test_are_all_slices_if_there_are_fewer(self, kaggle_once, run):
        refs = select(run, data=kaggle_once).refs
        assert len(calibration_images(refs[:10], DISPLAY, 64)) == 10

    def test_rejects_too_few_slices(self, images):
        with pytest.raises(
            DataError, match="6 slices to calibrate on: int8 needs at least 8.*--representative"
        ):
            calibration_images(images, DISPLAY, 64)
