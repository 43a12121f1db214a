"""Small labeled sets to audit, shared by the tests of the audit."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image


def draw_textured_head(seed: int, size: int = 64) -> np.ndarray:
    """Draw an ellipse with a random texture, so that no two seeds are near-duplicates."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[-1 : 1 : size * 1j, -1 : 1 : size * 1j]
    tall, wide = rng.uniform(0.75, 1.05, 2)
    inside = (rows / tall) ** 2 + (columns / wide) ** 2 < 1
    blocks = Image.fromarray(rng.choice([40.0, 190.0], (6, 6)).astype(np.float32))
    texture = np.asarray(blocks.resize((size, size), Image.Resampling.BICUBIC))
    return np.where(inside, texture.clip(30, 220), 0).astype(np.uint8)


def similar_heads(seed: int, size: int = 160) -> np.ndarray:
    """Draw a head whose coarse structure is everybody's and whose fine structure is its own."""
    coarse = Image.fromarray(draw_textured_head(0)).resize((size, size), Image.Resampling.BICUBIC)
    noise = np.random.default_rng(seed).normal(0, 10, (32, 32)).astype(np.float32)
    own = np.asarray(Image.fromarray(noise).resize((size, size), Image.Resampling.BICUBIC))
    levels = np.asarray(coarse)
    return np.where(levels > 25, levels + own, 0).clip(0, 255).astype(np.uint8)


def write_set(
    folder: Path,
    images: Sequence[Any],
    labels: Sequence[int] | np.ndarray,
    suffix: str | Sequence[str] = ".png",
    **columns: Sequence[Any],
) -> Path:
    """Write images (arrays or PIL images) and their manifest, and return the manifest's path."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for index, (image, label) in enumerate(zip(images, labels, strict=True)):
        image = Image.fromarray(image) if isinstance(image, np.ndarray) else image
        name = f"{index:03d}{suffix if isinstance(suffix, str) else suffix[index]}"
        image.save(folder / name)
        of_slice = {column: values[index] for column, values in columns.items()}
        rows.append({"path": name, "label": int(label), **of_slice})
    with open(folder / "manifest.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return folder / "manifest.csv"
