from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from scipy.stats import chi2_contingency, fisher_exact, mannwhitneyu
from statistics_tables import table_of
from statsmodels.stats.multitest import multipletests

from hemorrhage_tf.auditing.class_differences import class_differences
from hemorrhage_tf.datasets.image_statistics import ImageStatistics, ImageStatisticsTable

PLAIN = ImageStatistics(
    width=100,
    height=100,
    mode="L",
    file_format="PNG",
    bits=8,
    jpeg_quality=None,
    metadata=frozenset(),
    color=0.0,
    levels=np.full(256, 1 / 256),
    border=np.zeros((4, 4)),
    marks=0,
    mark_share=0.0,
    thumbnail=np.zeros(256, np.float32),
)
LABELS = np.array([1] * 12 + [0] * 12)
WIDTHS = np.random.default_rng(0).integers(60, 70, 24)


def compare(labels=LABELS, groups=None, **columns):
    """Compare slices that differ from the plain one in the given columns."""
    statistics = [
        dataclasses.replace(PLAIN, **{name: values[index] for name, values in columns.items()})
        for index in range(len(labels))
    ]
    table = table_of(statistics)
    groups = np.arange(len(labels)) if groups is None else groups
    differences, unvaried = class_differences(table, labels, groups)
    return {each.name: each for each in differences}, unvaried


def test_numbers_agree_with_scipy():
    differences, _ = compare(width=WIDTHS.tolist())
    test = mannwhitneyu(WIDTHS[:12], WIDTHS[12:], method="asymptotic")
    width = differences["width"]
    assert (width.measure, width.p) == ("AUC", pytest.approx(test.pvalue))
    assert width.effect == pytest.approx(test.statistic / 144)
    low, middle, high = np.percentile(WIDTHS[:12], [25, 50, 75])
    assert width.hemorrhage == f"{middle:.3g} ({low:.3g} to {high:.3g})"


def test_two_categories_agree_with_scipy():
    modes = ["RGBA" if index in (1, 15, 17, 20) else "L" for index in range(24)]
    mode = compare(mode=modes)[0]["mode"]
    counts = [[11, 1], [9, 3]]
    assert (mode.measure, mode.p) == ("V", pytest.approx(fisher_exact(counts).pvalue))
    statistic = chi2_contingency(counts, correction=False).statistic
    assert mode.effect == pytest.approx(np.sqrt(statistic / 24))
    assert (mode.hemorrhage, mode.normal) == ("L 11, RGBA 1", "L 9, RGBA 3")


def test_holms_correction_agrees_with_statsmodels():
    marks = np.random.default_rng(1).integers(0, 3, 24) + LABELS
    differences, _ = compare(width=WIDTHS.tolist(), marks=marks.tolist())
    p = [each.p for each in differences.values()]
    assert p == sorted(p)
    expected = multipletests(p, method="holm")[1]
    np.testing.assert_allclose([each.p_adjusted for each in differences.values()], expected)


def test_a_perfect_difference_is_significant():
    width = compare(width=(100 + 20 * LABELS).tolist())[0]["width"]
    assert width.effect == 1 and width.significant
    assert (width.hemorrhage, width.normal) == ("120 in 12 of 12", "100 in 12 of 12")


def test_slices_of_one_group_count_once():
    # Twelve patients with two slices each: half as many units.
    groups = np.arange(24) // 2
    width = compare(width=np.repeat(WIDTHS[:12], 2).tolist(), groups=groups)[0]["width"]
    test = mannwhitneyu(WIDTHS[:6], WIDTHS[6:12], method="asymptotic")
    assert width.p == pytest.approx(test.pvalue)


def test_embedded_metadata_is_a_property():
    metadata = [frozenset({"gamma"} if label else ()) for label in LABELS]
    gamma = compare(metadata=metadata)[0]["gamma metadata"]
    assert (gamma.hemorrhage, gamma.normal, gamma.effect) == ("yes 12", "no 12", 1)


def test_jpeg_quality_is_compared_among_jpeg_files_only():
    quality = [80 + index % 3 if index % 2 else None for index in range(24)]
    differences, _ = compare(jpeg_quality=quality)
    assert differences["JPEG quality"].hemorrhage.startswith("81")


def test_properties_that_do_not_vary_are_listed_with_their_value():
    differences, unvaried = compare(width=WIDTHS.tolist())
    assert unvaried["file format"] == "PNG" and unvaried["mode"] == "L"
    assert unvaried["bits per sample"] == "8" and "JPEG quality" not in unvaried
    assert differences.keys() == {"width", "aspect ratio"}


def test_one_class_has_no_differences():
    assert compare(labels=np.ones(24, int), width=WIDTHS.tolist())[0] == {}


def test_no_slices():
    empty = np.zeros(0, int)
    assert class_differences(ImageStatisticsTable(), empty, empty) == ((), {})
