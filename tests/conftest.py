"""Shared fixtures: small generated data sets, runs fitted once, a feature cache for each test."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import hypothesis
import numpy as np
import pytest
from PIL import Image
from plain_phantoms import draw_phantom
from scipy import ndimage

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# As in commands: test modules that import Keras themselves get the numbers of the others.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
# pytest-xdist runs one process per core, so more threads in each would only wait for each other.
for _variable in (
    "TF_NUM_INTRAOP_THREADS",
    "TF_NUM_INTEROP_THREADS",
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
):
    os.environ.setdefault(_variable, "1")

# The same examples in every run: one commit passes or fails, whatever the seed of the day.
hypothesis.settings.register_profile("same", derandomize=True, deadline=None)
hypothesis.settings.load_profile("same")

SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items) -> None:
    """Tests with real data are slow."""
    for item in items:
        if "shared" in item.fixturenames:
            item.add_marker(pytest.mark.real_data)
            item.add_marker(pytest.mark.slow)


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch) -> Path:
    """Gives every test an empty feature cache, so that none writes to the user's."""
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("HEMORRHAGE_TF_CACHE", str(folder))
    return folder


def write_slices(folder: Path, count: int, seed: int = 0) -> list[Path]:
    """Writes phantoms; every second one has a hemorrhage."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{index:03d}.png" for index in range(count)]
    for index, path in enumerate(paths):
        Image.fromarray(draw_phantom(seed, index, index % 2)).save(path)
    return paths


def _write_kaggle_folder(folder: Path) -> None:
    write_slices(folder / "head_ct" / "head_ct", 24)
    with open(folder / "labels.csv", "w", newline="") as file:
        file.write("id, hemorrhage\n")
        csv.writer(file).writerows([index, index % 2] for index in range(24))


@pytest.fixture(scope="session")
def once(tmp_path_factory) -> Callable[[str, Callable[[Path], object]], Path]:
    """Create a folder once for all tests, also where several processes run them.

    `once(name, create)` calls `create(path)` unless `path` exists, and returns the path. Tests must
    not change what is in it; copy it instead.
    """
    import portalocker

    base = tmp_path_factory.getbasetemp()
    if os.environ.get("PYTEST_XDIST_WORKER"):
        base = base.parent

    def get(name: str, create: Callable[[Path], object]) -> Path:
        path = base / "once" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with portalocker.Lock(path.with_name(f".{name}.lock"), timeout=300):
            done = path.with_name(f".{name}.done")
            if not done.exists():
                create(path)
                done.touch()
        return path

    return get


@pytest.fixture(scope="session")
def real_features(once) -> Path:
    """The feature cache of all tests with the real slices: each feature is computed once."""
    return once("real-features", Path.mkdir)


@pytest.fixture(scope="session")
def kaggle_once(once) -> Path:
    """A Kaggle-style folder of 24 slices, for tests that do not change it."""
    return once("kaggle", _write_kaggle_folder)


@pytest.fixture
def kaggle_folder(kaggle_once, tmp_path) -> Path:
    """A Kaggle-style folder of 24 slices: spaced header, unpadded ids, images two folders down."""
    return Path(shutil.copytree(kaggle_once, tmp_path / "kaggle"))


# One view, since a graph of augmentations takes longer to build than the whole fit.
QUICK_FIT = {"backbone": "tiny", "image_size": 32, "views": 1, "audit": False, "quiet": True}


@pytest.fixture(scope="session")
def fit_once(once, kaggle_once) -> Callable[..., Path]:
    """Return the run folder of a small fit; each combination of settings is fitted only once.

    `fit_once(folds=2)` trains the tiny backbone on `kaggle_once`; `data=` names other slices. Tests
    must not change the folder; copy it with `shutil.copytree` instead.
    """

    def fit(data: Path | None = None, **settings) -> Path:
        import hemorrhage_tf as htf

        settings = {**QUICK_FIT, **settings}
        key = json.dumps([str(data), settings], sort_keys=True, default=str)
        name = f"run-{hashlib.sha256(key.encode()).hexdigest()[:12]}"

        def create(path: Path) -> None:
            cache = path.with_name(f"{name}-cache")
            htf.fit(data or kaggle_once, out=path, cache=cache, **settings)

        return once(name, create)

    return fit


@pytest.fixture(scope="session")
def random_scan_model() -> Callable[[str, int], Any]:
    """Return a scan model with random weights, by kind and width."""

    def build(kind: str, width: int) -> Any:
        from hemorrhage_tf.models.scan_model import build_scan_model

        rng = np.random.default_rng(3)
        model = build_scan_model(kind, width)
        model.set_weights([rng.normal(0, 0.3, each.shape) for each in model.get_weights()])
        return model

    return build


@pytest.fixture(scope="session")
def scan_run(once, fit_once, random_scan_model) -> Path:
    """A small run with a random scan model beside its model; tests must not change it."""

    def create(path: Path) -> None:
        from hemorrhage_tf.inference.keras_model import load_classifier
        from hemorrhage_tf.models.metadata import write_metadata
        from hemorrhage_tf.models.run_files import MODEL_FILE, SCAN_MODEL_FILE

        shutil.copytree(fit_once(), path)
        metadata, classifier = load_classifier(path)
        classifier.save(path / MODEL_FILE)
        write_metadata(path / MODEL_FILE, replace(metadata, scan_model="gru"))
        width = classifier.get_layer("standardization").output.shape[-1]
        random_scan_model("gru", width).save(path / SCAN_MODEL_FILE)

    return once("scan-run", create)


def draw_head(index: int, label: int | None = None, seed: int = 0) -> np.ndarray:
    """Draws a phantom in whole Hounsfield units; every second one has a hemorrhage.

    Gray levels are taken for the brain window (0 to 80 HU), but a skull has the density of bone,
    and around it is air.
    """
    gray = draw_phantom(seed, index, index % 2 if label is None else label)
    hounsfield = np.rint(gray / 255 * 80).astype(np.float32)
    hounsfield[gray > 215] = 1000
    dark, _ = ndimage.label(gray < 40)
    hounsfield[dark == dark[0, 0]] = -1000
    return hounsfield


def write_dicom_file(
    path: Path, hounsfield: np.ndarray, z: float | Sequence[float] | None = 0.0, **tags
) -> Path:
    """Writes a CT slice, or of `(n, height, width)` a file of several frames.

    Args:
        path: the file.
        hounsfield: in HU; it is rounded.
        z: where the slice lies, in mm, or where each frame does; None leaves it out.
        **tags: keywords of DICOM; a value of None leaves a tag out.
    """
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

    dataset = Dataset()
    values = {
        "SOPClassUID": CTImageStorage,
        "SOPInstanceUID": generate_uid(entropy_srcs=[str(path)]),
        "SeriesInstanceUID": "1.2.3",
        "PatientID": "P1",
        "Modality": "CT",
        "Rows": hounsfield.shape[-2],
        "Columns": hounsfield.shape[-1],
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2",
        **{"BitsAllocated": 16, "BitsStored": 16, "HighBit": 15, "PixelRepresentation": 0},
        **{"RescaleSlope": 1, "RescaleIntercept": -1024},
        "ImageOrientationPatient": [1, 0, 0, 0, 1, 0],
        "PixelData": np.rint(hounsfield + 1024).astype("<u2").tobytes(),
    }
    if hounsfield.ndim == 3:
        values["NumberOfFrames"] = len(hounsfield)
        if z is not None:
            values["PerFrameFunctionalGroupsSequence"] = [_frame_at(each) for each in z]
    elif z is not None:
        values["ImagePositionPatient"] = [0, 0, z]
    for keyword, value in (values | tags).items():
        if value is not None:
            setattr(dataset, keyword, value)
    dataset["PixelData"].VR = "OW"
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = CTImageStorage
    dataset.file_meta.MediaStorageSOPInstanceUID = values["SOPInstanceUID"]
    path.parent.mkdir(parents=True, exist_ok=True)
    dataset.save_as(path, enforce_file_format=True)
    return path


def _frame_at(z: float):
    from pydicom.dataset import Dataset

    position, frame = Dataset(), Dataset()
    position.ImagePositionPatient = [0, 0, z]
    frame.PlanePositionSequence = [position]
    return frame


def write_nifti_file(path: Path, hounsfield: np.ndarray, spacing: float = 5.0) -> Path:
    """Writes a volume `(slices, height, width)`, the first slice lowest, as DICOM shows them."""
    import nibabel

    path.parent.mkdir(parents=True, exist_ok=True)
    voxels = np.rint(hounsfield).astype(np.int16).transpose(2, 1, 0)[::-1, ::-1]
    nibabel.Nifti1Image(voxels, np.diag([0.5, 0.5, spacing, 1])).to_filename(path)
    return path


# Fixtures, since tests cannot import from this file.
@pytest.fixture(scope="session")
def head() -> Callable[..., np.ndarray]:
    return draw_head


@pytest.fixture(scope="session")
def write_dicom() -> Callable[..., Path]:
    return write_dicom_file


@pytest.fixture(scope="session")
def write_nifti() -> Callable[..., Path]:
    return write_nifti_file


@pytest.fixture(scope="session")
def write_series() -> Callable[..., list[Path]]:
    """Writes slices of a series; their names do not tell their order from the neck up."""

    def write(folder: Path, slices: Sequence[np.ndarray], **tags) -> list[Path]:
        names = [f"{(7 * index + 3) % 10}{index:02d}.dcm" for index in range(len(slices))]
        return [
            write_dicom_file(folder / name, pixels, 5.0 * index, **tags)
            for index, (name, pixels) in enumerate(zip(names, slices, strict=True))
        ]

    return write


def _write_dicom_folder(folder: Path) -> None:
    for index in range(24):
        write_dicom_file(
            folder / ("hemorrhage" if index % 2 else "normal") / f"IM{index:02d}",
            draw_head(index),
            PatientID=f"P{index:02d}",
            SeriesInstanceUID=f"1.2.{index}",
        )


@pytest.fixture(scope="session")
def dicom_once(once) -> Path:
    """Class folders of 24 DICOM files, each of its own patient, for tests that do not change it."""
    return once("dicom", _write_dicom_folder)


@pytest.fixture
def dicom_folder(dicom_once, tmp_path) -> Path:
    """Class folders of 24 DICOM files without suffix, each of its own patient."""
    return Path(shutil.copytree(dicom_once, tmp_path / "dicom"))


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with real slices and weights that may stand beside the project."""
    if not (SHARED / "head_ct" / "labels.csv").is_file():
        pytest.skip("no real data beside the project")
    return SHARED


@pytest.fixture(scope="session")
def embedded_files(once) -> Path:
    """A folder with the files of an untrained embedded model."""
    from embedded_model import write_stand_in

    return once("embedded", write_stand_in)


@pytest.fixture
def embedded_model(embedded_files, monkeypatch) -> Path:
    """Puts that model in the place of the package's own, and gives its folder."""
    from hemorrhage_tf.models import pretrained_files

    monkeypatch.setattr(pretrained_files, "FOLDER", embedded_files)
    return embedded_files
