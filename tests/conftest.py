"""What the tests share: small generated data sets, a cache of their own, and where real data is."""

from __future__ import annotations

import csv
import os
from pathlib import Path

import pytest
from PIL import Image

from hemorrhage_tf.data.phantoms import draw_phantom

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch) -> Path:
    """Gives every test an empty feature cache, so that none writes to the user's."""
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("HEMORRHAGE_TF_CACHE", str(folder))
    return folder


def write_slices(folder: Path, count: int, seed: int = 0) -> list[Path]:
    """Writes phantoms; every second one has a hemorrhage."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{index:03d}.png" for index in range(count)]
    for index, path in enumerate(paths):
        Image.fromarray(draw_phantom(seed, index, index % 2)).save(path)
    return paths


@pytest.fixture
def kaggle_folder(tmp_path) -> Path:
    """A Kaggle-style folder of 24 slices: spaced header, unpadded ids, images two folders down."""
    folder = tmp_path / "kaggle"
    write_slices(folder / "head_ct" / "head_ct", 24)
    with open(folder / "labels.csv", "w", newline="") as file:
        file.write("id, hemorrhage\n")
        csv.writer(file).writerows([index, index % 2] for index in range(24))
    return folder


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with real slices and weights that may stand beside the project."""
    if not (SHARED / "head_ct" / "labels.csv").is_file():
        pytest.skip("no real data beside the project")
    return SHARED
