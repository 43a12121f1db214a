"""Whole DICOM studies of phantoms on disk, with masks and a manifest of the plain thick series."""

from __future__ import annotations

import functools
from pathlib import Path

from PIL import Image

from hemorrhage_tf.core.progress import Progress
from hemorrhage_tf.synthesis.draw_study import THIN, PhantomSeries, PhantomStudy, draw_study
from hemorrhage_tf.synthesis.phantom_dicom import create_ct_image, derive_phantom_uid
from hemorrhage_tf.synthesis.phantom_sets import PhantomSet, manifest_row, write_parts

_THICK_SERIES = 2
_DATE, _TIME = "20200101", "120000"  # of all studies: archives sort by them
_LATERAL, _FRONTAL = [0, 1, 0, 0, 0, -1], [1, 0, 0, 0, 0, -1]
_AXIAL = [1, 0, 0, 0, 1, 0]


def write_phantom_studies(
    folder: str | Path,
    studies: PhantomSet,
    progress: Progress | None = None,
    workers: int = 1,
) -> Path:
    """Write whole DICOM studies, masks of the plain thick series, and its manifest.

    Args:
        folder: The new folder. Missing parent folders are created.
        studies: Number, seed and size; every second study has a hemorrhage.
        progress: Reports progress; None for no reports. Defaults to None.
        workers: Number of processes that draw. Defaults to 1.

    Returns:
        The folder: `manifest.csv`, `studies/` with a folder for each study and series, `masks/`.

    Raises:
        OutputError: The folder exists or cannot be written.
    """
    parts = [range(index, index + 1) for index in range(studies.count)]
    write_part = functools.partial(_write_studies, studies)
    return write_parts(folder, "studies", parts, write_part, progress, workers)


def _write_studies(studies: PhantomSet, folder: Path, indices: range) -> list[dict[str, object]]:
    return [row for index in indices for row in _write_study(folder, studies, index)]


def _write_study(folder: Path, studies: PhantomSet, index: int) -> list[dict[str, object]]:
    """Write one study, and return the rows of the manifest for its plain thick slices."""
    study = draw_study(studies.seed, index, size=studies.size)
    place = Path("studies") / f"{index:06d}"
    for series in study.series:
        (folder / place / str(series.number)).mkdir(parents=True)
        for number in range(len(series.images)):
            path = folder / place / str(series.number) / f"{number:04d}.dcm"
            _write_image(path, (studies.seed, index), study, series, number)
    rows = []
    for number, phantom in enumerate(study.thick):
        mask = f"masks/{index:06d}-{number:04d}.png"
        Image.fromarray(phantom.blood).save(folder / mask)
        path = place / str(_THICK_SERIES) / f"{number:04d}.dcm"
        rows.append(manifest_row(phantom, path.as_posix(), mask))
    return rows


def _write_image(
    path: Path,
    name: tuple[int, int],
    study: PhantomStudy,
    series: PhantomSeries,
    number: int,
) -> None:
    """Write one image of a series, with what the CT Image IOD requires (PS3.3, section A.3)."""
    seed, index = name
    key = ("study", seed, index)
    image, pixel = series.images[number], study.pixel
    dataset = create_ct_image(
        image, pixel, derive_phantom_uid(*key, "instance", series.number, number)
    )
    dataset.PatientName = f"Phantom^{seed}-{index:06d}"
    dataset.PatientID = f"phantom-study-{seed}-{index:06d}"
    for keyword in ("PatientBirthDate", "PatientSex", "ReferringPhysicianName"):
        setattr(dataset, keyword, "")
    dataset.StudyInstanceUID = derive_phantom_uid(*key)
    dataset.SeriesInstanceUID = derive_phantom_uid(*key, "series", series.number)
    dataset.FrameOfReferenceUID = derive_phantom_uid(*key, "frame")
    dataset.PositionReferenceIndicator, dataset.PatientPosition = "", "HFS"
    dataset.StudyID = f"{seed}-{index}"
    dataset.StudyDate, dataset.StudyTime = _DATE, _TIME
    dataset.AccessionNumber = ""
    dataset.StudyDescription = "Synthetic head, no patient"
    dataset.BodyPartExamined, dataset.KVP = "HEAD", "120"
    dataset.SeriesNumber, dataset.SeriesDescription = series.number, series.description
    dataset.InstanceNumber, dataset.AcquisitionNumber = number + 1, 1
    dataset.SliceThickness = f"{series.thickness:g}"
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER" if series.is_localizer else "AXIAL"]
    dataset.ConvolutionKernel = series.kernel
    if series.agent:
        dataset.ContrastBolusAgent = series.agent
    half = (image.shape[1] - 1) / 2 * pixel
    if series.is_localizer:
        dataset.RescaleType = "US"  # a projection is not in HU
        dataset.ImageOrientationPatient = [_LATERAL, _FRONTAL][number]
        top = study.lowest + (image.shape[0] - 1) * pixel
        corner = [0.0, -half, top] if number == 0 else [-half, 0.0, top]
    else:
        dataset.ImageOrientationPatient = _AXIAL
        # The middle of the thin slices that a slice covers.
        first = (series.thickness - THIN) / 2 + number * series.thickness
        corner = [-half, -half, study.lowest + first]
    dataset.ImagePositionPatient = [f"{value:.3f}" for value in corner]
    dataset.save_as(path, enforce_file_format=True)
