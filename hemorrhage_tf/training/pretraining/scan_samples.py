"""Training samples of scans: PhantomNet's features of all slices of whole phantom scans.

Processes draw the scans, and this one computes the features. Only the features are stored, in
shards. An interrupted run continues with the shards that are complete.
"""

from __future__ import annotations

import contextlib
import itertools
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hemorrhage_tf.core.atomic_files import write_atomically
from hemorrhage_tf.core.progress import Progress
from hemorrhage_tf.imaging.head_crop import crop_to, find_head
from hemorrhage_tf.synthesis.display_image import draw_display_image
from hemorrhage_tf.synthesis.draw import GENERATOR_VERSION, HEAD_HEIGHT
from hemorrhage_tf.synthesis.draw_scan import THICKEST, THINNEST, draw_phantom_scan
from hemorrhage_tf.synthesis.phantom_sets import drawing_processes
from hemorrhage_tf.training.pretraining.samples import (
    DISPLAY_HEIGHTS,
    DRAWN_SIZE,
    gray_model_input,
)

SHARD_SIZE = 10  # scans in a file
FEWEST_SLICES, MOST_SLICES = 20, 250
# Share of the scans in Hounsfield units. The others are display images.
HOUNSFIELD_SHARE = 0.5
# Share of the scans that show nearly the whole head, and what the others show of it.
WHOLE_SHARE = 0.6
WHOLE_COVERAGE, PART_COVERAGE = (0.85, 1.0), (0.5, 0.85)

_STREAM, _DISPLAY_STREAM = 51, 52  # of random numbers, apart from those of the phantoms


@dataclass(frozen=True)
class ScanFeatures:
    """Features of the slices of scans.

    Attributes:
        features: float32 `(n, width)`, standardized as the embedded model's head does.
        positions: float64 `(n,)`, height of each slice above the skull base, in mm.
        labels: uint8 `(n,)`, 1 for a hemorrhage in the slice.
        scans: int64 `(n,)`, index of each slice's scan, in ascending order.
        display: bool `(n,)`: whether the slice was a display image.
    """

    features: np.ndarray
    positions: np.ndarray
    labels: np.ndarray
    scans: np.ndarray
    display: np.ndarray

    def __len__(self) -> int:
        return len(self.features)

    @property
    def members(self) -> tuple[np.ndarray, ...]:
        """The slices of each scan, from its lowest to its highest: int64 indices."""
        starts = np.flatnonzero(np.diff(self.scans)) + 1
        return tuple(np.split(np.arange(len(self)), starts))

    @property
    def scan_labels(self) -> np.ndarray:
        """1 for each scan with a hemorrhage: int64 `(scans,)`."""
        return np.array([int(self.labels[slices].any()) for slices in self.members], np.int64)


