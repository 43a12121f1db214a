"""Training samples: phantoms as model input, with coarse maps of their hemorrhages and mimics.

Several processes draw them once and store them in shards. An interrupted pretraining continues with
the shards that are complete.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from hemorrhage_tf.core.atomic_files import write_atomically
from hemorrhage_tf.core.lookahead import results_in_order
from hemorrhage_tf.core.progress import Progress
from hemorrhage_tf.imaging.head_crop import crop_to, find_head
from hemorrhage_tf.models.phantomnet import EVIDENCE, IMAGE_SIZE, STRIDE
from hemorrhage_tf.pipeline.model_input import ModelInput
from hemorrhage_tf.synthesis.display_image import draw_display_image
from hemorrhage_tf.synthesis.draw import GENERATOR_VERSION, draw_phantom
from hemorrhage_tf.synthesis.hemorrhage import SUBTYPES
from hemorrhage_tf.synthesis.phantom_sets import drawing_processes

GRID = IMAGE_SIZE // STRIDE
DRAWN_SIZE = 224  # pixels, a little more than the model's input
SHARD_SIZE = 500  # samples in a file
# Share of the samples in Hounsfield units, as from DICOM. The others are display images.
HOUNSFIELD_SHARE = 0.35
# Range of the display images' height in pixels. Larger ones contain no more detail.
DISPLAY_HEIGHTS = (130, 420)
# A cell of a map counts as covered from this share on.
COVERED = 1 / 3

_STREAM = 50  # of random numbers, apart from those of the phantoms


@dataclass(frozen=True)
class Samples:
    """Phantoms as model input.

    Attributes:
        images: uint8 `(n, 192, 192)`, gray.
        maps: uint8 `(n, 24, 24, 7)`: coverage of each cell by each of `phantomnet.EVIDENCE`, 255
            for a covered cell.
        labels: uint8 `(n,)`, 1 for a hemorrhage.
        blood: uint8 `(n,)`: bit k is set if there is blood of `SUBTYPES[k]`.
        pointable: uint8 `(n, 192, 24)`: mask of the blood, packed to bits along the last axis.
    """

    images: np.ndarray
    maps: np.ndarray
    labels: np.ndarray
    blood: np.ndarray
    pointable: np.ndarray

    def __len__(self) -> int:
        return len(self.images)

    @property
    def kinds(self) -> np.ndarray:
        """Kind of each sample: int64 `(n,)`.

        0 without a hemorrhage, 1 the same with a bright mimic, and from 2 on the first of
        `SUBTYPES` that the sample has.
        """
        mimic = self.maps[..., EVIDENCE.index("mimic")].max(axis=(1, 2)) == 255
        bits = self.blood[:, np.newaxis] >> np.arange(len(SUBTYPES)) & 1
        return np.where(self.blood > 0, 2 + bits.argmax(axis=1), mimic)


@dataclass(frozen=True)
class SampleStore:
    """A folder of samples, drawn on first use.

    Attributes:
        folder: The folder of all sets; it may grow to gigabytes.
        workers: Number of processes that draw; 1 draws in this process.
        progress: Reports progress.
    """

    folder: Path
    workers: int
    progress: Progress

    def samples(self, seed: int, count: int, name: str = "phantoms") -> Samples:
        """Return samples of single slices, of which every second one has a hemorrhage.

        Args:
            seed: Random seed of the set.
            count: Number of samples, rounded up to whole shards.
            name: Name of the set in progress reports. Defaults to "phantoms".
        """
        folder = self.folder / f"samples-v{GENERATOR_VERSION}-s{seed}"
        folder.mkdir(parents=True, exist_ok=True)
        paths = [folder / f"{number:05d}.npz" for number in range(-(-count // SHARD_SIZE))]
        missing = {number: path for number, path in enumerate(paths) if not path.is_file()}
        if missing:
            with self.progress.track(f"Drawing {name}", len(missing) * SHARD_SIZE) as advance:
                self._draw(seed, missing, advance)
        samples = Samples(**join_shards(paths))
        assert samples.maps.shape[-1] == len(EVIDENCE)
        return samples

    def _draw(self, seed: int, shards: dict[int, Path], advance: Callable[[int], object]) -> None:
        """Draw the shards with these numbers."""
        if self.workers == 1:
            for number, path in shards.items():
                _draw_shard(path, seed, number)
                advance(SHARD_SIZE)
            return
        with drawing_processes(self.workers) as executor:
            tasks = (
                executor.submit(_draw_shard, path, seed, n).result for n, path in shards.items()
            )
            for _ in results_in_order(tasks, 2 * self.workers):
                advance(SHARD_SIZE)


def join_shards(paths: Sequence[Path]) -> dict[str, np.ndarray]:
    """Read the files of a set, and return each array of all of them."""
    parts: dict[str, list[np.ndarray]] = {}
    for path in paths:
        with np.load(path, allow_pickle=False) as arrays:
            for key in arrays.files:
                parts.setdefault(key, []).append(arrays[key])
    return {key: np.concatenate(arrays) for key, arrays in parts.items()}


def write_shard(path: Path, arrays: dict[str, Any]) -> None:
    """Write one file of a set atomically."""
    write_atomically(path, lambda file: np.savez(file, **arrays))


def draw_sample(seed: int, index: int) -> dict[str, Any]:
    """Draw one sample; every second one has a hemorrhage.

    Args:
        seed: Random seed of the set.
        index: Index of the sample.

    Returns:
        A row of each array of `Samples`.
    """
    phantom = draw_phantom(seed, index, size=DRAWN_SIZE)
    rng = np.random.default_rng([GENERATOR_VERSION, seed, index, _STREAM])
    if rng.random() < HOUNSFIELD_SHARE:
        pixels, blood, bright = phantom.hounsfield, phantom.blood, phantom.bright
    else:
        low, high = np.log(DISPLAY_HEIGHTS)
        image = draw_display_image(phantom, rng, float(np.exp(rng.uniform(low, high))))
        pixels, blood, bright = image.pixels, image.blood, image.bright
    head = find_head(pixels)
    blood, bright = crop_to(blood, head), crop_to(bright.astype(np.uint8), head)
    layers = [blood >> bit & 1 for bit in range(len(SUBTYPES))] + [blood > 0, bright]
    mask = Image.fromarray((blood > 0).astype(np.uint8) * 255)
    mask = mask.resize((IMAGE_SIZE, IMAGE_SIZE), Image.Resampling.BOX)
    present = np.bitwise_or.reduce(blood, axis=None)
    return {
        "images": gray_model_input(pixels),
        "maps": np.stack([_coarse(layer) for layer in layers], axis=-1),
        # A crop to the head may have removed a hemorrhage at its edge.
        "labels": np.uint8(present > 0),
        "blood": np.uint8(present),
        "pointable": np.packbits(np.asarray(mask) > 100, axis=-1),
    }


def to_rgb_float(gray: np.ndarray) -> np.ndarray:
    """Return gray images `(n, height, width)` as model input: float32 `(n, height, width, 3)`."""
    return np.repeat(gray[..., np.newaxis], 3, axis=-1).astype(np.float32)


def gray_model_input(pixels: np.ndarray) -> np.ndarray:
    """Return a slice, in HU or as a display image, as gray model input: uint8 `(192, 192)`."""
    image = ModelInput(IMAGE_SIZE, ("brain",))(pixels).mean(axis=-1)
    return np.rint(image).clip(0, 255).astype(np.uint8)


def _coarse(layer: np.ndarray) -> np.ndarray:
    """Return the coverage of each cell by a mask: uint8 `(24, 24)`."""
    image = Image.fromarray(layer.astype(np.uint8) * 255)
    share = np.asarray(image.resize((GRID, GRID), Image.Resampling.BOX)).astype(np.float32)
    return np.rint((share / COVERED).clip(0, 255)).astype(np.uint8)


def _draw_shard(path: Path, seed: int, number: int) -> None:
    indices = range(number * SHARD_SIZE, (number + 1) * SHARD_SIZE)
    rows = [draw_sample(seed, index) for index in indices]
    write_shard(path, {name: np.stack([row[name] for row in rows]) for name in rows[0]})
