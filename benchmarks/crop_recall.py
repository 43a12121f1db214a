"""Measures how many cropped copies are found in sets of several sizes.

Run with `python benchmarks/crop_recall.py [--sizes 1000,4000,8000] [--crops 300]`. The slices are
phantoms through the brain window, each another one. Of some a copy is cut, by up to a tenth of what
it shows at each side, scaled anew, and in half of the cases flipped. A crop is looked for among the
slices nearest in gray levels and those most alike to a few crops; in sets of more than 4,000 among
fewer of the former only. Beside the share found
stands that of the same pairs where each is compared on its own, and how many pairs were found that
nobody planted.
"""

from __future__ import annotations

import argparse
import time
from concurrent.futures import ProcessPoolExecutor

import numpy as np
from PIL import Image

from hemorrhage_tf.datasets import near_duplicates
from hemorrhage_tf.datasets.column_store import FileColumn
from hemorrhage_tf.datasets.near_duplicate_search import cropped_pairs
from hemorrhage_tf.synthesis.draw import draw_phantom

SEED, SIZE = 17, 160
CHUNK = 50


def draw(begin: int) -> list[np.ndarray]:
    """Draws some phantoms, cut to what they show."""
    found = []
    for index in range(begin, begin + CHUNK):
        hounsfield = draw_phantom(SEED, index, size=SIZE).hounsfield
        pixels = (hounsfield.clip(0, 80) * (255 / 80)).astype(np.uint8)
        rows, columns = (np.flatnonzero((pixels > 24).any(axis=axis)) for axis in (1, 0))
        if rows.size and columns.size:
            pixels = pixels[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        found.append(pixels)
    return found


def crop(pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Cuts off up to a tenth at each side, at least a twenty-fifth at one, and scales anew."""
    height, width = pixels.shape
    cut = rng.uniform(0, 0.1, 4)
    cut[rng.integers(4)] = rng.uniform(0.04, 0.1)
    top, left = round(cut[0] * height), round(cut[1] * width)
    bottom, right = height - round(cut[2] * height), width - round(cut[3] * width)
    scale = rng.uniform(0.7, 1.2)
    size = round(scale * (right - left)), round(scale * (bottom - top))
    kept = Image.fromarray(pixels[top:bottom, left:right])
    scaled = np.asarray(kept.resize(size, Image.Resampling.BILINEAR))
    return scaled[:, ::-1] if rng.random() < 0.5 else scaled


def main() -> None:
    """Plants crops, and counts those that are found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", default="1000,4000,8000")
    parser.add_argument("--crops", type=int, default=300)
    options = parser.parse_args()
    sizes = [int(size) for size in options.sizes.split(",")]
    with ProcessPoolExecutor() as executor:
        parts = executor.map(draw, range(0, max(sizes), CHUNK))
        pictures = [each for part in parts for each in part]
    looks = [near_duplicates.contents(each) for each in pictures]
    print(f"{'slices':>10}{'found':>10}{'each alone':>12}{'not planted':>13}{'seconds':>10}")
    for size in sizes:
        rng = np.random.default_rng(size)
        own = size - options.crops
        copied = rng.choice(own, options.crops, replace=False).tolist()
        planted = {(index, own + number) for number, index in enumerate(copied)}
        every = looks[:own] + [
            near_duplicates.contents(crop(pictures[index], rng)) for index in copied
        ]
        contents = FileColumn(np.uint8, (64, 64))
        for begin in range(0, size, 1000):
            some = [np.rint(content) for content, _ in every[begin : begin + 1000]]
            contents.append(np.array(some, np.uint8))
        shares = np.array([share for _, share in every], np.float32)
        begin = time.monotonic()
        found = {(i, j) for i, j, *_ in cropped_pairs(contents, shares, np.arange(size))}
        seconds = time.monotonic() - begin
        alone = sum(bool(cropped_pairs(contents, shares, np.array(pair))) for pair in planted)
        print(
            f"{size:10,}{len(found & planted) / len(planted):10.1%}{alone / len(planted):12.1%}"
            f"{len(found - planted):13,}{seconds:10.1f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
