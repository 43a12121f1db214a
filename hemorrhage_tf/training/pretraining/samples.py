"""Samples to pretrain on: phantoms as a model sees them, with coarse maps of what was drawn.

They are drawn once, by several processes, and kept in shards that are written beside and renamed,
so that a stopped pretraining goes on with those that are there.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from hemorrhage_tf.core.atomic_files import write_atomically
from hemorrhage_tf.core.progress import Progress
from hemorrhage_tf.imaging.head_crop import crop_to, find_head
from hemorrhage_tf.imaging.readers import to_rgb
from hemorrhage_tf.models.phantomnet import EVIDENCE, IMAGE_SIZE, STRIDE
from hemorrhage_tf.pipeline.model_input import ModelInput
from hemorrhage_tf.synthesis.display_image import draw_display_image
from hemorrhage_tf.synthesis.draw import GENERATOR_VERSION, draw_phantom, draw_phantom_scan
from hemorrhage_tf.synthesis.hemorrhage import SUBTYPES
from hemorrhage_tf.synthesis.phantom_sets import drawing_processes

GRID = IMAGE_SIZE // STRIDE
DRAWN_SIZE = 224  # pixels that phantoms are drawn with; the model sees fewer
SHARD = 500  # samples
SCAN_SHARD = 10  # scans
# Share of the samples that are seen in Hounsfield units, as from DICOM; the others are pictures.
HOUNSFIELD_SHARE = 0.35
# Heights of the pictures, in pixels. Larger ones hold no more than what was drawn.
PICTURE_HEIGHTS = (130, 420)
# A cell of a map of which this share is covered counts as covered.
COVERED = 1 / 3


@dataclass(frozen=True)
class Samples:
    """Phantoms as a model sees them.

    Attributes:
        images: uint8 `(n, 192, 192)`, gray.
        maps: uint8 `(n, 24, 24, 7)`: how much of each cell shows each of `phantomnet.EVIDENCE`, up
            to 255.
        labels: uint8 `(n,)`.
        blood: uint8 `(n,)`: bit k is set where there is blood of `SUBTYPES[k]`.
        pointable: bool `(n, 192, 192)`, packed to bits along the last axis: where there is blood.
    """

    images: np.ndarray
    maps: np.ndarray
    labels: np.ndarray
    blood: np.ndarray
    pointable: np.ndarray

    def __len__(self) -> int:
        return len(self.images)


@dataclass(frozen=True)
class ScanSamples:
    """Slices of whole phantom scans, as a model sees them.

    Attributes:
        images: uint8 `(n, 192, 192)`, gray.
        labels: uint8 `(n,)`, of each slice.
        scans: int64 `(n,)`: the scan that each is of, from 0 up.
    """

    images: np.ndarray
    labels: np.ndarray
    scans: np.ndarray


def draw_sample(seed: int, index: int) -> dict[str, np.ndarray]:
    """Draws one sample; every second one has a hemorrhage.

    Args:
        seed: of the set.
        index: of the sample.

    Returns:
        A row of each of the arrays of `Samples`.
    """
    phantom = draw_phantom(seed, index, size=DRAWN_SIZE)
    rng = np.random.default_rng([GENERATOR_VERSION, seed, index, 50])
    if rng.random() < HOUNSFIELD_SHARE:
        pixels, blood, bright = phantom.hounsfield, phantom.blood, phantom.bright
    else:
        low, high = np.log(PICTURE_HEIGHTS)
        picture = draw_display_image(phantom, rng, float(np.exp(rng.uniform(low, high))))
        pixels, blood, bright = picture.pixels, picture.blood, picture.bright
    head = find_head(pixels)
    blood, bright = crop_to(blood, head), crop_to(bright.astype(np.uint8), head)
    layers = [blood >> bit & 1 for bit in range(len(SUBTYPES))] + [blood > 0, bright]
    maps = [_coarse(layer) for layer in layers]
    pointable = Image.fromarray((blood > 0).astype(np.uint8) * 255)
    pointable = np.asarray(pointable.resize((IMAGE_SIZE, IMAGE_SIZE), Image.Resampling.BOX)) > 100
    present = np.bitwise_or.reduce(blood, axis=None)
    return {
        "images": _model_input(pixels),
        "maps": np.stack(maps, axis=-1),
        # A picture that is cropped to the head may have lost what was drawn at its edge.
        "labels": np.uint8(present > 0),
        "blood": np.uint8(present),
        "pointable": np.packbits(pointable, axis=-1),
    }


def _model_input(pixels: np.ndarray) -> np.ndarray:
    """Gives a slice as a model sees it, in HU or as a picture: uint8 `(192, 192)`, gray."""
    image = ModelInput(IMAGE_SIZE, ("brain",))(pixels).mean(axis=-1)
    return np.rint(image).clip(0, 255).astype(np.uint8)


def _coarse(layer: np.ndarray) -> np.ndarray:
    image = Image.fromarray(layer.astype(np.uint8) * 255)
    share = np.asarray(image.resize((GRID, GRID), Image.Resampling.BOX)).astype(np.float32)
    return np.rint((share / COVERED).clip(0, 255)).astype(np.uint8)


def _write_shard(folder: Path, seed: int, number: int) -> None:
    rows = [draw_sample(seed, number * SHARD + offset) for offset in range(SHARD)]
    arrays = {name: np.stack([row[name] for row in rows]) for name in rows[0]}
    write_atomically(folder / f"{number:05d}.npz", lambda file: np.savez(file, **arrays))


def _write_scan_shard(folder: Path, seed: int, number: int) -> None:
    drawn = {
        index: draw_phantom_scan(seed, index, size=DRAWN_SIZE)
        for index in range(number * SCAN_SHARD, (number + 1) * SCAN_SHARD)
    }
    slices = [(index, phantom) for index, scan in drawn.items() for phantom in scan]
    arrays = {
        "images": np.stack([_model_input(phantom.hounsfield) for _, phantom in slices]),
        "labels": np.array([phantom.label for _, phantom in slices], np.uint8),
        "scans": np.array([index for index, _ in slices], np.int64),
    }
    write_atomically(folder / f"{number:05d}.npz", lambda file: np.savez(file, **arrays))


def draw_samples(
    folder: Path, seed: int, count: int, workers: int, progress: Progress, what: str = "phantoms"
) -> Samples:
    """Gives samples; draws those that are not in the folder yet.

    Args:
        folder: where sets are kept.
        seed: of the set.
        count: of samples; rounded up to whole shards.
        workers: processes that draw.
        progress: where progress goes.
        what: what they are called there. Default "phantoms".

    Returns:
        The samples.
    """
    folder = folder / f"samples-v{GENERATOR_VERSION}-s{seed}"
    samples = Samples(**_sharded(_write_shard, folder, seed, count, SHARD, workers, progress, what))
    assert samples.maps.shape[-1] == len(EVIDENCE)
    return samples


def draw_scan_samples(
    folder: Path, seed: int, count: int, workers: int, progress: Progress, what: str = "scans"
) -> ScanSamples:
    """Gives the slices of whole scans, of which every second one has a hemorrhage.

    Arguments are those of `draw_samples`; what is counted is scans.
    """
    folder = folder / f"scans-v{GENERATOR_VERSION}-s{seed}"
    return ScanSamples(
        **_sharded(_write_scan_shard, folder, seed, count, SCAN_SHARD, workers, progress, what)
    )


def _sharded(
    write: Callable[[Path, int, int], None],
    folder: Path,
    seed: int,
    count: int,
    each: int,
    workers: int,
    progress: Progress,
    what: str,
) -> dict[str, np.ndarray]:
    """Joins the shards of a folder, each of so many, after those that are missing were drawn."""
    folder.mkdir(parents=True, exist_ok=True)
    shards = range(-(-count // each))
    missing = [number for number in shards if not (folder / f"{number:05d}.npz").is_file()]
    if missing:
        with (
            drawing_processes(workers) as executor,
            progress.track(f"Drawing {what}", len(missing) * each) as advance,
        ):
            futures = [executor.submit(write, folder, seed, number) for number in missing]
            for future in futures:
                future.result()
                advance(each)
    parts: dict[str, list[np.ndarray]] = {}
    for number in shards:
        with np.load(folder / f"{number:05d}.npz", allow_pickle=False) as shard:
            for name in shard.files:
                parts.setdefault(name, []).append(shard[name])
    return {name: np.concatenate(arrays) for name, arrays in parts.items()}


def as_images(gray: np.ndarray) -> np.ndarray:
    """Gives gray images the three channels of model input: float32 `(n, 192, 192, 3)`."""
    return np.stack([to_rgb(each) for each in gray]).astype(np.float32)
