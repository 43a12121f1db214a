"""Measure how many cropped copies are found in sets of several sizes.

Run with `python benchmarks/crop_recall.py [--sizes 1000,4000,8000] [--crops 300]`. The slices are
different phantoms in the brain window. Some are copied: cropped by up to a tenth at each side,
rescaled, and half of them flipped. The table shows the share of copies found, the share found by
comparing every pair, and the pairs found that are not copies.
"""

from __future__ import annotations

import argparse
import json
import time
from concurrent.futures import ProcessPoolExecutor

import numpy as np
from PIL import Image

from hemorrhage_tf.datasets.cropped_duplicates import find_cropped_duplicates
from hemorrhage_tf.datasets.file_array import FileArray
from hemorrhage_tf.datasets.thumbnails import CONTENT_SIZE, make_thumbnails
from hemorrhage_tf.synthesis.draw import draw_phantom

SEED, SIZE = 17, 160
CHUNK = 50


def draw_phantoms(begin: int) -> list[np.ndarray]:
    """Draw some phantoms, cropped to their content."""
    images = []
    for index in range(begin, begin + CHUNK):
        hounsfield = draw_phantom(SEED, index, size=SIZE).hounsfield
        pixels = (hounsfield.clip(0, 80) * (255 / 80)).astype(np.uint8)
        rows, columns = (np.flatnonzero((pixels > 24).any(axis=axis)) for axis in (1, 0))
        if rows.size and columns.size:
            pixels = pixels[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        images.append(pixels)
    return images


def crop(pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Crop up to a tenth at each side and at least 4 % at one, rescale, and flip half of them."""
    height, width = pixels.shape
    cut = rng.uniform(0, 0.1, 4)
    cut[rng.integers(4)] = rng.uniform(0.04, 0.1)
    top, left = round(cut[0] * height), round(cut[1] * width)
    bottom, right = height - round(cut[2] * height), width - round(cut[3] * width)
    scale = rng.uniform(0.7, 1.2)
    size = round(scale * (right - left)), round(scale * (bottom - top))
    part = Image.fromarray(pixels[top:bottom, left:right])
    scaled = np.asarray(part.resize(size, Image.Resampling.BILINEAR))
    return scaled[:, ::-1] if rng.random() < 0.5 else scaled


def main() -> None:
    """Plant cropped copies, and count those that are found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", default="1000,4000,8000")
    parser.add_argument("--crops", type=int, default=300)
    options = parser.parse_args()
    sizes = [int(size) for size in options.sizes.split(",")]
    with ProcessPoolExecutor() as executor:
        parts = executor.map(draw_phantoms, range(0, max(sizes), CHUNK))
        images = [image for part in parts for image in part]
    reductions = [make_thumbnails(image) for image in images]
    print(f"{'slices':>10}{'found':>10}{'each alone':>12}{'not planted':>13}{'seconds':>10}")
    measured = {}
    for size in sizes:
        rng = np.random.default_rng(size)
        own = size - options.crops
        copied = rng.choice(own, options.crops, replace=False).tolist()
        planted = {(index, own + number) for number, index in enumerate(copied)}
        copies = [make_thumbnails(crop(images[index], rng)) for index in copied]
        every = [*reductions[:own], *copies]
        contents = FileArray(np.uint8, (CONTENT_SIZE, CONTENT_SIZE))
        contents.append(np.rint([each.content for each in every]))
        shares = np.array([each.gray_shares for each in every], np.float32)
        begin = time.monotonic()
        pairs = find_cropped_duplicates(contents, shares, np.arange(size))
        seconds = time.monotonic() - begin
        found = {(i, j) for i, j, *_ in pairs}
        alone = sum(
            bool(find_cropped_duplicates(contents, shares, np.array(pair))) for pair in planted
        )
        print(
            f"{size:10,}{len(found & planted) / len(planted):10.1%}{alone / len(planted):12.1%}"
            f"{len(found - planted):13,}{seconds:10.1f}",
            flush=True,
        )
        measured[str(size)] = {
            "found": round(len(found & planted) / len(planted), 4),
            "each alone": round(alone / len(planted), 4),
            "not planted": len(found - planted),
            "seconds": round(seconds, 1),
        }
    print(json.dumps(measured))


if __name__ == "__main__":
    main()
