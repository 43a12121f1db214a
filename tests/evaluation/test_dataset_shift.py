from __future__ import annotations

import json

import numpy as np
import pytest

from hemorrhage_tf.evaluation.dataset_shift import differences, profile, root_mean_square


def training(**changes):
    values = {"width": np.linspace(100, 200, 101), "mean gray level": np.linspace(50, 90, 101)}
    return profile({**values, **changes}, 0.0)


def test_quantiles_are_those_of_numpy_and_plain():
    found = training()
    assert found["quantiles"]["width"] == pytest.approx([105, 150, 195])
    assert json.loads(json.dumps(found)) == found


def test_the_same_slices_look_alike():
    assert differences(training(), training()) == []


@pytest.mark.parametrize(("median", "count"), [(104, 1), (106, 0), (194, 0), (196, 1)])
def test_a_median_outside_the_middle_nine_tenths_is_told(median, count):
    found = differences(training(), training(width=np.full(5, median)))
    assert len(found) == count
    assert all("their width is" in clause and "105 to 195" in clause for clause in found)


@pytest.mark.parametrize(
    ("trained", "given", "clause"),
    [(0.0, 1.0, "they are Hounsfield units"), (1.0, 0.0, "they are pictures")],
)
def test_pictures_are_told_from_hounsfield_units(trained, given, clause):
    [found] = differences(
        {**training(), "hounsfield": trained}, {**training(), "hounsfield": given}
    )
    assert found.startswith(clause)


def test_what_the_other_does_not_know_is_left_out():
    known = profile({"width": np.arange(10)}, 0.0)
    assert differences(training(), {**known, "quantiles": {}}) == []


def test_standardized_features_lie_at_a_distance_of_one():
    features = np.random.default_rng(0).normal(size=(50, 4000))
    np.testing.assert_allclose(root_mean_square(features), 1, atol=0.05)
    np.testing.assert_allclose(root_mean_square(3 * features), 3, atol=0.15)
