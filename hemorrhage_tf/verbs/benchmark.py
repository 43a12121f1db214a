"""The verb `benchmark`."""

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
    """Measure models side by side, each in its own process.

    Args:
        models: Run folders, `.keras` files, SavedModel folders, `.tflite` or `.onnx` files, or
            "phantomnet", the embedded model.
        images: Slices to measure with: files, folders or globs. None for phantoms.
        threads: Threads that each model runs with. Defaults to 1.
        batch_size: Slices in a batch, for the throughput. Defaults to 32.
        rounds: Number of single slices that the latency is measured on. Defaults to 30.
        quiet: Print no progress. Defaults to False.

    Returns:
        A measurement of each model. Probabilities are compared with those of the first.

    Raises:
        ModelError: There is no model at a path, or it is damaged.
        OptionError: A number is out of range.

    Example:
        >>> import hemorrhage_tf as htf
        >>> for one in htf.benchmark("phantomnet", rounds=3, quiet=True):
        ...     print(one.path, one.format)
        phantomnet embedded
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
