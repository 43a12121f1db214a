"""The estimates of correlations of crops, compared with the crops themselves."""

from __future__ import annotations

import numpy as np
import pytest

from hemorrhage_tf.datasets.crops import CropEstimates, crop_ends, crops_around, shrink


@pytest.mark.parametrize("contrast", [0.2, 1, 80])
def test_estimates_agree_with_the_crops(contrast):
    rng = np.random.default_rng(0)
    ends = crop_ends()
    for _ in range(20):
        smooth = rng.normal(size=(9, 9)).repeat(8, axis=0).repeat(8, axis=1)[4:68, 2:66]
        content = (100 + contrast * (smooth + rng.normal(0, 0.3, (64, 64)))).astype(np.float32)
        other = content[rng.integers(0, 5) : 60, rng.integers(0, 5) : 60]
        whole = np.kron(other, np.ones((2, 2)))[:64, :64].astype(np.float32)
        rows, columns = (ends[rng.integers(len(ends))] for _ in range(2))
        full = shrink(whole[np.newaxis], 32)[0]
        expected = float((crops_around(content, rows, columns) @ full).max())
        estimate = CropEstimates(content, rows, columns).highest(full)
        assert estimate == pytest.approx(expected, abs=CropEstimates.SLACK / 5)


def test_a_single_color_correlates_with_nothing():
    full = shrink(np.random.default_rng(0).normal(size=(1, 64, 64)).astype(np.float32), 32)[0]
    content = np.full((64, 64), 77, np.float32)
    assert CropEstimates(content, (0.0, 0.0), (0.0, 0.05)).highest(full) < 0.9
