"""Sets of phantoms on disk: PNG, DICOM or NIfTI, with masks and a manifest."""

from __future__ import annotations

import contextlib
import csv
import multiprocessing
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image

from hemorrhage_tf.core.errors import OptionError, OutputError
from hemorrhage_tf.core.progress import Progress
from hemorrhage_tf.synthesis.display_image import draw_display_image
from hemorrhage_tf.synthesis.draw import (
    DEFAULT_SIZE,
    GENERATOR_VERSION,
    LARGEST,
    SMALLEST,
    Phantom,
    draw_phantom,
)
from hemorrhage_tf.synthesis.hemorrhage import SUBTYPES

FORMATS = ("png", "dicom", "nifti")
MANIFEST = "manifest.csv"
MOST = 1_000_000
COLUMNS = ("path", "label", "mask", *SUBTYPES, "level", "mimics")

# Starting processes takes a second or two, in which one draws this many.
_WORTH_PROCESSES = 100
_CHUNK = 25
_PICTURE_STREAM = 60  # apart from those that phantoms are drawn from


def write_phantoms(
    folder: str | Path,
    count: int,
    seed: int = 0,
    form: str = "png",
    size: int = DEFAULT_SIZE,
    progress: Progress | None = None,
    workers: int = 1,
) -> Path:
    """Writes a set of phantoms with masks and a manifest; every second one has a hemorrhage.

    The same seed, format and size give the same bytes, whatever the count: a longer set begins
    with the slices of a shorter one.

    Args:
        folder: to write, with all its parents; must not be there yet.
        count: of slices, 1 to 1,000,000.
        seed: of the set, 0 or more. Default 0.
        form: "png": pictures as they come from consoles and screens; "dicom" and "nifti": whole
            Hounsfield units, as they come from a scanner. Default "png".
        size: side of a slice in pixels, 64 to 512. A picture is scaled and cropped afterward.
            Default 512.
        progress: where progress goes, or None for nowhere.
        workers: processes that draw. Default 1: more of them are fresh ones, which Python starts by
            importing the caller's own script again, so that it has to be ready for that.

    Returns:
        The folder: `manifest.csv`, `slices/` and `masks/`. A mask is an 8-bit PNG, or NIfTI beside
        NIfTI, of the slice's own pixels: the sum of 1, 2, 4, 8 and 16 where there is blood of the
        subtypes in the order of `SUBTYPES`.

    Raises:
        OptionError: a count, seed, format or size that is none of the accepted ones.
        OutputError: the folder exists or cannot be written.
    """
    folder = Path(folder)
    _check(count, seed, form, size)
    if folder.exists():
        raise OutputError(f"{folder}: exists. Name a folder that is not there yet")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with _beside(folder) as beside:
            _fill(beside, count, seed, form, size, progress or Progress(quiet=True), workers)
            os.rename(beside, folder)
    except OSError as error:
        raise OutputError(
            f"{folder}: phantoms cannot be written there ({error.strerror or error}). Nothing was "
            "left behind; make room or name another folder"
        ) from None
    return folder


def phantom_set(folder: Path, count: int, seed: int, progress: Progress | None = None) -> Path:
    """Gives a set of small pictures out of a cache; draws it where it is not there yet.

    Args:
        folder: where sets are kept.
        count: slices in the set; every second one has a hemorrhage.
        seed: the same seed gives the same bytes.
        progress: where progress goes; None for nowhere. Default None.

    Returns:
        The folder of the set, with `manifest.csv`.

    Raises:
        OutputError: it cannot be written.
    """
    target = folder / f"phantoms-v{GENERATOR_VERSION}-n{count}-s{seed}"
    if not target.is_dir():
        try:
            write_phantoms(target, count, seed, size=224, progress=progress)
        except OutputError as error:
            if not target.is_dir():  # else another process drew the same set meanwhile
                raise OutputError(f"{error}. Name another cache folder with --cache") from None
    return target


