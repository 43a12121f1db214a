"""TODO docstring."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from hemorrhage_tf.core.progress import Progress
from hemorrhage_tf.exporters.benchmark import Measurement
from hemorrhage_tf.exporters.benchmark import benchmark as measure


def benchmark(
    models: str | Path | Sequence[str | Path],
    *,
    images: str | Path | Iterable[str | Path] | None = None,
    threads: int = 1,
    batch_size: int = 32,
    rounds: int = 30,
    quiet: bool = False,
) -> list[Measurement]:
    """Measures models side by side, each in a process of its own.

    Args:
        models: run folders, `.keras` files, SavedModel folders, `.tflite` files and "phantomnet",
            the embedded model.
        images: slices to measure on: files, folders or globs; None for phantoms.
        threads: threads that each runs with. Default 1.
        batch_size: slices in a batch, for the throughput. Default 32.
        rounds: slices that the latency is taken from. Default 30.
        quiet: print no progress. Default False.

    Returns:
        A measurement for each model; the first is what the others are compared with.
    """
    paths = [models] if isinstance(models, str | Path) else list(models)
    if isinstance(images, str | Path):
        images = [images]
    return measure(
        paths,
        images=list(images) if images else None,
        threads=threads,
        batch_size=batch_size,
        rounds=rounds,
        progress=Progress(quiet=quiet),
    )
