from copy import copy
from functools import lru_cache

import numpy as np
import pytest
from phantom_heads import drawn_head

from hemorrhage_tf.synthesis.scanner import HIGHEST_HU, LOWEST_HU, scan_head


@lru_cache
def _drawn(level):
    head = drawn_head(level=level, size=64)
    return head, head.canvas.hounsfield


def scanned(level: float, seed: int, noise_seed: int = 0, thickness: float = 5.0):
    head, image = _drawn(level)
    head = copy(head)
    head.canvas = copy(head.canvas)
    head.canvas.hounsfield = image.copy()
    rng, noise = np.random.default_rng(seed), np.random.default_rng(noise_seed)
    return head, scan_head(head, rng, noise, thickness=thickness)


def test_noise_has_its_own_generator():
    first, second = (scanned(0.5, 1, noise)[0].canvas.hounsfield for noise in (0, 1))
    assert (first != second).any()
    assert abs(first.mean() - second.mean()) < 2


def test_thin_slices_have_more_noise():
    spreads = []
    for thickness in (5.0, 0.6):
        images = [scanned(0.6, 2, noise, thickness)[0] for noise in (0, 1)]
        inside = images[0].depth > 10
        first, second = (head.canvas.hounsfield[inside] for head in images)
        spreads.append((first - second).std())
    assert 1.7 < spreads[1] / spreads[0] < 3


def test_no_value_is_beyond_the_scanner_s_range():
    images = [
        scanned(level, seed)[0].canvas.hounsfield for seed in range(8) for level in (0.2, 0.6)
    ]
    assert min(image.min() for image in images) >= LOWEST_HU
    assert max(image.max() for image in images) <= HIGHEST_HU


@pytest.mark.parametrize(("level", "share"), [(0.2, 0.85), (0.6, 0.0)])
def test_streaks_of_beam_hardening_are_limited_to_the_base(level, share):
    artifacts = [scanned(level, seed)[1] for seed in range(20)]
    assert np.mean(["beam hardening" in names for names in artifacts]) == pytest.approx(
        share, abs=0.2
    )


def test_an_artifact_of_one_slice_does_not_change_the_settings_of_a_scan():
    at_base, above = scanned(0.2, 3)[1], scanned(0.6, 3)[1]
    assert set(at_base) - {"beam hardening", "metal"} == set(above) - {"metal"}


def test_metal_and_motion_are_rare():
    artifacts = [name for seed in range(100) for name in scanned(0.6, seed, seed)[1]]
    assert 0 < artifacts.count("metal") < 15 and 0 < artifacts.count("motion") < 30
