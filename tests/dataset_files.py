"""Small data sets for tests: images, tables and folders."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from hemorrhage_tf.core.errors import Problem
from hemorrhage_tf.datasets.file_array import FileArray
from hemorrhage_tf.datasets.layouts.base import Layout, Row
from hemorrhage_tf.datasets.records import Manifest, Record


def add_images(folder: Path, *names: str) -> list[Path]:
    """Write black images of 2 x 2 pixels."""
    paths = [folder / name for name in names]
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (2, 2)).save(path)
    return paths


def add_csv(folder: Path, text: str, name: str = "manifest.csv") -> Path:
    """Write a table as text."""
    return write(folder / name, text)


def write(path: Path, content: str | bytes) -> Path:
    """Write a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def add_table(path: Path, rows: Iterable[Iterable]) -> Path:
    """Write a table as rows."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", newline="") as file:
        csv.writer(file).writerows(rows)
    return path


def touch(folder: Path, *names: str) -> Path:
    """Create empty files."""
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


def noise(index: int) -> np.ndarray:
    """Return an image of 24 x 24 pixels that looks like no other."""
    return np.random.default_rng(index).integers(0, 256, (24, 24), np.uint8)


def make_manifest(
    folder: Path,
    images: Iterable[np.ndarray],
    labels: Sequence[int],
    patients: Sequence[str | None] | None = None,
) -> Manifest:
    """Write images as 0.png, 1.png ... and return their manifest."""
    folder.mkdir(exist_ok=True)
    records = []
    for index, (pixels, label) in enumerate(zip(images, labels, strict=True)):
        path = folder / f"{index}.png"
        Image.fromarray(pixels).save(path)
        records.append(Record(path, label, patients[index] if patients else None))
    return Manifest(records, folder, "csv")


def file_array(rows: np.ndarray, dtype: str = "f4") -> FileArray:
    """Return rows as a file array."""
    stored = FileArray(dtype, rows.shape[1:])
    stored.append(rows)
    return stored


def names_of(manifest: Manifest) -> list[str]:
    """Return the names that outputs show."""
    return [manifest.name_at(index) for index in range(len(manifest))]


def labels_by_name(manifest: Manifest) -> dict[str, int]:
    """Return the label of each slice by its name."""
    return dict(zip(names_of(manifest), manifest.labels.tolist(), strict=True))


def columns_of(layout: Layout, row: Row) -> dict[str, str]:
    """Return the further columns of a layout's row by name."""
    return dict(zip(layout.columns, row.columns, strict=True))


def reasons(problems: Iterable[Problem]) -> dict[str, str]:
    """Return the reasons of problems by path."""
    return {problem.path: problem.reason for problem in problems}
