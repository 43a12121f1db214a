from __future__ import annotations

import pytest

from hemorrhage_tf.core.formatting import format_duration, format_rate, format_size


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.4, "0 s"),
        (59, "59 s"),
        (3540, "59 min"),
        (3600, "60 min"),
        (86340, "23 h 59 min"),
        (100000, "27 h 47 min"),
        (3 * 86400, "3 days"),
    ],
)
def test_durations_have_at_most_two_units(seconds, text):
    assert format_duration(seconds) == text


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 B"), (999, "999 B"), (3_800_000, "3.8 MB"), (20e9, "20 GB"), (2.5e12, "2.5 TB")],
)
def test_sizes_have_decimal_units(size, text):
    assert format_size(size) == text


@pytest.mark.parametrize(
    ("rate", "text"),
    [(None, ""), (0.0166, "0.017/s"), (4.26, "4.3/s"), (37.6, "38/s"), (1234.5, "1,234/s")],
)
def test_rates(rate, text):
    assert format_rate(rate) == text
