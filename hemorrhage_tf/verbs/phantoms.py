"""The verb `phantoms`."""

from __future__ import annotations

from pathlib import Path

from hemorrhage_tf.core.progress import Progress
from hemorrhage_tf.synthesis.draw import DEFAULT_SIZE
from hemorrhage_tf.synthesis.phantom_sets import STUDY, PhantomSet, write_phantoms
from hemorrhage_tf.synthesis.phantom_studies import write_phantom_studies

DEFAULT_COUNT = 100  # slices


# A verb takes each option of its command as a parameter.
def phantoms(
    folder: str | Path,
    count: int | None = None,
    seed: int = 0,
    *,
    form: str = "png",
    size: int = DEFAULT_SIZE,
    workers: int = 1,
    quiet: bool = False,
) -> Path:
    """Write synthetic head CT, masks of its hemorrhages, and a manifest for `fit`.

    Args:
        folder: Folder to write; it must not exist.
        count: Number of slices, or of studies; every second one has a hemorrhage. Defaults to
            None, for 100 slices or one study.
        seed: Random seed. The same seed writes the same bytes. Defaults to 0.
        form: "png", "dicom" or "nifti" for single slices; "study" for whole DICOM studies of a head
            with localizers, slices of two thicknesses, a bone kernel and an angiography. Defaults
            to "png".
        size: Side of a slice in pixels, 64 to 512; a PNG is then scaled and cropped. Defaults to
            512.
        workers: Processes that draw. Defaults to 1.
        quiet: Print no progress. Defaults to False.

    Returns:
        The folder, with `manifest.csv`, `slices/` (of studies: `studies/`) and `masks/`. The
        manifest of studies lists the slices of the plain thick series.

    Raises:
        OptionError: A number is out of range, or the form is unknown.
        OutputError: The folder exists, or cannot be written.

    Example:
        >>> import hemorrhage_tf as htf
        >>> folder = htf.phantoms("synthetic", count=2, seed=7, size=64, quiet=True)
        >>> sorted(path.name for path in folder.iterdir())
        ['manifest.csv', 'masks', 'slices']
    """
    progress = Progress(quiet=quiet)
    if form == STUDY:
        studies = PhantomSet(1 if count is None else count, seed, "dicom", size)
        return write_phantom_studies(folder, studies, progress, workers)
    slices = PhantomSet(DEFAULT_COUNT if count is None else count, seed, form, size)
    return write_phantoms(folder, slices, progress, workers)
