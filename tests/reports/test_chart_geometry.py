from __future__ import annotations

import pytest

from hemorrhage_tf.reports.chart_geometry import Frame, choose_ticks, draw_path, draw_rect


def test_frame_maps_values_to_coordinates():
    frame = Frame(y=(0.0, 10.0), width=420, height=330, left=50, right=20, top=10, bottom=20)
    assert frame.at(0, 0) == (50, 310)
    assert frame.at(1, 10) == (400, 10)


@pytest.mark.parametrize(
    ("low", "high", "labels"),
    [(0, 1, ["0", "0.2", "0.4", "0.6", "0.8", "1"]), (-30, 30, ["-20", "0", "20"]), (1, 2, None)],
)
def test_ticks_are_round_numbers_within_the_range(low, high, labels):
    ticks = choose_ticks(low, high)
    assert all(low - 1e-9 <= value <= high + 1e-9 for value in ticks)
    assert labels is None or list(ticks.values()) == labels


def test_rectangle_has_no_negative_size():
    assert draw_rect(0, 0, -1, 5, "bar").attributes["width"] == "0.0"


def test_closed_path_ends_with_z():
    assert draw_path([(0, 0), (1, 2)], "band", close=True).attributes["d"] == "M0.0 0.0L1.0 2.0Z"
