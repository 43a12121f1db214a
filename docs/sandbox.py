"""The data sets that the commands in the pages use: phantoms, in the layouts of users.

| name | is |
|---|---|
| `head_ct/` | a Kaggle-style folder of 40 display images |
| `other_site/` | a CSV manifest of 60 further slices |
| `study/` | a DICOM study: one head in soft and sharp kernels, and a localizer |
| `volume.nii.gz` | a scan as NIfTI |
| `slice.png` | a slice with a hemorrhage |
| `runs/first` | a fit of `head_ct` |
"""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

import numpy as np

import hemorrhage_tf as htf

ROOT = Path(__file__).resolve().parents[1]
WEIGHTS = "resnet152_conv4_imagenet.weights.h5"
SLICES = 20  # of the scan


def build_sandbox(folder: Path) -> Path:
    """Write the data sets and the runs into a new folder, and return it."""
    folder.mkdir(parents=True)
    write_kaggle_folder(folder)
    htf.phantoms(folder / "other_site", count=60, seed=2, size=256, quiet=True)
    scan = htf.draw_phantom_scan(3, 1, 1, count=SLICES, size=256)
    write_volume(folder / "volume.nii.gz", scan)
    write_study(folder / "study", scan)
    shutil.copy(folder / "head_ct/head_ct/001.png", folder / "slice.png")
    htf.fit(
        folder / "head_ct",
        backbone="phantomnet",
        folds=2,
        views=1,
        out=folder / "runs" / "first",
        cache=folder / "cache",
        quiet=True,
    )
    return folder


def enter_sandbox(sandbox: Path, folder: Path) -> Path:
    """Copy the data sets into a new folder, and their cache beside it; return the folder."""
    shutil.copytree(sandbox, folder, ignore=shutil.ignore_patterns("cache"))
    shutil.copytree(sandbox / "cache", cache_of(folder))
    (folder / "examples").symlink_to(ROOT / "examples")
    return folder


def enter_real_data(shared: Path, folder: Path) -> Path:
    """Make a new folder with links to the Kaggle set and weights of ResNet-152, and return it."""
    folder.mkdir(parents=True)
    (folder / "head_ct").symlink_to(shared / "head_ct")
    (folder / WEIGHTS).symlink_to(shared / "weights" / WEIGHTS)
    return folder


def cache_of(folder: Path) -> Path:
    """Return the feature cache of such a folder."""
    return folder.with_name(f"{folder.name}-cache")


def write_kaggle_folder(folder: Path) -> None:
    """Write `head_ct`: labels.csv, and images named by id."""
    htf.phantoms(folder / "drawn", count=40, seed=1, size=256, quiet=True)
    images = folder / "head_ct" / "head_ct"
    images.mkdir(parents=True)
    with open(folder / "drawn" / "manifest.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    with open(folder / "head_ct" / "labels.csv", "w", newline="") as file:
        file.write("id, hemorrhage\n")
        for number, row in enumerate(rows):
            shutil.move(folder / "drawn" / row["path"], images / f"{number:03d}.png")
            file.write(f"{number}, {row['label']}\n")
    shutil.rmtree(folder / "drawn")


def write_volume(path: Path, scan: list[htf.Phantom], spacing: float = 0.9) -> None:
    """Write a scan as a NIfTI volume, from the neck to the vertex; `spacing` of pixels in mm."""
    import nibabel

    voxels = np.rint([phantom.hounsfield for phantom in scan]).astype(np.int16)
    affine = np.diag([-spacing, -spacing, 5.0, 1.0])
    nibabel.Nifti1Image(voxels.transpose(2, 1, 0), affine).to_filename(path)


def write_study(folder: Path, scan: list[htf.Phantom]) -> None:
    """Write a DICOM study of three series: soft kernel, sharp kernel, localizer."""
    for number, description, kernel in ((2, "HEAD 5mm", "H30s"), (3, "HEAD BONE", "H70h")):
        for place, phantom in enumerate(scan):
            name = f"series{number}/{place:03d}.dcm"
            tags = {"SeriesDescription": description, "ConvolutionKernel": kernel}
            write_dicom(folder / name, phantom.hounsfield, number, place, tags)
    tags = {"SeriesDescription": "TOPOGRAM", "ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}
    write_dicom(folder / "series1/000.dcm", scan[0].hounsfield, 1, 0, tags)


def write_dicom(
    path: Path, hounsfield: np.ndarray, series: int, place: int, tags: dict[str, object]
) -> None:
    """Write a slice of a series as a CT Image."""
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

    dataset, meta = Dataset(), FileMetaDataset()
    values = {
        "SOPClassUID": CTImageStorage,
        "SOPInstanceUID": f"1.2.826.{series}.{place + 1}",
        "StudyInstanceUID": "1.2.826",
        "SeriesInstanceUID": f"1.2.826.{series}",
        "SeriesNumber": series,
        "InstanceNumber": place + 1,
        "PatientID": "phantom",
        "Modality": "CT",
        "BodyPartExamined": "HEAD",
        "Rows": hounsfield.shape[0],
        "Columns": hounsfield.shape[1],
        "PixelSpacing": [0.9, 0.9],
        "SliceThickness": 5,
        "ImagePositionPatient": [0, 0, 5.0 * place],
        "ImageOrientationPatient": [1, 0, 0, 0, 1, 0],
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2",
        "BitsAllocated": 16,
        "BitsStored": 16,
        "HighBit": 15,
        "PixelRepresentation": 1,
        "RescaleSlope": 1,
        "RescaleIntercept": 0,
        "PixelData": np.rint(hounsfield).astype("<i2").tobytes(),
        **tags,
    }
    for keyword, value in values.items():
        setattr(dataset, keyword, value)
    dataset["PixelData"].VR = "OW"
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = CTImageStorage
    meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    dataset.file_meta = meta
    path.parent.mkdir(parents=True, exist_ok=True)
    dataset.save_as(path, enforce_file_format=True)
