"""Differences between the classes in properties that are not anatomy."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

import numpy as np

from hemorrhage_tf.auditing.audit_result import Difference
from hemorrhage_tf.datasets.image_statistics import ImageStatisticsTable

# What differs between the classes.


def _differences(
    statistics: ImageStatisticsTable, labels: np.ndarray, groups: np.ndarray
) -> tuple[tuple[Difference, ...], dict[str, str]]:
    """Compares the classes in each property, and lists the properties that do not vary."""
    units = _units(labels, groups)
    found: list[Difference] = []
    unvaried: dict[str, str] = {}
    for name, values, present in _properties(statistics):
        kinds = np.unique(values[present])
        if not len(kinds):
            continue
        if len(kinds) == 1:
            unvaried[name] = _value_said(kinds[0].item())
            continue
        if len(np.unique(labels[present])) < 2:
            continue
        compare = _compare_kinds if kinds.dtype.kind == "U" else _compare_numbers
        found.append(compare(name, values[present], labels[present], units[present]))
    order = sorted(found, key=lambda each: (each.p, each.name))
    adjusted, largest = [], 0.0
    for rank, each in enumerate(order):  # Holm, Scandinavian Journal of Statistics 6 (1979), 65-70
        largest = max(largest, min(1.0, (len(order) - rank) * each.p))
        adjusted.append(replace(each, p_adjusted=largest))
    return tuple(adjusted), unvaried


def _properties(statistics: ImageStatisticsTable) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Gives each property that is not anatomy: its name, numbers or texts `(n,)`, and who has it.

    One by one, since of many slices all together would take much memory.
    """
    numbers, texts = statistics.numbers, statistics.texts
    every = np.ones(len(statistics), bool)

    def said(say: Callable[[tuple], str]) -> np.ndarray:
        return np.array([say(value) for value in texts.values], str)[texts.codes]

    if not len(statistics):
        return
    yield "file format", said(lambda value: value[1]), every
    yield "mode", said(lambda value: value[0]), every
    width, height = numbers["width"], numbers["height"]
    yield "bits per sample", numbers["bits"], every
    yield "width", width, every
    yield "height", height, every
    yield "aspect", width / height, every
    yield "color", numbers["color"], every
    yield "JPEG quality", numbers["jpeg_quality"], numbers["jpeg_quality"] >= 0
    present = np.unique(texts.codes)
    for held in sorted(set().union(*(texts.values[code][2] for code in present))):
        yield (
            f"holds {held}",
            said(lambda value, held=held: "yes" if held in value[2] else "no"),
            every,
        )
    border = np.concatenate(
        [
            np.stack(
                [
                    *(each[..., 0].mean(axis=1), each[..., 1].mean(axis=1)),
                    *(each[..., 2].max(axis=1), each[..., 3].mean(axis=1)),
                ],
                axis=1,
            )
            for _, each in statistics.blocks()
        ]
    )
    for place, what in enumerate(("mean", "spread", "maximum", "not black")):
        yield f"border {what}", border[:, place], every
    yield "marks at the edges", numbers["marks"], every


def _units(labels: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Numbers what counts once in a test: the slices of one group that have one label."""
    return 2 * np.asarray(groups, np.int64) + labels


def _compare_numbers(
    name: str, values: np.ndarray, labels: np.ndarray, units: np.ndarray
) -> Difference:
    from scipy.stats import mannwhitneyu

    numbers = values.astype(np.float64)
    found, inverse = np.unique(units, return_inverse=True)
    means = np.bincount(inverse, numbers) / np.bincount(inverse)
    positive, negative = means[found % 2 == 1], means[found % 2 == 0]
    if np.ptp(means) == 0:
        area, p = 0.5, 1.0
    else:
        test = mannwhitneyu(positive, negative, method="asymptotic")
        area, p = test.statistic / (len(positive) * len(negative)), test.pvalue
    return Difference(
        name,
        _quartiles_said(numbers[labels == 1]),
        _quartiles_said(numbers[labels == 0]),
        "AUC",
        float(area),
        float(p),
        float(p),
    )


def _compare_kinds(
    name: str, values: np.ndarray, labels: np.ndarray, units: np.ndarray
) -> Difference:
    from scipy.stats import chi2_contingency, fisher_exact

    kinds, inverse = np.unique(values, return_inverse=True)
    counts = np.zeros((2, len(kinds)), int)
    found, of_unit = np.unique(units, return_inverse=True)
    held = np.bincount(of_unit * len(kinds) + inverse, minlength=len(found) * len(kinds))
    most = held.reshape(len(found), len(kinds)).argmax(axis=1)
    np.add.at(counts, (found % 2, most), 1)
    counts = counts[:, counts.any(axis=0)]
    effect, p = 0.0, 1.0
    if counts.shape[1] > 1:
        test = chi2_contingency(counts, correction=False)
        effect = math.sqrt(test.statistic / counts.sum())
        p = fisher_exact(counts).pvalue if counts.shape[1] == 2 else test.pvalue
    return Difference(
        name,
        _counts_said(values, labels == 1),
        _counts_said(values, labels == 0),
        "V",
        float(effect),
        float(p),
        float(p),
    )


def _number_said(value: float) -> str:
    return f"{value:.0f}" if abs(value) >= 100 or value == int(value) else f"{value:.3g}"


def _value_said(value: str | float) -> str:
    return value if isinstance(value, str) else _number_said(value)


def _quartiles_said(values: np.ndarray) -> str:
    low, middle, high = np.percentile(values, [25, 50, 75])
    if low == high:  # then the quartiles do not show what varies
        same = int(np.sum(values == middle))
        return f"{_number_said(middle)} in {same} of {len(values)}"
    return f"{_number_said(middle)} ({_number_said(low)} to {_number_said(high)})"


def _counts_said(values: Iterable[str], chosen: np.ndarray) -> str:
    counts = Counter(value for value, kept in zip(values, chosen, strict=True) if kept)
    return ", ".join(f"{kind} {count}" for kind, count in sorted(counts.items()))
