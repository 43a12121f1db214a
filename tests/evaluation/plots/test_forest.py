from __future__ import annotations

import numpy as np
import pytest
from report_examples import METRIC, draw_predictions

from hemorrhage_tf.core.errors import DataError, OptionError
from hemorrhage_tf.evaluation import plots
from hemorrhage_tf.evaluation.labeled_predictions import LabeledPredictions
from hemorrhage_tf.evaluation.subgroups import subgroup_metrics


class TestForest:
    def test_draws_estimates_with_their_intervals(self, axes):
        plots.plot_forest({"accuracy": METRIC}, percent=True, ax=axes)
        line, _, (bars,) = axes.containers[0]
        assert line.get_xdata() == pytest.approx([0.8])
        assert bars.get_segments()[0][:, 0] == pytest.approx([0.7, 0.9])
        assert [text.get_text() for text in axes.texts] == ["accuracy", "80.0% (70.0% to 90.0%)"]

    def test_an_arrow_marks_what_lies_outside(self, axes):
        wide = {"estimate": 0.5, "low": -0.5, "high": 1.5, "n": 3}
        plots.plot_forest({"slope": wide}, ax=axes)
        markers = {line.get_marker(): line.get_xdata()[0] for line in axes.lines}
        assert (markers["<"], markers[">"]) == (0.0, 1.0)

    def test_long_names_get_a_line_and_longer_ones_are_cut(self, axes):
        name = "size, format, border and gray levels"
        plots.plot_forest([(name, METRIC), ("x" * 80, METRIC)], ax=axes)
        texts = {text.get_text(): text.get_position()[1] for text in axes.texts}
        assert "x" * 43 + "…" in texts
        assert texts[name] < min(y for text, y in texts.items() if text.startswith("0.8"))

    def test_shows_other_models_without_values(self, axes):
        plots.plot_forest({"a": METRIC, "b": METRIC}, others={"second": {"b": METRIC}}, ax=axes)
        assert [text.get_text() for text in axes.texts] == ["a", "b"]
        assert [len(each[0].get_xdata()) for each in axes.containers] == [2, 1]

    def test_no_rows_are_an_error(self):
        with pytest.raises(DataError, match="no metric to plot"):
            plots.plot_forest({})


class TestSubgroups:
    @pytest.fixture
    def predictions(self):
        labels, repeats = draw_predictions(n=40)
        return LabeledPredictions(labels, list(repeats), groups=np.arange(40) // 2)

    def test_draws_the_metrics_of_each_subgroup(self, predictions, axes):
        by = {"scanner": np.array(["A", "B"])[np.arange(40) // 4 % 2]}
        plots.plot_subgroups(predictions, by=by, metric="sensitivity", ax=axes)
        expected = [
            group.metrics["sensitivity"]["estimate"] for group in subgroup_metrics(predictions, by)
        ]
        assert axes.containers[0][0].get_xdata() == pytest.approx(expected)
        assert axes.texts[0].get_text() == "scanner: A (n = 20)"

    def test_names_two_models(self, predictions, axes):
        by = {"scanner": np.arange(40) // 4 % 2}
        plots.plot_subgroups({"a": predictions, "b": predictions}, by=by, ax=axes)
        assert [text.get_text() for text in axes.get_legend().get_texts()] == ["a", "b"]

    def test_no_subgroup_is_an_error_that_names_the_columns(self, predictions):
        with pytest.raises(DataError, match="Received the columns: id. Pass others"):
            plots.plot_subgroups(predictions, by={"id": np.arange(40)})
        with pytest.raises(DataError, match="Received the columns: none"):
            plots.plot_subgroups(predictions)

    def test_an_unknown_metric_is_an_error(self, predictions):
        with pytest.raises(OptionError, match="metric 'auc': must be one of roc_auc"):
            plots.plot_subgroups(predictions, metric="auc")
