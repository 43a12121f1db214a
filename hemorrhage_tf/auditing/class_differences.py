"""Differences between the classes in properties other than anatomy."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from hemorrhage_tf.datasets.image_statistics import ImageStatisticsTable, SavedFormat

SIGNIFICANCE = 0.05


@dataclass(frozen=True)
class Difference:
    """The difference between the classes in one property other than anatomy.

    Attributes:
        name: Of the property.
        hemorrhage: Values in slices with hemorrhage: median and quartiles, or counts.
        normal: Values in the other slices.
        measure: Kind of `effect`: "AUC" for a number, 0.5 without a difference, or "V" (Cramer's)
            for a category, 0 without a difference.
        effect: Size of the difference; an AUC above 0.5 is a larger value with hemorrhage.
        p: P-value of the Mann-Whitney test or of the chi-squared test (Fisher's exact test for two
            categories); duplicates and slices of one patient count once.
        p_adjusted: Holm's correction over all properties.
    """

    name: str
    hemorrhage: str
    normal: str
    measure: str
    effect: float
    p: float
    p_adjusted: float

    @property
    def significant(self) -> bool:
        """Whether the adjusted p-value is below 0.05."""
        return self.p_adjusted < SIGNIFICANCE


@dataclass(frozen=True)
class _Property:
    """One property of all slices.

    Attributes:
        name: Of the property.
        values: `(n,)`, numbers or texts.
        is_known: bool `(n,)`, the slices that have the property.
    """

    name: str
    values: np.ndarray
    is_known: np.ndarray


def class_differences(
    statistics: ImageStatisticsTable, labels: np.ndarray, groups: np.ndarray
) -> tuple[tuple[Difference, ...], dict[str, str]]:
    """Compare the classes in each property.

    Args:
        statistics: Of each slice.
        labels: `(n,)`, 0 or 1.
        groups: int64 `(n,)`, equal for slices that count once.

    Returns:
        The differences, the smallest p-value first; and the properties that do not vary, with
        their value.

    Reference:
        S. Holm, A simple sequentially rejective multiple test procedure, Scandinavian Journal of
        Statistics 6 (1979), 65-70.
    """
    # Slices of one group and one label count once in a test; the label is the last bit.
    units = 2 * np.asarray(groups, np.int64) + labels
    differences: list[Difference] = []
    unvaried: dict[str, str] = {}
    for one in _properties(statistics):
        values, known_labels, known_units = (
            array[one.is_known] for array in (one.values, labels, units)
        )
        distinct = np.unique(values)
        if len(distinct) == 1:
            unvaried[one.name] = _format_value(distinct[0].item())
        elif len(distinct) and len(np.unique(known_labels)) == 2:
            compare = _compare_categories if distinct.dtype.kind == "U" else _compare_numbers
            differences.append(compare(one.name, values, known_labels, known_units))
    order = sorted(differences, key=lambda each: (each.p, each.name))
    adjusted, largest = [], 0.0
    for rank, each in enumerate(order):
        largest = max(largest, min(1.0, (len(order) - rank) * each.p))
        adjusted.append(replace(each, p_adjusted=largest))
    return tuple(adjusted), unvaried


def _properties(statistics: ImageStatisticsTable) -> Iterator[_Property]:
    """Yield the properties one by one, because all together would take much memory."""
    if not len(statistics):
        return
    numbers, codes = statistics.numbers, statistics.numbers["format"]
    every = np.ones(len(statistics), bool)

    def texts(describe: Callable[[SavedFormat], str]) -> np.ndarray:
        return np.array([describe(saved) for saved in statistics.formats], str)[codes]

    yield _Property("file format", texts(lambda saved: saved[1]), every)
    yield _Property("mode", texts(lambda saved: saved[0]), every)
    yield _Property("bits per sample", numbers["bits"], every)
    yield _Property("width", numbers["width"], every)
    yield _Property("height", numbers["height"], every)
    yield _Property("aspect ratio", numbers["width"] / numbers["height"], every)
    yield _Property("color", numbers["color"], every)
    quality = numbers["jpeg_quality"]
    yield _Property("JPEG quality", quality, quality >= 0)
    present = [statistics.formats[code][2] for code in np.unique(codes)]
    for name in sorted(frozenset().union(*present)):
        contains = np.array([name in saved[2] for saved in statistics.formats])[codes]
        yield _Property(f"{name} metadata", np.where(contains, "yes", "no"), every)
    border = np.concatenate([_summarize_border(block) for _, block in statistics.blocks()])
    for column, name in enumerate(("mean", "standard deviation", "maximum", "non-black share")):
        yield _Property(f"border {name}", border[:, column], every)
    yield _Property("marks at the edges", numbers["marks"], every)


def _summarize_border(border: np.ndarray) -> np.ndarray:
    """Summarize the four sides `(k, 4, 4)` of borders in four columns `(k, 4)`."""
    return np.stack(
        [
            border[..., 0].mean(axis=1),
            border[..., 1].mean(axis=1),
            border[..., 2].max(axis=1),
            border[..., 3].mean(axis=1),
        ],
        axis=1,
    )


def _compare_numbers(
    name: str, values: np.ndarray, labels: np.ndarray, units: np.ndarray
) -> Difference:
    from scipy.stats import mannwhitneyu

    numbers = values.astype(np.float64)
    distinct, inverse = np.unique(units, return_inverse=True)
    means = np.bincount(inverse, numbers) / np.bincount(inverse)
    positive, negative = means[distinct % 2 == 1], means[distinct % 2 == 0]
    if np.ptp(means) == 0:
        area, p = 0.5, 1.0
    else:
        test = mannwhitneyu(positive, negative, method="asymptotic")
        area, p = test.statistic / (len(positive) * len(negative)), test.pvalue
    return Difference(
        name=name,
        hemorrhage=_format_quartiles(numbers[labels == 1]),
        normal=_format_quartiles(numbers[labels == 0]),
        measure="AUC",
        effect=float(area),
        p=float(p),
        p_adjusted=float(p),
    )


def _compare_categories(
    name: str, values: np.ndarray, labels: np.ndarray, units: np.ndarray
) -> Difference:
    from scipy.stats import chi2_contingency, fisher_exact

    categories, inverse = np.unique(values, return_inverse=True)
    distinct, of_unit = np.unique(units, return_inverse=True)
    cells = np.bincount(
        of_unit * len(categories) + inverse, minlength=len(distinct) * len(categories)
    )
    most_common = cells.reshape(len(distinct), len(categories)).argmax(axis=1)
    counts = np.zeros((2, len(categories)), int)
    np.add.at(counts, (distinct % 2, most_common), 1)
    counts = counts[:, counts.any(axis=0)]
    effect, p = 0.0, 1.0
    if counts.shape[1] > 1:
        test = chi2_contingency(counts, correction=False)
        effect = math.sqrt(test.statistic / counts.sum())
        p = fisher_exact(counts).pvalue if counts.shape[1] == 2 else test.pvalue
    return Difference(
        name=name,
        hemorrhage=_format_counts(values[labels == 1].tolist()),
        normal=_format_counts(values[labels == 0].tolist()),
        measure="V",
        effect=float(effect),
        p=float(p),
        p_adjusted=float(p),
    )


def _format_number(value: float) -> str:
    return f"{value:.0f}" if abs(value) >= 100 or value == int(value) else f"{value:.3g}"


def _format_value(value: str | float) -> str:
    return value if isinstance(value, str) else _format_number(value)


def _format_quartiles(values: np.ndarray) -> str:
    low, middle, high = np.percentile(values, [25, 50, 75])
    if low == high:  # then the quartiles do not show the variation
        same = int(np.sum(values == middle))
        return f"{_format_number(middle)} in {same} of {len(values)}"
    return f"{_format_number(middle)} ({_format_number(low)} to {_format_number(high)})"


def _format_counts(values: Iterable[str]) -> str:
    return ", ".join(f"{value} {count}" for value, count in sorted(Counter(values).items()))