@dataclass(frozen=True)
class ScanFeatureStore:
    """A folder of features of scans, computed on first use.

    Attributes:
        folder: The folder of all sets.
        compute: Computes the standardized features of uint8 gray model inputs `(n, 192, 192)`.
        model_hash: Identifies the weights behind `compute`.
        workers: Number of processes that draw; 1 draws in this process.
        progress: Reports progress.
    """

    folder: Path
    compute: Callable[[np.ndarray], np.ndarray]
    model_hash: str
    workers: int
    progress: Progress

    def scans(self, seed: int, count: int, name: str = "scans") -> ScanFeatures:
        """Return the features of scans, of which every second one has a hemorrhage.

        Args:
            seed: Random seed of the set.
            count: Number of scans, rounded up to whole shards.
            name: Name of the set in progress reports. Defaults to "scans".
        """
        folder = self.folder / f"scan-features-v{GENERATOR_VERSION}-{self.model_hash[:8]}-s{seed}"
        folder.mkdir(parents=True, exist_ok=True)
        paths = [folder / f"{number:05d}.npz" for number in range(-(-count // SHARD_SIZE))]
        missing = [number for number, path in enumerate(paths) if not path.is_file()]
        if missing:
            ranges = [range(k * SHARD_SIZE, (k + 1) * SHARD_SIZE) for k in missing]
            total = len(missing) * SHARD_SIZE
            with self.progress.track(f"Computing features of {name}", total) as advance:
                drawn = self._draw(seed, ranges)
                for number, arrays in zip(missing, drawn, strict=True):
                    arrays["features"] = self.compute(arrays.pop("images"))
                    _write(paths[number], arrays)
                    advance(SHARD_SIZE)
        parts: dict[str, list[np.ndarray]] = {}
        for path in paths:
            with np.load(path, allow_pickle=False) as arrays:
                for key in arrays.files:
                    parts.setdefault(key, []).append(arrays[key])
        return ScanFeatures(**{key: np.concatenate(arrays) for key, arrays in parts.items()})

    def _draw(self, seed: int, ranges: list[range]) -> Iterator[dict[str, np.ndarray]]:
        """Draw the scans of each range, a few ranges ahead of their use."""
        if self.workers == 1:
            yield from (draw_scan_samples(seed, indices) for indices in ranges)
            return
        waiting: deque[Any] = deque()
        left = iter(ranges)
        with contextlib.ExitStack() as stack:
            executor = stack.enter_context(drawing_processes(self.workers))
            for indices in itertools.islice(left, self.workers + 1):
                waiting.append(executor.submit(draw_scan_samples, seed, indices))
            while waiting:
                drawn = waiting.popleft().result()
                for indices in itertools.islice(left, 1):
                    waiting.append(executor.submit(draw_scan_samples, seed, indices))
                yield drawn


def draw_scan_samples(seed: int, indices: range) -> dict[str, np.ndarray]:
    """Draw scans of all lengths and thicknesses as model input.

    Args:
        seed: Random seed of the set.
        indices: Indices of the scans in the set.

    Returns:
        The arrays of `ScanFeatures`, with `images`, uint8 `(n, 192, 192)`, in place of `features`.
    """
    scans = [_draw_scan(seed, index) for index in indices]
    return {name: np.concatenate([scan[name] for scan in scans]) for name in scans[0]}


def _draw_scan(seed: int, index: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng([GENERATOR_VERSION, seed, index, _STREAM])
    # Short scans are more frequent, as they are in practice.
    share = rng.beta(1.0, 2.0)
    count = round(FEWEST_SLICES * (MOST_SLICES / FEWEST_SLICES) ** share)
    whole = rng.random() < WHOLE_SHARE
    covered = rng.uniform(*(WHOLE_COVERAGE if whole else PART_COVERAGE)) * HEAD_HEIGHT
    thickness = float(np.clip(covered / (count - 1), THINNEST, THICKEST))
    display = rng.random() >= HOUNSFIELD_SHARE
    height = float(np.exp(rng.uniform(*np.log(DISPLAY_HEIGHTS))))
    scan = draw_phantom_scan(seed, index, size=DRAWN_SIZE, thickness=thickness, count=count)
    images, labels = [], []
    for phantom in scan:
        pixels, blood = phantom.hounsfield, phantom.blood
        if display:  # all slices of a scan have the same window, scale, text and compression
            same = np.random.default_rng([GENERATOR_VERSION, seed, index, _DISPLAY_STREAM])
            image = draw_display_image(phantom, same, height)
            pixels, blood = image.pixels, image.blood
        # A crop to the head may remove a hemorrhage at its edge.
        labels.append(bool(phantom.label and crop_to(blood, find_head(pixels)).any()))
        images.append(gray_model_input(pixels))
    return {
        "images": np.stack(images),
        "labels": np.array(labels, np.uint8),
        "positions": np.array([phantom.position for phantom in scan]),
        "scans": np.full(count, index, np.int64),
        "display": np.full(count, display),
    }


def _write(path: Path, arrays: dict[str, np.ndarray]) -> None:
    write_atomically(path, lambda file: np.savez(file, **arrays))
