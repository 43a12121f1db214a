from __future__ import annotations

import numpy as np
import pytest

from hemorrhage_tf.inference.predictions import ScanOutput
from hemorrhage_tf.inference.scan_runner import ScanRunner


@pytest.fixture
def calls():
    return []


@pytest.fixture
def run_scan(calls):
    """A scan model that repeats the first feature, and keeps what it was called with."""

    def run(features, geometry):
        calls.append((features.copy(), geometry.copy()))
        return ScanOutput(float(features[:, 0].max()), features[:, 0])

    return run


def row(value):
    return np.array([value, -value], np.float32)


def test_runs_each_scan_when_its_last_slice_was_added(run_scan, calls):
    # Slices 3 and 0 are one scan, in this order from the neck up; 1 and 2 another.
    positions = np.array([45.0, 0.0, 70.0, 5.0])
    runner = ScanRunner(run_scan, [(3, 0), (1, 2)], positions)
    for index in (0, 1):
        runner.add(index, row(index / 10))
    assert calls == [] and np.isnan(runner.scans).all()
    runner.add(3, row(0.3))
    ((features, geometry),) = calls
    np.testing.assert_allclose(features, [[0.3, -0.3], [0.0, 0.0]], atol=1e-7)
    np.testing.assert_allclose(geometry[:, 0], [0, 1])
    assert runner.scans[0] == pytest.approx(0.3) and np.isnan(runner.scans[1])
    runner.add(2, row(0.2))
    np.testing.assert_allclose(calls[1][1][:, 1], [7, 7])  # in cm
    np.testing.assert_allclose(runner.in_scans, [0, 0.1, 0.2, 0.3], atol=1e-7)
    np.testing.assert_allclose(runner.scans, [0.3, 0.2])


def test_a_slice_that_is_left_out_has_no_part_in_its_scan(run_scan, calls):
    runner = ScanRunner(run_scan, [(0, 1, 2)], np.array([0.0, 50.0, 100.0]))
    for index, features in ((0, row(0.1)), (1, None), (2, row(0.4))):
        runner.add(index, features)
    ((features, geometry),) = calls
    assert features.shape == (2, 2)
    np.testing.assert_allclose(geometry[:, 1], [10, 10])
    np.testing.assert_allclose(runner.in_scans, [0.1, np.nan, 0.4])
    assert runner.scans[0] == pytest.approx(0.4)


def test_a_scan_of_which_no_slice_is_left_has_no_probability(run_scan, calls):
    runner = ScanRunner(run_scan, [(0, 1)], np.zeros(2))
    runner.add(0, None)
    runner.add(1, None)
    assert calls == [] and np.isnan(runner.scans).all() and np.isnan(runner.in_scans).all()


def test_ignores_slices_of_no_scan(run_scan, calls):
    runner = ScanRunner(run_scan, [(1,)], np.full(3, np.nan))
    assert [runner.takes(index) for index in range(3)] == [False, True, False]
    for index in range(3):
        runner.add(index, row(0.5))
    assert len(calls) == 1
    np.testing.assert_allclose(runner.in_scans, [np.nan, 0.5, np.nan])


def test_features_are_released_with_their_scan(run_scan):
    import weakref

    count, slices = 50, 40
    members = [range(begin, begin + slices) for begin in range(0, count * slices, slices)]
    runner = ScanRunner(run_scan, members, np.full(count * slices, np.nan))
    alive, most = weakref.WeakSet(), 0

    class Features(np.ndarray):
        """An array that can be referred to weakly, and is counted while it is in memory."""

        __hash__ = object.__hash__

    for index in range(count * slices):
        features = row(0.5).view(Features)
        alive.add(features)
        runner.add(index, features)
        del features
        most = max(most, len(alive))
    assert most <= slices
    assert np.isfinite(runner.scans).all()
