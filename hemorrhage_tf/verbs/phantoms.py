"""TODO docstring."""

from __future__ import annotations

from pathlib import Path

from hemorrhage_tf.core.progress import Progress
from hemorrhage_tf.synthesis import DEFAULT_SIZE, write_phantoms


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
    """Writes synthetic head-CT slices with masks of the blood and a manifest that `fit` takes.

    Args:
        folder: to write; must not be there yet.
        count: of slices; every second one has a hemorrhage. Default 100.
        seed: the same seed gives the same bytes. Default 0.
        form: "png", "dicom" or "nifti". Default "png".
        size: side of a slice in pixels, 64 to 512; a picture is scaled and cropped afterward.
            Default 512.
        workers: processes that draw; a script that asks for several has to start them below
            `if __name__ == "__main__":`. Default 1.
        quiet: print no progress. Default False.

    Returns:
        The folder, see `data.phantoms.write_phantoms`.
    """
    return write_phantoms(folder, count, seed, form, size, Progress(quiet=quiet), workers)
