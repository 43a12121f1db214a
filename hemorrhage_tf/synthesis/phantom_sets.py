"""Sets of phantoms on disk: PNG, DICOM or NIfTI, with masks and a manifest."""

from __future__ import annotations

import contextlib
import csv
import functools
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from hemorrhage_tf.core.atomic_files import atomic_folder, describe_os_error
from hemorrhage_tf.core.errors import OptionError, OutputError
from hemorrhage_tf.core.lookahead import results_in_order
from hemorrhage_tf.core.processes import KEEP_FREED_MEMORY
from hemorrhage_tf.core.progress import Progress
from hemorrhage_tf.synthesis.display_image import draw_display_image
from hemorrhage_tf.synthesis.draw import (
    DEFAULT_SIZE,
    GENERATOR_VERSION,
    HEAD_HEIGHT,
    LARGEST_SIZE,
    SMALLEST_SIZE,
    Phantom,
    draw_phantom,
)
from hemorrhage_tf.synthesis.hemorrhage import SUBTYPES
from hemorrhage_tf.synthesis.phantom_dicom import create_ct_image, derive_phantom_uid

FORMATS = ("png", "dicom", "nifti")
STUDY = "study"  # a further format: whole DICOM studies, see `phantom_studies`
MANIFEST = "manifest.csv"
MOST = 1_000_000
LARGEST_SEED = 2**31 - 1
COLUMNS = ("path", "label", "mask", *SUBTYPES, "level", "mimics")
CACHED_SIZE = 224  # pixels, of the phantoms that a cache keeps

# Smaller sets are drawn in this process: starting others takes longer.
PARALLEL_FROM = 100
CHUNK = 25  # phantoms that a process draws at a time
_DISPLAY_STREAM = 60  # apart from the streams of `draw`


@dataclass(frozen=True, slots=True)
class PhantomSet:
    """A set of phantoms; every second one has a hemorrhage.

    The same seed, format and size give the same bytes for any count: a longer set begins with the
    slices of a shorter one.

    Attributes:
        count: Number of slices, 1 to 1,000,000.
        seed: Random seed, 0 or more. Defaults to 0.
        form: "png" for display images as workstations export them; "dicom" or "nifti" for whole
            Hounsfield units as a scanner stores them. Defaults to "png".
        size: Side of a slice in pixels, 64 to 512. A display image is then cropped and scaled.
            Defaults to 512.

    Raises:
        OptionError: Count, seed, form or size is not accepted.
    """

    count: int
    seed: int = 0
    form: str = "png"
    size: int = DEFAULT_SIZE

    def __post_init__(self) -> None:
        if not 1 <= self.count <= MOST:
            raise OptionError(f"--count {self.count}: out of range. Pass 1 to {MOST:,} phantoms.")
        if not 0 <= self.seed <= LARGEST_SEED:
            raise OptionError(f"--seed {self.seed}: out of range. Pass 0 to {LARGEST_SEED}.")
        if self.form not in FORMATS:
            known = ", ".join((*FORMATS, STUDY))
            raise OptionError(f"--format {self.form}: unknown. Pass one of {known}.")
        if not SMALLEST_SIZE <= self.size <= LARGEST_SIZE:
            raise OptionError(
                f"--size {self.size}: out of range. Pass {SMALLEST_SIZE} to {LARGEST_SIZE} pixels."
            )


def write_phantoms(
    folder: str | Path,
    phantom_set: PhantomSet,
    progress: Progress | None = None,
    workers: int = 1,
) -> Path:
    """Write a set of phantoms with masks and a manifest.

    Args:
        folder: The new folder. Missing parent folders are created.
        phantom_set: The set.
        progress: Reports progress; None for no reports. Defaults to None.
        workers: Number of processes that draw. Defaults to 1.

    Returns:
        The folder: `manifest.csv`, `slices/` and `masks/`. A mask is an 8-bit PNG, or NIfTI for
        NIfTI slices, with the pixels of its slice: the sum of 1, 2, 4, 8 and 16 where there is
        blood of the subtypes in the order of `SUBTYPES`.

    Raises:
        OutputError: The folder exists or cannot be written.
    """
    count = phantom_set.count
    chunks = [range(first, min(first + CHUNK, count)) for first in range(0, count, CHUNK)]
    write_chunk = functools.partial(_write_chunk, phantom_set)
    workers = 1 if count < PARALLEL_FROM else workers
    return write_parts(folder, "phantoms", chunks, write_chunk, progress, workers)


def cached_phantoms(folder: Path, count: int, seed: int, progress: Progress | None = None) -> Path:
    """Return a set of small display images from a cache; draw it on all cores if it is not there.

    Args:
        folder: The folder of all cached sets.
        count: Number of slices; every second one has a hemorrhage.
        seed: Random seed; the same seed gives the same bytes.
        progress: Reports progress; None for no reports. Defaults to None.

    Returns:
        The folder of the set, with `manifest.csv`.

    Raises:
        OutputError: The set cannot be written.
    """
    target = folder / f"phantoms-v{GENERATOR_VERSION}-n{count}-s{seed}"
    if not target.is_dir():
        try:
            phantom_set = PhantomSet(count, seed, size=CACHED_SIZE)
            write_phantoms(target, phantom_set, progress, os.cpu_count() or 1)
        except OutputError as error:
            if not target.is_dir():  # else another process drew the same set
                raise OutputError(f"{error} Pass another cache folder with --cache.") from None
    return target