@contextlib.contextmanager
def _beside(folder: Path) -> Iterator[Path]:
    beside = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", suffix=".part", dir=folder.parent))
    try:
        umask = os.umask(0)  # mkdtemp makes a private folder; this one is as the user's others
        os.umask(umask)
        beside.chmod(0o777 & ~umask)
        yield beside
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def _fill(
    folder: Path,
    count: int,
    seed: int,
    form: str,
    size: int,
    progress: Progress,
    workers: int,
) -> None:
    (folder / "slices").mkdir()
    (folder / "masks").mkdir()
    workers = min(workers, -(-count // _CHUNK))
    chunks = [range(first, min(first + _CHUNK, count)) for first in range(0, count, _CHUNK)]
    arguments = ((folder, seed, chunk, form, size) for chunk in chunks)
    with (
        open(folder / MANIFEST, "w", newline="", encoding="utf-8") as file,
        contextlib.ExitStack() as stack,
    ):
        advance = stack.enter_context(progress.track("Drawing phantoms", count))
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        if workers == 1 or count < _WORTH_PROCESSES:
            drawn: Iterator = map(_write_chunk, *zip(*arguments, strict=True))
        else:
            executor = stack.enter_context(drawing_processes(workers))
            drawn = executor.map(_write_chunk, *zip(*arguments, strict=True))
        for rows in drawn:
            writer.writerows(rows)
            advance(len(rows))
        file.flush()
        os.fsync(file.fileno())


def _write_chunk(
    folder: Path, seed: int, indices: range, form: str, size: int
) -> list[dict[str, object]]:
    return [_write_one(folder, seed, index, form, size) for index in indices]


def _write_one(folder: Path, seed: int, index: int, form: str, size: int) -> dict[str, object]:
    phantom = draw_phantom(seed, index, size=size)
    path, mask = _WRITERS[form](folder, phantom, seed, index)
    return {
        "path": path,
        "label": phantom.label,
        "mask": mask,
        **{name: int(name in phantom.subtypes) for name in SUBTYPES},
        "level": f"{phantom.level:.3f}",
        "mimics": "; ".join(phantom.mimics),
    }


def _write_png(folder: Path, phantom: Phantom, seed: int, index: int) -> tuple[str, str]:
    rng = np.random.default_rng([GENERATOR_VERSION, seed, index, _PICTURE_STREAM])
    picture = draw_display_image(phantom, rng)
    path, mask = f"slices/{index:06d}.png", f"masks/{index:06d}.png"
    Image.fromarray(picture.pixels).save(folder / path)
    Image.fromarray(picture.blood).save(folder / mask)
    return path, mask


def _write_dicom(folder: Path, phantom: Phantom, seed: int, index: int) -> tuple[str, str]:
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

    def uid(kind: str) -> str:
        return generate_uid(entropy_srcs=["hemorrhage_tf", kind, str(seed), str(index)])

    dataset = Dataset()
    dataset.SOPClassUID, dataset.SOPInstanceUID = CTImageStorage, uid("instance")
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = uid("study"), uid("series")
    dataset.FrameOfReferenceUID = uid("frame")
    dataset.PatientID = f"phantom-{seed}-{index:06d}"
    dataset.PatientName = "Phantom"
    dataset.Modality, dataset.Manufacturer = "CT", "hemorrhage_tf"
    dataset.ImageType = ["DERIVED", "SECONDARY", "AXIAL"]
    dataset.SeriesDescription = "Synthetic head, no patient"
    dataset.Rows = dataset.Columns = len(phantom.hounsfield)
    dataset.PixelSpacing = [f"{phantom.pixel:.6f}"] * 2
    dataset.SliceThickness = f"{phantom.thickness:.1f}"
    dataset.ImagePositionPatient = [0, 0, f"{phantom.level * 150:.2f}"]
    dataset.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, 16, 15
    dataset.PixelRepresentation = 0
    dataset.RescaleSlope, dataset.RescaleIntercept, dataset.RescaleType = 1, -1024, "HU"
    dataset.WindowCenter, dataset.WindowWidth = 40, 80
    dataset.PixelData = (phantom.hounsfield + 1024).astype("<u2").tobytes()
    dataset["PixelData"].VR = "OW"
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = CTImageStorage
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    path, mask = f"slices/{index:06d}.dcm", f"masks/{index:06d}.png"
    dataset.save_as(folder / path, enforce_file_format=True)
    Image.fromarray(phantom.blood).save(folder / mask)
    return path, mask


def _write_nifti(folder: Path, phantom: Phantom, seed: int, index: int) -> tuple[str, str]:
    import nibabel

    path, mask = f"slices/{index:06d}.nii.gz", f"masks/{index:06d}.nii.gz"
    # NIfTI runs from the patient's right to the left and from back to front.
    spacing = (-phantom.pixel, -phantom.pixel, phantom.thickness)
    for name, pixels in ((path, phantom.hounsfield.astype(np.int16)), (mask, phantom.blood)):
        image = nibabel.Nifti1Image(pixels.T[:, :, np.newaxis], np.diag((*spacing, 1.0)))
        image.header.set_xyzt_units("mm")
        image.to_filename(folder / name)
    return path, mask


_WRITERS: dict[str, Callable[[Path, Phantom, int, int], tuple[str, str]]] = {
    "png": _write_png,
    "dicom": _write_dicom,
    "nifti": _write_nifti,
}


@contextlib.contextmanager
def drawing_processes(workers: int) -> Iterator[ProcessPoolExecutor]:
    """Opens processes that draw: fresh ones, whose memory is set up for arrays of one size.

    glibc gives arrays of 200 KB back to the system one by one, and gets them again; that takes a
    third of the time of drawing. The variables are read when a process starts.
    """
    keep = {"MALLOC_MMAP_THRESHOLD_": "1000000000", "MALLOC_TRIM_THRESHOLD_": "2000000000"}
    before = {name: os.environ.get(name) for name in keep}
    os.environ.update(keep)
    try:
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(workers, context) as executor:
            try:
                yield executor
            except BaseException:
                executor.shutdown(cancel_futures=True)
                raise
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _check(count: int, seed: int, form: str, size: int) -> None:
    if not 1 <= count <= MOST:
        raise OptionError(f"--count {count}: accepted is 1 to {MOST:,}")
    if not 0 <= seed < 2**31:
        raise OptionError(f"--seed {seed}: accepted is 0 to {2**31 - 1}")
    if form not in FORMATS:
        raise OptionError(f"--format {form}: accepted are {', '.join(FORMATS)}")
    if not SMALLEST <= size <= LARGEST:
        raise OptionError(f"--size {size}: accepted is {SMALLEST} to {LARGEST} pixels")
