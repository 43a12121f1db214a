from __future__ import annotations

import math

import pytest
from report_examples import METRIC

from hemorrhage_tf.reports.number_formats import (
    flatten,
    format_change,
    format_count,
    format_metric,
    format_number,
    format_p_value,
    format_percent,
    format_quantity,
)


@pytest.mark.parametrize(
    ("form", "value", "text"),
    [
        (format_number, 0.12345, "0.123"),
        (format_number, math.nan, "-"),
        (format_percent, 0.1234, "12.3%"),
        (format_percent, None, "-"),
        (format_change, 0.01, "+0.010"),
        (format_change, -0.0001, "0.000"),
        (format_change, None, "-"),
        (format_p_value, 0.0001, "< 0.001"),
        (format_p_value, 0.04, "0.040"),
        (format_p_value, None, "-"),
        (format_metric, METRIC, "0.800 (0.700 to 0.900)"),
        (format_metric, None, "-"),
    ],
)
def test_formats_numbers(form, value, text):
    assert form(value) == text


@pytest.mark.parametrize(("count", "text"), [(1, "1 slice"), (2, "2 slices"), (0, "0 slices")])
def test_formats_a_count_with_its_unit(count, text):
    assert format_quantity(count, "slices") == text


def test_formats_counts_and_means_of_counts():
    assert format_count(28.0) == "28" and format_count(85 / 3) == "28.3"


def test_formats_a_metric_as_percentages():
    assert format_metric(METRIC, percent=True) == "80.0% (70.0% to 90.0%)"


def test_flatten_lists_leaves_as_json_writes_them():
    value = {"a": {"b": [1, 0.1 + 0.2, None]}, "c": "text", "d": True, "e": [], "f": {}}
    assert list(flatten(value)) == [
        ("a.b[0]", "1"),
        ("a.b[1]", "0.30000000000000004"),
        ("a.b[2]", "null"),
        ("c", "text"),
        ("d", "true"),
        ("e", "[]"),
        ("f", "{}"),
    ]