def write_parts(
    folder: str | Path,
    what: str,
    parts: Sequence[range],
    write_part: Callable[[Path, range], list[dict[str, object]]],
    progress: Progress | None,
    workers: int,
) -> Path:
    """Write a new folder with masks and a manifest, part by part.

    Args:
        folder: The new folder. Missing parent folders are created.
        what: What is written, in the plural.
        parts: Indices of what a process writes at a time.
        write_part: Writes a part into a folder with `masks/`; returns its rows of the manifest.
        progress: Reports progress; None for no reports.
        workers: Number of processes that draw.

    Raises:
        OutputError: The folder exists or cannot be written.
    """
    folder, progress = Path(folder), progress or Progress(quiet=True)
    if folder.exists():
        raise OutputError(f"{folder}: already exists. Pass the name of a new folder.")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with atomic_folder(folder) as partial:
            (partial / "masks").mkdir()
            write = functools.partial(write_part, partial)
            _write_manifest(partial, what, parts, write, progress, min(workers, len(parts)))
    except OSError as error:
        raise OutputError(
            f"{folder}: {what} cannot be written ({describe_os_error(error)}). Nothing was left "
            "behind. Make room or pass another folder."
        ) from None
    return folder


def _write_manifest(
    folder: Path,
    what: str,
    parts: Sequence[range],
    write_part: Callable[[range], list[dict[str, object]]],
    progress: Progress,
    workers: int,
) -> None:
    with (
        open(folder / MANIFEST, "w", newline="", encoding="utf-8") as file,
        contextlib.ExitStack() as stack,
    ):
        advance = stack.enter_context(progress.track(f"Drawing {what}", sum(map(len, parts))))
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        if workers == 1:
            written: Iterator[list[dict[str, object]]] = map(write_part, parts)
        else:
            executor = stack.enter_context(drawing_processes(workers))
            tasks = (executor.submit(write_part, part).result for part in parts)
            written = results_in_order(tasks, 2 * workers)
        for part, rows in zip(parts, written, strict=True):
            writer.writerows(rows)
            advance(len(part))


def _write_chunk(phantom_set: PhantomSet, folder: Path, indices: range) -> list[dict[str, object]]:
    (folder / "slices").mkdir(exist_ok=True)
    return [_write_one(folder, phantom_set, index) for index in indices]


def _write_one(folder: Path, phantom_set: PhantomSet, index: int) -> dict[str, object]:
    """Write a phantom and its mask; return its row of the manifest."""
    phantom = draw_phantom(phantom_set.seed, index, size=phantom_set.size)
    path, mask = _WRITERS[phantom_set.form](folder, phantom, phantom_set.seed, index)
    return manifest_row(phantom, path, mask)


def manifest_row(phantom: Phantom, path: str, mask: str) -> dict[str, object]:
    """Return the row of the manifest for a slice: its values by `COLUMNS`."""
    return {
        "path": path,
        "label": phantom.label,
        "mask": mask,
        **{name: int(name in phantom.subtypes) for name in SUBTYPES},
        "level": f"{phantom.level:.3f}",
        "mimics": "; ".join(phantom.mimics),
    }


def _write_png(folder: Path, phantom: Phantom, seed: int, index: int) -> tuple[str, str]:
    rng = np.random.default_rng([GENERATOR_VERSION, seed, index, _DISPLAY_STREAM])
    image = draw_display_image(phantom, rng)
    path, mask = f"slices/{index:06d}.png", f"masks/{index:06d}.png"
    Image.fromarray(image.pixels).save(folder / path)
    Image.fromarray(image.blood).save(folder / mask)
    return path, mask


def _write_dicom(folder: Path, phantom: Phantom, seed: int, index: int) -> tuple[str, str]:
    def uid(kind: str) -> str:
        return derive_phantom_uid(kind, seed, index)

    dataset = create_ct_image(phantom.hounsfield, phantom.pixel, uid("instance"))
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = uid("study"), uid("series")
    dataset.FrameOfReferenceUID = uid("frame")
    dataset.PatientID = f"phantom-{seed}-{index:06d}"
    dataset.ImageType = ["DERIVED", "SECONDARY", "AXIAL"]
    dataset.SeriesDescription = "Synthetic head, no patient"
    dataset.SliceThickness = f"{phantom.thickness:.1f}"
    dataset.ImagePositionPatient = [0, 0, f"{phantom.level * HEAD_HEIGHT:.2f}"]
    dataset.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    path, mask = f"slices/{index:06d}.dcm", f"masks/{index:06d}.png"
    dataset.save_as(folder / path, enforce_file_format=True)
    Image.fromarray(phantom.blood).save(folder / mask)
    return path, mask


def _write_nifti(folder: Path, phantom: Phantom, seed: int, index: int) -> tuple[str, str]:
    import nibabel

    path, mask = f"slices/{index:06d}.nii.gz", f"masks/{index:06d}.nii.gz"
    # NIfTI's axes point to the patient's right and front, an image's to the left and back.
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
def drawing_processes(workers: int) -> Iterator[Executor]:
    """Start processes that draw. They do not import the script that runs here.

    Args:
        workers: Number of processes.

    Yields:
        The executor. Its processes are ended at once if the block fails.
    """
    from joblib.externals.loky import ProcessPoolExecutor

    executor = ProcessPoolExecutor(workers, env=KEEP_FREED_MEMORY)
    try:
        yield executor
    except BaseException:
        executor.shutdown(wait=True, kill_workers=True)
        raise
    executor.shutdown(wait=True)
