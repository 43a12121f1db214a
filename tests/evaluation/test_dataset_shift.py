from __future__ import annotations

import json

import numpy as np
import pytest

from hemorrhage_tf.evaluation.dataset_shift import (
    FEATURE_DISTANCE,
    add_feature_distance,
    describe_differences,
    profile,
    root_mean_square,
)


def training(**changes):
    values = {"width": np.linspace(100, 200, 101), "mean gray level": np.linspace(50, 90, 101)}
    return profile({**values, **changes}, 0.0)


def test_quantiles_are_plain_values():
    summary = training()
    assert summary["quantiles"]["width"] == pytest.approx([105, 150, 195])
    assert json.loads(json.dumps(summary)) == summary


def test_the_same_slices_do_not_differ():
    assert describe_differences(training(), training()) == []


@pytest.mark.parametrize(("median", "count"), [(104, 1), (106, 0), (194, 0), (196, 1)])
def test_describes_a_median_outside_the_middle_90_percent(median, count):
    clauses = describe_differences(training(), training(width=np.full(5, median)))
    expected = f"their width is {median} (median), in training 105 to 195"
    assert clauses == [expected] * count


@pytest.mark.parametrize(
    ("trained", "given", "clause"),
    [
        (0.0, 1.0, "they are Hounsfield units, and the model was trained on display images"),
        (1.0, 0.0, "they are display images, and the model was trained on Hounsfield units"),
    ],
)
def test_display_images_differ_from_hounsfield_units(trained, given, clause):
    clauses = describe_differences(
        {**training(), "hounsfield": trained}, {**training(), "hounsfield": given}
    )
    assert clauses == [clause]


def test_ignores_properties_that_one_profile_lacks():
    known = profile({"width": np.arange(10)}, 0.0)
    assert describe_differences(training(), {**known, "quantiles": {}}) == []


def test_standardized_features_have_a_distance_of_one():
    features = np.random.default_rng(0).normal(size=(50, 4000))
    np.testing.assert_allclose(root_mean_square(features), 1, atol=0.05)
    np.testing.assert_allclose(root_mean_square(3 * features), 3, atol=0.15)


def test_adds_the_feature_distance_of_all_blocks():
    before = training()
    after = add_feature_distance(before, [np.full((3, 2), 1.0), np.full((3, 2), 2.0)])
    assert after["quantiles"][FEATURE_DISTANCE] == pytest.approx([1, 1.5, 2])
    assert FEATURE_DISTANCE not in before["quantiles"]
    assert {**after["quantiles"], FEATURE_DISTANCE: None}.keys() > before["quantiles"].keys()
