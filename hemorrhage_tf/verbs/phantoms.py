"""The verb `phantoms`."""

from __future__ import annotations

from pathlib import Path

from hemorrhage_tf.core.progress import Progress
from hemorrhage_tf.synthesis.draw import DEFAULT_SIZE
from hemorrhage_tf.synthesis.phantom_sets import PhantomSet, write_phantoms


# A verb takes each option of its command as a parameter.
def phantoms(
    folder: str | Path,
    count: int = 100,
    seed: int = 0,
    *,
    form: str = "png",
    size: int = DEFAULT_SIZE,
    workers: int = 1,
    quiet: bool = False,
) -> Path:
    """Write synthetic head-CT slices, masks of their hemorrhages, and a manifest for `fit`.

    Args:
        folder: Folder to write; it must not exist.
        count: Number of slices; every second one has a hemorrhage. Defaults to 100.
        seed: Random seed. The same seed writes the same bytes. Defaults to 0.
        form: "png", "dicom" or "nifti". Defaults to "png".
        size: Side of a slice in pixels, 64 to 512; a PNG is then scaled and cropped. Defaults to
            512.
        workers: Processes that draw. Defaults to 1.
        quiet: Print no progress. Defaults to False.

    Returns:
        The folder, with `manifest.csv`, `slices/` and `masks/`.

    Raises:
        OptionError: A number is out of range, or the form is unknown.
        OutputError: The folder exists, or cannot be written.

    Example:
        >>> import hemorrhage_tf as htf
        >>> folder = htf.phantoms("synthetic", count=2, seed=7, size=64, quiet=True)
        >>> sorted(path.name for path in folder.iterdir())
        ['manifest.csv', 'masks', 'slices']
    """
    return write_phantoms(
        folder,
        PhantomSet(count, seed, form, size),
        progress=Progress(quiet=quiet),
        workers=workers,
    )
