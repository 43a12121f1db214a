from __future__ import annotations

import threading

import numpy as np
import pytest
from scipy.optimize import minimize, rosen, rosen_der

from hemorrhage_tf.training.lockstep import minimize_in_lockstep


def test_each_problem_takes_the_steps_it_takes_alone():
    starts = np.array([[1.3, 0.7, 0.8], [0.0, 0.0, 0.0], [1.0, 1.0, 1.0]])
    together: list[list[int]] = []

    def objectives(points, which):
        together.append(list(which))
        values = [rosen(one) for one in points]
        return np.array(values), np.stack([rosen_der(one) for one in points])

    results = minimize_in_lockstep(objectives, starts, {"gtol": 1e-8})
    for result, start in zip(results, starts, strict=True):
        alone = minimize(rosen, start, jac=rosen_der, method="L-BFGS-B", options={"gtol": 1e-8})
        np.testing.assert_array_equal(result.x, alone.x)
        assert result.nfev == alone.nfev
    # One round evaluates all that have not ended.
    assert together[0] == [0, 1, 2] and len(together) == max(one.nfev for one in results)


def test_an_error_or_a_signal_ends_all_threads():
    class Interrupted(BaseException):
        pass

    def objectives(points, which):
        raise Interrupted

    before = threading.active_count()
    with pytest.raises(Interrupted):
        minimize_in_lockstep(objectives, np.zeros((3, 2)), {})
    assert threading.active_count() == before


def test_no_problems():
    assert minimize_in_lockstep(lambda points, which: None, np.zeros((0, 2)), {}) == []
