from __future__ import annotations

import math

import pytest
from report_examples import METRIC, draw_predictions

from hemorrhage_tf.reports.charts import (
    bar_chart,
    group_trainings,
    histogram_chart,
    history_chart,
    interval_chart,
)


class TestIntervalChart:
    def test_dot_is_at_the_estimate(self):
        chart = interval_chart("key", "title", [("accuracy", METRIC, True)], span=(0.0, 1.0))
        (dot,) = [mark for mark in chart.marks if mark.element == "circle"]
        assert float(dot.attributes["cx"]) == pytest.approx(8 + 0.8 * 404, abs=0.06)
        assert "accuracy 80.0% (70.0% to 90.0%)" in chart.description

    def test_shortens_only_names_that_do_not_fit_a_line(self):
        name = "size, format, border and gray levels"
        chart = interval_chart("key", "title", [(name, METRIC, False), ("x" * 80, METRIC, False)])
        texts = [mark.text for mark in chart.marks]
        assert name in texts
        assert "x" * 43 + "…" in texts

    def test_says_that_there_is_nothing_to_show(self):
        assert interval_chart("key", "title", []).description == "There is nothing to show."


def test_bar_chart_describes_every_row():
    assert "rotation 3 (5.0%)" in bar_chart("key", "title", [("rotation", 0.05, "3")]).description


@pytest.mark.parametrize("threshold", [0.5, 0.9])
def test_histogram_counts_every_slice(threshold):
    labels, repeats = draw_predictions(n=50, repeats=2)
    chart = histogram_chart(labels, repeats, threshold)
    heights = {
        style: sum(float(mark.attributes["height"]) for mark in chart.marks if mark.style == style)
        for style in ("hemorrhage", "normal")
    }
    assert heights["hemorrhage"] == pytest.approx(heights["normal"], rel=0.02)


class TestHistoryChart:
    def test_needs_two_epochs(self):
        assert history_chart("loss", "Loss", [[{"loss": 1.0}]]) is None
        assert history_chart("loss", "Loss", []) is None

    def test_accepts_text_and_skips_missing_values(self):
        rows = [{"loss": "0.5"}, {"loss": ""}, {"loss": math.nan}, {"loss": "0.25"}]
        chart = history_chart("loss", "Loss", [rows])
        line = next(mark for mark in chart.marks if mark.style == "training")
        assert line.attributes["d"].count("L") == 1
        assert "final values of the first: training 0.250" in chart.description

    def test_groups_epochs_by_repeat_and_fold(self):
        rows = [{"repeat": "1", "fold": fold, "epoch": epoch} for epoch in (1, 2) for fold in "12"]
        assert [[row["fold"] for row in one] for one in group_trainings(rows)] == [
            ["1", "1"],
            ["2", "2"],
        ]
