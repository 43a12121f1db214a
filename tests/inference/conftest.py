"""Fixtures for inference: one fitted model, a series and a volume with the same slices."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import hemorrhage_tf as htf


@pytest.fixture(scope="session")
def run_folder(fit_once) -> Path:
    return fit_once()


@pytest.fixture(scope="session")
def model(run_folder) -> htf.Model:
    return htf.load(run_folder)


@pytest.fixture(scope="session")
def heads(head) -> np.ndarray:
    return np.stack([head(index) for index in range(5)])


@pytest.fixture
def series(tmp_path, heads, write_series) -> list[Path]:
    """A series of five slices whose names do not show their order."""
    return write_series(tmp_path / "series", list(heads))


@pytest.fixture
def volume(tmp_path, heads, write_nifti) -> Path:
    """A volume with the same slices as the series."""
    return write_nifti(tmp_path / "volume.nii.gz", heads)
