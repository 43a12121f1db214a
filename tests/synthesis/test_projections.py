import numpy as np
import pytest
from scipy import ndimage

from hemorrhage_tf.synthesis.projections import projector, resample

SIDE = 64


def disk(radius=18.0, x=0.0, y=0.0):
    rows, columns = np.mgrid[:SIDE, :SIDE] - (SIDE - 1) / 2
    return (np.hypot(columns - x, rows - y) < radius).astype(np.float32)


@pytest.fixture(scope="module")
def grid():
    return projector(SIDE, 48)


def test_rays_of_angle_0_run_along_the_columns(grid):
    image = disk(x=6.0) * 2
    sums = grid.project(image)
    middle = (grid.bins - SIDE) // 2
    assert sums.shape == (48, grid.bins)
    np.testing.assert_allclose(sums.sum(axis=1), image.sum(), rtol=1e-4)
    columns, rows = (np.average(np.arange(grid.bins), weights=sums[each]) for each in (0, 24))
    center = (grid.bins - 1) / 2
    assert columns == pytest.approx(center + 6, abs=0.1)
    assert rows == pytest.approx(center, abs=0.1)
    assert sums[0].max() == pytest.approx(72, rel=0.03) and middle > 0


def test_projections_of_an_image_give_it_back(grid):
    image = disk() + 0.5 * disk(6, 5, -4)
    restored = grid.reconstruct(grid.project(image))
    inner = ndimage.binary_erosion(image == 1.5, iterations=2), disk(30) == 0
    assert restored[inner[0]].mean() == pytest.approx(1.5, abs=0.06)
    assert np.abs(restored[inner[1]]).mean() < 0.06


def test_a_shift_at_all_angles_moves_the_image(grid):
    image, step = disk(), 5.0
    change = grid.reconstruct(grid.project(image), step * np.cos(grid.angles))
    moved = disk(x=step)
    assert np.corrcoef(change.ravel(), (moved - image).ravel())[0, 1] > 0.9


def test_no_shift_changes_nothing(grid):
    change = grid.reconstruct(grid.project(disk()), np.zeros(48))
    np.testing.assert_allclose(change, 0, atol=1e-4)


def test_resampling_keeps_the_mean():
    image = np.random.default_rng(0).normal(0, 1, (96, 96)).astype(np.float32) + disk().mean()
    assert resample(image, 32).shape == (32, 32)
    assert resample(image, 32).mean() == pytest.approx(image.mean(), abs=1e-3)
    smooth = ndimage.gaussian_filter(image, 6)
    np.testing.assert_allclose(resample(resample(smooth, 48), 96), smooth, atol=0.05)
