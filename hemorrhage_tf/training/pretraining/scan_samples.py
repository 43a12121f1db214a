"""Training samples of scans: PhantomNet's features of all slices of whole phantom scans.

Processes draw the scans, and this one computes the features. Only the features are stored, in
shards. An interrupted run continues with the shards that are complete.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hemorrhage_tf.core.lookahead import results_in_order
from hemorrhage_tf.core.progress import Progress
from hemorrhage_tf.imaging.head_crop import crop_to, find_head
from hemorrhage_tf.synthesis.display_image import draw_display_image
from hemorrhage_tf.synthesis.draw import GENERATOR_VERSION, HEAD_HEIGHT
from hemorrhage_tf.synthesis.draw_scan import THICKEST, THINNEST, draw_scan_pair
from hemorrhage_tf.synthesis.phantom_sets import drawing_processes
from hemorrhage_tf.training.pretraining.samples import (
    DISPLAY_HEIGHTS,
    DRAWN_SIZE,
    gray_model_input,
    join_shards,
    write_shard,
)

# Offset of the random seed of the scans that the head and the scan model are trained on.
HEAD_SEED = 6_000_006
SHARD_SIZE = 10  # scans in a file, of half as many heads
FEWEST_SLICES, MOST_SLICES = 20, 250
# Share of the scans in Hounsfield units. The others are display images.
HOUNSFIELD_SHARE = 0.5
# Share of the scans that show the whole head, often with a part of the neck, and what the others
# show; in heights of the head.
WHOLE_SHARE = 0.7
WHOLE_COVERAGE, PART_COVERAGE = (0.9, 1.45), (0.5, 0.9)

_STREAM, _DISPLAY_STREAM = 51, 52  # of random numbers, apart from those of the phantoms


@dataclass(frozen=True)
class ScanFeatures:
    """Features of the slices of scans.

    Attributes:
        features: float32 `(n, width)`: pooled features, or those that the embedded model's head
            standardized.
        positions: float64 `(n,)`, height of each slice above the skull base, in mm.
        labels: uint8 `(n,)`, 1 for a hemorrhage in the slice.
        scans: int64 `(n,)`, index of each slice's scan, in ascending order. Scans 2k and 2k + 1 are
            of the same head.
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

    @property
    def of_normal_scans(self) -> np.ndarray:
        """Whether each slice is of a scan without a hemorrhage: bool `(n,)`."""
        lengths = [len(slices) for slices in self.members]
        return np.repeat(self.scan_labels == 0, lengths)


@dataclass(frozen=True)
class ScanFeatureStore:
    """A folder of features of scans, computed on first use.

    Attributes:
        folder: The folder of all sets.
        compute: Computes the pooled features of uint8 gray model inputs `(n, 192, 192)`.
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
        """Return pooled features of scans: of each head one without and one with a hemorrhage.

        Args:
            seed: Random seed of the set.
            count: Number of scans, rounded up to whole shards.
            name: Name of the set in progress reports. Defaults to "scans".
        """
        folder = self.folder / f"scan-pooled-v{GENERATOR_VERSION}-{self.model_hash[:8]}-s{seed}"
        folder.mkdir(parents=True, exist_ok=True)
        paths = [folder / f"{number:05d}.npz" for number in range(-(-count // SHARD_SIZE))]
        missing = [number for number, path in enumerate(paths) if not path.is_file()]
        if missing:
            heads = SHARD_SIZE // 2
            ranges = [range(k * heads, (k + 1) * heads) for k in missing]
            total = len(missing) * SHARD_SIZE
            with self.progress.track(f"Computing features of {name}", total) as advance:
                drawn = self._draw(seed, ranges)
                for number, arrays in zip(missing, drawn, strict=True):
                    rows = arrays.pop("rows")
                    arrays["features"] = self.compute(arrays.pop("images"))[rows]
                    write_shard(paths[number], arrays)
                    advance(SHARD_SIZE)
        return ScanFeatures(**join_shards(paths))

    def _draw(self, seed: int, ranges: list[range]) -> Iterator[dict[str, np.ndarray]]:
        """Draw the heads of each range, a few ranges ahead of their use."""
        if self.workers == 1:
            yield from (draw_scan_samples(seed, heads) for heads in ranges)
            return
        with drawing_processes(self.workers) as executor:
            tasks = (executor.submit(draw_scan_samples, seed, heads).result for heads in ranges)
            yield from results_in_order(tasks, self.workers + 1)


def draw_scan_samples(seed: int, heads: range) -> dict[str, np.ndarray]:
    """Draw two scans of each head as model input, one without and one with a hemorrhage.

    Args:
        seed: Random seed of the set.
        heads: Indices of the heads in the set.

    Returns:
        The arrays of `ScanFeatures`, but in place of `features` there are `images`, uint8
        `(m, 192, 192)`, and `rows`, int64 `(n,)`, the image of each slice: both scans of a head
        share the slices without blood.
    """
    return join_scan_samples([_draw_pair(seed, head) for head in heads])


def join_scan_samples(parts: Sequence[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Join what `draw_scan_samples` returned for several ranges of heads."""
    starts = np.cumsum([0, *(len(part["images"]) for part in parts[:-1])])
    shifted = [
        {**part, "rows": part["rows"] + start} for part, start in zip(parts, starts, strict=True)
    ]
    return {name: np.concatenate([part[name] for part in shifted]) for name in shifted[0]}


def _draw_pair(seed: int, head: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng([GENERATOR_VERSION, seed, head, _STREAM])
    # Short scans are more frequent, as they are in practice.
    share = rng.beta(1.0, 2.0)
    count = round(FEWEST_SLICES * (MOST_SLICES / FEWEST_SLICES) ** share)
    whole = rng.random() < WHOLE_SHARE
    covered = rng.uniform(*(WHOLE_COVERAGE if whole else PART_COVERAGE)) * HEAD_HEIGHT
    thickness = float(np.clip(covered / (count - 1), THINNEST, THICKEST))
    display = bool(rng.random() >= HOUNSFIELD_SHARE)
    height = float(np.exp(rng.uniform(*np.log(DISPLAY_HEIGHTS))))
    normal, bleeding = draw_scan_pair(seed, head, DRAWN_SIZE, thickness, count)
    added = np.array([other is not same for other, same in zip(bleeding, normal, strict=True)])
    slices = [*normal, *(bleeding[number] for number in np.flatnonzero(added))]
    images, labels = [], []
    for phantom in slices:
        pixels, blood = phantom.hounsfield, phantom.blood
        if display:  # all slices of a scan have the same window, scale, text and compression
            same_rng = np.random.default_rng([GENERATOR_VERSION, seed, head, _DISPLAY_STREAM])
            image = draw_display_image(phantom, same_rng, height)
            pixels, blood = image.pixels, image.blood
        # A crop to the head may remove a hemorrhage at its edge.
        labels.append(bool(phantom.label and crop_to(blood, find_head(pixels)).any()))
        images.append(gray_model_input(pixels))
    own = np.where(added, count - 1 + np.cumsum(added), np.arange(count))
    rows = np.concatenate([np.arange(count), own])
    return {
        "images": np.stack(images),
        "rows": rows,
        "labels": np.array(labels, np.uint8)[rows],
        "positions": np.array([phantom.position for phantom in (*normal, *bleeding)]),
        "scans": np.repeat([2 * head, 2 * head + 1], count),
        "display": np.full(2 * count, display),
    }
