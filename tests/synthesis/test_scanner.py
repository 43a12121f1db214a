import numpy as np
import pytest
from phantom_heads import drawn_head

from hemorrhage_tf.synthesis.scanner import LOWEST_HU, draw_holder, scan_head


def scanned(level: float, seed: int, noise_seed: int = 0):
    head = drawn_head(level=level, size=64)
    rng, noise = np.random.default_rng(seed), np.random.default_rng(noise_seed)
    return head, scan_head(head, rng, noise)


def test_the_holder_stays_outside_the_head():
    for seed in range(10):
        head = drawn_head(size=64)
        before = head.canvas.hounsfield.copy()
        draw_holder(head, np.random.default_rng(seed))
        changed = head.canvas.hounsfield != before
        assert not (changed & (head.depth > 0)).any()


def test_noise_has_its_own_generator():
    first, second = (scanned(0.5, 1, noise)[0].canvas.hounsfield for noise in (0, 1))
    assert (first != second).any()
    assert abs(first.mean() - second.mean()) < 1


def test_noise_has_a_factor():
    images = []
    for noise in (0.0, 1.0, 2.0):
        head = drawn_head(level=0.6, size=64)
        rng, noise_rng = np.random.default_rng(1), np.random.default_rng(2)
        scan_head(head, rng, noise_rng, noise=noise)
        images.append(head.canvas.hounsfield)
    inside = head.depth > 0  # air is clipped
    once, twice = (image[inside] - images[0][inside] for image in images[1:])
    np.testing.assert_allclose(twice, 2 * once, atol=1e-3)
    assert once.std() > 0.5


def test_no_value_is_below_the_scanner_s_range():
    assert min(scanned(0.5, seed)[0].canvas.hounsfield.min() for seed in range(8)) >= LOWEST_HU


@pytest.mark.parametrize(("level", "share"), [(0.2, 0.85), (0.6, 0.0)])
def test_beam_hardening_is_limited_to_the_base(level, share):
    artifacts = [scanned(level, seed)[1] for seed in range(20)]
    assert np.mean(["beam hardening" in names for names in artifacts]) == pytest.approx(
        share, abs=0.2
    )


def test_metal_and_motion_are_rare():
    artifacts = [name for seed in range(100) for name in scanned(0.6, seed)[1]]
    assert 0 < artifacts.count("metal") < 15 and 0 < artifacts.count("motion") < 30
